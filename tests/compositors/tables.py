#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The tables of Documentation/compositors.rst and those that the tests compare with.

usage: tables.py check
       tables.py write
       tables.py record RESULTDIR

check: the document has the tables as they are in this directory: what each attack does to
each compositor natively (table), and which requests with a file descriptor each has
(requests). Prints what differs, and exits 1.
write: has the document have them.
record: has the cells of table and requests be what tests/guest/compositors.sh has seen, for
the compositors that it was run with, and the attacks of the first of them; to be looked at
before it is committed.
"""

import difflib
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(HERE, "../../Documentation/compositors.rst")
# What a cell is in the document. A compositor that does not live dies of what the cell says.
WORDS = {"-": "—", "lives": "lives"}


def read(name: str) -> tuple[list[str], list[list[str]]]:
    """The comment at the head of a table, and its rows, of which the first has the headings."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        lines = file.read().splitlines()
    comment = [line for line in lines if line.startswith("#")]
    rows = [line.split() for line in lines if line.split("#")[0].strip()]
    for row in rows:
        if len(row) != len(rows[0]):
            sys.exit(f"{name}: {row[0]} has not as many cells as the first line")
    return comment, rows


def columns(rows: list[list[str]]) -> str:
    """The rows, one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + "\n"
        for row in rows
    )


def rendered(name: str) -> str:
    """The table as reStructuredText."""
    _, rows = read(name)
    bold = [
        [row[0]] + [WORDS.get(cell, f"**{cell}**") if name == "table" else WORDS.get(cell, cell)
                    for cell in row[1:]]
        for row in rows[1:]
    ]
    head = [rows[0]]
    widths = [max(map(len, column)) for column in zip(*head, *bold)]
    line = ["=" * width for width in widths]
    return columns([line, *head, line, *bold, line])


def document(text: str) -> str:
    """The document with the tables as they are here."""
    for name in ("table", "requests"):
        mark = re.compile(
            rf"(?<=^\.\. Table: tests/compositors/{name}\n\n)[^\n].*?\n(?=\n)", re.M | re.S
        )
        text, found = mark.subn(lambda _, name=name: rendered(name), text)
        if found != 1:
            sys.exit(f"Documentation/compositors.rst has no place for tests/compositors/{name}")
    return text


def write(name: str, comment: list[str], rows: list[list[str]]) -> None:
    """Writes a table of this directory."""
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in comment) + "\n" + columns(rows))


def seen_lines(results: str, compositor: str, ending: str,
               between: str | None = None) -> list[list[str]] | None:
    """The words of each line that a compositor's test has left."""
    try:
        with open(os.path.join(results, compositor + ending), encoding="utf-8") as file:
            return [line.split(between) for line in file.read().splitlines()]
    except FileNotFoundError:
        return None


def record(results: str) -> None:
    """Takes over what was seen."""
    comment, rows = read("table")
    cells = {(row[0], name): cell for row in rows[1:] for name, cell in zip(rows[0][1:], row[1:])}
    attacks = [row[0] for row in rows[1:]]
    for name in rows[0][1:]:
        for attack, natively, *protected in seen_lines(results, name, ".seen") or []:
            while protected and protected[-1] in ("lives", "-", "?"):
                protected.pop()
            cells[attack, name] = "/".join([natively, *protected])
            if attack not in attacks:
                attacks.append(attack)
    body = [[attack] + [cells.get((attack, name), "?") for name in rows[0][1:]] for attack in attacks]
    write("table", comment, [rows[0], *body])

    comment, rows = read("requests")
    names = rows[0][2:]
    has = {(*row[:2], name) for row in rows[1:] for name, cell in zip(names, row[2:])
           if cell == "x"}
    for name in names:
        seen = seen_lines(results, name, ".fds", "\t")
        if seen is None:
            continue
        has = {entry for entry in has if entry[2] != name}
        for words in seen:
            if len(words) >= 5:
                has.add((words[2], words[4].replace(" ", "-"), name))
            elif words[2] == "unknown":
                has.add((words[0], "unknown", name))
    requests = sorted({entry[:2] for entry in has})
    body = [[*request] + ["x" if (*request, name) in has else "-" for name in names]
            for request in requests]
    write("requests", comment, [rows[0], *body])


def main() -> int:
    """Does what the first argument says; returns the exit status."""
    match sys.argv[1:]:
        case ["record", results]:
            record(results)
            return 0
        case ["check" | "write" as what]:
            with open(DOCUMENT, encoding="utf-8") as file:
                present = file.read()
            wanted = document(present)
            if what == "write":
                with open(DOCUMENT, "w", encoding="utf-8") as file:
                    file.write(wanted)
                return 0
            sys.stdout.writelines(difflib.unified_diff(
                present.splitlines(True), wanted.splitlines(True), "the document", "the tables"))
            return int(present != wanted)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
