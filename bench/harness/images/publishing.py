"""Row 9: publishing one image where there are many."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from ..process import Failed
from ..row import Row
from ..servers import Motorcade
from ..text import KIB, median, ratio, settle, size_text


class Publishing:
    """Methods of `Images`."""

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
                self.tool("seed", "--data-dir", data, "--images", n)
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
