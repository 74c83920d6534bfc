"""Programs that are started and measured, and never left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

COMMAND_LIMIT = 1800  # seconds; nothing here may hang for ever


class Failed(Exception):
    """A row could not be measured."""



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
