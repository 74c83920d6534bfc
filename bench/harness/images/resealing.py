"""Row 11: an image is opened and sealed again in one stream, against what that consists of."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from ..process import Failed
from ..row import Row
from ..servers import Motorcade
from ..text import GB, MIB, median, ratio, settle, size_text


class Resealing:
    """Methods of `Images`."""

    # -- 11

    def resealing(self, row: Row, where: Path) -> None:
        """User and system time of the server over a reseal's job, against its parts, measured alone between the reseals.

        The parts: reading a file, opening and sealing (AES-GCM twice), two SHA-256, writing a file. What the kernel takes
        for a file's writing depends on which memory it finds for it, by a factor of five on a virtual machine; so the
        second line is without the kernel, on both sides.
        """
        size, image = self.open_sizes[0], self.image(self.open_sizes[0])
        parts, servers, users, walls, peaks = [], [], [], [], []
        for r, who in self.in_turns(["parts", "server"], self.runs):
            settle()
            if who == "parts":
                (where / "parts").mkdir(exist_ok=True)
                parts.append(self.tool("parts", "--size", size, "--dir", where / "parts"))
                shutil.rmtree(where / "parts")
            else:
                (user, kernel), wall, peak = self.reseal(where / "m", image)
                servers.append((user + kernel) / (size / GB))
                users.append(user / (size / GB))
                walls.append(wall)
                peaks.append(peak)
                row.raw.append(f"reseal {r + 1} of {size_text(size)}: server {servers[-1]:.3f} CPU s/GB, {users[-1]:.3f} without the kernel; {wall:.2f} s wall; RSS at most {size_text(peak)}")
                shutil.rmtree(where / "m")
        names = ("sha256_s_per_gb", "aes_gcm_s_per_gb", "write_s_per_gb", "read_s_per_gb")
        sha, gcm, write, read = (median([p[n] for p in parts]) for n in names)
        total = 2 * sha + 2 * gcm + write + read
        row.raw.append(
            f"parts, CPU s/GB (medians of {len(parts)}): SHA-256 {sha:.3f} and AES-GCM {gcm:.3f} (each twice), write {write:.3f}, read {read:.3f}; sum {total:.3f}"
        )
        row.data.update(server_s_per_gb=servers, server_user_s_per_gb=users, parts=parts, parts_sum_s_per_gb=total, wall_s=walls, peak_rss=peaks)
        row.at_most("server CPU per GB resealed / file read + two AES-GCM + two SHA-256 + file write", median(servers) / total, 1.15, ratio)
        row.at_most("… without the kernel / two AES-GCM + two SHA-256", median(users) / (2 * sha + 2 * gcm), 1.15, ratio)
        row.at_most("… peak RSS, with the upload before it", max(peaks), 64 * MIB, size_text)

    def reseal(self, where: Path, image: Path) -> tuple[tuple[float, float], float, int]:
        """CPU seconds (user and system), wall seconds and peak RSS of a server that seals a new image again."""
        with Motorcade(self, where) as server:
            officer = server.make_token("officer")
            _, path, _ = server.upload(image)
            settle()
            before, start = server.cpu_parts(), time.perf_counter()
            job = json.loads(server.ask("POST", f"/api/v1/images/{path}/reseal", "{}", officer))
            while not job["ended_at"]:
                time.sleep(0.02)
                job = json.loads(server.ask("GET", f"/api/v1/jobs/{job['id']}", token=officer))
            if job["state"] != "done":
                raise Failed(f"the reseal came to {json.dumps(job)[:600]}")
            wall, (user, kernel) = time.perf_counter() - start, server.cpu_parts()
            return (user - before[0], kernel - before[1]), wall, server.peak_rss()
