"""Writers and readers of mailboxes, each under the kind of lock that its mailbox goes by. Run inside a host as

    python3 -c THIS write PLAN | read PLAN | list FILE...

PLAN is JSON. All processes of a test, on both hosts, share one ledger: a plain file outside the volume, to which a
writer appends `try BOX ID 0` before and `ack BOX ID SIZE` after a message, in single writes. Everything in the ledger
has happened before it was read there, on whichever host: that is what L3 is checked against.

A problem is one line on stderr and exit code 1. Shares no code with the filesystem.
"""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import random
import struct
import sys
import time

FLOCK = struct.Struct("hhqqi4x")
# What a mail program takes for "later" (MAIL.md 4.1): it keeps the message and tries again.
LATER = {errno.ESTALE, errno.EAGAIN, errno.ENOSPC}
# Where hosts lose each other, the file of a link(2) lock may be on the other side: it is not there, or has another link count.
STRAYS = {errno.ENOENT, errno.EMLINK}
# Between two attempts to get a dotlock.
POLL_SECONDS = 0.005
DOTLOCK_SECONDS_MAX = 60


def text(ident, lines):
    """One whole message. It can be rebuilt from its first line, so any torn byte shows."""
    head = f"From {ident}@{lines}.test  Mon Nov 23 12:00:00 2026\nMessage-ID: <{ident}>\n\n"
    return (head + "".join(f"{ident} {i:06} {'x' * 50}\n" for i in range(lines)) + "\n").encode()


def idents(data, where):
    """The messages of a mailbox; ends the program at the first byte that is not as it was written."""
    found, at = [], 0
    while at < len(data):
        first = data[at : data.find(b"\n", at)].decode(errors="replace")
        try:
            ident, lines = first.split()[1].removesuffix(".test").split("@")
            whole = text(ident, int(lines))
        except (IndexError, ValueError):
            sys.exit(f"{where}: no message begins at {at} of {len(data)}: {data[at:at + 80]!r}")
        if data[at : at + len(whole)] != whole:
            got = data[at : at + len(whole)]
            bad = next((i for i, (a, b) in enumerate(zip(got, whole)) if a != b), len(got))
            sys.exit(f"{where}: {ident} at {at} of {len(data)} is torn at its byte {bad}: {data[at + bad:at + bad + 80]!r}")
        found.append(ident)
        at += len(whole)
    return found


class Ledger:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)

    def add(self, *words):
        os.write(self.fd, (" ".join(map(str, words)) + "\n").encode())

    def acknowledged(self, box):
        """{id: size of the mailbox behind it}"""
        text = os.pread(self.fd, os.fstat(self.fd).st_size, 0).decode()
        # Another process may be in the middle of its line: a write across two pages is not seen at once.
        lines = text[:text.rfind("\n") + 1].splitlines()
        words = (line.split() for line in lines)
        return {ident: int(size) for what, name, ident, size in words if (what, name) == ("ack", box)}


def set_lock(fd, kind, start=0):
    fcntl.fcntl(fd, fcntl.F_SETLKW, FLOCK.pack(kind, os.SEEK_SET, start, 0, 0))


def dotlock_by_create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o000))


TEMPS = itertools.count()


def dotlock_by_link(path):
    """As mutt and liblockfile: link(2) to a file of a unique name; the link count says who won."""
    temp = f"{path}.{os.uname().nodename}.{os.getpid()}.{next(TEMPS)}"
    os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o000))
    won = False
    try:
        try:
            os.link(temp, path)
            won = True
        except FileExistsError:
            pass
        links = os.stat(temp).st_nlink
        if links != 1 + won:
            raise OSError(errno.EMLINK, f"link(2) to {path} said {'yes' if won else 'no'} and st_nlink is {links}")
        os.unlink(temp)
    except OSError:
        # Nobody else may wait for a lock whose maker does not know that he has it.
        for name in [temp, path][: 1 + won]:
            with contextlib.suppress(OSError):
                os.unlink(name)
        raise
    if not won:
        raise FileExistsError(path)


def get_dotlock(make, path):
    until = time.monotonic() + DOTLOCK_SECONDS_MAX
    while True:
        try:
            return make(path)
        except FileExistsError:
            if time.monotonic() > until:
                sys.exit(f"{path}: not free within {DOTLOCK_SECONDS_MAX} s")
            time.sleep(POLL_SECONDS)


class Locked:
    """An open mailbox under the lock of its kind."""

    def __init__(self, plan, box, flags, shared=False):
        self.kind = plan["boxes"][box]
        self.path = os.path.join(plan["spool"], box)
        self.dotlock = self.path + ".lock"
        make = {"dotlock": dotlock_by_create, "link": dotlock_by_link}.get(self.kind)
        if make:
            get_dotlock(make, self.dotlock)
        self.held = make is not None
        self.can_unlock = self.kind in ("fcntl", "range", "flock")
        try:
            self.fd = os.open(self.path, flags | os.O_CREAT, 0o600)
        except OSError:
            self.release()
            raise
        try:
            if self.kind == "fcntl":
                set_lock(self.fd, fcntl.F_RDLCK if shared else fcntl.F_WRLCK)
            elif self.kind == "range":
                # As procmail: from where the end was to infinity; so any two of them overlap.
                set_lock(self.fd, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, os.lseek(self.fd, 0, os.SEEK_END))
            elif self.kind == "flock":
                fcntl.flock(self.fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError:
            self.close()
            raise

    def release(self):
        if self.held:
            self.held = False
            os.unlink(self.dotlock)

    def unlock(self):
        if self.kind in ("fcntl", "range"):
            set_lock(self.fd, fcntl.F_UNLCK)
        elif self.kind == "flock":
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self):
        try:
            os.close(self.fd)
        finally:
            self.release()


def put(fd, how, data):
    if how == "seek":
        size, end = os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_END)
        if end < size:
            sys.exit(f"fstat says {size}, lseek goes to {end}: to write there overwrites what was acknowledged")
        count = os.write(fd, data)
    elif how == "fstat":
        count = os.pwrite(fd, data, os.fstat(fd).st_size)
    else:
        count = os.write(fd, data)
    if count != len(data):
        sys.exit(f"a short write: {count} of {len(data)} bytes")


def deliver(plan, ledger, rng, box, ident):
    how = rng.choice(["append", "seek", "fstat"]) if plan["boxes"][box] != "none" else "append"
    data = text(ident, rng.choice([1, 3, 60, rng.randrange(1, plan.get("lines", 200))]))
    locked = Locked(plan, box, os.O_RDWR | (os.O_APPEND if how == "append" else 0))
    try:
        # Hosts that lost each other do not see what the other one acknowledged.
        floor = 0 if plan.get("apart") else max(ledger.acknowledged(box).values(), default=0)
        size = os.fstat(locked.fd).st_size
        if size < floor:
            sys.exit(f"{box}: {ident} under the lock: fstat says {size}, acknowledged before were {floor}")
        ledger.add("try", box, ident, 0)
        try:
            put(locked.fd, how, data)
            # Dovecot and the mail readers do not call fsync: unlocking commits too (MAIL.md R9).
            if locked.can_unlock and rng.random() < plan.get("unsynced", 0):
                locked.unlock()
            else:
                os.fsync(locked.fd)
        except OSError:
            # As Postfix does: what did not get through must not stay. Best effort: the lock may be lost already.
            if plan.get("undo") and plan["boxes"][box] != "none":
                try:
                    os.ftruncate(locked.fd, size)
                except OSError:
                    pass
            raise
        ledger.add("ack", box, ident, size + len(data) if plan["boxes"][box] != "none" else 0)
        if rng.random() < 0.5:
            locked.unlock()
    finally:
        locked.close()


def write(plan):
    """`count` messages, or as many as it can until stdin ends."""
    rng, ledger = random.Random(plan["seed"]), Ledger(plan["ledger"])
    os.set_blocking(0, False)
    for i in range(plan.get("count", 1 << 30)):
        if "count" not in plan and stdin_or_none() == b"":
            break
        box = rng.choice(sorted(plan["boxes"]))
        try:
            deliver(plan, ledger, rng, box, f"{plan['tag']}-{i}")
        except OSError as e:
            strays = plan.get("apart") and plan["boxes"][box] == "link"
            if not plan.get("later") or e.errno not in (LATER | STRAYS if strays else LATER):
                sys.exit(f"{plan['tag']}-{i} to {box}: {e}")
            ledger.add("later", box, f"{plan['tag']}-{i}", e.errno)


def look(plan, ledger, box, before):
    """One visit of a reader. The size it saw."""
    locked = Locked(plan, box, os.O_RDWR, shared=True)
    try:
        known = ledger.acknowledged(box)
        size = os.fstat(locked.fd).st_size
        if size < max(before, max(known.values(), default=0)):
            sys.exit(f"{box}: a reader under the lock: {size} bytes, before {before}, acknowledged {max(known.values())}")
        if plan["boxes"][box] != "none":
            data = os.pread(locked.fd, size + 1, 0)
            if len(data) != size:
                sys.exit(f"{box}: fstat says {size}, read gives {len(data)} bytes")
            missing = set(known) - set(idents(data, box))
            if missing:
                sys.exit(f"{box}: acknowledged and not to be seen: {sorted(missing)[:5]}")
        return size
    finally:
        locked.close()


def read(plan):
    """Looks into random mailboxes until stdin ends."""
    rng, ledger, seen = random.Random(plan["seed"]), Ledger(plan["ledger"]), {}
    os.set_blocking(0, False)
    visits = 0
    while stdin_or_none() != b"":
        box = rng.choice(sorted(plan["boxes"]))
        seen[box] = look(plan, ledger, box, seen.get(box, 0))
        visits += 1
        time.sleep(rng.random() * 0.02)
    print(visits)


def stdin_or_none():
    try:
        return os.read(0, 1)
    except BlockingIOError:
        return None


if sys.argv[1] == "list":
    report = {}
    for name in sys.argv[2:]:
        with open(name, "rb") as file:
            report[name] = idents(file.read(), name)
    json.dump(report, sys.stdout)
else:
    {"write": write, "read": read}[sys.argv[1]](json.loads(sys.argv[2]))
