"""Images: uploads, opening, serving, publishing, against what does the same today."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..bench import Bench
from ..text import GIB, KIB, MIB
from .ingest import Ingest
from .opening import Opening
from .publishing import Publishing
from .resealing import Resealing
from .resuming import Resuming
from .rewrapping import Rewrapping
from .serving import Serving


class Images(Ingest, Opening, Serving, Publishing, Rewrapping, Resealing, Resuming, Bench):
    """Rows 1 to 12."""

    def __init__(self, opts: argparse.Namespace, session: Path):
        super().__init__(opts, session)
        q = opts.quick
        self.memory_sizes = (256 * MIB, 64 * MIB) if q else (8 * GIB, GIB)
        self.parallel_size = 128 * MIB if q else 2 * GIB
        self.upload_size = 256 * MIB if q else 4 * GIB
        self.open_sizes = (256 * MIB, 128 * MIB) if q else (2 * GIB, GIB)
        self.serve_size = 128 * MIB if q else GIB
        self.seeds = (100, 5_000) if q else (100, 100_000)
        self.rewraps = 2_000 if q else 100_000
        self.resume_size = 256 * MIB if q else 8 * GIB
        self.wrk_seconds = 1 if q else 5
        self.pushes = 10 if q else 30

    def table(self) -> dict:
        big, small = self.memory_sizes
        up = self.upload_size
        return {
            "1": ("server memory", self.memory, [(big, 0), (small, 0)], big),
            "2": ("four uploads at once", self.parallel, [(self.parallel_size, i) for i in range(4)], 5 * self.parallel_size),
            "3": ("CPU per GB ingested", self.ingest_cpu, [(up, 0)], 2 * up),
            "4": ("upload against a CI script", self.against_script, [(up, 0)], 2 * up),
            "5": ("both cores busy", self.cores_busy, [(up, 0)], up),
            "6": ("opening", self.opening, [(s, 0) for s in self.open_sizes], 4 * self.open_sizes[0]),
            "7": ("serving sealed images", self.serving, [(self.serve_size, 0)], self.serve_size),
            "8": ("serving timestamp.json", self.timestamp, [], 64 * MIB),
            "9": ("publishing", self.publishing, [(64 * KIB, 0)], 4 * GIB),
            "10": ("re-wrapping envelopes", self.rewrapping, [(16 * MIB, 0)], 12 * GIB),
            "11": ("resealing", self.resealing, [(self.open_sizes[0], 0)], 4 * self.open_sizes[0]),
            "12": ("resuming an upload", self.resuming, [(self.resume_size, 0)], 3 * self.resume_size),
        }
