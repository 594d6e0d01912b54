#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Makes the changes of one patch of the series in a kernel tree: TREE PATCH.

PATCH is a directory of Documentation/rfc/series:

files/      new files, as they are, in their places
*.patch     what changes in files that an earlier patch of the series has brought
*.cocci     semantic patches, each for the file that its first line names
edit.py     edit(tree), for what Coccinelle does not parse: lists of flags, Makefiles, labels

Each has to find its place, and exactly one: a kernel that has changed there is told of, not
patched elsewhere. Prints the files that have been changed, for git.
"""

import difflib
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys


MACROS = pathlib.Path(__file__).resolve().parent / "macros.h"


class Tree:
    """A kernel tree that is being changed."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.changed: set[str] = set()

    def change(self, path: str, new) -> None:
        """Replaces the text of a file by new(text)."""
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        changed = new(text)
        if changed == text:
            sys.exit(f"{path}: nothing has changed")
        file.write_text(changed, encoding="utf-8")
        self.changed.add(path)

    def _find(self, path: str, text: str, pattern: str) -> re.Match[str]:
        matches = list(re.finditer(pattern, text, re.MULTILINE))
        if len(matches) != 1:
            sys.exit(f"{path}: {len(matches)} places match {pattern!r}")
        return matches[0]

    def insert_after(self, path: str, pattern: str, text: str) -> None:
        def new(old: str) -> str:
            end = self._find(path, old, pattern).end()
            return old[:end] + text + old[end:]

        self.change(path, new)

    def insert_before(self, path: str, pattern: str, text: str, comment: bool = False) -> None:
        """With comment, before the comment that is in front of it."""
        def new(old: str) -> str:
            start = self._find(path, old, pattern).start()
            if comment and old[:start].endswith("*/\n"):
                start = old.rindex("/*", 0, start)
            return old[:start] + text + old[start:]

        self.change(path, new)

    def containing(self, pattern: str, *folders: str) -> list[str]:
        """The headers below folders that have a line like that."""
        found = []
        for folder in folders:
            for file in sorted((self.root / folder).rglob("*.h")):
                if re.search(pattern, file.read_text(encoding="utf-8", errors="replace"), re.M):
                    found.append(str(file.relative_to(self.root)))
        if not found:
            sys.exit(f"no header has {pattern!r}")
        return found

    def copy(self, files: pathlib.Path) -> None:
        for file in sorted(files.rglob("*")):
            if file.is_file():
                path = file.relative_to(files)
                (self.root / path.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, self.root / path)
                self.changed.add(str(path))

    def patch(self, patch: pathlib.Path) -> None:
        subprocess.run(["git", "-c", "safe.directory=*", "apply", str(patch)], cwd=self.root,
                       check=True)
        self.changed.update(re.findall(r"^\+\+\+ b/(.*)$", patch.read_text(encoding="utf-8"),
                                       re.MULTILINE))

    def apply(self, cocci: pathlib.Path) -> None:
        first = cocci.read_text(encoding="utf-8").splitlines()[0]
        path = first.removeprefix("// file: ")
        before = (self.root / path).read_text(encoding="utf-8")
        subprocess.run(
            ["spatch", "--very-quiet", "--in-place", "--macro-file", str(MACROS), "--sp-file",
             str(cocci), path],
            cwd=self.root, check=True, stdout=subprocess.DEVNULL)
        after = (self.root / path).read_text(encoding="utf-8")
        # Coccinelle says nothing of a rule that matches nothing.
        wanted = sum(line.startswith("+") and line != "+"
                     for line in cocci.read_text(encoding="utf-8").splitlines())
        diff = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0)
        added = sum(line.startswith("+") and line.strip() != "+" for line in diff)
        if added < wanted:
            sys.exit(f"{path}: {cocci.name} has added {added} lines of {wanted}")
        self.changed.add(path)


def main() -> None:
    root, patch = map(pathlib.Path, sys.argv[1:])
    tree = Tree(root)
    if (patch / "files").is_dir():
        tree.copy(patch / "files")
    for changes in sorted(patch.glob("*.patch")):
        tree.patch(changes.resolve())
    for cocci in sorted(patch.glob("*.cocci")):
        tree.apply(cocci.resolve())
    edits = patch / "edit.py"
    if edits.exists():
        spec = importlib.util.spec_from_file_location("edits", edits)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.edit(tree)
    print(*sorted(tree.changed), sep="\n")


if __name__ == "__main__":
    main()
