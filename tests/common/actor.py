"""A process that makes system calls when it is told to. Run inside a host by actor.rs as

    python3 -u -c THIS SPOOL

Each line on stdin is one command, each line on stdout its answer: `ok ...` or `error ERRNO`. It shares no code with the
filesystem, and its locks are its own: what happens to them when it is killed is what happens to a mail program's.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import struct
import sys
import threading

SPOOL = sys.argv[1]
FLOCK = struct.Struct("hhqqi4x")
LOCK_TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
FLOCK_OPS = {"sh": fcntl.LOCK_SH, "ex": fcntl.LOCK_EX, "un": fcntl.LOCK_UN}


def on_alarm(_number, _frame):
    # Python takes a system call up again after a handler that returns; mail programs do not.
    raise InterruptedError(errno.EINTR, "alarm")


def path(name):
    return os.path.join(SPOOL, name)


def do_open(name, flags, mode="600"):
    bits = 0
    for flag in flags.split("|"):
        bits |= getattr(os, "O_" + flag)
    return os.open(path(name), bits, int(mode, 8))


def do_lock(fd, kind, start, length, how="now"):
    command = fcntl.F_SETLKW if how == "wait" else fcntl.F_SETLK
    fcntl.fcntl(int(fd), command, FLOCK.pack(LOCK_TYPES[kind], os.SEEK_SET, int(start), int(length), 0))


def do_getlk(fd, kind, start, length):
    asked = FLOCK.pack(LOCK_TYPES[kind], os.SEEK_SET, int(start), int(length), 0)
    found, _, start, length, _ = FLOCK.unpack(fcntl.fcntl(int(fd), fcntl.F_GETLK, asked))
    name = {number: letter for letter, number in LOCK_TYPES.items()}[found]
    return "u" if name == "u" else f"{name} {start} {length}"


def do_alarm(seconds, *words):
    """The rest of the line is done under an alarm. One command: an alarm between two of them would meet nobody's call."""
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    return COMMANDS[words[0]](*words[1:])


def do_fork(*words):
    """A child does the rest of the line and stays: its pid and its answer."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(theirs, answer(words).encode())
        while True:
            signal.pause()
    said = os.read(ours, 1000).decode()
    os.close(ours)
    os.close(theirs)
    return f"{pid} {said}"


def do_thread(*words):
    """Another thread does the rest of the line, and ends."""
    said = []
    thread = threading.Thread(target=lambda: said.append(answer(words)))
    thread.start()
    thread.join()
    word, _, rest = said[0].partition(" ")
    if word == "error":
        raise OSError(getattr(errno, rest), "in the thread")
    return rest or None


def do_read(fd, at, length):
    return os.pread(int(fd), int(length), int(at)).decode(errors="replace").replace("\n", "/")


def do_mmap(fd, length):
    # Private: the kernel offers no shared mapping of a file that it does not cache (direct I/O).
    with mmap.mmap(int(fd), int(length), mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
        return view[:].decode(errors="replace").replace("\n", "/")


COMMANDS = {
    "open": do_open,
    "close": lambda fd: os.close(int(fd)),
    "write": lambda fd, text: os.write(int(fd), text.encode()),
    "pwrite": lambda fd, at, text: os.pwrite(int(fd), text.encode(), int(at)),
    "read": do_read,
    "mmap": do_mmap,
    "end": lambda fd: os.lseek(int(fd), 0, os.SEEK_END),
    "size": lambda fd: os.fstat(int(fd)).st_size,
    "links": lambda fd: os.fstat(int(fd)).st_nlink,
    "inode": lambda fd: os.fstat(int(fd)).st_ino,
    "path-inode": lambda name: os.stat(path(name)).st_ino,
    "truncate": lambda fd, length: os.ftruncate(int(fd), int(length)),
    "fsync": lambda fd: os.fsync(int(fd)),
    "rename": lambda old, new: os.rename(path(old), path(new)),
    "unlink": lambda name: os.unlink(path(name)),
    "lock": do_lock,
    "getlk": do_getlk,
    "flock": lambda fd, op, how="now": fcntl.flock(int(fd), FLOCK_OPS[op] | (0 if how == "wait" else fcntl.LOCK_NB)),
    "alarm": do_alarm,
    "fork": do_fork,
    "thread": do_thread,
}


def answer(words):
    try:
        said = COMMANDS[words[0]](*words[1:])
        return "ok" if said is None else f"ok {said}"
    except OSError as e:
        return f"error {errno.errorcode.get(e.errno, e.errno)}"


# PR_SET_PDEATHSIG: a test that panics leaves nobody behind.
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
signal.signal(signal.SIGALRM, on_alarm)
for line in sys.stdin:
    print(answer(line.split()), flush=True)
