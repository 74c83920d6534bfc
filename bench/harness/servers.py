"""The servers that are measured."""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
from pathlib import Path

from .machine import CORES, cpu_parts, cpu_seconds, peak_rss, rss
from .process import Done, Failed, run, spawn, stop
from .text import free_port

HARDWARE = "gw-mk3"


class Nginx:
    """nginx with its own configuration, directory and port; `http` is what it does, beside what all have."""

    def __init__(self, where: Path, port: int, http: str):
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        (where / "tmp").mkdir(parents=True, exist_ok=True)
        # A worker a core, no access log.
        conf = f"""
{'user root;' if os.geteuid() == 0 else ''}
worker_processes {CORES};
daemon off;
pid {where}/nginx.pid;
error_log {where}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {where}/tmp/body;
    proxy_temp_path {where}/tmp/proxy;
    fastcgi_temp_path {where}/tmp/fastcgi;
    {http}
}}
"""
        (where / "nginx.conf").write_text(conf)
        self.log = open(where / "stderr.log", "wb")
        self.process = spawn(["nginx", "-p", where, "-c", where / "nginx.conf"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
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


class FileServer(Nginx):
    """nginx with static files, or WebDAV PUT."""

    def __init__(self, where: Path, root: Path, *, dav: bool = False, nopush: bool = False):
        root.mkdir(parents=True, exist_ok=True)
        port = free_port()
        # tcp_nopush, which Debian sets, takes half of the throughput of one client for large files over loopback, and
        # saves a packet for small ones: each row has what is better for nginx.
        super().__init__(where, port, f"""
    sendfile on;
    tcp_nopush {'on' if nopush else 'off'};
    types {{ application/json json; }}
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        client_max_body_size 0;
        {'location / { dav_methods PUT; create_full_put_path on; }' if dav else ''}
    }}""")


class Motorcade:
    """A fresh server process on a data directory of its own."""

    def __init__(self, bench, where: Path, *, data: Path | None = None, more: tuple = (), certificates: Path | None = None, env: dict | None = None):
        """`certificates` is the folder of a CA, with which the server has a TLS port too; `env` says where its stores are."""
        self.bench, self.where = bench, where
        where.mkdir(parents=True, exist_ok=True)
        self.binary = bench.binary
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MOTORCADE_", "RUST_LOG", "OTEL_"))} | (env or {})
        self.data = data or where / "data"
        if data is None:
            self.cli("init", "--data-dir", self.data)
        self.token = self.make_token("uploader")
        self.engineer = self.env["MOTORCADE_TOKEN"] = self.make_token("engineer")
        self.port = free_port()
        if certificates is not None:
            self.tls_address = f"127.0.0.1:{free_port()}"
            more += ("--tls-listen", self.tls_address, "--tls-cert", certificates / "server.pem",
                     "--tls-key", certificates / "server.key", "--client-ca", certificates / "ca.pem")
        self.url = f"http://127.0.0.1:{self.port}"
        self.env["MOTORCADE_SERVER"] = self.url
        self.log_path = where / "server.log"
        self.log = open(self.log_path, "wb")
        self.process = spawn(
            [self.binary, "serve", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}", *more],
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

    def ask(self, method: str, path: str, body=None, token: str | None = None, kind: str = "application/json") -> bytes:
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = kind
        c.request(method, path, body, headers)
        r = c.getresponse()
        answer = r.read()
        c.close()
        if r.status >= 300:
            raise Failed(f"{method} {path} got {r.status}: {answer[:300]!r}")
        return answer

    def metric(self, name: str) -> float:
        """The sum of a family, over all labels."""
        lines = self.ask("GET", "/metrics").decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

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

    def cpu_parts(self) -> tuple[float, float]:
        """User and system time."""
        return cpu_parts(self.process.pid)

    def rss(self) -> int:
        return rss(self.process.pid)

    def peak_rss(self) -> int:
        return peak_rss(self.process.pid)

    def close(self) -> None:
        stop(self.process)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
