"""The fleet: the Director and the vehicle, rows a to f."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import shutil
import threading
import time
from pathlib import Path

from .bench import Bench
from .parked import Parked
from .process import Done, Failed, reap, run, spawn
from .row import Row
from .servers import Motorcade
from .text import GB, KIB, MIB, ratio, size_text


def micros(x: float) -> str:
    return f"{x:.0f} µs"


class Fleet(Parked, Bench):
    """Rows a to k."""

    def __init__(self, opts, session: Path):
        super().__init__(opts, session)
        q = opts.quick
        self.vehicles, self.many = (2_000, 5_000) if q else (100_000, 1_000_000)
        self.seconds = 3 if q else 15
        self.update_size = 64 * MIB if q else 2048 * MIB
        self.images = 500 if q else 10_000
        self.parked_vehicles = 200 if q else 2_000
        self.connections = 200 if q else 1_000

    def table(self) -> dict:
        size = self.update_size
        return {
            "a": ("idle polls", self.idle_polls, [], 2 << 30),
            "b": ("a large fleet", self.large_fleet, [], 8 << 30),
            "d": ("wrapping a data key", self.wrapping, [], 0),
            "e": ("an update of a large image", self.big_update, [(size, 0)], 5 * size),
            "f": ("bytes of a poll and of an update", self.traffic, [(MIB, 0), (MIB, 1), (MIB, 2)], 4 << 30),
        } | self.parked_table()

    # -- what drives vehicles

    def simulate(self, server: Motorcade, *more) -> dict:
        out = server.cli("fleet", "simulate", "--json", *more).out
        return json.loads(out.strip().splitlines()[-1])

    def polls(self, server: Motorcade, vehicles: int, polling: int, concurrency: int) -> dict:
        """Idle polls: everybody who polls has polled before, so that nothing is signed."""
        fleet = ["--vehicles", vehicles, "--polling", polling, "--registered", "--concurrency", concurrency]
        end = time.monotonic() + 600
        while time.monotonic() < end:
            before = server.metric("motorcade_director_bundles_total")
            self.simulate(server, *fleet, "--seconds", 5)
            if server.metric("motorcade_director_bundles_total") - before < 20:
                break
        user, system = server.cpu_parts()
        result = self.simulate(server, *fleet, "--seconds", self.seconds)
        after = server.cpu_parts()
        result["server_us"] = (sum(after) - user - system) * 1e6 / result["polls"]
        result["kernel_share"] = (after[1] - system) / max(1e-9, sum(after) - user - system)
        return result

    # -- a, c

    def idle_polls(self, row: Row, where: Path) -> None:
        """Server CPU of an idle poll with 2 ECUs (manifest, timestamp, targets over a kept connection), all vehicles in memory.

        Against the three signature checks that it cannot do without, on one core.
        """
        checks = self.tool("fleet-parts")["poll_checks_us"]
        with Motorcade(self, where, more=("--vehicles-in-memory", self.vehicles)) as server:
            registered = self.simulate(server, "--vehicles", self.vehicles, "--seconds", 0)
            poll = self.polls(server, self.vehicles, min(20_000, self.vehicles), 32)
        row.data.update(poll=poll, poll_checks_us=checks, registered=registered)
        us, ms = poll["server_us"], poll["poll_ms"]
        row.at_most(f"server CPU of an idle poll, 2 ECUs, {self.vehicles:,} vehicles in SQLite / its signature checks alone", us / checks, 2.0, ratio)
        row.told("… the same in time", f"{micros(us)} / {micros(checks)}; the kernel's share {100 * poll['kernel_share']:.0f} %", us)
        row.told("… polls a second, with the virtual vehicles on the same cores", f"{poll['polls_per_second']:.0f}; p50 {ms['p50']} ms, p99 {ms['p99']} ms at 32 at a time", poll["polls_per_second"])
        row.under(f"{self.vehicles:,} vehicles registered in one request, in bulk", registered["seconds"], 60, lambda s: f"{s:.1f} s")

    # -- b

    def large_fleet(self, row: Row, where: Path) -> None:
        """Latency of a poll with very many vehicles, against few; the same number of them poll at a time."""
        with Motorcade(self, where / "few") as few, Motorcade(self, where / "many") as many:
            self.simulate(few, "--vehicles", 1000, "--seconds", 0)
            registered = self.simulate(many, "--vehicles", self.many, "--seconds", 0)
            pair = [self.polls(few, 1000, 1000, 8), self.polls(many, self.many, min(10_000, self.many), 8)]
        p50 = [poll["poll_ms"]["p50"] for poll in pair]
        row.data.update(few=pair[0], many=pair[1], registered=registered)
        row.at_most(f"latency of a poll (p50), {self.many:,} vehicles / 1,000 vehicles, 8 at a time", p50[1] / p50[0], 1.2, ratio)
        row.raw.append(f"p50 {p50[1]} ms and {p50[0]} ms; {self.many:,} vehicles registered in {registered['seconds']:.0f} s")

    # -- d

    def wrapping(self, row: Row, where: Path) -> None:
        """CPU time of wrapping a data key for one ECU, from the stored envelope to the signed one, against the bare primitive."""
        parts = self.tool("fleet-parts")
        row.data.update(parts)
        for name, text in (("p256", "P-256"), ("rsa2048", "RSA-2048")):
            ours, bare = parts[f"wrap_{name}_us"], parts[f"bare_{name}_us"]
            row.at_most(f"wrapping a data key for one ECU / the bare primitive, {text}", ours / bare, 1.2, ratio)
            row.raw.append(f"{text}: {micros(ours)} / {micros(bare)}")
        row.raw.append(f"reading an RSA-2048 key, once a vehicle: {micros(parts['read_rsa2048_key_us'])}")

    # -- e, f

    def provision(self, server: Motorcade, where: Path, url: str, vin: str, primary: str) -> Path:
        for name, path in (("director.json", "/director/1.root.json"), ("image.json", "/repo/1.root.json")):
            (where / name).write_bytes(server.ask("GET", path))
        run([self.vehicle, "provision", "--dir", where / vin, "--vin", vin, "--server", url, "--primary", primary,
             "--director-root", where / "director.json", "--image-root", where / "image.json"],
            env={**server.env, "MOTORCADE_ENROLMENT_TOKEN": server.make_token("enroller")})
        return where / vin

    def update(self, folder: Path) -> Done:
        return run([self.vehicle, "update", "--dir", folder])

    def big_update(self, row: Row, where: Path) -> None:
        """One `motorcade-vehicle update` of a large image, against the sum of what it has to do.

        A download with curl that is synced, two SHA-256 and one AES-GCM on one core, and a copy that is synced.
        """
        size = self.update_size
        image = self.image(size)
        with Motorcade(self, where) as server:
            _, path, _ = server.upload(image)
            vehicle = self.provision(server, where, server.url, "BIG1", "big-gw:gw-mk3")
            self.update(vehicle)
            server.cli("vehicle", "assign", "BIG1", f"big-gw={path}")
            sealed, _ = server.stored(path)
            fetched, copy = where / "fetched", where / "copy"
            download = run(["curl", "-sfo", fetched, f"{server.url}/repo/{server.repo_path(sealed)}"]).wall + run(["sync", fetched]).wall
            fetched.unlink()
            parts = self.tool("parts", "--size", size, "--dir", where)
            start = time.perf_counter()
            shutil.copyfile(image, copy)
            write = time.perf_counter() - start + run(["sync", copy]).wall
            copy.unlink()
            start = time.perf_counter()
            process = spawn([self.vehicle, "update", "--dir", vehicle], stderr=open(where / "vehicle.log", "wb"))
            peak = self.wait_for(process)
            took = time.perf_counter() - start
            if process.returncode != 0:
                raise Failed(f"the update failed: {(where / 'vehicle.log').read_text()[-300:]}")
            run(["cmp", image, vehicle / "ecus/big-gw/image.bin"])
        hashing, opening = 2 * parts["sha256_s_per_gb"] * size / GB, parts["aes_gcm_s_per_gb"] * size / GB
        total = download + hashing + opening + write
        row.data.update(seconds=took, download_s=download, hashing_s=hashing, opening_s=opening, write_s=write, peak_rss=peak)
        row.at_most(f"`motorcade-vehicle update` of {size_text(size)} / download, two SHA-256, opening, writing", took / total, 1.3, ratio)
        row.at_most("… peak RSS", peak, 32 * MIB, size_text)
        row.raw.append(f"{took:.1f} s; download {download:.1f}, two SHA-256 {hashing:.1f}, opening {opening:.1f}, writing {write:.1f} s")

    def wait_for(self, process) -> int:
        """Waits for a program; returns its largest memory."""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss * KIB

    def traffic(self, row: Row, where: Path) -> None:
        """Bytes of bodies, counted by a proxy: of a vehicle that polls, and of one that gets one image."""
        data = where / "data"
        self.tool("seed", "--data-dir", data, "--images", self.images)
        with Motorcade(self, where, data=data) as server:
            paths = [server.upload(self.image(MIB, index))[1] for index in range(2)]
            Counter.upstream, Counter.counts = ("127.0.0.1", server.port), {}
            proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counter)
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            vehicle = self.provision(server, where, f"http://127.0.0.1:{proxy.server_port}", "BYTES1", "bytes-gw:gw-mk3")

            def update() -> dict:
                Counter.counts.clear()
                self.update(vehicle)
                return dict(Counter.counts)

            update()
            server.cli("vehicle", "assign", "BYTES1", f"bytes-gw={paths[0]}")
            first = update()
            _, third, _ = server.upload(self.image(MIB, 2))  # so that snapshot and a bin are new
            server.cli("vehicle", "assign", "BYTES1", f"bytes-gw={third}")
            following = update()
            update()
            idle = update()
            proxy.shutdown()
        row.data.update(idle=idle, first_image=first, next_image=following)
        row.under("bytes of bodies in an idle poll of `motorcade-vehicle` with 1 ECU", idle["metadata"], 3 * KIB, size_text)
        row.under(f"bytes of bodies for one new image besides the image, Image repository of {self.images:,} images", following["metadata"], 64 * KIB, size_text)
        row.under("… the first time, by a vehicle that has no metadata of the Image repository yet", first["metadata"], 64 * KIB, size_text)


class Counter(http.server.BaseHTTPRequestHandler):
    """A proxy that counts the bytes of bodies."""

    upstream: tuple = ()
    counts: dict = {}

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(*self.upstream)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        kind = "image" if "/targets/" in self.path and not self.path.endswith(".jwe") else "metadata"
        self.counts[kind] = self.counts.get(kind, 0) + len(body) + len(data)
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Encoding", "ETag", "Content-Range", "Preference-Applied", "Vary"):
            if answer.getheader(name):
                self.send_header(name, answer.getheader(name))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = forward

    def log_message(self, *_):
        pass
