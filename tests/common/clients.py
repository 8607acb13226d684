"""Mail clients of the test rig. Run inside a test host by mail.rs as

    python3 -c THIS MODE     with a JSON plan on standard input, JSON on standard output

imap-read, pop3-read    print one mailbox as a list of texts
smtp, lda               write: plan tag, users, seconds, rate (messages per second), seed
readers                 read and expunge: plan users, seconds, imap, pop3 (threads of each), seed

A load prints one object per line, told apart by "what". Intentions are said before they are carried out, so that the
reports stay true when this program is killed:
    sending    from now on the message may be there, once, or not at all
    accepted   the server took the message (250, or exit 0): from now on it must not be lost
    expunging  from now on these Message-IDs may be there or not
    expunged   EXPUNGE was answered OK: these Message-IDs must be gone
    uid        a (UIDVALIDITY, UID) pair and the message that it named
    wrong      something no client may ever see, such as a torn message
    trouble    an error that a client may see now and then, such as a refused command
"""

import hashlib
import imaplib
import json
import poplib
import random
import re
import smtplib
import subprocess
import sys
import threading
import time

LDA = "/usr/lib/dovecot/dovecot-lda"
ANSWER_MAX_S = 120  # Dovecot may wait for a lock; a client gives up later than that.
VICTIMS_MAX = 8  # per EXPUNGE
FILLER = "The quick brown fox jumps over the lazy dog, and back again. "

speak = threading.Lock()
never = threading.Event()


def say(what, **words):
    with speak:
        print(json.dumps({"what": what, **words}), flush=True)


def checksum(body):
    """Of a body in canonical form: LF, one final newline, no mbox quoting (each writer quotes in its own way)."""
    body = body.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    return hashlib.sha256(re.sub(rb"^>+(From )", rb"\1", body, flags=re.M)).hexdigest()


def compose(plan, number, rng, sender):
    """One message: (user, id, sum, text). Every fourth is of the kind that readers expunge."""
    user = rng.choice(plan["users"])
    ident = f"<{plan['tag']}.{number}@rig.test>"
    kind = "expunge" if number % 4 == 3 else "keep"
    lines = [f"token {ident} {rng.getrandbits(64):016x}", "", "From here on the text looks like mbox syntax."]
    if plan["quotes_from"]:
        lines.append("From liar@rig.test  Mon Nov 23 12:34:23 2026")
    # Mostly a few hundred bytes, one in ten some ten thousand: several of Dovecot's 8 kB and Postfix's 4 kB blocks.
    amount = rng.randrange(150, 400) if rng.random() < 0.1 else rng.randrange(2, 30)
    lines += [f"{line} {FILLER}" for line in range(amount)]
    lines.append(f"end {ident}")
    body = "\n".join(lines) + "\n"
    digest = checksum(body.encode())
    head = f"From: {sender}\nTo: {user}@mail.test\nSubject: rig {kind} {number}\nMessage-ID: {ident}\n"
    head += f"Date: Mon, 23 Nov 2026 12:00:00 +0000\nX-Rig-Kind: {kind}\nX-Rig-Sum: {digest}\n"
    return user, ident, digest, head + "\n" + body


def paced(plan):
    """Message numbers at the planned rate until the planned time is over. A slow server makes it slower, not denser."""
    end = time.monotonic() + plan["seconds"]
    due, number = time.monotonic(), 0
    while time.monotonic() < end:
        never.wait(max(0.0, due - time.monotonic()))
        due = max(due + 1 / plan["rate"], time.monotonic())
        yield number
        number += 1


def smtp(plan):
    rng = random.Random(plan["seed"])
    sender = "load@rig.test"
    server = None
    for number in paced(plan):
        user, ident, digest, text = compose({**plan, "quotes_from": True}, number, rng, sender)
        say("sending", id=ident, user=user, sum=digest)
        sent = time.monotonic()
        try:
            server = server or smtplib.SMTP(plan["host"], 25, local_hostname="client.rig.test", timeout=ANSWER_MAX_S)
            server.sendmail(sender, [f"{user}@mail.test"], text)
            say("accepted", id=ident, seconds=time.monotonic() - sent)
        except (smtplib.SMTPException, OSError) as error:
            say("trouble", where="smtp", text=repr(error))
            server = None
    if server:
        server.quit()


def lda(plan):
    rng = random.Random(plan["seed"])
    for number in paced(plan):
        # The LDA does not quote: such a line would be told from a separator by Content-Length alone (MAIL.md 5.1).
        user, ident, digest, text = compose({**plan, "quotes_from": False}, number, rng, "lda@rig.test")
        say("sending", id=ident, user=user, sum=digest)
        sent = time.monotonic()
        command = [LDA, "-c", plan["dovecot_conf"], "-d", user, "-f", "lda@rig.test"]
        done = subprocess.run(command, input=text.encode(), capture_output=True)
        if done.returncode == 0:
            say("accepted", id=ident, seconds=time.monotonic() - sent)
        else:
            say("trouble", where="lda", text=f"exit {done.returncode}: {done.stderr.decode(errors='replace')}")


def split(raw):
    """(headers as a dict, body) of one message."""
    head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    fields = {}
    for line in head.decode(errors="replace").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.lower(), value.strip())
    return fields, body


def check(raw, user, where):
    """A message as a client got it must be whole."""
    fields, body = split(raw)
    if "x-rig-sum" in fields and checksum(body) != fields["x-rig-sum"]:
        say("wrong", where=where, text=f"{user}: {fields.get('message-id')} has another body: {body[:200]!r}...")


def imap_login(plan, user):
    imap = imaplib.IMAP4(plan["host"], 143, timeout=ANSWER_MAX_S)
    imap.login(user, plan["password"])
    return imap


def imap_overview(imap):
    """{uid: (Message-ID, kind)} of the open mailbox, or None if the server would not say."""
    answer, data = imap.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID X-RIG-KIND)])")
    if answer != "OK":
        say("trouble", where="imap fetch", text=repr(data))
        return None
    seen = {}
    for item in data:
        if isinstance(item, tuple):
            fields, _ = split(item[1])
            uid = int(re.search(rb"UID (\d+)", item[0])[1])
            seen[uid] = (fields.get("message-id"), fields.get("x-rig-kind"))
    return seen


def imap_visit(plan, user, rng, named):
    imap = imap_login(plan, user)
    try:
        answer, data = imap.select("INBOX")
        if answer != "OK":
            say("trouble", where="imap select", text=repr(data))
            return
        validity = imap.untagged_responses.get("UIDVALIDITY", [b"0"])[-1].decode()
        seen = imap_overview(imap) if int(data[0]) else {}
        if not seen:
            return
        for uid, (ident, _) in seen.items():
            if named.get((user, validity, uid)) != ident:
                named[user, validity, uid] = ident
                say("uid", user=user, validity=validity, uid=uid, id=ident)
        kept = [uid for uid, (_, kind) in seen.items() if kind == "keep"]
        if kept:
            imap_look(imap, user, str(rng.choice(kept)), rng)
        victims = [uid for uid, (_, kind) in seen.items() if kind == "expunge"][:VICTIMS_MAX]
        if victims:
            imap_expunge(imap, user, victims, [seen[uid][0] for uid in victims])
    finally:
        imap.logout()


def imap_look(imap, user, uid, rng):
    """Reads a message whole and changes its flags."""
    answer, data = imap.uid("FETCH", uid, "(UID BODY[])")
    for item in data:
        if answer == "OK" and isinstance(item, tuple):
            check(item[1], user, "imap fetch")
    change = rng.choice(["+FLAGS", "-FLAGS"]), rng.choice(["(\\Flagged)", "(\\Answered)", "(\\Seen)"])
    answer, data = imap.uid("STORE", uid, *change)
    if answer != "OK":
        say("trouble", where="imap store", text=repr(data))


def imap_expunge(imap, user, uids, idents):
    """Expunges marked messages only. Only what is confirmed by OK, and then not found any more, is reported as gone."""
    uid_set = ",".join(map(str, uids))
    say("expunging", ids=idents)
    answer, data = imap.uid("STORE", uid_set, "+FLAGS", "(\\Deleted)")
    if answer != "OK":
        say("trouble", where="imap store", text=repr(data))
        return
    answer, data = imap.expunge()
    if answer != "OK":
        say("trouble", where="imap expunge", text=repr(data))
        return
    answer, data = imap.uid("SEARCH", "UID", uid_set)
    if answer == "OK" and data[0].split():
        # The other server may have changed the flags at the same moment: the client sees it and would try again.
        say("trouble", where="imap expunge", text=f"{user}: still there after OK: {data[0]!r}")
        return
    say("expunged", ids=idents)


def pop3_visit(plan, user, rng, _named):
    pop = poplib.POP3(plan["host"], 110, timeout=ANSWER_MAX_S)
    pop.user(user)
    pop.pass_(plan["password"])
    count, _ = pop.stat()
    if count:
        check(b"\n".join(pop.retr(rng.randrange(count) + 1)[1]) + b"\n", user, "pop3 retr")
    pop.quit()


def read_loop(visit, plan, number):
    rng = random.Random(f"{plan['seed']} {visit.__name__} {number}")
    end = time.monotonic() + plan["seconds"]
    named = {}
    while time.monotonic() < end:
        user = rng.choice(plan["users"])
        try:
            visit(plan, user, rng, named)
            say("visit", where=visit.__name__)
        except (imaplib.IMAP4.error, poplib.error_proto, OSError) as error:
            say("trouble", where=visit.__name__, text=f"{user}: {error!r}")
        never.wait(plan["pause"])


def readers(plan):
    threads = [threading.Thread(target=read_loop, args=(imap_visit, plan, n)) for n in range(plan["imap"])]
    threads += [threading.Thread(target=read_loop, args=(pop3_visit, plan, n)) for n in range(plan["pop3"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def imap_read(plan):
    imap = imap_login(plan, plan["user"])
    count = int(imap.select("INBOX", readonly=True)[1][0])
    texts = [imap.fetch(str(n + 1), "(BODY.PEEK[])")[1][0][1] for n in range(count)]
    imap.logout()
    print(json.dumps([text.decode().replace("\r\n", "\n") for text in texts]))


def pop3_read(plan):
    pop = poplib.POP3(plan["host"], 110, timeout=ANSWER_MAX_S)
    pop.user(plan["user"])
    pop.pass_(plan["password"])
    texts = [pop.retr(n + 1)[1] for n in range(pop.stat()[0])]
    pop.quit()
    print(json.dumps([b"\n".join(lines).decode() + "\n" for lines in texts]))


imaplib._MAXLINE = poplib._MAXLINE = 1 << 20
MODES = {"imap-read": imap_read, "pop3-read": pop3_read, "smtp": smtp, "lda": lda, "readers": readers}
MODES[sys.argv[1]](json.load(sys.stdin))
