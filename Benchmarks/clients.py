"""Clients that no tool offers: run inside a namespace by the benchmark, one job a process.

  clients.py probe HOST PORT            ok, once the web server answers
  clients.py quiet HOST PORT SECONDS    one connection, one request each 5 ms; latencies in microseconds as JSON
  clients.py hold HOST PORT             reads numbers from stdin, holds that many idle connections, says so
"""

import gc
import json
import select
import socket
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
INTERVAL = 0.005
IN_FLIGHT = 100


def read_response(connection):
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.endswith(b"one small file\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"the connection ended after {answer!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"unexpected answer {answer!r}")


def probe(host, port):
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(REQUEST)
        read_response(connection)
    print("ok")


def quiet(host, port, seconds):
    """A request that is due while the one before it is still on its way counts from when it was due."""
    latencies = []
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(20):
            connection.sendall(REQUEST)
            read_response(connection)
        gc.disable()
        due = time.perf_counter()
        end = due + seconds
        while due < end:
            now = time.perf_counter()
            if now < due:
                time.sleep(due - now)
                begun = time.perf_counter()
            else:
                begun = due
            connection.sendall(REQUEST)
            read_response(connection)
            latencies.append(round((time.perf_counter() - begun) * 1e6, 1))
            due += INTERVAL
    print(json.dumps(latencies))


def open_more(host, port, count, held):
    """Each connection is used once, so that it is known to reach the server."""
    epoll, opening, wanted = select.epoll(), {}, count
    deadline = time.monotonic() + 120
    while wanted or opening:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{wanted + len(opening)} of {count} connections are not open after 120 s")
        while wanted and len(opening) < IN_FLIGHT:
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex((host, port))
            opening[connection.fileno()] = [connection, b""]
            epoll.register(connection, select.EPOLLOUT)
            wanted -= 1
        for descriptor, _ in epoll.poll(1):
            advance(epoll, opening, descriptor, held)


def advance(epoll, opening, descriptor, held):
    entry = opening[descriptor]
    connection = entry[0]
    if entry[1] == b"":
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise ConnectionError(f"connect: errno {error}")
        connection.sendall(REQUEST)
        entry[1] = b" "
        epoll.modify(descriptor, select.EPOLLIN)
        return
    piece = connection.recv(4096)
    if not piece:
        raise ConnectionError("the server closed an idle connection")
    entry[1] += piece
    if entry[1].endswith(b"one small file\n"):
        epoll.unregister(descriptor)
        del opening[descriptor]
        held.append(connection)


def hold(host, port):
    held = []
    for line in sys.stdin:
        open_more(host, port, int(line) - len(held), held)
        print(len(held), flush=True)


def main(arguments):
    job, host, port = arguments[0], arguments[1], int(arguments[2])
    if job == "probe":
        probe(host, port)
    elif job == "quiet":
        quiet(host, port, float(arguments[3]))
    elif job == "hold":
        hold(host, port)
    else:
        sys.exit(f"no such job: {job}")


main(sys.argv[1:])
