"""Says to a port what no mount and no peer would say. Run inside a host as

    python3 -c THIS HOST PORT WHAT

HOST `-`: to the unix socket of the brickd at PORT on this host.

It speaks HTTP/2 and gRPC by hand, so that it can say them wrong. Prints what came back, as far as it is text.
"""

import os
import socket
import struct
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_HEADERS = 4


def frame(kind, flags, stream, body):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def header(name, value):
    """HPACK: a literal without indexing, new name, no Huffman."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def call(path, *messages):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
    fields += [("content-type", "application/grpc"), ("te", "trailers")]
    head = b"".join(header(name, value) for name, value in fields)
    said = PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, head)
    return said + b"".join(frame(DATA, 0, 1, message) for message in messages)


def message(body, length=None):
    return b"\0" + struct.pack(">I", len(body) if length is None else length) + body


def field(number, body):
    return bytes([number << 3 | 2, len(body)]) + body


def attach(protocol):
    """ToBrick { attach: Attach { protocol, volume, session { client, nonce }, attach_no, fresh } }"""
    session = field(1, os.urandom(16)) + b"\x11" + os.urandom(8)
    inner = b"\x08" + bytes([protocol]) + field(2, b"gVol0") + field(3, session) + b"\x20\x01\x28\x01"
    return message(field(1, inner))


SESSION = "/mboxfs.v1.Fs/Session"
WHAT = {
    "noise": lambda: os.urandom(100_000),
    "http": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "preface": lambda: PREFACE + os.urandom(5000),
    "no-such-call": lambda: call("/mboxfs.v1.Fs/Nonsense", message(b"")),
    "no-protobuf": lambda: call(SESSION, message(b"\xff" * 1000)),
    "other-protocol": lambda: call(SESSION, attach(99)),
    "no-attach-first": lambda: call(SESSION, message(field(9, b""))),
    # Says that it is 1 GiB; the first piece of it is enough to know better.
    "oversized": lambda: call(SESSION, attach(1), message(b"x" * 10_000, 1 << 30)),
    "oversized-ask": lambda: call("/mboxfs.v1.Admin/Ask", message(b"x" * 10_000, 1 << 30)),
    "no-peer": lambda: call("/mboxfs.v1.Peer/Replicate", message(b"\x0a\x02\x08\x63")),
}

if sys.argv[1] == "-":
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(10)
    stranger.connect(f"\0mboxfs-{sys.argv[2]}")
else:
    stranger = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
with stranger:
    said, heard = WHAT[sys.argv[3]](), b""
    try:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR) if sys.argv[3] in ("noise", "http", "preface") else stranger.settimeout(2)
        while piece := stranger.recv(65536):
            heard += piece
    except OSError as e:
        heard += f" ({e})".encode()
    print("".join(chr(b) if 32 <= b < 127 else "." for b in heard))
