#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Adds up what the tests printed, read by the kernel's own KTAP parser.

usage: report.py [--seconds FILE] KERNEL_SOURCE LABEL=LOG...

A LOG is the TAP output of a selftest, or a kernel log with the KTAP of the
KUnit tests that ran at insmod. A line for each log, then those in which
something failed, in full, then only what failed: who sees just the end of a
long output finds it there. The last line reads "N passed, N failed, N
skipped"; exits 1 if anything failed or if a log has no test in it. The lines of
FILE are "SECONDS NAME": the ten longest are named.
"""

import os
import re
import sys

PLAN = re.compile(r"1\.\.[0-9]+$")
NOT_OK = re.compile(r"(\[[^]]*\] )?\s*not ok ")

# The kernel's first message when it loads the module. Tests that a kernel log
# has before that are the kernel's own.
LOADED = "nosigbus: loading out-of-tree module"


def test_lines(path: str) -> list[str]:
    """The lines of a log that may have tests in them."""
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = log.read().splitlines()
    for number, line in enumerate(lines):
        if LOADED in line:
            return lines[number:]
    return lines


def print_slowest(path: str) -> None:
    """The ten lines of a file of "SECONDS NAME" that have most seconds."""
    if not path or not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        lines = [line.split(maxsplit=1) for line in file.read().splitlines()]
    lines.sort(key=lambda line: int(line[0]), reverse=True)
    total = sum(int(line[0]) for line in lines)
    print(f"\nThe slowest of {len(lines)}, which took {total} s, some side by side:")
    for number, name in lines[:10]:
        print(f"{number:>6} s  {name}")


def main() -> int:
    """Prints the counts, the failures and the total; returns the exit status."""
    arguments = sys.argv[1:]
    seconds = ""
    if arguments[0] == "--seconds":
        seconds = arguments[1]
        del arguments[:2]
    source, *logs = arguments
    sys.path.insert(0, os.path.join(source, "tools/testing/kunit"))
    # The kernel's parser, from the source that is being tested against.
    import kunit_parser  # pylint: disable=import-error,import-outside-toplevel
    from kunit_printer import (  # pylint: disable=import-error,import-outside-toplevel
        null_printer,
        stdout,
    )

    passed = failed = skipped = 0
    failures = []
    for argument in logs:
        label, path = argument.split("=", 1)
        try:
            lines = test_lines(path)
        except OSError as error:
            failures.append((f"{label}: no result: {error}", []))
            failed += 1
            continue
        counts = kunit_parser.parse_run_tests(lines, null_printer).counts
        bad = counts.failed + counts.crashed + counts.errors
        # Without the plan, a log that has broken off looks complete.
        planned = not path.endswith(".tap") or any(PLAN.match(line) for line in lines)
        if not bad and not (planned and counts.total()):
            bad = 1
        if bad:
            failures.append((f"{label}: {path}:", lines))
        print(f"{label}: {counts.passed} passed, {bad} failed, {counts.skipped} skipped")
        passed += counts.passed
        failed += bad
        skipped += counts.skipped

    # The longest first, so that the end shows something of several.
    failures.sort(key=lambda failure: len(failure[1]), reverse=True)
    for heading, lines in failures:
        print(f"\n{heading}")
        print("\n".join(lines))
        if lines:
            kunit_parser.parse_run_tests(lines, stdout)
    print_slowest(seconds)
    for heading, lines in failures:
        print(heading, *(line for line in lines if NOT_OK.match(line)), sep="\n")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
