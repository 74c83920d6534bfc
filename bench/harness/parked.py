"""A parked fleet, which wakes, asks over a new mTLS connection and sleeps: rows g to k."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from .machine import cpu_parts
from .process import Failed, reap, spawn, stop
from .row import Row
from .servers import Motorcade
from .text import KIB, free_port, median, ratio, size_text


class Parked:
    """Methods of `Fleet`."""

    def parked_table(self) -> dict:
        return {
            "g": ("a parked fleet", self.parked, [], 1 << 30),
            "h": ("a vehicle in memory", self.in_memory, [], 2 << 30),
            "i": ("many connections at once", self.at_once, [], 1 << 30),
            "j": ("the kernel's share", self.kernel_share, [], 1 << 30),
            "k": ("a check between reports", self.checks, [], 1 << 30),
        }

    def certificates(self, where: Path) -> Path:
        folder = where / "certificates"
        self.tool("certificates", "--dir", folder)
        return folder

    def register(self, server: Motorcade, vehicles: int) -> None:
        lines = spawn([self.tools, "vehicles", "--vehicles", vehicles], stdout=subprocess.PIPE)
        body = lines.stdout.read()
        reap(lines)
        report = json.loads(server.ask("POST", "/api/v1/vehicles", body, server.engineer, "application/jsonl"))
        if report["registered"] != vehicles:
            raise Failed(f"not registered: {report}")

    def drive(self, address: str, certificates: Path, work: str, connection: str, pid: int, *, vehicles: int, concurrency: int = 16) -> dict:
        """Has vehicles ask; returns what they say and the server's CPU time for each."""
        driver = spawn(
            [self.tools, "drive", "--address", address, "--certificates", certificates, "--vehicles", vehicles, "--work", work,
             "--connection", connection, "--concurrency", concurrency, "--seconds", self.seconds, "--pause"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if driver.stdout.readline().strip() != "warm":
            reap(driver)
            raise Failed(f"{work} over {connection} connections failed")
        time.sleep(1)
        before = cpu_parts(pid)
        driver.stdin.write("go\n")
        driver.stdin.flush()
        said = driver.stdout.readline()
        after = cpu_parts(pid)
        reap(driver)
        if driver.returncode:
            raise Failed(f"{work} over {connection} connections failed")
        result = json.loads(said)
        user, system = after[0] - before[0], after[1] - before[1]
        result |= {"us": (user + system) * 1e6 / result["count"], "kernel_us": system * 1e6 / result["count"]}
        return result

    # -- g

    def parked(self, row: Row, where: Path) -> None:
        """Server CPU of a poll (manifest, timestamp; 1 ECU) over a new mTLS connection, 16 at a time, and of its handshake.

        Full handshakes against resumed ones with tickets, each with a GET of a small file; every vehicle in its turn, so
        that what is kept of few does not help.
        """
        certificates = self.certificates(where)
        kinds = [("get", "fresh"), ("poll", "fresh"), ("get", "resumed"), ("poll", "resumed")]
        results: dict = {kind: [] for kind in kinds}
        with Motorcade(self, where, certificates=certificates) as server:
            self.register(server, self.parked_vehicles)
            for _, kind in self.in_turns(kinds, self.runs):
                result = self.drive(server.tls_address, certificates, *kind, server.process.pid, vehicles=self.parked_vehicles)
                if kind[1] == "resumed" and result["resumed"] < 0.95 * result["count"]:
                    raise Failed(f"only {result['resumed']} of {result['count']} connections were resumed")
                results[kind].append(result)
        us = {kind: median([result["us"] for result in all_]) for kind, all_ in results.items()}
        for kind, all_ in results.items():
            row.raw.append(f"{kind[0]} over {kind[1]} connections: " + ", ".join(f"{x['us']:.0f}" for x in all_)
                           + f" µs, of which the kernel's {median([x['kernel_us'] for x in all_]):.0f}; p50 {median([x['ms']['p50'] for x in all_]):.2f} ms")
            row.data[" ".join(kind)] = all_
        n = f"{self.parked_vehicles:,} vehicles"
        row.at_most("poll over a fresh mTLS connection / bare handshake and one GET", us["poll", "fresh"] / us["get", "fresh"], 1.3, ratio)
        row.at_most(f"handshake and one GET, resumed / full, {n}", us["get", "resumed"] / us["get", "fresh"], 0.6, ratio)
        row.told(f"… poll, resumed / full, {n}", ratio(us["poll", "resumed"] / us["poll", "fresh"]), us["poll", "resumed"] / us["poll", "fresh"])

    # -- h

    def in_memory(self, row: Row, where: Path) -> None:
        """Memory (RSS) that a vehicle of 2 ECUs takes once it has polled, and a poll of one that is not there.

        The second server keeps 16 vehicles in memory, so that hardly any poll finds its own.
        """
        vehicles = 1_000 if self.opts.quick else 20_000
        polls = {}
        for name, kept in (("all", vehicles), ("none", 16)):
            with Motorcade(self, where / name, more=("--vehicles-in-memory", kept)) as server:
                self.simulate(server, "--vehicles", vehicles, "--seconds", 0)
                self.simulate(server, "--vehicles", vehicles, "--polling", 16, "--registered", "--seconds", 2)  # its buffers are there
                before = server.rss()
                polls[name] = self.polls(server, vehicles, vehicles, 16)
                if name == "all":
                    each = (server.rss() - before) / vehicles
        row.data.update(polls, bytes=each)
        row.at_most(f"memory of a vehicle of 2 ECUs, {vehicles:,} of them", each, 4 * KIB, size_text)
        row.at_most("poll of a vehicle that is not in memory / of one that is (server CPU)", polls["none"]["server_us"] / polls["all"]["server_us"], 1.3, ratio)
        row.raw.append(f"{polls['none']['server_us']:.0f} µs and {polls['all']['server_us']:.0f} µs")

    # -- i

    def at_once(self, row: Row, where: Path) -> None:
        """Polls over kept connections, 1,000 at once: server CPU of each against 16 at once, and memory of the server."""
        certificates = self.certificates(where)
        with Motorcade(self, where, certificates=certificates) as server:
            self.register(server, self.connections)
            before = server.rss()
            few, many = (
                self.drive(server.tls_address, certificates, "poll", "kept", server.process.pid, vehicles=n, concurrency=n)
                for n in (16, self.connections)
            )
            peak = server.peak_rss()
        row.data.update(few=few, many=many, rss_before=before, peak_rss=peak)
        row.told(f"server CPU of a poll, {self.connections:,} connections at once / 16 at once", ratio(many["us"] / few["us"]), many["us"] / few["us"])
        row.told("… polls a second, and p99", f"{many['count'] / many['seconds']:.0f}; {many['ms']['p99']:.0f} ms", many["ms"]["p99"])
        row.told("… memory (RSS)", f"{size_text(peak)}, {size_text(before)} before", peak)
        row.raw.append(f"{many['us']:.0f} µs and {few['us']:.0f} µs a poll, of which the kernel's {many['kernel_us']:.0f} and {few['kernel_us']:.0f}")

    # -- j

    def kernel_share(self, row: Row, where: Path) -> None:
        """The same requests, answered by a server with TLS and nothing behind it, and by ours.

        What both have in common is TLS and what the kernel does for a connection and for each request.
        """
        certificates = self.certificates(where)
        vehicles = self.parked_vehicles
        address = f"127.0.0.1:{free_port()}"
        nothing = spawn([self.tools, "nothing", "--listen", address, "--certificates", certificates])
        try:
            with Motorcade(self, where, certificates=certificates) as server:
                self.register(server, vehicles)
                for connection in ("fresh", "resumed", "kept"):
                    ours = self.drive(server.tls_address, certificates, "poll", connection, server.process.pid, vehicles=vehicles)
                    bare = self.drive(address, certificates, "poll", connection, nothing.pid, vehicles=vehicles)
                    row.data[connection] = {"ours": ours, "nothing": bare}
                    row.told(f"a poll over {connection} connections / the same requests with nothing behind them (server CPU)",
                             f"{ratio(ours['us'] / bare['us'])} ({ours['us']:.0f} µs / {bare['us']:.0f} µs)", ours["us"] / bare["us"])
                    row.raw.append(f"{connection}: the kernel's share {ours['kernel_us']:.0f} µs of {ours['us']:.0f} µs, and {bare['kernel_us']:.0f} µs of {bare['us']:.0f} µs")
        finally:
            stop(nothing)

    # -- k

    def checks(self, row: Row, where: Path) -> None:
        """Server CPU of a check between reports (the timestamp, with the entity tag of the one that is there: 304), 16 at a time.

        Over a kept mTLS connection; and over a resumed one, against a resumed handshake and a GET of a small file, which
        is the least that a client comes for. A poll over a kept connection is beside it, for what a check saves.
        """
        certificates = self.certificates(where)
        kinds = [("check", "kept"), ("poll", "kept"), ("check", "resumed"), ("get", "resumed")]
        results: dict = {kind: [] for kind in kinds}
        with Motorcade(self, where, certificates=certificates) as server:
            self.register(server, self.parked_vehicles)
            for _, kind in self.in_turns(kinds, self.runs):
                result = self.drive(server.tls_address, certificates, *kind, server.process.pid, vehicles=self.parked_vehicles)
                if kind[0] == "check" and result["changed"]:
                    raise Failed(f"{result['changed']} of {result['count']} checks got a file")
                if kind[1] == "resumed" and result["resumed"] < 0.95 * result["count"]:
                    raise Failed(f"only {result['resumed']} of {result['count']} connections were resumed")
                results[kind].append(result)
        us = {kind: median([result["us"] for result in all_]) for kind, all_ in results.items()}
        for kind, all_ in results.items():
            row.raw.append(f"{kind[0]} over {kind[1]} connections: " + ", ".join(f"{x['us']:.0f}" for x in all_)
                           + f" µs, of which the kernel's {median([x['kernel_us'] for x in all_]):.0f}; p50 {median([x['ms']['p50'] for x in all_]):.2f} ms")
            row.data[" ".join(kind)] = all_
        row.at_most("server CPU of a check between reports, kept mTLS connection", us["check", "kept"], 40, lambda x: f"{x:.0f} µs")
        row.at_most("… over a resumed connection / the resumed handshake and one GET", us["check", "resumed"] / us["get", "resumed"], 1.15, ratio)
        row.told("… kept, against a poll (manifest, timestamp)", ratio(us["check", "kept"] / us["poll", "kept"]), us["check", "kept"] / us["poll", "kept"])
