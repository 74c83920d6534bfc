"""What /proc says, of a process and of the machine."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .process import Failed
from .text import KIB, size_text

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
NOISY = 0.15  # share of the machine that others may use; the disk's kernel threads are in it


def cpu_parts(pid: int) -> tuple[float, float]:
    """User and system time of a process with all its threads, the ended ones too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def cpu_seconds(pid: int) -> float:
    return sum(cpu_parts(pid))


def rss(pid: int, field: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * KIB
    raise Failed(f"no {field} in /proc/PID/status")


def peak_rss(pid: int) -> int:
    return rss(pid, "VmHWM")


def bytes_read(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("rchar:"):
                return int(line.split()[1])
    except (OSError, ProcessLookupError):
        pass
    return 0


@dataclass
class Jiffies:
    """CPU seconds of the whole machine, all cores together, since boot."""

    busy: float
    iowait: float
    steal: float

    def __sub__(self, o: "Jiffies") -> "Jiffies":
        return Jiffies(self.busy - o.busy, self.iowait - o.iowait, self.steal - o.steal)


def jiffies() -> Jiffies:
    with open("/proc/stat") as f:
        n = [int(x) / TICKS for x in f.readline().split()[1:9]]
    user, nice, system, _idle, iowait, irq, softirq, steal = n
    return Jiffies(user + nice + system + irq + softirq, iowait, steal)


def our_cpu() -> float:
    """CPU seconds of this program and of everything it started and that has ended."""
    return sum(u.ru_utime + u.ru_stime for u in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))


def others_busy(seconds: float = 1.0) -> float:
    """Share of the machine that is busy while we do nothing."""
    before, start = jiffies(), time.perf_counter()
    time.sleep(seconds)
    return (jiffies() - before).busy / (CORES * (time.perf_counter() - start))



def tool_version(cmd: list, pattern: str) -> str:
    try:
        r = subprocess.run(cmd, capture_output=True, text=True, timeout=20)
        m = re.search(pattern, r.stdout + r.stderr)
        return m.group(1) if m else "?"
    except (OSError, subprocess.TimeoutExpired):
        return "none"



def machine(session: Path) -> dict:
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    fs = subprocess.run(["df", "--output=fstype", session], capture_output=True, text=True).stdout.split()
    return {
        "cores": CORES,
        "cpu": cpu.group(1).strip() if cpu else platform.machine(),
        "memory": size_text(int(memory.group(1)) * KIB) if memory else "?",
        "kernel": platform.release(),
        "filesystem": fs[-1] if fs else "?",
        "disk_free": size_text(shutil.disk_usage(session).free),
        "tools": {
            "nginx": tool_version(["nginx", "-v"], r"nginx/(\S+)"),
            "curl": tool_version(["curl", "--version"], r"curl (\S+)"),
            "openssl": tool_version(["openssl", "version"], r"OpenSSL (\S+)"),
            "rage": tool_version(["rage", "--version"], r"rage (\S+)"),
            "wrk": tool_version(["wrk", "-v"], r"wrk (?:debian/)?(\S+)"),
            "coreutils": tool_version(["sha256sum", "--version"], r"coreutils\) (\S+)"),
        },
    }
