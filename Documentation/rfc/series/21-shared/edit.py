# SPDX-License-Identifier: GPL-2.0-only
"""Comments: what the advice cannot undo."""


def edit(tree):
    def replace(path, old, new):
        tree.change(path, lambda text: text.replace(old, new))

    for header in tree.containing(r"^#define MADV_SIGBUS\b", "include/uapi", "arch",
                                  "tools/include/uapi", "tools/arch"):
        replace(header, "/* SIGBUS past EOF again */", "/* SIGBUS again; shared mappings stay read-only */")
    replace("mm/madvise.c", "not\n *\t\tone of a regular file, before it changes anything.\n",
            "not\n *\t\tone of a regular file, before it changes anything. A shared\n"
            " *\t\tmapping must not be writable. It can never be made writable\n"
            " *\t\tafterwards.\n")
    replace("mm/madvise.c", " *  MADV_SIGBUS - cancel MADV_NOSIGBUS.\n",
            " *  MADV_SIGBUS - cancel MADV_NOSIGBUS. Shared mappings stay read-only.\n")
