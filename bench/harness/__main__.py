"""The command line: `python3 -m harness GROUP`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from .connections import Connections
from .fleet import Fleet
from .images import Images
from .machine import machine
from .process import stop_all
from .row import markdown
from .stores import Stores

GROUPS = {"images": Images, "fleet": Fleet, "connections": Connections, "stores": Stores}


def remove_left_over(base: Path) -> None:
    """What a killed run left."""
    for old in base.glob("run-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(old, ignore_errors=True)


def main() -> int:
    root = Path(__file__).resolve().parent.parent.parent
    target = Path(os.environ.get("CARGO_TARGET_DIR") or root / "target").resolve()
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure Motorcade against its bars, as ratios to what runs beside it.")
    parser.add_argument("group", choices=GROUPS, help="what to measure")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="ROW,…", help="measure only these rows; --list says what they are")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything works; one run unless --runs says otherwise")
    parser.add_argument("--runs", type=int, metavar="N", help="take the median of N runs (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE as well")
    parser.add_argument("--dir", type=Path, default=target / "bench-work", help="work here, on the disk to be measured (default target/bench-work)")
    parser.add_argument("--binary", type=Path, metavar="PATH", default=target / "release" / "motorcade", help="the server to measure, motorcade-vehicle and motorcade-bench beside it; nothing is built then")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    opts = parser.parse_args()
    opts.runs = opts.runs or (1 if opts.quick else 3)
    if opts.runs < 1:
        parser.error("--runs is at least 1")
    group = GROUPS[opts.group]

    if opts.list:
        for name, (title, method, _, _) in group(opts, Path()).table().items():
            print(f"{name}  {title}: {method.__doc__.splitlines()[0]}")
        return 0
    known = group(opts, Path()).table()
    if unknown := [name for name in opts.only or [] if name not in known]:
        parser.error(f"there is no row {', '.join(unknown)}: rows are {', '.join(known)}")
    if not opts.binary.is_file():
        parser.error(f"{opts.binary} is not there; scripts/bench builds it")

    os.environ["PATH"] = os.pathsep.join([str(target / "tools" / "bin"), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    os.environ["LC_ALL"] = "C"
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda *_: sys.exit(143))

    opts.dir.mkdir(parents=True, exist_ok=True)
    remove_left_over(opts.dir)
    session = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=opts.dir.resolve()))
    session.chmod(0o755)
    try:
        about = machine(session)
        rows = group(opts, session).measure(opts.only or list(known))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        stop_all()
        shutil.rmtree(session, ignore_errors=True)
        try:
            opts.dir.rmdir()
        except OSError:
            pass  # someone else's files, or another run
    print(markdown(rows, about, opts))
    if opts.json:
        opts.json.write_text(json.dumps({
            "group": opts.group, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": opts.quick, "runs": opts.runs, "machine": about,
            "rows": [{
                "row": r.number, "title": r.title, "error": r.error, "seconds": round(r.seconds, 1), "others_busy": round(r.others, 3),
                "lines": [vars(x) for x in r.lines], "raw": r.raw, "data": r.data,
            } for r in rows],
        }, indent=2, ensure_ascii=False) + "\n")
    return 1 if any(r.error for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
