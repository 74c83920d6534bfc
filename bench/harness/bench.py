"""What all groups of rows have in common: their images, their turns, and a quiet machine to run on."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .machine import CORES, NOISY, jiffies, others_busy, our_cpu
from .process import Failed, reap, run, spawn, stop_all
from .row import Row
from .text import GIB, settle, size_text, warm


class Bench:
    """A group of rows; `table` says which."""

    def __init__(self, opts: argparse.Namespace, session: Path):
        self.opts, self.session, self.runs = opts, session, opts.runs
        self.binary = Path(opts.binary).resolve()
        self.vehicle = self.binary.with_name("motorcade-vehicle")
        self.tools = self.binary.with_name("motorcade-bench")

    def table(self) -> dict:
        """Row -> (title, method, images needed as (size, index), bytes needed beside the images)."""
        raise NotImplementedError

    def tool(self, *args) -> dict:
        """Runs one of the programs in bench/src, which prints JSON."""
        return json.loads(run([self.tools, *args]).out or "{}")

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

    def measure(self, chosen: list[str]) -> list[Row]:
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
            verdict = f"error: {row.error}" if row.error else "; ".join(f"{x.measured} {x.verdict}" for x in row.lines)
            print(f"bench: row {number}: {verdict} ({row.seconds:.0f} s)", file=sys.stderr, flush=True)
        return rows
