#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# Counts the module's unsafe code by file, and prints the table that
# Documentation/unsafe.rst has of it. Fails if there is any outside of
# rust/abstractions, if more of any bindings than the uAPI is used there, and, with
# --check, if the document has another table.
#
# usage: unsafe-audit.py [--check]

import pathlib
import re
import sys

REPO = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = REPO / "Documentation" / "unsafe.rst"
BEGIN, END = ".. the table of tests/unsafe-audit.py", ".. its end"

# What is not code comes first.
TOKEN = re.compile(
    r"""
    (?P<line_comment>//[^\n]*)
  | (?P<block_comment>/\*)
  | (?P<raw_string>[bc]?r(?P<hashes>\#*)".*?"(?P=hashes))
  | (?P<string>[bc]?"(?:\\.|[^"\\])*")
  | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^\\'\n])')
  | (?P<lifetime>'\w+)
  | (?P<word>(?:r\#)?\w+)
  | (?P<sign>::|\S)
    """,
    re.VERBOSE | re.DOTALL,
)
# What may be used of bindings outside of rust/abstractions.
UAPI = re.compile(r"nosigbus_(query|enable|disable|status|event)|NOSIGBUS_\w+")


def tokens(text):
    """The words and signs of Rust code; a string is one sign."""
    at, found = 0, []
    while match := TOKEN.search(text, at):
        at = match.end()
        if match["block_comment"]:
            depth = 1
            for inner in re.finditer(r"/\*|\*/", text[at:]):
                depth += 1 if inner[0] == "/*" else -1
                if not depth:
                    at += inner.end()
                    break
            else:
                sys.exit("a comment without an end")
        elif match["string"] or match["raw_string"]:
            found.append('""')
        elif not match["line_comment"]:
            found.append(match[0])
    return found


def without_tests(words):
    """The same, and how many of the words are tests: what a module `tests` has."""
    code, tests, at = [], [], 0
    while at < len(words):
        if words[at : at + 3] == ["mod", "tests", "{"]:
            depth, start, at = 1, at, at + 3
            while depth:
                depth += {"{": 1, "}": -1}.get(words[at], 0)
                at += 1
            tests += words[start:at]
        else:
            code.append(words[at])
            at += 1
    return code, tests


def count(words):
    """Unsafe blocks, functions and impls."""
    blocks = functions = impls = 0
    for at, word in enumerate(words):
        if word != "unsafe":
            continue
        after = words[at + 1 : at + 5]
        if after[0] == "{":
            blocks += 1
        elif after[0] == "impl":
            impls += 1
        elif after[:3] == ["extern", '""', "fn"] or after[0] == "fn":
            # Without a name it is a type.
            functions += after[after.index("fn") + 1] != "("
        else:
            sys.exit(f"unsafe {' '.join(after)}: what is that?")
    return blocks, functions, impls


def misuses(words):
    """What rust/policy and rust/device may not have."""
    if "unsafe" in words:
        yield "unsafe"
    for at, word in enumerate(words):
        if word != "bindings":
            continue
        names = words[at + 2 :] if words[at + 1] == "::" else ["bindings"]
        names = names[1 : names.index("}")] if names[0] == "{" else names[:1]
        yield from (name for name in names if name != "," and not UAPI.fullmatch(name))


def table():
    """The lines of the table; fails if something is where it may not be."""
    rows, total, elsewhere, bad = [], [0] * 4, 0, False
    for path in sorted((REPO / "rust").rglob("*.rs")):
        name = path.relative_to(REPO).as_posix()
        if path.name == "bindings_generated.rs":
            continue
        words = tokens(path.read_text())
        if not name.startswith("rust/abstractions/"):
            for misuse in misuses(words):
                print(f"{name}: {misuse}, outside of rust/abstractions", file=sys.stderr)
                bad = True
            elsewhere += 1
            continue
        code, tests = without_tests(words)
        counts = *count(code), sum(count(tests))
        # This file is for the tests as a whole.
        if path.name == "user_memory.rs":
            counts = 0, 0, 0, sum(counts)
        if any(counts):
            rows.append((path.name, *counts))
            total = [a + b for a, b in zip(total, counts)]
    if bad:
        sys.exit(1)
    rows.append(("rust/abstractions, all of it", *total))
    rows.append((f"the other {elsewhere} files", 0, 0, 0, 0))

    line = "=" * 30 + "  ======  =========  =====  ========"
    yield line
    yield f"{'file':30}  blocks  functions  impls  in tests"
    yield line
    for row in rows:
        yield "{:30}  {:6}  {:9}  {:5}  {:8}".format(*row)
    yield line


lines = list(table())
if sys.argv[1:] == ["--check"]:
    document = DOCUMENT.read_text().splitlines()
    start, end = document.index(BEGIN), document.index(END)
    if [line for line in document[start + 1 : end] if line] != lines:
        print("\n".join(lines))
        sys.exit(f"{DOCUMENT.relative_to(REPO)} has another table than this")
elif sys.argv[1:]:
    sys.exit("usage: unsafe-audit.py [--check]")
else:
    print("\n".join(lines))
