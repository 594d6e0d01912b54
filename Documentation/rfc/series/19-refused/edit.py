# SPDX-License-Identifier: GPL-2.0-only
"""A flag of file systems, and those that have it, with the reason of each."""

import re

REASONS = {
    "fs/gfs2/ops_fstype.c": (2, "\t/* Each fault takes the glock, which brings the size. */\n"),
    "fs/ocfs2/super.c": (1, "\t/* All nodes see the same file, and another node makes it grow. */\n"),
    "fs/ceph/super.c": (1, "\t/* Each fault takes caps, which bring the size. */\n"),
}


def edit(tree):
    fs = "include/linux/fs.h"
    tree.insert_before(fs, r"^#define FS_RENAME_DOES_D_MOVE\s+32768",
                       "#define FS_DISALLOW_NOSIGBUS\t4096\t/* A fault past EOF must reach the FS each time */\n")
    for path, (places, reason) in REASONS.items():
        def add_flag(text, path=path, places=places, reason=reason):
            text, found = re.subn(
                r"^(\t\.fs_flags\s*=\s*)([^,\n]+)",
                lambda flags: reason + flags[1] + re.sub(r"\s*\|\s*", " | ", flags[2]) + " | FS_DISALLOW_NOSIGBUS",
                text, flags=re.M)
            assert found == places, f"{path}: fs_flags in {found} places"
            return text

        tree.change(path, add_flag)
    tree.insert_after("fs/orangefs/orangefs-mod.c",
                      r"^static struct file_system_type orangefs_fs_type = \{\n(?:\t\.[^\n]*\n)*?(?=\t\.owner)",
                      "\t/* Each fault asks the server for the size. */\n"
                      "\t.fs_flags = FS_DISALLOW_NOSIGBUS,\n")
