# SPDX-License-Identifier: GPL-2.0-only
"""Coccinelle does not parse this function."""


def edit(tree):
    tree.insert_after("fs/open.c", r"^\tret = file->f_op->fallocate\(file, mode, offset, len\);\n",
                      "\t/* Also on error: the file may have grown by what was free. */\n"
                      "\tnosigbus_grown(inode);\n")
