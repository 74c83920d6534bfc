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


# Uploads of 16 MiB without a pause fill a disk of any size in the end.
BESIDE_SECONDS = 30


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
            job = self.begin_rotation(server, officer, present, where)
            upload_busy, poll_busy = self.beside(server, where, lambda: self.watch(server, officer, job, BESIDE_SECONDS))
            beside = self.watch(server, officer, job, 0)["progress"]["done"]
            self.finish_rotation(server, officer, job)
            peak = server.peak_rss()
        rate = n / seconds
        row.data.update(images=n, seconds=seconds, rate=rate, bare=bare, user=user, kernel=kernel, peak_rss=peak, idle_rss=idle)
        row.raw.append(
            f"{n:,} envelopes in {seconds:.1f} s, {rate:,.0f} a second; bare wrapping on all cores {bare:,.0f} a second; "
            f"CPU {user + kernel:.1f} s, {kernel:.1f} s of it the kernel's, and {n / bare * CORES:.1f} s of bare wrapping; "
            f"with uploads and polls beside it {beside:,} in {BESIDE_SECONDS} s; server RSS {size_text(idle)} before, at most {size_text(peak)}"
        )
        row.at_least("re-wrapping / bare wrapping on all cores", rate / bare, 0.8, ratio)
        row.at_least("… uploads meanwhile / alone", upload_alone / upload_busy, 0.8, ratio)
        row.at_least("… polls meanwhile / alone", poll_busy / poll_alone, 0.8, ratio)
        row.told("… server RSS, at most", size_text(peak), peak)

    def rotate(self, server: Motorcade, officer: str, kid: str, where: Path) -> float:
        job = self.begin_rotation(server, officer, kid, where)
        start = time.perf_counter()
        self.finish_rotation(server, officer, job)
        return time.perf_counter() - start

    def begin_rotation(self, server: Motorcade, officer: str, kid: str, where: Path) -> str:
        private, public = where / "new.pem", where / "new.pub.pem"
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private])
        run(["openssl", "pkey", "-in", private, "-pubout", "-out", public])
        body = json.dumps({"recipient": {"kid": kid, "public_key": public.read_text()}})
        return json.loads(server.ask("POST", "/api/v1/rotations", body, officer))["id"]

    def finish_rotation(self, server: Motorcade, officer: str, job_id: str) -> None:
        job = self.watch(server, officer, job_id, 24 * 3600)
        if job["state"] != "done" or job["result"]["rewrapped"] < self.rewraps or job["result"]["problems"]:
            raise Failed(f"the rotation came to {json.dumps(job)[:600]}")

    def watch(self, server: Motorcade, officer: str, job_id: str, seconds: float) -> dict:
        """The job once it has ended, or after so many seconds."""
        until = time.perf_counter() + seconds
        while True:
            job = json.loads(server.ask("GET", f"/api/v1/jobs/{job_id}", token=officer))
            if job["ended_at"] or time.perf_counter() >= until:
                return job
            time.sleep(0.1)

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
