#!/usr/bin/env python3
"""Measures Motorcade against its bars and prints a Markdown table of ratios, with the raw numbers under it.

scripts/bench installs and builds what this needs, then runs it. Only Python's standard library is used.

Everything is on loopback and on one disk. What we compare with runs on the same machine, in the same run, in turns
with us, and the order changes from round to round; medians are compared. Each row says in its docstring what is
measured and which choices were made where fairness was a question. A MISS is a result, not a failure: the exit
status is 1 only if a row could not be measured.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import http.client
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
GB = 1_000_000_000
HARDWARE = "gw-mk3"
TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
NOISY = 0.15  # share of the machine that others may use; the disk's kernel threads are in it
COMMAND_LIMIT = 1800  # seconds; nothing here may hang for ever


class Failed(Exception):
    """A row could not be measured."""


# ---------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------

LIVE: set[subprocess.Popen] = set()
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: not even a killed benchmark leaves servers behind


def spawn(cmd: list, **kw) -> subprocess.Popen:
    try:
        p = subprocess.Popen([str(c) for c in cmd], preexec_fn=_die_with_parent, stdin=kw.pop("stdin", subprocess.DEVNULL), **kw)
    except FileNotFoundError as e:
        raise Failed(f"{Path(e.filename).name} is not installed or not built") from None
    LIVE.add(p)
    return p


def reap(p: subprocess.Popen) -> tuple[float, float]:
    """Waits for a child and returns its CPU seconds: user, system."""
    timer = threading.Timer(COMMAND_LIMIT, p.kill)
    timer.start()
    try:
        _, status, usage = os.wait4(p.pid, 0)
    finally:
        timer.cancel()
    p.returncode = os.waitstatus_to_exitcode(status)
    LIVE.discard(p)
    return usage.ru_utime, usage.ru_stime


def stop(p: subprocess.Popen, grace: float = 20) -> None:
    if p.returncode is None:
        p.terminate()
        try:
            p.wait(grace)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    LIVE.discard(p)


def stop_all() -> None:
    for p in list(LIVE):
        try:
            stop(p, 5)
        except OSError:
            pass


@dataclass
class Done:
    wall: float
    user: float
    sys: float
    out: str

    @property
    def cpu(self) -> float:
        return self.user + self.sys


def run(cmd: list, *, env: dict | None = None) -> Done:
    """Runs a command to its end; its failure is ours."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        p = spawn(cmd, stdout=out, stderr=err, env=env)
        user, sys_ = reap(p)
        wall = time.perf_counter() - start
        out.seek(0)
        text = out.read().decode(errors="replace")
        if p.returncode != 0:
            err.seek(0)
            said = (err.read().decode(errors="replace").strip() or text.strip())[-600:]
            raise Failed(f"{Path(str(cmd[0])).name} {cmd[1] if len(cmd) > 1 else ''} ended with {p.returncode}: {said}")
        return Done(wall, user, sys_, text)


# ---------------------------------------------------------------------------------------------------------------
# /proc
# ---------------------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, the ended ones too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_rss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise Failed("no VmHWM in /proc/PID/status")


def bytes_read(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("rchar:"):
                return int(line.split()[1])
    except (OSError, ProcessLookupError):
        pass
    return 0


@dataclass
class Jiffies:
    """CPU seconds of the whole machine, all cores together, since boot."""

    busy: float
    iowait: float
    steal: float

    def __sub__(self, o: "Jiffies") -> "Jiffies":
        return Jiffies(self.busy - o.busy, self.iowait - o.iowait, self.steal - o.steal)


def jiffies() -> Jiffies:
    with open("/proc/stat") as f:
        n = [int(x) / TICKS for x in f.readline().split()[1:9]]
    user, nice, system, _idle, iowait, irq, softirq, steal = n
    return Jiffies(user + nice + system + irq + softirq, iowait, steal)


def our_cpu() -> float:
    """CPU seconds of this program and of everything it started and that has ended."""
    return sum(u.ru_utime + u.ru_stime for u in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))


def others_busy(seconds: float = 1.0) -> float:
    """Share of the machine that is busy while we do nothing."""
    before, start = jiffies(), time.perf_counter()
    time.sleep(seconds)
    return (jiffies() - before).busy / (CORES * (time.perf_counter() - start))


# ---------------------------------------------------------------------------------------------------------------
# Small things
# ---------------------------------------------------------------------------------------------------------------


def size_text(n: float) -> str:
    for unit, width in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if n >= width:
            value = n / width
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
    return f"{n:.0f} B"


def seconds_text(values: list[float]) -> str:
    return ", ".join(f"{v:.2f}" for v in values) + " s"


def percent(x: float) -> str:
    return f"{100 * x:.0f} %"


def median(values: list[float]) -> float:
    return statistics.median(values)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def sha256_of(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def warm(path: Path) -> None:
    """Reads a file, so that it is in the page cache."""
    with open(path, "rb", buffering=0) as f:
        buf = bytearray(MIB)
        while f.readinto(buf):
            pass


def settle() -> None:
    """Nobody pays for what another one left in the page cache, nor for deleting it."""
    os.sync()


def tool_version(cmd: list, pattern: str) -> str:
    try:
        r = subprocess.run(cmd, capture_output=True, text=True, timeout=20)
        m = re.search(pattern, r.stdout + r.stderr)
        return m.group(1) if m else "?"
    except (OSError, subprocess.TimeoutExpired):
        return "none"


# ---------------------------------------------------------------------------------------------------------------
# The two servers
# ---------------------------------------------------------------------------------------------------------------


class Nginx:
    """nginx with its own configuration, directory and port: static files, or WebDAV PUT."""

    def __init__(self, where: Path, root: Path, *, dav: bool = False, nopush: bool = False):
        self.where, self.port = where, free_port()
        for d in (where, root, where / "tmp"):
            d.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}"
        # sendfile, a worker a core, no access log. tcp_nopush, which Debian sets, takes half of the throughput of one
        # client for large files over loopback, and saves a packet for small ones: each row has what is better for nginx.
        conf = f"""
{'user root;' if os.geteuid() == 0 else ''}
worker_processes {CORES};
daemon off;
pid {where}/nginx.pid;
error_log {where}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush {'on' if nopush else 'off'};
    keepalive_requests 1000000000;
    types {{ application/json json; }}
    default_type application/octet-stream;
    client_body_temp_path {where}/tmp/body;
    proxy_temp_path {where}/tmp/proxy;
    fastcgi_temp_path {where}/tmp/fastcgi;
    server {{
        listen 127.0.0.1:{self.port};
        root {root};
        client_max_body_size 0;
        {'location / { dav_methods PUT; create_full_put_path on; }' if dav else ''}
    }}
}}
"""
        (where / "nginx.conf").write_text(conf)
        self.log = open(where / "stderr.log", "wb")
        self.process = spawn(["nginx", "-p", where, "-c", where / "nginx.conf"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    said = (where / "stderr.log").read_text(errors="replace")[-400:]
                    raise Failed(f"nginx did not start: {said}") from None
                time.sleep(0.05)

    def pids(self) -> list[int]:
        out = [self.process.pid]
        kids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return out + [int(p) for p in kids.read_text().split()]

    def cpu(self) -> float:
        return sum(cpu_seconds(p) for p in self.pids())

    def close(self) -> None:
        stop(self.process)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Motorcade:
    """A fresh server process on a data directory of its own."""

    def __init__(self, bench: "Bench", where: Path, *, data: Path | None = None):
        self.bench, self.where = bench, where
        where.mkdir(parents=True, exist_ok=True)
        self.binary = bench.binary
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MOTORCADE_", "RUST_LOG", "OTEL_"))}
        self.data = data or where / "data"
        if data is None:
            self.cli("init", "--data-dir", self.data)
        self.token = self.make_token("uploader")
        self.env["MOTORCADE_TOKEN"] = self.make_token("engineer")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env["MOTORCADE_SERVER"] = self.url
        self.log_path = where / "server.log"
        self.log = open(self.log_path, "wb")
        self.process = spawn(
            [self.binary, "serve", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}"],
            stdout=self.log, stderr=self.log, env=self.env,
        )
        self.uploads = 0
        try:
            self.wait_ready()
            self.key = where / "recipient.pem"
            public = where / "recipient.pub.pem"
            run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.key])
            run(["openssl", "pkey", "-in", self.key, "-pubout", "-out", public])
            self.cli("recipient", "add", "--hardware-id", HARDWARE, public)
        except BaseException:
            self.close()
            raise

    def cli(self, *args) -> Done:
        return run([self.binary, *args], env=self.env)

    def make_token(self, role: str) -> str:
        return self.cli("token", "create", "--data-dir", self.data, "--role", role).out.strip()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"the server ended with {self.process.returncode}: {self.log_tail()}")
            try:
                c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                c.request("GET", "/readyz")
                if c.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise Failed(f"the server was not ready after 180 s: {self.log_tail()}")

    def log_tail(self) -> str:
        return self.log_path.read_text(errors="replace")[-600:]

    def upload_command(self, image: Path, answer: Path) -> tuple[list, str]:
        """The upload of the README: one curl -T."""
        self.uploads += 1
        n = self.uploads
        path = f"gw/4.2.{n}/gateway.bin"
        query = f"hardware_id={HARDWARE}&version=4.2.{n}&release_counter={n}"
        return [
            "curl", "-sS", "-T", image, "-H", f"Authorization: Bearer {self.token}",
            "-o", answer, "-w", "%{http_code} %{time_total}", f"{self.url}/api/v1/images/{path}?{query}",
        ], path

    def check_answer(self, out: str, answer: Path) -> float:
        """Returns curl's own time for the request."""
        code, seconds = out.split()
        if code != "201":
            said = answer.read_text(errors="replace")[:400] if answer.exists() else ""
            raise Failed(f"the upload got {code}: {said} {self.log_tail()}")
        return float(seconds)

    def upload(self, image: Path) -> tuple[Done, str, float]:
        answer = self.where / f"answer-{self.uploads}.json"
        cmd, path = self.upload_command(image, answer)
        done = run(cmd)
        return done, path, self.check_answer(done.out, answer)

    def stored(self, path: str) -> tuple[Path, Path]:
        """The sealed image and its envelope, as the repository has them on disk."""
        folder, name = (self.data / "repo" / "targets" / path).parent, Path(path).name
        sealed = [p for p in folder.glob(f"*.{name}") if re.fullmatch(r"[0-9a-f]{64}\." + re.escape(name), p.name)]
        envelopes = [p for p in folder.glob(f"*.{name}.jwe") if re.fullmatch(r"[0-9a-f]{64}\..*", p.name)]
        if len(sealed) != 1 or len(envelopes) != 1:
            raise Failed(f"expected one sealed image and one envelope for {path}, found {len(sealed)} and {len(envelopes)}")
        return sealed[0], envelopes[0]

    def repo_path(self, file: Path) -> str:
        return file.relative_to(self.data / "repo").as_posix()

    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    def peak_rss(self) -> int:
        return peak_rss(self.process.pid)

    def close(self) -> None:
        stop(self.process)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---------------------------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------------------------


@dataclass
class Line:
    what: str
    bar: str
    measured: str
    value: float
    ok: bool


@dataclass
class Row:
    number: int
    title: str
    lines: list[Line] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    others: float = 0.0

    def at_most(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"≤ {show(bar)}", show(value), value, value <= bar))

    def at_least(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"≥ {show(bar)}", show(value), value, value >= bar))

    def over(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"> {show(bar)}", show(value), value, value > bar))

    def under(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"< {show(bar)}", show(value), value, value < bar))


def ratio(x: float) -> str:
    return f"{x:.2f}"


# ---------------------------------------------------------------------------------------------------------------
# The rows
# ---------------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, opts: argparse.Namespace, session: Path):
        self.opts, self.session, self.runs = opts, session, opts.runs
        self.binary = Path(opts.binary).resolve()
        self.examples = self.binary.parent / "examples"
        q = opts.quick
        self.memory_sizes = (256 * MIB, 64 * MIB) if q else (8 * GIB, GIB)
        self.parallel_size = 128 * MIB if q else 2 * GIB
        self.upload_size = 256 * MIB if q else 4 * GIB
        self.open_sizes = (256 * MIB, 128 * MIB) if q else (2 * GIB, GIB)
        self.serve_size = 128 * MIB if q else GIB
        self.seeds = (100, 5_000) if q else (100, 100_000)
        self.wrk_seconds = 1 if q else 5
        self.pushes = 10 if q else 30

    # Row number -> (title, method, images needed as (size, index), bytes needed beside the images)
    def table(self) -> dict:
        big, small = self.memory_sizes
        up = self.upload_size
        return {
            1: ("server memory", self.memory, [(big, 0), (small, 0)], big),
            2: ("four uploads at once", self.parallel, [(self.parallel_size, i) for i in range(4)], 5 * self.parallel_size),
            3: ("CPU per GB ingested", self.ingest_cpu, [(up, 0)], 2 * up),
            4: ("upload against a CI script", self.against_script, [(up, 0)], 2 * up),
            5: ("both cores busy", self.cores_busy, [(up, 0)], up),
            6: ("opening", self.opening, [(s, 0) for s in self.open_sizes], 4 * self.open_sizes[0]),
            7: ("serving sealed images", self.serving, [(self.serve_size, 0)], self.serve_size),
            8: ("serving timestamp.json", self.timestamp, [], 64 * MIB),
            9: ("publishing", self.publishing, [(64 * KIB, 0)], 4 * GIB),
        }

    # -- images

    def image(self, size: int, index: int = 0) -> Path:
        """An incompressible image, the same for the same size and index."""
        path = self.session / "images" / f"{size}-{index}.bin"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            with open(part, "wb") as out:
                zeros = spawn(["head", "-c", size, "/dev/zero"], stdout=subprocess.PIPE)
                cipher = spawn(
                    ["openssl", "enc", "-aes-128-ctr", "-K", f"{index + 1:032x}", "-iv", "0" * 32],
                    stdin=zeros.stdout, stdout=out,
                )
                zeros.stdout.close()
                reap(cipher)
                reap(zeros)
            if cipher.returncode or part.stat().st_size != size:
                raise Failed("openssl enc could not make an image")
            part.rename(path)
        warm(path)
        return path

    def in_turns(self, contestants: list, rounds: int):
        """Yields (round, contestant), each round in another order."""
        for r in range(rounds):
            k = r % len(contestants)
            for c in contestants[k:] + contestants[:k]:
                yield r, c

    # -- 1

    def memory(self, row: Row, where: Path) -> None:
        """Peak RSS (VmHWM) of a fresh server process, after one upload."""
        peaks = []
        for n, size in enumerate(self.memory_sizes):
            image = self.image(size)
            with Motorcade(self, where / str(n)) as server:
                idle = server.peak_rss()
                done, _, _ = server.upload(image)
                peaks.append(server.peak_rss())
            row.raw.append(
                f"{size_text(size)}: peak {size_text(peaks[-1])} (before the upload {size_text(idle)}), "
                f"{done.wall:.1f} s, {size / GB / done.wall:.2f} GB/s"
            )
            shutil.rmtree(where / str(n))
        row.data["peak_rss_bytes"] = dict(zip(map(str, self.memory_sizes), peaks))
        big, small = map(size_text, self.memory_sizes)
        row.at_most(f"server memory (peak RSS) while {big} is uploaded", peaks[0], 64 * MIB, size_text)
        row.at_most(f"the same for {small}: difference", abs(peaks[0] / peaks[1] - 1), 0.10, percent)

    # -- 2

    def parallel(self, row: Row, where: Path) -> None:
        """Peak RSS of a fresh server process after four different images at once; each is then opened and compared."""
        images = [self.image(self.parallel_size, i) for i in range(4)]
        with Motorcade(self, where) as server:
            going, start = [], time.perf_counter()
            for i, image in enumerate(images):
                answer = where / f"parallel-{i}.json"
                cmd, path = server.upload_command(image, answer)
                out = open(where / f"parallel-{i}.out", "w+b")
                going.append((spawn(cmd, stdout=out, stderr=subprocess.STDOUT), out, answer, path))
            for p, out, answer, _ in going:
                reap(p)
                out.seek(0)
                said = out.read().decode(errors="replace")
                out.close()
                if p.returncode:
                    raise Failed(f"curl ended with {p.returncode}: {said} {server.log_tail()}")
                server.check_answer(said, answer)
            wall = time.perf_counter() - start
            peak = server.peak_rss()
            right = 0
            for image, (_, _, _, path) in zip(images, going):
                sealed, envelope = server.stored(path)
                opened = where / "opened.bin"
                server.cli("open", "--envelope", envelope, "--key", server.key, "--out", opened, sealed)
                name_is_hash = sealed.name.startswith(sha256_of(sealed) + ".")
                right += name_is_hash and sha256_of(opened) == sha256_of(image)
                opened.unlink()
        total = 4 * self.parallel_size
        row.raw.append(f"peak {size_text(peak)}; all four in {wall:.1f} s, {total / GB / wall:.2f} GB/s; {right} of 4 open to the image that was sent")
        row.data.update(peak_rss_bytes=peak, wall_s=wall, correct=right)
        row.at_most(f"four {size_text(self.parallel_size)} uploads at once: peak RSS", peak, 160 * MIB, size_text)
        row.lines.append(Line("… all correct (opened, SHA-256 compared)", "4 of 4", f"{right} of 4", right, right == 4))

    # -- 3

    def ingest_cpu(self, row: Row, where: Path) -> None:
        """User and system time of the server over an upload, against its parts, measured alone between the uploads.

        The parts are what no server could save: two SHA-256, one AES-GCM, one file write. Receiving the body from the
        socket, HTTP, scheduling and signing are in the server's figure and not in the parts.
        """
        size, image = self.upload_size, self.image(self.upload_size)
        parts, servers = [], []
        for r, who in self.in_turns(["parts", "server"], self.runs):
            settle()
            if who == "parts":
                (where / "parts").mkdir(exist_ok=True)
                out = run([self.examples / "parts", "--size", size, "--dir", where / "parts"]).out
                shutil.rmtree(where / "parts")
                parts.append(json.loads(out))
            else:
                warm(image)
                with Motorcade(self, where / "m") as server:
                    before = server.cpu()
                    done, _, _ = server.upload(image)
                    servers.append((server.cpu() - before) / (size / GB))
                    row.raw.append(f"upload {r + 1}: server {servers[-1]:.3f} CPU s/GB; {done.wall:.2f} s wall; curl {done.cpu / (size / GB):.3f} CPU s/GB")
                shutil.rmtree(where / "m")
        names = ("sha256_s_per_gb", "aes_gcm_s_per_gb", "write_s_per_gb")
        sha, gcm, write = (median([p[n] for p in parts]) for n in names)
        total = 2 * sha + gcm + write
        row.raw.append(f"parts, CPU s/GB (medians of {len(parts)}): SHA-256 {sha:.3f} (twice), AES-GCM {gcm:.3f}, write {write:.3f}; sum {total:.3f}")
        row.data.update(server_s_per_gb=servers, parts=parts, parts_sum_s_per_gb=total)
        row.at_most("server CPU per GB ingested / two SHA-256 + AES-GCM + file write", median(servers) / total, 1.3, ratio)

    # -- 4

    def against_script(self, row: Row, where: Path) -> None:
        """Wall time of one curl -T to Motorcade, against what a careful CI script does today.

        The script: sha256sum, openssl cms -encrypt -aes-256-gcm (-stream, without which openssl keeps everything in
        memory and fails from about 1.4 GiB on), sha256sum of the result, curl -T to nginx WebDAV. Its steps need each other's
        results, so they run one after another. Motorcade syncs the sealed image to disk before it answers; nginx does
        not: the second figure adds that sync (of the received file alone). The third has OpenSSL's
        SHA-256, which uses the processor's instructions, where the coreutils of the machine do not.
        """
        size, image = self.upload_size, self.image(self.upload_size)
        cert, cert_key = where / "cert.pem", where / "cert.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", cert_key, "-out", cert, "-days", "30", "-subj", "/CN=gateway"])
        ours, script, synced, fast, phases = [], [], [], [], []
        dav_root = where / "dav"
        with Nginx(where / "nginx", dav_root, dav=True) as nginx:
            for r, who in self.in_turns(["motorcade", "script"], self.runs):
                settle()
                warm(image)
                if who == "motorcade":
                    with Motorcade(self, where / "m") as server:
                        done, _, _ = server.upload(image)
                        ours.append(done.wall)
                    shutil.rmtree(where / "m")
                    continue
                sealed = where / "image.cms"
                start = time.perf_counter()
                a = run(["sha256sum", image])
                b = run(["openssl", "cms", "-encrypt", "-aes-256-gcm", "-binary", "-stream", "-outform", "DER",
                         "-in", image, "-out", sealed, cert])
                c = run(["sha256sum", sealed])
                d = run(["curl", "-sS", "-f", "-T", sealed, f"{nginx.url}/incoming/image.cms"])
                script.append(time.perf_counter() - start)
                received = dav_root / "incoming" / "image.cms"
                e = run(["sync", received])
                synced.append(script[-1] + e.wall)
                if received.stat().st_size != sealed.stat().st_size:
                    raise Failed("nginx stored something else")
                # OpenSSL's hash instead, timed beside it on the same files.
                h = run(["openssl", "dgst", "-sha256", image]).wall + run(["openssl", "dgst", "-sha256", sealed]).wall
                fast.append(script[-1] - a.wall - c.wall + h)
                phases.append((a.wall, b.wall, c.wall, d.wall, e.wall, h))
                sealed.unlink()
                received.unlink()
        m, s, y, f = median(ours), median(script), median(synced), median(fast)
        p = [median([x[i] for x in phases]) for i in range(6)]
        row.raw += [
            f"image {size_text(size)}; motorcade {seconds_text(ours)}: {size / GB / m:.2f} GB/s",
            f"script {seconds_text(script)}: sha256sum {p[0]:.2f}, cms {p[1]:.2f}, sha256sum {p[2]:.2f}, PUT {p[3]:.2f}",
            f"script with a sync of the received file (we sync always) {seconds_text(synced)}: ratio {ratio(m / y)}",
            f"script with `openssl dgst -sha256` for both hashes ({p[5]:.2f} s) {seconds_text(fast)}: ratio {ratio(m / f)}; with that and the sync: {ratio(m / (f + p[4]))}",
        ]
        row.data.update(motorcade_s=ours, script_s=script, script_synced_s=synced, script_openssl_dgst_s=fast)
        row.at_most("wall time of an upload / CI script (hash, openssl cms, hash, WebDAV)", m / s, 0.6, ratio)

    # -- 5

    def cores_busy(self, row: Row, where: Path) -> None:
        """Share of all cores that is not idle during one upload, from /proc/stat.

        What waits for the disk counts as idle. The last sync and the publication are in the whole, not in the second
        figure, which ends when curl has read the last byte of the image.
        """
        size, image = self.upload_size, self.image(self.upload_size)
        shares, bodies, owns, servers = [], [], [], []
        for r in range(self.runs):
            settle()
            warm(image)
            with Motorcade(self, where / "m") as server:
                answer = where / "busy.json"
                cmd, _ = server.upload_command(image, answer)
                with open(where / "busy.out", "w+b") as out:
                    server_before, before, start = server.cpu(), jiffies(), time.perf_counter()
                    p = spawn(cmd, stdout=out, stderr=subprocess.STDOUT)
                    sent_at = sent = None
                    while os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                        if sent_at is None and bytes_read(p.pid) >= size:
                            sent_at, sent = time.perf_counter(), jiffies()
                        if time.perf_counter() - start > COMMAND_LIMIT:
                            p.kill()
                        time.sleep(0.01)
                    end, after, server_after = time.perf_counter(), jiffies(), server.cpu()
                    user, sys_ = reap(p)
                    out.seek(0)
                    server.check_answer(out.read().decode(errors="replace"), answer)
            shutil.rmtree(where / "m")
            wall, used = end - start, after - before
            whole = CORES * wall
            shares.append(used.busy / whole)
            servers.append((server_after - server_before) / whole)
            owns.append((server_after - server_before + user + sys_) / whole)
            text = (f"upload {r + 1}: {wall:.2f} s; busy {percent(shares[-1])} = server {percent(servers[-1])}, curl {percent((user + sys_) / whole)}, "
                    f"the rest (kernel threads, other processes) {percent(shares[-1] - owns[-1])}; waiting for the disk {percent(used.iowait / whole)}, stolen {percent(used.steal / whole)}")
            if sent_at is not None:
                bodies.append((sent - before).busy / (CORES * (sent_at - start)))
                text += f"; until the last byte was sent ({sent_at - start:.2f} s): {percent(bodies[-1])}"
            row.raw.append(text)
        row.data.update(busy=shares, busy_until_sent=bodies, server_share=servers, server_and_client_share=owns)
        row.over(f"all {CORES} cores busy during one {size_text(size)} upload", median(shares), 0.85, percent)

    # -- 6

    def opening(self, row: Row, where: Path) -> None:
        """Opening the same image with motorcade open, rage -d and openssl cms -decrypt, file to file, input in the page cache.

        openssl keeps the whole message in memory and fails on anything over about 1.4 GiB, so it is compared at a smaller
        size, with the form it opens faster (definite length, -noindef). The ratio is of the time until the program ends;
        the time until the output is on the disk is under it.
        """
        big, small = self.open_sizes
        cert, cert_key, rage_key = where / "cert.pem", where / "cert.key", where / "rage.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", cert_key, "-out", cert, "-days", "30", "-subj", "/CN=gateway"])
        run(["rage-keygen", "-o", rage_key])
        recipient = re.search(r"public key: (age1\S+)", rage_key.read_text())
        if not recipient:
            raise Failed("rage-keygen wrote no public key")
        for size, other in ((big, "rage"), (small, "openssl")):
            image = self.image(size)
            digest = sha256_of(image)
            here = where / other
            with Motorcade(self, here) as server:
                _, path, _ = server.upload(image)
                sealed, envelope = server.stored(path)
            opened, theirs = here / "opened.bin", here / "image.theirs"
            mine = [self.binary, "open", "--envelope", envelope, "--key", server.key, "--out", opened, sealed]
            if other == "rage":
                run(["rage", "-r", recipient.group(1), "-o", theirs, image])
                their = ["rage", "-d", "-i", rage_key, "-o", opened, theirs]
            else:
                run(["openssl", "cms", "-encrypt", "-aes-256-gcm", "-binary", "-noindef", "-outform", "DER",
                     "-in", image, "-out", theirs, cert])
                their = ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", cert_key, "-recip", cert,
                         "-in", theirs, "-out", opened]
            times = {"motorcade": [], other: []}
            durable = {"motorcade": [], other: []}
            cpu = {"motorcade": [], other: []}
            for r, who in self.in_turns(["motorcade", other], self.runs):
                warm(sealed if who == "motorcade" else theirs)
                settle()
                done = run(mine if who == "motorcade" else their, env=server.env)
                synced = run(["sync", opened]).wall
                times[who].append(done.wall)
                durable[who].append(done.wall + synced)
                cpu[who].append(done.cpu)
                if r == 0 and sha256_of(opened) != digest:
                    raise Failed(f"{who} opened it to something else")
                opened.unlink()
            gb = size / GB
            for who in times:
                row.raw.append(
                    f"{size_text(size)}, {who}: {seconds_text(times[who])}: {median(times[who]) / gb:.3f} s/GB, CPU {median(cpu[who]) / gb:.3f} s/GB; "
                    f"until it is on the disk {seconds_text(durable[who])}"
                )
            row.raw.append(f"{size_text(size)}, ratio until it is on the disk: {ratio(median(durable['motorcade']) / median(durable[other]))}")
            row.data[other] = {"size": size, "seconds": times, "durable_seconds": durable, "cpu_seconds": cpu}
            name = "rage -d" if other == "rage" else "openssl cms -decrypt"
            row.under(f"motorcade open / {name} ({size_text(size)})", median(times["motorcade"]) / median(times[other]), 1.0, ratio)
            shutil.rmtree(here)

    # -- 7

    def serving(self, row: Row, where: Path) -> None:
        """Throughput of one sealed image to 1 and to 16 clients, against nginx on the same file.

        The client is curl to /dev/null on both sides: wrk reads 8 KiB at a time, is itself the limit, and would flatter
        whoever is slower. nginx has sendfile on and tcp_nopush off, which is twice as fast here as tcp_nopush on.
        """
        image = self.image(self.serve_size)
        with Motorcade(self, where) as server:
            _, path, _ = server.upload(image)
            sealed, _ = server.stored(path)
            length, name = sealed.stat().st_size, server.repo_path(sealed)
            with Nginx(where / "nginx", server.data / "repo") as nginx:
                urls = {"motorcade": f"{server.url}/repo/{name}", "nginx": f"{nginx.url}/{name}"}
                meters = {"motorcade": server.cpu, "nginx": nginx.cpu}
                for url in urls.values():
                    self.fetch(url, length, 1)
                warm(sealed)
                settle()
                for clients in (1, 16):
                    speeds, cpu = {w: [] for w in urls}, {w: [] for w in urls}
                    rounds = self.runs * (3 if clients == 1 else 1)
                    for _, who in self.in_turns(list(urls), rounds):
                        before = meters[who]()
                        wall = self.fetch(urls[who], length, clients)
                        speeds[who].append(clients * length / GB / wall)
                        cpu[who].append((meters[who]() - before) / (clients * length / GB))
                    for who in urls:
                        row.raw.append(
                            f"{clients} client{'s' if clients > 1 else ''}, {who}: {', '.join(f'{s:.2f}' for s in speeds[who])} GB/s; "
                            f"server CPU {median(cpu[who]):.3f} s/GB"
                        )
                    row.data[f"{clients}_clients_gb_per_s"] = speeds
                    what = f"serving a sealed image / nginx, {clients} client{'s' if clients > 1 else ''} (throughput)"
                    row.at_least(what, median(speeds["motorcade"]) / median(speeds["nginx"]), 0.8, ratio)

    def fetch(self, url: str, length: int, clients: int) -> float:
        with tempfile.TemporaryFile() as out:
            start = time.perf_counter()
            cmd = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}\n", url]
            going = []
            for _ in range(clients):
                going.append(spawn(cmd, stdout=out, stderr=subprocess.STDOUT))
            for p in going:
                reap(p)
            wall = time.perf_counter() - start
            out.seek(0)
            said = out.read().decode(errors="replace").split("\n")[:-1]
        if said != [f"200 {length}"] * clients:
            raise Failed(f"a download failed: {said[:3]}")
        return wall

    # -- 8

    def timestamp(self, row: Row, where: Path) -> None:
        """Requests a second for timestamp.json, against nginx on the same file, from one wrk thread."""
        with Motorcade(self, where) as server, Nginx(where / "nginx", server.data / "repo", nopush=True) as nginx:
            if not (server.data / "repo" / "timestamp.json").exists():
                self.push_small(server, self.image(64 * KIB), where)
            urls = {"motorcade": f"{server.url}/repo/timestamp.json", "nginx": f"{nginx.url}/timestamp.json"}
            for connections in (1, 16):
                rates = {w: [] for w in urls}
                for url in urls.values():
                    self.wrk(url, connections, 1)
                for _, who in self.in_turns(list(urls), self.runs):
                    rates[who].append(self.wrk(urls[who], connections, self.wrk_seconds))
                for who in urls:
                    row.raw.append(f"{connections} connection{'s' if connections > 1 else ''}, {who}: {', '.join(f'{r:.0f}' for r in rates[who])} requests/s")
                row.data[f"{connections}_connections_rps"] = rates
                what = f"serving timestamp.json / nginx, {connections} connection{'s' if connections > 1 else ''} (requests a second)"
                row.at_least(what, median(rates["motorcade"]) / median(rates["nginx"]), 0.8, ratio)

    def wrk(self, url: str, connections: int, seconds: int) -> float:
        out = run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]).out
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", out)
        rate = re.search(r"Requests/sec:\s+([0-9.]+)", out)
        if bad or not rate:
            raise Failed(f"wrk on {url}: {bad.group(0) if bad else out[-300:]}")
        return float(rate.group(1))

    # -- 9

    def publishing(self, row: Row, where: Path) -> None:
        """Time of a small upload, from request to the answer that it is published, with few and with many images there.

        Both servers run, and take turns. curl's own time is used: starting curl is not our business.
        """
        image = self.image(64 * KIB)
        servers: dict[int, Motorcade] = {}
        try:
            for n in self.seeds:
                start = time.perf_counter()
                data = where / f"data-{n}"
                run([self.examples / "seed", "--data-dir", data, "--images", n])
                seeded = time.perf_counter() - start
                servers[n] = Motorcade(self, where / str(n), data=data)
                ready = time.perf_counter() - start - seeded
                row.raw.append(f"{n:,} images: seeded in {seeded:.1f} s, server ready in {ready:.1f} s")
            settle()
            times: dict[int, list[float]] = {n: [] for n in self.seeds}
            for r, n in self.in_turns(list(self.seeds), self.pushes + 3):
                seconds = self.push_small(servers[n], image, where)
                if r >= 3:  # the first ones find everything cold
                    times[n].append(seconds)
            for n, server in servers.items():
                t = sorted(times[n])
                row.raw.append(
                    f"{n:,} images: {self.pushes} uploads of {size_text(64 * KIB)}, median {1000 * median(t):.1f} ms "
                    f"(fastest {1000 * t[0]:.1f}, slowest {1000 * t[-1]:.1f}); server peak RSS {size_text(server.peak_rss())}"
                )
        finally:
            for server in servers.values():
                server.close()
        few, many = self.seeds
        row.data.update(seconds={str(n): t for n, t in times.items()})
        row.under(f"publishing one image, {many:,} there / {few} there", median(times[many]) / median(times[few]), 1.5, ratio)
        sizes = self.metadata_sizes(where / f"data-{many}" / "repo")
        row.data["metadata_bytes"] = sizes
        row.raw.append(
            f"largest metadata files at {many:,}: " + ", ".join(f"{k} {size_text(v[0])} ({v[1]} file{'s' if v[1] != 1 else ''})" for k, v in sizes.items())
        )
        small = max(sizes[k][0] for k in ("root", "timestamp", "snapshot"))
        row.at_most("… root, timestamp, snapshot: the largest", small, 64 * KIB, size_text)
        row.at_most("… targets and bins: the largest", max(sizes["targets"][0], sizes["bins"][0]), 512 * KIB, size_text)

    def push_small(self, server: Motorcade, image: Path, where: Path) -> float:
        # Every image is another one: its first bytes are a counter.
        mine = where / "small.bin"
        shutil.copyfile(image, mine)
        with open(mine, "r+b") as f:
            f.write(os.urandom(16))
        return server.upload(mine)[2]

    def metadata_sizes(self, repo: Path) -> dict[str, list[int]]:
        """Largest file of each kind, and how many there are."""
        sizes: dict[str, list[int]] = {k: [0, 0] for k in ("root", "timestamp", "snapshot", "targets", "bins")}
        for entry in os.scandir(repo):
            if entry.is_file() and entry.name.endswith(".json"):
                stem = entry.name.removesuffix(".json").rpartition(".")[2]
                kind = stem if stem in sizes else "bins"
                sizes[kind][0] = max(sizes[kind][0], entry.stat().st_size)
                sizes[kind][1] += 1
        missing = [k for k, v in sizes.items() if not v[1]]
        if missing:
            raise Failed(f"no {', '.join(missing)} in the repository")
        return sizes

    # -- all of them

    def measure(self, chosen: list[int]) -> list[Row]:
        table, rows = self.table(), []
        for at, number in enumerate(chosen):
            title, method, images, room = table[number]
            row = Row(number, title)
            rows.append(row)
            where = self.session / f"row-{number}"
            start = time.monotonic()
            print(f"bench: row {number}, {title} …", file=sys.stderr, flush=True)
            try:
                where.mkdir()
                absent = [s for s, i in images if not (self.session / "images" / f"{s}-{i}.bin").exists()]
                need, free = sum(absent) + room + GIB, shutil.disk_usage(self.session).free
                if free < need:
                    raise Failed(f"needs {size_text(need)} of disk, {size_text(free)} is free")
                for size, index in images:
                    self.image(size, index)
                settle()
                row.others = others_busy()
                for _ in range(20):  # on a machine that others use too, wait a little for a quiet moment
                    if row.others < NOISY:
                        break
                    row.others = others_busy()
                machine_before, ours_before, began = jiffies(), our_cpu(), time.perf_counter()
                try:
                    method(row, where)
                finally:
                    stop_all()  # what is not reaped does not count as ours
                    theirs = (jiffies() - machine_before).busy - (our_cpu() - ours_before)
                    row.others = max(0.0, theirs / (CORES * (time.perf_counter() - began)))
            except Failed as e:
                row.error = str(e)
            except Exception as e:  # whatever it is, the other rows go on
                row.error = f"{type(e).__name__}: {e}"
            finally:
                shutil.rmtree(where, ignore_errors=True)
                later = {image for n in chosen[at + 1:] for image in table[n][2]}
                for size, index in images:
                    if (size, index) not in later:
                        (self.session / "images" / f"{size}-{index}.bin").unlink(missing_ok=True)
            row.seconds = time.monotonic() - start
            verdict = f"error: {row.error}" if row.error else "; ".join(f"{x.measured} {'ok' if x.ok else 'MISS'}" for x in row.lines)
            print(f"bench: row {number}: {verdict} ({row.seconds:.0f} s)", file=sys.stderr, flush=True)
        return rows


# ---------------------------------------------------------------------------------------------------------------
# Output
# ---------------------------------------------------------------------------------------------------------------


def machine(session: Path) -> dict:
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    fs = subprocess.run(["df", "--output=fstype", session], capture_output=True, text=True).stdout.split()
    return {
        "cores": CORES,
        "cpu": cpu.group(1).strip() if cpu else platform.machine(),
        "memory": size_text(int(memory.group(1)) * KIB) if memory else "?",
        "kernel": platform.release(),
        "filesystem": fs[-1] if fs else "?",
        "disk_free": size_text(shutil.disk_usage(session).free),
        "tools": {
            "nginx": tool_version(["nginx", "-v"], r"nginx/(\S+)"),
            "curl": tool_version(["curl", "--version"], r"curl (\S+)"),
            "openssl": tool_version(["openssl", "version"], r"OpenSSL (\S+)"),
            "rage": tool_version(["rage", "--version"], r"rage (\S+)"),
            "wrk": tool_version(["wrk", "-v"], r"wrk (?:debian/)?(\S+)"),
            "coreutils": tool_version(["sha256sum", "--version"], r"coreutils\) (\S+)"),
        },
    }


def markdown(rows: list[Row], about: dict, opts: argparse.Namespace) -> str:
    out = ["| row | what | bar | measured | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        if row.error:
            text = row.error.replace("|", "\\|").replace("\n", " ")
            out.append(f"| {row.number} | {row.title} | | {text} | ERROR |")
        for line in row.lines:
            out.append(f"| {row.number} | {line.what} | {line.bar} | {line.measured} | {'ok' if line.ok else 'MISS'} |")
    out.append("")
    if opts.quick:
        out += ["A quick run: small sizes, to see that everything works. Its figures say nothing about the bars.", ""]
    tools = ", ".join(f"{k} {v}" for k, v in about["tools"].items())
    out += [
        f"{about['cores']} cores, {about['cpu']}; {about['memory']} memory; Linux {about['kernel']}; {about['filesystem']}, "
        f"{about['disk_free']} free. {tools}. Medians of {opts.runs} run{'s' if opts.runs != 1 else ''}; "
        "all on loopback and one disk. GB is 10⁹ bytes.",
        "",
    ]
    noisy = [str(row.number) for row in rows if row.others >= NOISY]
    if noisy:
        out += [f"The machine was not quiet in row{'s' if len(noisy) > 1 else ''} {', '.join(noisy)}: do not trust the figures.", ""]
    for row in rows:
        if row.raw:
            out.append(f"**{row.number}. {row.title}** ({row.seconds:.0f} s; other processes and kernel threads kept the machine {percent(row.others)} busy)")
            out += [f"- {text}" for text in row.raw]
            out.append("")
    return "\n".join(out)


def numbers(text: str) -> list[int]:
    try:
        chosen = sorted({int(x) for x in text.split(",") if x})
    except ValueError:
        raise argparse.ArgumentTypeError("give row numbers, as in 1,4,7") from None
    if not chosen or chosen[0] < 1 or chosen[-1] > 9:
        raise argparse.ArgumentTypeError("rows are 1 to 9")
    return chosen


def remove_left_over(base: Path) -> None:
    """What a killed run left."""
    for old in base.glob("run-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(old, ignore_errors=True)


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    target = Path(os.environ.get("CARGO_TARGET_DIR") or root / "target").resolve()
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure Motorcade against its bars, as ratios to what runs beside it.")
    parser.add_argument("--only", type=numbers, metavar="ROW,…", help="measure only these rows (1 to 9; --list says what they are)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything works; one run unless --runs says otherwise")
    parser.add_argument("--runs", type=int, metavar="N", help="take the median of N runs (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE as well")
    parser.add_argument("--dir", type=Path, default=target / "bench-work", help="work here, on the disk to be measured (default target/bench-work)")
    parser.add_argument("--binary", type=Path, metavar="PATH", default=target / "release" / "motorcade", help="the server to measure, examples/parts and examples/seed beside it; nothing is built then")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    opts = parser.parse_args()
    opts.runs = opts.runs or (1 if opts.quick else 3)
    if opts.runs < 1:
        parser.error("--runs is at least 1")

    if opts.list:
        for number, (title, method, _, _) in Bench(opts, Path()).table().items():
            print(f"{number}  {title}: {method.__doc__.splitlines()[0]}")
        return 0
    if not opts.binary.is_file():
        parser.error(f"{opts.binary} is not there; scripts/bench builds it")

    os.environ["PATH"] = os.pathsep.join([str(target / "tools" / "bin"), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    os.environ["LC_ALL"] = "C"
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda *_: sys.exit(143))

    opts.dir.mkdir(parents=True, exist_ok=True)
    remove_left_over(opts.dir)
    session = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=opts.dir.resolve()))
    session.chmod(0o755)
    try:
        about = machine(session)
        rows = Bench(opts, session).measure(opts.only or list(range(1, 10)))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        stop_all()
        shutil.rmtree(session, ignore_errors=True)
        try:
            opts.dir.rmdir()
        except OSError:
            pass  # someone else's files, or another run
    print(markdown(rows, about, opts))
    if opts.json:
        opts.json.write_text(json.dumps({
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": opts.quick, "runs": opts.runs, "machine": about,
            "rows": [{
                "row": r.number, "title": r.title, "error": r.error, "seconds": round(r.seconds, 1), "others_busy": round(r.others, 3),
                "lines": [vars(x) for x in r.lines], "raw": r.raw, "data": r.data,
            } for r in rows],
        }, indent=2, ensure_ascii=False) + "\n")
    return 1 if any(r.error for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
