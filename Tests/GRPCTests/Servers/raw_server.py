"""A server that speaks HTTP/2 frame by frame, and badly. Arguments: certificate, key, what to do to each call.

Prints its port, then serves until it is killed."""

import socket
import ssl
import struct
import sys
import threading
import time

DATA, HEADERS, RST, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def fields(*pairs):
    block = b""
    for name, value in pairs:
        block += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return block


def headers(*pairs, end=False):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), 1, fields(*pairs))


GOOD = headers((":status", "200"), ("content-type", "application/grpc"))
OK = headers(("grpc-status", "0"), end=True)


def data(payload, end=False):
    return frame(DATA, END_STREAM if end else 0, 1, payload)


def message(payload):
    return b"\0" + struct.pack(">I", len(payload)) + payload


ANSWERS = {
    "reset": GOOD + data(message(b"first") + b"\0\0") + frame(RST, 0, 1, struct.pack(">I", 2)),
    "refuse": frame(RST, 0, 1, struct.pack(">I", 7)),
    "over-cap": GOOD + data(b"\0\xff\xff\xff\xff"),
    "compressed": GOOD + data(b"\1\0\0\0\1x"),
    "garbage": bytes(range(256)) * 8,
    "truncated": GOOD + data(b"\0\0\0\0\5abc") + OK,
    "no-status": GOOD + data(message(b"x"), end=True),
    "http-503": headers((":status", "503"), end=True),
    "web-page": headers((":status", "200"), ("content-type", "text/html")) + data(b"<html>"),
    "no-content-type": headers((":status", "200")) + data(message(b"x")),
    "trailers-only": headers(
        (":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "7"), ("grpc-message", "a%20b%zz"),
        end=True),
    "unknown-code": GOOD + headers(("grpc-status", "99"), end=True),
    "status-no-number": GOOD + headers(("grpc-status", "x"), end=True),
    "empty-trailers": GOOD + headers(end=True),
    "go-away": frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)),
    "two-answers": GOOD + data(message(b"x") + message(b"y")) + OK,
    "no-answer": GOOD + OK,
    "data-first": data(message(b"x")),
    "unknown-stream": frame(DATA, 0, 9, b"x"),
    "close": GOOD + data(message(b"x")),
}


def serve(connection, what):
    with connection:
        if what == "silent":
            time.sleep(60)
        connection.sendall(frame(SETTINGS, 0, 0))
        received = b""
        while len(received) < 24:
            received += connection.recv(65536)
        received = received[24:]
        while True:
            while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3], "big"):
                received += connection.recv(65536)
            size, kind, flags = int.from_bytes(received[:3], "big"), received[3], received[4]
            received = received[9 + size:]
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            if kind == HEADERS:
                connection.sendall(ANSWERS[what])
                if what != "close":
                    time.sleep(30)
                return


def handle(raw, context, what):
    try:
        serve(context.wrap_socket(raw, server_side=True), what)
    except (OSError, ssl.SSLError) as error:
        print("connection:", error, flush=True)


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", 0))
    print("port", listener.getsockname()[1], flush=True)
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=handle, args=(raw, context, sys.argv[3]), daemon=True).start()


main()
