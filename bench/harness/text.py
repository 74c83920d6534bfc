"""Small things: sizes and times as text, files, ports."""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
GB = 1_000_000_000


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



def ratio(x: float) -> str:
    return f"{x:.2f}"
