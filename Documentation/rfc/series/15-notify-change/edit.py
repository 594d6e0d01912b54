# SPDX-License-Identifier: GPL-2.0-only
"""Coccinelle puts a comment and an if statement that are added together on wrong lines."""


def edit(tree):
    tree.insert_before("fs/attr.c", r"^\tif \(!error\) \{\n\t\tfsnotify_change\(dentry, ia_valid\);",
                       "\t/* Also on error: ->setattr may have set the size before. */\n"
                       "\tif (ia_valid & ATTR_SIZE)\n"
                       "\t\tnosigbus_grown(inode);\n")
