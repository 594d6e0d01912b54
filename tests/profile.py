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
# What belongs together: the first that matches.
GROUPS = [(label, re.compile(pattern)) for label, pattern in (
    ("the module", r".*nosigbus::"),
    ("helpers", r"nosigbus_|rust_helper_"),
    ("vm_insert_page()", r"(vm_)?insert_page|walk_to_pmd|_*get_locked_pte|validate_page_before_"),
    ("the semaphore", r"(down|up)_(read|write)|rwsem_"),
    ("fsnotify", r".*fsnotify"),
    ("RCU, SRCU", r".*s?rcu"),
    ("do_fault() and its likes", r"_*do_(cow_|shared_|read_)?fault|do_anonymous_page|finish_fault"),
    ("the xarray", r"_*xas?_"),
    ("copying and clearing", r"mem(cpy|set)|_*clear_page|rep_"),
    ("work items, the scheduler", r".*(work|sched|task_|wake|kthread|timer|_entity|swait|completion)"
        r"|(pick|put_prev|set_next|enqueue|dequeue|switch)_|pvclock|native_sched|avg_|cpu_util"),
    ("slab, pages, their charge", r".*(kmem|kmalloc|kfree|slab|obj_cgroup|memcg|charge|lruvec|stat_"
        r"|_state|alloc|rmqueue|freelist|free_pages|free_frozen|css_|free_unref|post_alloc|folio_add"
        r"|lru_)"),
)]


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


def group_of(name: str) -> str:
    return next((label for label, pattern in GROUPS if pattern.match(name)), "the rest")


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

    print("What is more than in the first column:")
    groups: dict[str, list[float]] = {}
    for i, column in enumerate(columns):
        for name in column.keys() | columns[0].keys():
            group = groups.setdefault(group_of(name), [0.0] * len(columns))
            group[i] += column[name] - columns[0][name]
    for label, more in sorted(groups.items(), key=lambda item: -max(item[1])):
        print_row(more, label)
    print()


if __name__ == "__main__":
    main()
