#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# Checks that the code that documents show is code that is built and run. Each literal block after a
# comment ".. from FILE" has to be in that file, except for its indentation. Lines "..." divide a
# block into parts, and then each part has to be in the file. Prints TAP; exits 1 if anything
# failed.
#
# usage: excerpts.py DOCUMENT...

import pathlib
import re
import sys

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
FROM = re.compile(r"^\.\. from (\S+)$")


def stripped(lines):
    """Without indentation, and without empty lines."""
    return [line.strip() for line in lines if line.strip()]


def blocks(text):
    """Yields file and lines of each literal block that has such a comment."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not (match := FROM.match(line)):
            continue
        at = number + 1
        while at < len(lines) and not lines[at].strip():
            at += 1
        if at == len(lines) or not lines[at].startswith("::"):
            sys.exit(f"line {number + 1}: no code follows")
        block = []
        for inner in lines[at + 1:]:
            if inner.strip() and not inner.startswith(" "):
                break
            block.append(inner)
        yield match[1], block


def parts(block):
    part = []
    for line in stripped(block) + ["..."]:
        if line == "...":
            if part:
                yield part
            part = []
        else:
            part.append(line)


def has(file, part):
    all_lines = stripped(file)
    return any(
        all_lines[at:at + len(part)] == part for at in range(len(all_lines) - len(part) + 1)
    )


def main():
    failed, results = False, []
    for document in sys.argv[1:]:
        found = list(blocks(pathlib.Path(document).read_text(encoding="utf-8")))
        if not found:
            sys.exit(f"{document}: no excerpts")
        for name, block in found:
            file = (REPO / name).read_text(encoding="utf-8").splitlines()
            missing = [part for part in parts(block) if not has(file, part)]
            results.append((f"{document}: from {name}: {stripped(block)[0]}", missing))
    print("TAP version 13")
    print(f"1..{len(results)}")
    for number, (label, missing) in enumerate(results, 1):
        for part in missing:
            failed = True
            print("# not in it:", *part, sep="\n#   ")
        print("not ok" if missing else "ok", number, label.replace("#", ""))
    return failed


if __name__ == "__main__":
    sys.exit(main())
