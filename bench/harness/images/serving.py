"""Rows 7 and 8: serving, against nginx on the same files."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

from ..process import Failed, reap, run, spawn
from ..row import Row
from ..servers import FileServer, Motorcade
from ..text import GB, KIB, median, ratio, settle, warm


class Serving:
    """Methods of `Images`."""

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
            with FileServer(where / "nginx", server.data / "repo") as nginx:
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
        with Motorcade(self, where) as server, FileServer(where / "nginx", server.data / "repo", nopush=True) as nginx:
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
