"""Reads a spool directory as a test host sees it and says what is in it. Run inside the host by audit.rs as

    python3 -c THIS SPOOL

Prints {mailbox: {"sha256", "size", "messages": [{"id", "sum", "uid"}], "problems": [text]}}. It shares no code with
the filesystem: a second opinion on what a well-formed mbox is (strict: MAIL.md 5.1, as Postfix and Dovecot write it).
"""

import hashlib
import json
import os
import re
import sys

# Day and time as asctime(3) writes them; the sender may be empty.
SEPARATOR = re.compile(rb"^From \S* +[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\n", re.M)
HEADER_LINE = re.compile(rb"^([!-9;-~]+[ \t]*:|[ \t])")
# What Dovecot leaves in a box whose last message went, to keep UIDVALIDITY and the last UID.
PSEUDO = b"FOLDER INTERNAL DATA"


def checksum(body):
    """As in clients.py."""
    body = body.rstrip(b"\n") + b"\n"
    return hashlib.sha256(re.sub(rb"^>+(From )", rb"\1", body, flags=re.M)).hexdigest()


def scan_message(raw, first, problems):
    """One message without its From_ line; None for the pseudo message."""
    head, empty, body = raw.partition(b"\n\n")
    fields = {}
    for line in head.split(b"\n"):
        if not HEADER_LINE.match(line):
            problems.append(f"no header line: {line[:80]!r}")
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip().decode(errors="replace"))
    if PSEUDO in head:
        if not first:
            problems.append("the pseudo message is not the first")
        return None
    if not empty:
        problems.append(f"a message without a body: {head[:80]!r}")
    for name in (b"message-id", b"x-uid", b"status"):
        if len(fields.get(name, [])) > 1:
            problems.append(f"{name.decode()} twice in one message: {fields[name]}")
    uid = fields.get(b"x-uid", [None])[0]
    return {"id": fields.get(b"message-id", ["(none)"])[0], "sum": checksum(body), "uid": uid and int(uid)}


def scan_mailbox(data):
    problems, messages = [], []
    starts = [match for match in SEPARATOR.finditer(data) if match.start() == 0 or data[match.start() - 2 : match.start()] == b"\n\n"]
    if data and (not starts or starts[0].start() != 0):
        problems.append(f"does not begin with a From_ line: {data[:80]!r}")
    if data and not data.endswith(b"\n"):
        problems.append(f"does not end with a newline: {data[-80:]!r}")
    if b"\0" in data:
        problems.append(f"NUL at {data.index(0)}")
    if b"\r" in data:
        problems.append(f"CR at {data.index(13)}")
    ends = [match.start() for match in starts[1:]] + [len(data)]
    for index, (match, end) in enumerate(zip(starts, ends)):
        message = scan_message(data[match.end() : end], index == 0, problems)
        if message:
            messages.append(message)
    uids = [message["uid"] for message in messages if message["uid"] is not None]
    if uids != sorted(set(uids)):
        problems.append(f"X-UIDs do not grow: {uids}")
    return messages, problems


report = {}
for name in sorted(os.listdir(sys.argv[1])):
    path = os.path.join(sys.argv[1], name)
    if name == "lost+found":
        continue
    if not os.path.isfile(path):
        report[name] = {"sha256": "", "size": 0, "messages": [], "problems": ["not a regular file"]}
        continue
    with open(path, "rb") as file:
        data = file.read()
    messages, problems = scan_mailbox(data)
    if name.endswith(".lock"):
        problems = ["a dotlock that nobody removed"]
    size = os.stat(path).st_size
    if size != len(data):
        problems.append(f"stat says {size} bytes, read got {len(data)}")
    digest = hashlib.sha256(data).hexdigest()
    report[name] = {"sha256": digest, "size": len(data), "messages": messages, "problems": problems}
json.dump(report, sys.stdout)
