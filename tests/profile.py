#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Makes tables of what tests/profile.sh has counted: VALUES COUNTS SYMBOLS.

VALUES is what the benchmarks have printed, COUNTS what the plugin has, in the same order,
SYMBOLS the guest's /proc/kallsyms, demangled. A benchmark prints a number of instructions
per page, or per call; by that what was counted is divided up. Of the rounds of a contest
it is that with the least, as it is in tests/bench.py.
"""

import bisect
import collections
import re
import sys

# What is less than that of the largest total is not worth a line.
LEAST = 0.004
SYMBOL = re.compile(r"(?P<address>[0-9a-f]+) [tTwW] (?P<name>[^\t]+?)(?:\t\[(?P<module>\w+)\])?")
# What a crate's name has after it.
HASH = re.compile(r"\[[0-9a-f]{16}\]")
USER = "(user space)"


def read_symbols(path: str) -> tuple[list[int], list[str]]:
    symbols = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            match = SYMBOL.fullmatch(line.rstrip("\n"))
            if match:
                module = f" [{match['module']}]" if match["module"] else ""
                symbols.append((int(match["address"], 16), HASH.sub("", match["name"]) + module))
    # Of several names for a function, the last one that kallsyms has.
    symbols.sort(key=lambda symbol: symbol[0])
    return [address for address, _ in symbols], [name for _, name in symbols]


def main() -> None:
    values, counts, symbols = sys.argv[1:]
    addresses, names = read_symbols(symbols)
    contests: dict[str, dict[str, collections.Counter[str]]] = {}
    with open(values, encoding="utf-8") as value_lines, open(counts, encoding="utf-8") as lines:
        for value_line in value_lines:
            kind, *words = value_line.split()
            if kind != "value":
                continue
            contest, subject, value = words
            functions: collections.Counter[str] = collections.Counter()
            for line in lines:
                if line == "end\n":
                    break
                address, count = int(line.split()[0], 16), int(line.split()[1])
                if address < 1 << 63:
                    name = USER
                else:
                    name = names[bisect.bisect_right(addresses, address) - 1]
                functions[name] += count
            else:
                sys.exit(f"{counts}: nothing was counted of {contest} {subject}")
            # How often it was done: what it costs to ask for the time is not counted.
            times = round(functions.total() / float(value))
            for name in functions:
                functions[name] /= times
            subjects = contests.setdefault(contest, {})
            if subject not in subjects or functions.total() < subjects[subject].total():
                subjects[subject] = functions

    for contest, subjects in contests.items():
        print_table(contest, subjects)


def print_table(contest: str, subjects: dict[str, collections.Counter[str]]) -> None:
    width = max(12, *(len(subject) + 2 for subject in subjects))
    columns = list(subjects.values())

    def print_row(numbers: list[float], text: str) -> None:
        print("".join(f"{number:{width}.1f}" for number in numbers) + "  " + text)

    least = LEAST * max(column.total() for column in columns)
    largest: collections.Counter[str] = collections.Counter()
    for column in columns:
        largest |= column
    print(contest)
    print("".join(f"{subject:>{width}}" for subject in subjects))
    for name, count in largest.most_common():
        # All of the module's own.
        if count >= least or name.endswith("[nosigbus]"):
            print_row([column[name] for column in columns], name)
            del largest[name]
    print_row([sum(column[name] for name in largest) for column in columns], "(others)")
    print_row([column.total() for column in columns], "(all)")
    print()


if __name__ == "__main__":
    main()
