"""Row 10: another key in the place of a recipient's, on many images, against the bare rate of wrapping keys."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path

from ..machine import CORES
from ..process import Failed, run
from ..row import Row
from ..servers import Motorcade
from ..text import MIB, median, ratio, settle, size_text


class Rewrapping:
    """Methods of `Images`."""

    # -- 10

    def rewrapping(self, row: Row, where: Path) -> None:
        """Time of a rotation from its job's start to its end; uploads and polls before it and meanwhile.

        The images are seeded without files, so a rotation before the measured one makes the folders that an upload would
        have made.
        """
        n = self.rewraps
        data = where / "data"
        seeded = self.tool("seed", "--data-dir", data, "--images", n)
        bare = self.tool("wraps", "--seconds", 2 if self.opts.quick else 10)["wraps_per_s"]
        with Motorcade(self, where / "server", data=data) as server:
            officer = server.make_token("officer")
            settle()
            idle = server.rss()
            upload_alone, poll_alone = self.beside(server, where, lambda: time.sleep(3 if self.opts.quick else 10))
            self.rotate(server, officer, seeded["kid"], where)
            present = self.kid_of(where / "new.pub.pem", server)
            settle()
            before = server.cpu_parts()
            seconds = self.rotate(server, officer, present, where)
            user, kernel = (now - then for now, then in zip(server.cpu_parts(), before))
            present = self.kid_of(where / "new.pub.pem", server)
            took: list[float] = []
            upload_busy, poll_busy = self.beside(server, where, lambda: took.append(self.rotate(server, officer, present, where)))
            peak = server.peak_rss()
        rate = n / seconds
        row.data.update(images=n, seconds=seconds, rate=rate, bare=bare, user=user, kernel=kernel, peak_rss=peak, idle_rss=idle)
        row.raw.append(
            f"{n:,} envelopes in {seconds:.1f} s, {rate:,.0f} a second; bare wrapping on all cores {bare:,.0f} a second; "
            f"CPU {user + kernel:.1f} s, {kernel:.1f} s of it the kernel's, and {n / bare * CORES:.1f} s of bare wrapping; "
            f"with uploads and polls beside it {took[0]:.1f} s; server RSS {size_text(idle)} before, at most {size_text(peak)}"
        )
        row.at_least("re-wrapping / bare wrapping on all cores", rate / bare, 0.8, ratio)
        row.at_least("… uploads meanwhile / alone", upload_alone / upload_busy, 0.8, ratio)
        row.at_least("… polls meanwhile / alone", poll_busy / poll_alone, 0.8, ratio)
        row.told("… server RSS, at most", size_text(peak), peak)

    def rotate(self, server: Motorcade, officer: str, kid: str, where: Path) -> float:
        private, public = where / "new.pem", where / "new.pub.pem"
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private])
        run(["openssl", "pkey", "-in", private, "-pubout", "-out", public])
        body = json.dumps({"recipient": {"kid": kid, "public_key": public.read_text()}})
        job = json.loads(server.ask("POST", "/api/v1/rotations", body, officer))
        start = time.perf_counter()
        while not job["ended_at"]:
            time.sleep(0.1)
            job = json.loads(server.ask("GET", f"/api/v1/jobs/{job['id']}", token=officer))
        seconds = time.perf_counter() - start
        if job["state"] != "done" or job["result"]["rewrapped"] < self.rewraps or job["result"]["problems"]:
            raise Failed(f"the rotation came to {json.dumps(job)[:600]}")
        return seconds

    def kid_of(self, public: Path, server: Motorcade) -> str:
        """The id of a key: what it is registered as, for a hardware id of its own."""
        return server.cli("recipient", "add", "--hardware-id", "bench-kid", public).out.strip()

    def beside(self, server: Motorcade, where: Path, work) -> tuple[float, float]:
        """Median seconds of an upload, and polls a second, while `work` is done."""
        over, uploads, polls = threading.Event(), [], [0]

        def upload() -> None:
            while not over.is_set():
                uploads.append(server.upload(self.image(16 * MIB))[2])

        def poll() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            while not over.is_set():
                connection.request("GET", "/repo/timestamp.json")
                connection.getresponse().read()
                polls[0] += 1
                time.sleep(0.002)

        threads = [threading.Thread(target=one) for one in (upload, poll)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        try:
            work()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        return median(uploads), polls[0] / (time.perf_counter() - start)
