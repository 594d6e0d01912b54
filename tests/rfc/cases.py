#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What of the module's selftests the series for linux-mm passes: CASES RESULTS PROGRAMS.

CASES is tests/rfc/cases, RESULTS has the TAP of what it says is to be run, and PROGRAMS all
selftests, as they are for the module, to know how many cases the others have. Prints the
failures, why what does not apply does not, and last a line that reads "N passed, N failed, N
skipped": what does not apply is among those skipped. Exits 1 if anything failed. With only
CASES, prints the programs to be run.
"""

import collections
import fnmatch
import pathlib
import re
import subprocess
import sys

# What is run beside the programs of the table: the selftest that the series brings, load and kill -9,
# and the end of the guest.
OTHERS = ["nosigbus", "stress", "guest"]
LINE = re.compile(r"^(not ok|ok) \d+ (?:- )?(.*?)(?: # SKIP ?(.*))?$")


def read_table(path: str) -> tuple[list[str], dict[str, str], list[tuple[str, list[str], str]]]:
    """The programs that are run, those that are not, and cases that do not apply."""
    run, not_run, but = [], {}, []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word == "run":
            run.append(rest.strip())
        elif word == "not":
            program, why = rest.split(None, 1)
            not_run[program] = why
        elif word == "but":
            cases, why = rest.split(" : ")
            but.append((cases.split()[0], cases.split()[1:], why))
        elif line and not line.startswith("#"):
            sys.exit(f"{path}: what is {line!r}?")
    return run, not_run, but


def number_of_cases(program: pathlib.Path) -> int:
    """As many as a program has: tests by variants of each fixture, as -l lists them."""
    listed = subprocess.run([program, "-l"], check=False, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    total = 0
    for block in listed.stdout.split("-" * 80):
        variants = tests = 0
        for line in block.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            words = line[21:].split()
            has_variant = line[21] != " "
            variants += has_variant
            tests += len(words) > has_variant
        total += max(variants, 1) * tests
    if not total:
        sys.exit(f"{program}: -l lists no tests")
    return total


def main() -> int:
    """Prints the counts and what they consist of; returns the exit status."""
    run, not_run, but = read_table(sys.argv[1])
    if len(sys.argv) == 2:
        print(*run, sep="\n")
        return 0
    results, programs = map(pathlib.Path, sys.argv[2:])
    unknown = {file.name for file in programs.iterdir()} ^ (set(run) | set(not_run))
    failures = [f"{name}: is in only one of the table and tests/selftests" for name in sorted(unknown)]
    why_not = collections.Counter()
    used = set()
    passed = 0
    for program in [*run, *OTHERS]:
        file = results / f"{program}.tap"
        # A guest that has died has left none.
        log = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        plan = re.search(r"^1\.\.(\d+)", log, re.M)
        lines = [match for line in log.splitlines() if (match := LINE.match(line))]
        if not plan or int(plan[1]) != len(lines):
            failures.append(f"{program}: has not come to its end")
        counts = collections.Counter()
        for result, case, skipped in (match.groups() for match in lines):
            reason = skipped
            if result == "not ok":
                for i, (name, patterns, why) in enumerate(but):
                    if name == program and any(fnmatch.fnmatch(case, p) for p in patterns):
                        used.add(i)
                        reason = why
                if reason is None:
                    failures.append(f"{program}: {case}")
                    counts["failed"] += 1
                    continue
            if reason is None:
                counts["passed"] += 1
            else:
                why_not[reason or "skipped"] += 1
                counts["skipped"] += 1
        passed += counts["passed"]
        print(f"  {program}: {counts['passed']} passed, {counts['failed']} failed, "
              f"{counts['skipped']} skipped")
    for program, why in not_run.items():
        why_not[why] += number_of_cases(programs / program)
    failures += [f"{name}: {' '.join(patterns)}: no failure takes this line"
                 for i, (name, patterns, why) in enumerate(but) if i not in used]
    print("Does not apply, or was skipped:")
    for why, number in why_not.most_common():
        print(f"{number:>6}  {why}")
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{passed} passed, {len(failures)} failed, {sum(why_not.values())} skipped")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
