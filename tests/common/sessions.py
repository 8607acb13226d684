"""Mail clients of one host that stay connected for as long as the test likes. Run inside the host as

    python3 -c THIS PLAN     PLAN is JSON: host (address), spool, password, lda, dovecot_conf

Each line on standard input is JSON: {user: "verb words; verb words; ..."}. All users are served side by side, each one's
verbs in order; the answer is one line, `ok {user: {"views": [...], "wrong": [...]}}`.

    base NAME...        the mailbox holds these messages, with the owner and mode that Postfix gives it
    restore NAME:UID... as `base`, as Dovecot left it in a backup
    open [idle] [lazy]  an IMAP session that stays; `idle`: in IDLE whenever it is not told to do something else; `lazy`:
                        through the address for which the test's Dovecot has mbox_lazy_writes
    look                NOOP, then all messages: a view, [UID, "NAME/FLAGS{KEYWORD,...}"] of each
    until COUNT         waits in IDLE until the session was told of so many messages
    fresh               a view of a new session, which ends
    close               ends the session
    lda NAME | smtp NAME | append NAME | put NAME           delivers: dovecot-lda, Postfix, IMAP APPEND, a program that appends
    flag NAME FLAG | unflag NAME FLAG | expunge NAME | move NAME       over the session; to `BOX-moved`, which is made
    subscribe BOX | unsubscribe BOX             to a mailbox that is made for it
    pop                 POP3 takes all messages
    unlink              the mailbox is removed
    edit WHAT           a mail reader rewrites the mailbox in place: `lines NAME` adds a header, `swap NAME NAME`,
                        `uid NAME UID`, `stripe` raises the last UID by 65536 (MAIL.md 6.7)
    lock | die          a program makes the dotlock of the mailbox and keeps it; it is killed
    unlocked            there is no dotlock

A message's body says its name, too. A user's clients share one memory of UIDs, as one mail program has it; what this memory
contradicts is told as wrong: a UID that names another message, a message that is new and below what was known.
"""

import fcntl
import json
import os
import poplib
import pwd
import re
import smtplib
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

PLAN = json.loads(sys.argv[1])
ANSWER_MAX_S = 60
AT_ONCE = 6
LETTERS = {"\\Seen": "S", "\\Answered": "A", "\\Flagged": "F", "\\Deleted": "D", "\\Draft": "T"}
never = threading.Event()


def text(name):
    """All of a message. `inner`: with a line like a separator; `crlf`: with CRLF, as some programs leave it in a mailbox."""
    body = f"this is {name}\n"
    if name.startswith("inner"):
        body += "\nFrom bob@t  Mon Nov 23 12:34:23 2026\nmore\n" + "and more\n" * 150
    return f"Message-ID: <{name}@t>\nFrom: s@t\nSubject: {name}\n\n{body}"


def raw(name):
    whole = f"From s@t  Mon Nov 23 12:00:00 2026\n{text(name)}\n"
    return (whole.replace("\n", "\r\n") if name.startswith("crlf") else whole).encode()


class Session:
    """One IMAP connection with INBOX open. `uids[i]` is the UID of message i + 1, or None before it is known."""

    def __init__(self, memory, idle, lazy):
        self.memory, self.tag, self.idle, self.uids = memory, 0, None, []
        host = "127.0.0.1" if lazy else PLAN["host"]
        self.socket = socket.create_connection((host, 143), timeout=ANSWER_MAX_S)
        self.file = self.socket.makefile("rb")
        self.read()
        self.run(f"LOGIN {memory.user} {PLAN['password']}")
        self.run(f"SELECT {memory.box}")
        self.rests = idle
        self.rest()

    def read(self):
        """One response, literals within; what it says of the mailbox is noted."""
        response = b""
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError(f"the server hung up after {response!r}")
            response += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if not literal:
                break
            response += self.file.read(int(literal[1]))
        self.note(response)
        return response

    def note(self, response):
        if response.startswith(b"* BYE") and not self.leaving():
            raise ConnectionError(f"{response!r}")
        if validity := re.search(rb"\[UIDVALIDITY (\d+)\]", response):
            self.memory.validity = int(validity[1])
        about = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)", response)
        if not about:
            return
        number = int(about[1])
        if about[2] == b"EXISTS":
            if number < len(self.uids):
                raise ValueError(f"EXISTS {number} after {len(self.uids)}")
            self.uids += [None] * (number - len(self.uids))
        elif about[2] == b"EXPUNGE":
            del self.uids[number - 1]
        elif uid := re.search(rb"[( ]UID (\d+)", response):
            if self.uids[number - 1] not in (None, int(uid[1])):
                self.memory.wrong.append(f"message {number} was UID {self.uids[number - 1]}, now is {int(uid[1])}")
            self.uids[number - 1] = int(uid[1])

    def leaving(self):
        return self.tag < 0

    def send(self, line):
        self.socket.sendall(line.encode() + b"\r\n")

    def run(self, command, literal=None):
        """A command to its end; everything that came before the OK."""
        self.tag += 1
        tag = f"t{self.tag}".encode()
        self.send(f"{tag.decode()} {command}")
        got = []
        while True:
            response = self.read()
            if response.startswith(b"+") and literal is not None:
                self.socket.sendall(literal + b"\r\n")
            elif response.startswith(tag):
                if not response.startswith(tag + b" OK"):
                    raise ValueError(f"{command}: {response!r}")
                return got
            else:
                got.append(response)

    def rest(self):
        if self.rests and self.idle is None:
            self.tag += 1
            self.idle = f"t{self.tag}".encode()
            self.send(f"t{self.tag} IDLE")
            while not self.read().startswith(b"+"):
                pass

    def wake(self):
        if self.idle is not None:
            self.send("DONE")
            while not (response := self.read()).startswith(self.idle):
                pass
            if not response.startswith(self.idle + b" OK"):
                raise ValueError(f"IDLE: {response!r}")
            self.idle = None

    def view(self):
        self.run("NOOP")
        if not self.uids:
            return []
        got = self.run(f"FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)] BODY.PEEK[TEXT])")
        view = []
        for response in got:
            if not (about := re.match(rb"\* \d+ FETCH .*?UID (\d+)", response)) or b"BODY[TEXT]" not in response:
                continue
            flags = re.search(rb"FLAGS \(([^)]*)\)", response)[1].decode().split()
            name = re.search(rb"Message-ID: <(.*)@t>", response)[1].decode()
            body = response[response.index(b"BODY[TEXT]"):]
            if f"this is {name}\r\n".encode() not in body:
                self.memory.wrong.append(f"{name} has another body: {body!r}")
            letters = "".join(sorted(LETTERS[flag] for flag in flags if flag in LETTERS))
            words = ",".join(sorted(flag for flag in flags if not flag.startswith("\\")))
            shown = name + (f"/{letters}" if letters else "") + (f"{{{words}}}" if words else "")
            view.append([int(about[1]), shown])
            self.memory.met(int(about[1]), name)
        return view

    def close(self):
        self.wake()
        self.send("bye LOGOUT")
        self.tag = -1
        while not self.read().startswith(b"bye "):
            pass
        self.socket.close()


class Memory:
    """What one user's mail program knows, and the program itself."""

    def __init__(self, user, box="INBOX"):
        self.user, self.box, self.validity, self.known, self.wrong, self.session = user, box, 0, {}, [], None
        self.path = os.path.join(PLAN["spool"], user)
        self.views = []

    def met(self, uid, name):
        known = self.known.setdefault(self.validity, {})
        if known.get(uid, name) != name:
            self.wrong.append(f"UID {uid} was {known[uid]}, now is {name}")
        elif uid not in known and name not in known.values() and uid < max(known, default=0):
            self.wrong.append(f"{name} is new, with UID {uid}, but {max(known)} was known")
        known[uid] = name

    def uid_of(self, name):
        uids = [uid for uid, shown in self.session.view() if re.split(r"[/{]", shown)[0] == name]
        if not uids:
            raise ValueError(f"there is no {name}")
        return uids[0]

    def do(self, verb, words):
        session = self.session
        if session and verb != "until":
            session.wake()
        getattr(self, verb)(*words)
        if self.session:
            self.session.rest()

    def base(self, *names):
        who = pwd.getpwnam(self.user)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchown(fd, who.pw_uid, pwd.getpwnam("mail").pw_gid)
        os.write(fd, b"".join(map(raw, names)))
        os.fsync(fd)
        os.close(fd)

    def restore(self, *messages):
        last = max(int(message.split(":")[1]) for message in messages)
        for number, message in enumerate(messages):
            name, uid = message.split(":")
            base = f"X-IMAPbase: 1000 {last:010}\n" if number == 0 else ""
            text = raw(name).replace(b"\n\n", f"\n{base}X-UID: {uid}\nStatus: O\n\n".encode(), 1)
            with open(self.path, "ab") as file:
                file.write(text)
        who = pwd.getpwnam(self.user)
        os.chmod(self.path, 0o600)
        os.chown(self.path, who.pw_uid, pwd.getpwnam("mail").pw_gid)

    def open(self, *how):
        self.session = Session(self, "idle" in how, "lazy" in how)
        self.views.append(self.session_view())

    def session_view(self):
        self.session.wake()
        return self.session.view()

    def look(self):
        self.views.append(self.session.view())

    def until(self, count):
        self.session.socket.settimeout(ANSWER_MAX_S)
        while len(self.session.uids) != int(count):
            self.session.read()

    def fresh(self):
        session = Session(self, False, False)
        self.views.append(session.view())
        session.close()

    def close(self):
        self.session.close()
        self.session = None

    def lda(self, name):
        command = [PLAN["lda"], "-c", PLAN["dovecot_conf"], "-d", self.user, "-f", "lda@t"]
        if self.box != "INBOX":
            command += ["-m", self.box]
        done = subprocess.run(command, input=text(name).encode(), capture_output=True)
        if done.returncode:
            raise ValueError(f"dovecot-lda: exit {done.returncode}: {done.stderr.decode()}")

    def smtp(self, name):
        before = self.size()
        with smtplib.SMTP(PLAN["host"], 25, local_hostname="client.rig.test", timeout=ANSWER_MAX_S) as server:
            server.sendmail("s@t", [f"{self.user}@mail.test"], text(name))
        end = time.monotonic() + ANSWER_MAX_S
        # By its size: whoever reads a mailbox has seen what is in it (row 4).
        while self.size() <= before:
            if time.monotonic() > end:
                raise ValueError(f"{name} is not delivered within {ANSWER_MAX_S} s")
            never.wait(0.05)

    def size(self):
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def put(self, name):
        with open(self.path, "ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            file.write(raw(name))

    def append(self, name):
        message = text(name).replace("\n", "\r\n").encode()
        self.session.run(f"APPEND {self.box} {{{len(message)}}}", message)

    def flag(self, name, flag):
        self.session.run(f"UID STORE {self.uid_of(name)} +FLAGS ({flag})")

    def unflag(self, name, flag):
        self.session.run(f"UID STORE {self.uid_of(name)} -FLAGS ({flag})")

    def expunge(self, name):
        self.flag(name, "\\Deleted")
        self.session.run("EXPUNGE")

    def move(self, name):
        self.session.run(f"CREATE {self.box}-moved")
        self.session.run(f"UID MOVE {self.uid_of(name)} {self.box}-moved")

    def subscribe(self, box):
        self.session.run(f"CREATE {box}")
        self.session.run(f"SUBSCRIBE {box}")

    def unsubscribe(self, box):
        self.session.run(f"UNSUBSCRIBE {box}")

    def pop(self):
        pop = poplib.POP3(PLAN["host"], 110, timeout=ANSWER_MAX_S)
        pop.user(self.user)
        pop.pass_(PLAN["password"])
        for number in range(pop.stat()[0]):
            pop.dele(number + 1)
        pop.quit()

    def lock(self):
        script = "import os, sys; os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL)); print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", script, f"{self.path}.lock"]
        self.owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.owner.stdout.readline() != b"\n" or not os.path.exists(f"{self.path}.lock"):
            raise ValueError("the dotlock is not there")

    def die(self):
        if not os.path.exists(f"{self.path}.lock"):
            raise ValueError("the dotlock went before its owner")
        self.owner.kill()
        self.owner.wait()

    def unlocked(self):
        if os.path.exists(f"{self.path}.lock"):
            raise ValueError("there is a dotlock")

    def unlink(self):
        os.unlink(self.path)

    def edit(self, what, *names):
        """As mutt: in place, under its lock, the pieces moved about or a header more."""
        with open(self.path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            data = file.read()
            starts = [found.start() for found in re.finditer(rb"^From ", data, re.M)] + [len(data)]
            pieces = [data[start:end] for start, end in zip(starts, starts[1:])]
            found = [[i for i, piece in enumerate(pieces) if f"<{name}@t>".encode() in piece] for name in names]
            at = [places[0] for places in found if places]
            if what == "stripe":
                base = re.search(rb"^X-IMAPbase: \d+ (\d{10})", pieces[0], re.M)
                raised = b"%010d" % (int(base[1]) + 65536)
                pieces[0] = pieces[0][:base.start(1)] + raised + pieces[0][base.end(1):]
            elif what == "uid":
                pieces[at[0]] = re.sub(rb"^X-UID: \d+", b"X-UID: " + names[1].encode(), pieces[at[0]], flags=re.M)
            elif what == "swap":
                pieces[at[0]], pieces[at[1]] = pieces[at[1]], pieces[at[0]]
            else:
                pieces[at[0]] = pieces[at[0]].replace(b"\n\n", b"\nLines: 1\n\n", 1)
            file.seek(0)
            file.write(b"".join(pieces))
            file.truncate()


memories = {}


def serve(user, verbs):
    """`user` alone: INBOX. `user/BOX`: another mailbox of that user."""
    memory = memories.setdefault(user, Memory(*user.split("/", 1)))
    memory.views, memory.wrong = [], []
    for verb in filter(None, map(str.strip, verbs.split(";"))):
        words = verb.split()
        try:
            memory.do(words[0], words[1:])
        except Exception as error:
            memory.wrong.append(f"{verb}: {error!r}")
            break
    return {"views": memory.views, "wrong": memory.wrong}


def main():
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for line in sys.stdin:
            jobs = {user: pool.submit(serve, user, verbs) for user, verbs in json.loads(line).items()}
            print("ok", json.dumps({user: job.result() for user, job in jobs.items()}), flush=True)


poplib._MAXLINE = 1 << 20
main()
