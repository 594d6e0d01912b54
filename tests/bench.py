#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Makes a table, JSON and a chart of what the benchmarks have printed.

Each row sets one subject of a contest against another one of the same contest. Where
instructions are counted, its figure is the ratio of the least that each has taken, since
what else the CPU does meanwhile only adds to that, and its spread is how far the ratio of
the medians is from it. Where time is measured, these are the median of the rounds'
ratios, and how far they are apart: too far to say that one got worse. Beside it stand the
target and the previous figure, and the same of the series for linux-mm with a target of its
own, if that has been measured.
"""

import argparse
import collections
import dataclasses
import json
import math
import pathlib
import statistics
import sys
from dataclasses import dataclass
from xml.sax.saxutils import escape

# A figure that is so much worse than the previous one is marked.
WORSE = 1.10
# The subject under test. If others are compared with it, a large ratio is good.
OURS = "opted-in"


@dataclass(frozen=True)
class Row:
    """A figure: a ratio, or bytes if there is nothing to compare with."""

    text: str
    contest: str
    subject: str
    against: str | None
    most: float | None = None
    least: float | None = None
    # Measured with a clock, so that everything else that runs affects it.
    by_time: bool = False

    @property
    def key(self) -> str:
        return f"{self.contest}/{self.subject}/{self.against or 'bytes'}"

    @property
    def large_is_good(self) -> bool:
        return self.against == OURS


def opted_in(text: str, contest: str, most: float | None = None) -> Row:
    return Row(text, contest, OURS, "plain", most)


GROUPS: dict[str, list[Row]] = {
    "Inside the file: opted in / plain": [
        opted_in("read fault, memfd", "inside-memfd-read", 1.002),
        opted_in("read fault, ext4", "inside-ext4-read", 1.002),
        opted_in("read fault, ext4, 64 KiB folios", "inside-ext4-read-64k", 1.003),
        opted_in("write fault, memfd", "inside-memfd-write", 1.015),
        opted_in("write fault, ext4", "inside-ext4-write", 1.02),
        opted_in("private read fault, memfd", "inside-memfd-private-read", 1.002),
        opted_in("private write fault, memfd", "inside-memfd-private-write", 1.006),
        opted_in("private write fault, ext4", "inside-ext4-private-write", 1.006),
        opted_in("first frame of 1920x1080", "frame-first"),
        opted_in("each frame after it", "frame", 1.0005),
    ],
    "Past EOF: opted in / anonymous memory": [
        Row("read, one page after the other, shared", "read", "shared-read", "anonymous", 0.25),
        Row("the same, private", "read", "private", "anonymous", 0.25),
        Row("the same, shared, ext4", "read", "shared-read-ext4", "anonymous", 0.25),
        Row("the same, shared and writable", "read", "shared-write", "anonymous"),
        Row("read, isolated pages, shared", "isolated-read", "shared-read", "anonymous", 1.6),
        Row("the same, private", "isolated-read", "private", "anonymous", 1.6),
        Row("the same, shared, ext4", "isolated-read", "shared-read-ext4", "anonymous", 1.6),
        Row("write, private", "write", "private", "anonymous", 1.15),
        Row("write, shared", "write", "shared-write", "anonymous", 1.15),
        Row("write, shared, ext4", "write", "shared-write-ext4", "anonymous", 1.15),
        Row("read, the first of a file, shared", "first-access", "shared-read", "anonymous"),
        Row("the same, shared and writable", "first-access", "shared-write", "anonymous"),
        Row("read again", "read-again", "shared-read", "anonymous"),
    ],
    "What is done today / opted in": [
        Row("SIGBUS handler that maps a page, per page", "sigbus", "handler-page", OURS,
            least=50),
        Row("SIGBUS handler that maps the pool of 2 MiB, per page", "sigbus", "handler-pool",
            OURS),
        Row("handler per page, first frame truncated", "truncated-frame-first", "handler-page",
            OURS),
        Row("handler for the pool, first frame truncated", "truncated-frame-first",
            "handler-pool", OURS),
        Row("pread, first frame truncated", "truncated-frame-first", "pread", OURS),
        Row("handler per page, each frame after it", "truncated-frame", "handler-page",
            OURS),
        Row("handler for the pool, each frame after it", "truncated-frame", "handler-pool",
            OURS),
        Row("pread, each frame after it", "truncated-frame", "pread", OURS),
        Row("pread, each frame, not truncated", "frame", "pread", OURS),
        Row("F_GET_SEALS, each frame, sealed", "frame", "seals", OURS),
    ],
    "System calls: opted in / plain": [
        opted_in("ENABLE and DISABLE / 2 mprotect, nothing mapped", "enable-disable-untouched", 2.5),
        opted_in("the same, 2048 pages mapped", "enable-disable-touched", 1),
        opted_in("the same, writable, nothing mapped", "enable-disable-shared-write", 2.5),
        opted_in("write of 4 KiB, memfd", "write-memfd", 1.002),
        opted_in("write of 4 KiB, ext4", "write-ext4", 1.002),
        opted_in("write of 64 KiB, memfd", "write-64k-memfd", 1.002),
        opted_in("write of 4 KiB, another file, ext4", "write-another-ext4", 1.002),
        opted_in("write of 4 KiB, memfd, below a stand-in", "write-below-memfd", 1.32),
        opted_in("write of 4 KiB, ext4, below a stand-in", "write-below-ext4", 1.32),
        opted_in("ftruncate by a page, memfd", "ftruncate-memfd", 1.01),
        opted_in("ftruncate by a page, ext4", "ftruncate-ext4", 1.01),
        opted_in("growth over the zero page, 1 page", "growth-zero-1"),
        opted_in("the same, 16 pages", "growth-zero-16"),
        opted_in("the same, 512 pages", "growth-zero-512"),
        opted_in("growth over shadow pages, 1 page", "growth-shadow-1"),
        opted_in("the same, 16 pages", "growth-shadow-16"),
        opted_in("the same, 512 pages", "growth-shadow-512"),
        opted_in("fork, 1 GiB, a page in 16 mapped", "fork-1g"),
        opted_in("munmap of that", "munmap-1g"),
    ],
    "Learning of a stand-in": [
        Row("event, of one of 10,000 mappings / of the only one", "event", "many", "one", 1.01),
        Row("the same, with the STATUS that asks for the next one (of more VMAs)", "event",
            "many-asked", "one-asked"),
        Row("eventfd and STATUS of 10,000 / event and its STATUS", "event", "status-of-all",
            "many-asked"),
        Row("first access past EOF to disconnection: event / handler that maps a page",
            "disconnect", OURS, "handler-page"),
    ],
    "Memory, in bytes": [
        Row("per opted-in mapping", "memory", "mapping", None, 400),
        Row("per file, with one mapping", "memory", "file-and-mapping", None),
        Row("the same, when something has stood in", "memory", "file-and-stand-in", None),
        Row("per page read, private", "memory", "read-private", None, 0),
        Row("per page read, shared", "memory", "read-shared-read", None, 0),
        Row("per page read, shared and writable", "memory", "read-shared-write", None),
        Row("per page written, private", "memory", "write-private", None),
        Row("per page written, shared", "memory", "write-shared-write", None),
    ],
    "Read past EOF, per page, two CPUs: several / one": [
        Row(f"{n} {what}", f"scaling-{contest}", n, "1", by_time=True)
        for contest, what in {
            "anonymous": "threads, anonymous memory",
            "threads": "threads, one mapping",
            "threads-own": "threads, a mapping each",
            "processes": "processes, one mapping",
            "processes-own": "processes, a mapping each",
        }.items()
        for n in ("2", "4")
    ],
    "Write fault inside a memfd, a mapping for each thread, two CPUs: opted in / plain": [
        Row(text, "scaling-inside", f"{OURS}-{n}", f"plain-{n}", by_time=True)
        for n, text in {"1": "1 thread", "2": "2 threads", "4": "4 threads"}.items()
    ],
}
# The targets of the series: at most so much, or at least so much if others are compared with it.
UNTOUCHED = 1.0005
INSIDE, WHOLE, ISOLATED, IN_SEQUENCE, COPIES, NOTHING = 1.001, 1.001, 1.05, 0.20, 1.02, 0
SERIES: dict[str, float] = {
    **{f"{contest}/{OURS}/plain": INSIDE for contest in (
        "inside-memfd-read", "inside-ext4-read", "inside-ext4-read-64k", "inside-memfd-private-read",
        "inside-memfd-private-write", "inside-ext4-private-write", "frame-first", "frame")},
    **{f"read/{subject}/anonymous": IN_SEQUENCE
       for subject in ("shared-read", "private", "shared-read-ext4")},
    **{f"isolated-read/{subject}/anonymous": ISOLATED
       for subject in ("shared-read", "private", "shared-read-ext4")},
    "write/private/anonymous": COPIES,
    f"sigbus/handler-page/{OURS}": 60,
    f"enable-disable-untouched/{OURS}/plain": 1,
    f"enable-disable-touched/{OURS}/plain": 1,
    **{f"{contest}/{OURS}/plain": WHOLE for contest in (
        "write-memfd", "write-ext4", "write-64k-memfd", "write-another-ext4", "fork-1g", "munmap-1g")},
    "memory/mapping/bytes": NOTHING,
    "memory/file-and-mapping/bytes": NOTHING,
    "memory/read-private/bytes": NOTHING,
    "memory/read-shared-read/bytes": NOTHING,
}
# The groups in the chart: those with ratios to what the kernel itself does.
CHART = list(GROUPS)[:2] + list(GROUPS)[3:4]
# How far bytes per page may be off, because the kernel updates the counter in large steps.
BYTES_OFF = 2


@dataclass(frozen=True)
class Figure:
    value: float
    spread: float
    costs: float
    against: float | None


def read(files: list[pathlib.Path]) -> dict[tuple[str, str], list[float]]:
    values = collections.defaultdict(list)
    for file in files:
        for line in file.read_text().splitlines():
            if line.startswith("value "):
                _, contest, subject, value = line.split()
                values[contest, subject].append(float(value))
    return values


def figure(row: Row, values: dict[tuple[str, str], list[float]]) -> Figure | None:
    ours = values.get((row.contest, row.subject))
    if not ours:
        return None
    if row.against is None:
        return Figure(statistics.median(ours), max(ours) - min(ours), statistics.median(ours), None)
    theirs = values.get((row.contest, row.against))
    if not theirs or len(theirs) != len(ours):
        return None
    if not row.by_time:
        ratio = min(ours) / min(theirs)
        medians = statistics.median(ours) / statistics.median(theirs)
        return Figure(ratio, abs(medians - ratio), min(ours), min(theirs))
    ratios = [a / b for a, b in zip(ours, theirs)]
    return Figure(statistics.median(ratios), max(ratios) - min(ratios),
                  statistics.median(ours), statistics.median(theirs))


def number(value: float, row: Row) -> str:
    if row.against is None:
        return f"{value:.0f}"
    # Some targets are half a per cent from 1.
    return f"{value:.4f}" if value < 10 else f"{value:.1f}"


def target(row: Row) -> str:
    if row.most is not None:
        return f"<= {row.most:g}"
    return f">= {row.least:g}" if row.least is not None else ""


def is_met(row: Row, value: float) -> bool | None:
    if row.least is not None:
        return value >= row.least
    if row.most is None:
        return None
    return value <= row.most + (BYTES_OFF if row.against is None else 0)


def is_worse(row: Row, value: float, previous: float) -> bool:
    if row.by_time:
        return False
    if row.large_is_good:
        value, previous = previous, value
    slack = BYTES_OFF if row.against is None else 0
    return value > previous * WORSE + slack


HEADER = ("what", "figure", "spread", "target", "", "previous", "")
SERIES_HEADER = ("in core mm", "target", "")


def of_series(row: Row, fig: Figure | None) -> tuple[str, ...]:
    """The cells about the series."""
    if fig is None:
        return ("", "", "")
    asked = SERIES.get(row.key)
    if asked is None:
        return (number(fig.value, row), "", "")
    own = dataclasses.replace(row, most=None if row.large_is_good else asked,
                              least=asked if row.large_is_good else None)
    return (number(fig.value, row), target(own), "met" if is_met(own, fig.value) else "MISSED")


def lines(row: Row, fig: Figure | None, previous: float | None) -> tuple[str, ...]:
    if fig is None:
        return (row.text, "not measured", "", target(row), "", "", "")
    met = {None: "", True: "met", False: "MISSED"}[is_met(row, fig.value)]
    before = change = ""
    if previous is not None:
        before = number(previous, row)
        change = "WORSE" if is_worse(row, fig.value, previous) else ""
    return (row.text, number(fig.value, row), number(fig.spread, row), target(row), met, before,
            change)


def tables(figures: dict[str, Figure | None], previous: dict[str, float],
           series: dict[str, Figure | None] | None) -> list[str]:
    """As reStructuredText, which can be read as it is."""
    header = HEADER if series is None else HEADER + SERIES_HEADER
    groups = {name: [lines(row, figures[row.key], previous.get(row.key)) +
                     (() if series is None else of_series(row, series[row.key])) for row in rows]
              for name, rows in GROUPS.items()}
    widths = [max(len(cell[i]) for rows in (*groups.values(), [header]) for cell in rows)
              for i in range(len(header))]
    widths = [max(width, 5) for width in widths]

    def line(cells: tuple[str, ...]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()

    rule = "  ".join("=" * width for width in widths)
    out = []
    for name, rows in groups.items():
        out += [name, "-" * len(name), "", rule, line(header), rule, *map(line, rows), rule, ""]
    return out


def untouched(with_series: pathlib.Path, without: pathlib.Path) -> list[str]:
    """What plain mappings cost in a kernel that has the series, against one that has not."""
    ours, theirs = read([with_series]), read([without])
    rows = [(row.text, min(ours[key]) / min(theirs[key]), row.contest.startswith("inside-"))
            for group in GROUPS.values() for row in group
            if (key := (row.contest, "plain")) in theirs and row.against == "plain"]
    name = "Nobody has opted in: kernel with the series / without it"
    out = [name, "-" * len(name), ""]
    width = max(len(text) for text, _, _ in rows)
    rule = f"{'=' * width}  ======  =========  ======"
    out += [rule, f"{'what'.ljust(width)}  figure  target", rule]
    for text, value, is_fault in rows:
        asked = f"<= {UNTOUCHED:g}  {'met' if value <= UNTOUCHED else 'MISSED'}" if is_fault else ""
        out.append(f"{text.ljust(width)}  {value:.4f}  {asked}".rstrip())
    return [*out, rule, ""]


def chart(figures: dict[str, Figure | None]) -> str:
    bars = []
    for group in CHART:
        bars.append((group, None, None))
        bars += [(row.text, row, figures[row.key]) for row in GROUPS[group] if figures[row.key]]
    left, width, height = 330, 480, 18
    low, high = math.log10(0.1), math.log10(100)

    def x(value: float) -> float:
        return left + width * (min(max(math.log10(value), low), high) - low) / (high - low)

    total = height * (len(bars) + 2)
    out = [
        "<!-- SPDX-License-Identifier: GPL-2.0-only -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 80} {total}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for mark in (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100):
        shade = "#444" if mark == 1 else "#ddd"
        out.append(f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{height}" '
                   f'y2="{total - height}" stroke="{shade}"/>')
        out.append(f'<text x="{x(mark):.1f}" y="{total - 5}" text-anchor="middle" '
                   f'fill="#444">{mark:g}</text>')
    for i, (text, row, fig) in enumerate(bars):
        y = height * (i + 1)
        if row is None:
            out.append(f'<text x="4" y="{y + 14}" font-weight="bold">{escape(text)}</text>')
            continue
        met = is_met(row, fig.value)
        fill = {None: "#7a9cc6", True: "#5aa469", False: "#d1603d"}[met]
        start, end = sorted((x(1), x(fig.value)))
        out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(text)}</text>')
        out.append(f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 1.5):.1f}" '
                   f'height="{height - 6}" fill="{fill}"/>')
        if row.most is not None:
            out.append(f'<line x1="{x(row.most):.1f}" x2="{x(row.most):.1f}" y1="{y + 1}" '
                       f'y2="{y + height - 1}" stroke="#000" stroke-width="2"/>')
        out.append(f'<text x="{end + 5:.1f}" y="{y + 13}">{number(fig.value, row)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


IMAGE = [
    ".. image:: performance.svg",
    "   :alt: The ratios to plain mappings and to anonymous memory as bars, on a logarithmic",
    "         scale from 0.1 to 100, with their targets.",
    "",
]
BEGIN = ".. What follows is written by make bench_record."
END = ".. What was written by make bench_record ends here."


def rewrite(document: pathlib.Path, block: list[str]) -> None:
    text = document.read_text()
    head, _, rest = text.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        sys.exit(f"{document}: the lines that enclose the tables are not there")
    document.write_text("\n".join([f"{head}{BEGIN}", "", *block, END]) + tail)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commit", required=True)
    parser.add_argument("--previous", type=pathlib.Path, required=True)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--chart", type=pathlib.Path, required=True)
    parser.add_argument("--document", type=pathlib.Path, help="put the tables in there")
    parser.add_argument("--series", type=pathlib.Path, action="append",
                        help="what the benchmarks have printed of the series")
    parser.add_argument("--untouched", type=pathlib.Path, nargs=2,
                        help="the same of plain mappings alone, with the series and without")
    parser.add_argument("files", type=pathlib.Path, nargs="+")
    args = parser.parse_args()

    old = json.loads(args.previous.read_text()) if args.previous.exists() else {}
    previous = {key: entry["value"] for key, entry in old.get("figures", {}).items()}
    values = read(args.files)
    rows = [row for group in GROUPS.values() for row in group]
    figures = {row.key: figure(row, values) for row in rows}

    since = f"Previous figures: commit {old['commit']}." if old else "No previous figures."
    series = None
    if args.series:
        of_core = read(args.series)
        series = {row.key: figure(row, of_core) for row in rows}
    block = [f"Measured: commit {args.commit}. {since}", "", *tables(figures, previous, series)]
    if args.untouched:
        block += untouched(*args.untouched)
    print("\n".join(block))
    missing = [row.key for row in rows if not figures[row.key]]

    measured = {row.key: (row, fig) for row in rows if (fig := figures[row.key])}
    args.json.write_text(json.dumps({
        "commit": args.commit,
        "figures": {key: {"what": row.text, "value": round(fig.value, 4),
                          "spread": round(fig.spread, 4), "costs": round(fig.costs, 1),
                          "against": fig.against and round(fig.against, 1),
                          "target": target(row), "met": is_met(row, fig.value),
                          **({"series": round(series[key].value, 4)}
                             if series and series[key] else {})}
                    for key, (row, fig) in measured.items()},
    }, indent=1) + "\n")
    args.chart.write_text(chart(figures))
    if args.document and not missing:
        rewrite(args.document, IMAGE + block)

    for row, fig in measured.values():
        if is_met(row, fig.value) is False:
            print(f"missed: {row.key}: {number(fig.value, row)} {target(row)}")
        if series and "MISSED" in (cells := of_series(row, series[row.key])):
            print(f"missed in core mm: {row.key}: {cells[0]} {cells[1]}")
        before = previous.get(row.key)
        if before is not None and is_worse(row, fig.value, before):
            print(f"WORSE: {row.key}: {number(fig.value, row)}, was {number(before, row)}")
    for key in missing:
        print(f"not measured: {key}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
