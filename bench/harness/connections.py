"""Clients that only hold connections, and an honest client beside them: rows r and s."""

from __future__ import annotations

import http.client
import os
import resource
import select
import socket
import threading
import time
from pathlib import Path

from .bench import Bench
from .row import Row
from .servers import Motorcade
from .text import MIB, ratio, size_text


class Connections(Bench):
    """Rows r and s; the attackers have 127.0.1.0/24."""

    def __init__(self, opts, session: Path):
        super().__init__(opts, session)
        q = opts.quick
        self.readers, self.drips, self.seconds = (200, 500, 5) if q else (2_000, 9_000, 30)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def table(self) -> dict:
        return {
            "r": ("slow readers", self.slow_readers, [(8 * MIB, 0)], 1 << 30),
            "s": ("dripping connections", self.dripping, [], 1 << 30),
        }

    def slow_readers(self, row: Row, where: Path) -> None:
        """Memory (RSS) of the server while clients ask for a sealed image and take a few bytes of it a second."""
        with Motorcade(self, where) as server:
            _, path, _ = server.upload(self.image(8 * MIB))
            sealed, _ = server.stored(path)
            url = f"/repo/{server.repo_path(sealed)}"
            before, largest, left, refused = slow_readers(server, url, self.readers, self.seconds)
        row.data.update(before=before, largest=largest, left=left, refused=refused)
        row.at_most(f"{self.readers:,} slow readers of one sealed image: RSS", largest, 200 * MIB, size_text)
        row.raw.append(f"{size_text(before)} before; {left} are still served at the end, {refused} got no connection")

    def dripping(self, row: Row, where: Path) -> None:
        """The time that an honest client waits for `timestamp.json` beside connections that send a head byte by byte.

        It makes a new connection each time; against what it waits without them. They come back when they are cut off.
        """
        with Motorcade(self, where) as server:
            alone, beside, most = drips(server, self.drips, self.seconds)
            held = server.rss()
        row.data.update(alone=alone, beside=beside, held=most)
        row.at_most(f"an honest client beside {self.drips:,} dripping connections: p99 against its own", beside["p99"] / alone["p99"], 3, ratio)
        row.at_most("… failed requests", beside["failed"], 0, lambda n: f"{n:.0f}")
        for name, client in (("alone", alone), ("beside them", beside)):
            row.raw.append(f"{name}: p50 {client['p50']:.2f} ms, p99 {client['p99']:.2f} ms, {client['failed']} of {client['requests']} failed")
        row.raw.append(f"the server held {most} connections, RSS {size_text(held)}")


def connect(port, number):
    """A connection from one of 200 addresses; 127.0.0.1 is the honest client's."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.bind((f"127.0.1.{1 + number % 200}", 0))
    client.settimeout(5)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


def slow_readers(server, image, count, seconds):
    """Returns memory before, the largest since, and how many readers are still served at the end."""
    before = server.rss()
    request = f"GET {image} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    readers, largest, refused = [], before, 0
    for number in range(count):
        try:
            reader = connect(server.port, number)
            reader.send(request)
            readers.append(reader)
        except OSError:
            refused += 1
        if number % 100 == 0:
            largest = max(largest, server.rss())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for reader in list(readers):
            try:
                if reader.recv(64) == b"":
                    readers.remove(reader)
            except BlockingIOError:
                pass
            except OSError:
                readers.remove(reader)
        largest = max(largest, server.rss())
        time.sleep(1)
    left = len(readers)
    for reader in readers:
        reader.close()
    return before, largest, left, refused


def honest(server, seconds):
    """The times in milliseconds of an honest client's requests, and how many failed."""
    times, failed = [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/repo/timestamp.json")
            response = connection.getresponse()
            response.read()
            failed += response.status != 200
            connection.close()
        except OSError:
            failed += 1
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.005)
    times.sort()
    return {"requests": len(times), "failed": failed, "p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}


def drip(port, count, stop, held):
    """Holds connections that send a byte each second, and opens a new one for each that is cut off."""
    clients = {}
    head = b"GET /repo/timestamp.json HTTP/1.1\r\nHost: x\r\nX-Padding: " + b"x" * 10_000
    poll = select.epoll()
    number = 0
    while not stop.is_set():
        turn = time.monotonic()
        for _ in range(min(2000, count - len(clients))):
            number += 1
            try:
                client = connect(port, number)
            except OSError:
                continue
            clients[client.fileno()] = [client, 0]
            poll.register(client, select.EPOLLIN | select.EPOLLRDHUP)
        ended = {fileno for fileno, _ in poll.poll(0)}
        for fileno, entry in list(clients.items()):
            try:
                if fileno in ended and not entry[0].recv(4096):
                    raise OSError
                entry[0].send(head[entry[1]:entry[1] + 1])
                entry[1] += 1
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(fileno)
                clients.pop(fileno)[0].close()
        held[0] = len(clients)
        stop.wait(max(0.0, 1 - (time.monotonic() - turn)))


def drips(server, count, seconds):
    """An honest client alone, and beside dripping connections."""
    alone = honest(server, seconds / 2)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        stop, held = threading.Event(), [0]
        threading.Thread(target=drip, args=(server.port, count, stop, held), daemon=True).start()
        begun = time.monotonic()
        while held[0] < count * 0.9 and time.monotonic() < begun + 40:
            time.sleep(0.2)
        os.write(write, b"x")
        time.sleep(seconds + 1)
        os._exit(0)
    end = time.monotonic() + 60
    while time.monotonic() < end and not select.select([read], [], [], 0.2)[0]:
        pass
    beside = honest(server, seconds)
    most = int(server.metric("motorcade_connections"))
    os.waitpid(child, 0)
    return alone, beside, most
