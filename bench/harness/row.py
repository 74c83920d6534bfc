"""A row of the table, and the table."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from .machine import NOISY
from .text import percent


@dataclass
class Line:
    what: str
    bar: str
    measured: str
    value: float
    ok: bool

    @property
    def verdict(self) -> str:
        return "" if not self.bar else "ok" if self.ok else "MISS"


@dataclass
class Row:
    number: str
    title: str
    lines: list[Line] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    others: float = 0.0

    def at_most(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"≤ {show(bar)}", show(value), value, value <= bar))

    def at_least(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"≥ {show(bar)}", show(value), value, value >= bar))

    def over(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"> {show(bar)}", show(value), value, value > bar))

    def under(self, what: str, value: float, bar: float, show) -> None:
        self.lines.append(Line(what, f"< {show(bar)}", show(value), value, value < bar))

    def told(self, what: str, measured: str, value: float) -> None:
        """Something without a bar."""
        self.lines.append(Line(what, "", measured, value, True))



def markdown(rows: list[Row], about: dict, opts: argparse.Namespace) -> str:
    out = ["| row | what | bar | measured | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        if row.error:
            text = row.error.replace("|", "\\|").replace("\n", " ")
            out.append(f"| {row.number} | {row.title} | | {text} | ERROR |")
        for line in row.lines:
            out.append(f"| {row.number} | {line.what} | {line.bar} | {line.measured} | {line.verdict} |")
    out.append("")
    if opts.quick:
        out += ["A quick run: small sizes, to see that everything works. Its figures say nothing about the bars.", ""]
    tools = ", ".join(f"{k} {v}" for k, v in about["tools"].items())
    out += [
        f"{about['cores']} cores, {about['cpu']}; {about['memory']} memory; Linux {about['kernel']}; {about['filesystem']}, "
        f"{about['disk_free']} free. {tools}. Medians of {opts.runs} run{'s' if opts.runs != 1 else ''}; "
        "all on loopback and one disk. GB is 10⁹ bytes.",
        "",
    ]
    noisy = [row.number for row in rows if row.others >= NOISY]
    if noisy:
        out += [f"The machine was not quiet in row{'s' if len(noisy) > 1 else ''} {', '.join(noisy)}: do not trust the figures.", ""]
    for row in rows:
        if row.raw:
            out.append(f"**{row.number}. {row.title}** ({row.seconds:.0f} s; other processes and kernel threads kept the machine {percent(row.others)} busy)")
            out += [f"- {text}" for text in row.raw]
            out.append("")
    return "\n".join(out)
