#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Compares the man page with the uAPI header, and takes its example out of it.

usage: man-page.py names|structs|errors PAGE HEADER
       man-page.py program|session PAGE

PAGE is Documentation/nosigbus.4.rst. The first three say what is amiss and then
exit 1; the others print the C program, and what one sees when running it.
"""

import errno
import re
import sys
from collections.abc import Iterator

from docutils import core, nodes

# Where a structure is explained that is no command's.
SECTIONS = {"nosigbus_event": "Events"}
ERRNOS = {name for name in dir(errno) if re.fullmatch("E[A-Z0-9]+", name)}


def section(page: nodes.document, title: str) -> nodes.Element:
    """The section with that heading; an empty one if there is none."""
    for node in page.findall(nodes.section):
        if node.next_node(nodes.title).astext() == title:
            return node
    return nodes.section()


def terms(node: nodes.Element, markup: type[nodes.Node]) -> list[str]:
    """What definition lists in the node define, in that markup, wherever they are."""
    return [
        part.astext()
        for term in node.findall(nodes.term)
        for part in term.findall(markup)
    ]


def errnos_in(text: str) -> set[str]:
    """The errnos that a text names."""
    return ERRNOS & set(re.findall(r"\bE[A-Z0-9]+\b", text))


def commands(header: str) -> dict[str, str]:
    """The name of each ioctl, and the comment above it."""
    found = re.findall(
        r"/\*((?:(?!\*/).)*)\*/\s*#define\s+(\w+)\s+_IO[RW]*\(", header, re.DOTALL
    )
    return {name: comment for comment, name in found}


def names(page: nodes.document, header: str) -> Iterator[str]:
    """Each name of the header is in the page, and each flag explained; no other name is."""
    defined = re.findall(r"#define\s+(NOSIGBUS_\w+)", header)
    flags = re.findall(r"#define\s+(NOSIGBUS_\w+)\s+\(1U(?:LL)? <<", header)
    used = set(re.findall(r"\bNOSIGBUS_\w+", page.astext()))
    explained = terms(page, nodes.strong)
    if not defined or not flags:
        yield "no names in the header"
    for name in defined:
        if name not in used:
            yield f"{name} is not in the page"
    for name in flags:
        if name not in explained:
            yield f"{name} is not explained"
    for name in sorted(used - set(defined)):
        yield f"there is no {name}"


def structs(page: nodes.document, header: str) -> Iterator[str]:
    """Each structure is in its section as it is, each field explained, in order."""
    found = re.findall(r"^struct (\w+) \{\n(.*?)^\};", header, re.MULTILINE | re.DOTALL)
    if not found:
        yield "no structures in the header"
    for name, body in found:
        place = section(page, SECTIONS.get(name, name.upper()))
        expected = f"struct {name} {{ {' '.join(body.split())} }};"
        shown = [" ".join(text.astext().split()) for text in place.findall(nodes.literal_block)]
        if expected not in shown:
            yield f"struct {name} is not as in the header"
        fields = re.findall(r"(\w+)(?:\[\d+\])?;", body)
        explained = terms(place, nodes.emphasis)
        if explained != fields:
            yield f"struct {name} has {' '.join(fields)}; explained: {' '.join(explained)}"


def errors(page: nodes.document, header: str) -> Iterator[str]:
    """Each command has the header's errors, and ERRORS only such as are explained."""
    for name, comment in commands(header).items():
        expected = errnos_in(comment.partition("Errors:")[2])
        listed = [term for term in terms(section(page, name), nodes.strong) if term[0] == "E"]
        if not expected:
            yield f"{name} has no errors in the header"
        for element in sorted(expected ^ set(listed)):
            yield f"{name}: {element} is in one of page and header only"
    for element in sorted(errnos_in(header) - errnos_in(page.astext())):
        yield f"{element} is not in the page"
    for item in section(page, "ERRORS").findall(nodes.definition_list_item):
        term, definition = item.next_node(nodes.term), item.next_node(nodes.definition)
        if term.astext() not in ERRNOS:
            yield f"ERRORS: {term.astext()} is no errno"
        elif not definition.astext().startswith("From "):
            yield f"ERRORS: {term.astext()}: from which system call?"


def example(page: nodes.document, start: str) -> Iterator[str]:
    """The example that starts so."""
    for block in section(page, "EXAMPLES").findall(nodes.literal_block):
        if block.astext().startswith(start):
            yield block.astext()


def main() -> int:
    """Returns the exit status."""
    what, path, *rest = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        page = core.publish_doctree(file.read(), settings_overrides={"halt_level": 2})
    if what in ("program", "session"):
        found = list(example(page, "#include" if what == "program" else "# "))
        print("\n".join(found))
        return 0 if len(found) == 1 else 1
    with open(rest[0], encoding="utf-8") as file:
        header = file.read()
    complaints = list({"names": names, "structs": structs, "errors": errors}[what](page, header))
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
