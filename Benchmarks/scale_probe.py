"""The applications of the scale benchmark, in its pods.

  scale_probe.py serve                             answers each connection to 8080 with one line
  scale_probe.py connect HOST PORT SECONDS         a connection each 5 ms, for SECONDS, or with 0 until standard input ends;
                                                   prints the milliseconds that each took to its answer, as JSON"""

import json
import select
import socket
import sys
import time

INTERVAL = 0.005
ANSWER = b"here\n"


def serve():
    listener = socket.create_server(("", 8080), backlog=1024)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(ANSWER)


def connect(host, port, seconds):
    """A connection that is due while the one before it is not done counts from when it was due."""
    took = []
    due = time.monotonic()
    end = due + seconds if seconds else float("inf")
    while due < end:
        now = time.monotonic()
        if now < due:
            ready, _, _ = select.select([sys.stdin] if not seconds else [], [], [], due - now)
            if ready:
                break
        begun = max(due, time.monotonic()) if now < due else due
        with socket.create_connection((host, port), timeout=20) as connection:
            answer = connection.recv(64)
            if answer != ANSWER:
                raise ConnectionError(f"unexpected answer {answer!r}")
        took.append((time.monotonic() - begun) * 1000)
        due += INTERVAL
    print(json.dumps(took))


if sys.argv[1] == "serve":
    serve()
else:
    connect(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
