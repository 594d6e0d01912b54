# SPDX-License-Identifier: GPL-2.0-only
"""A flag of file systems, and those that have it."""

import re


def edit(tree):
    fs = "include/linux/fs.h"
    tree.insert_before(fs, r"^#define FS_RENAME_DOES_D_MOVE\s+32768",
                       "#define FS_REMOTE_SIZE\t\t4096\t/* i_size is right only with a lock of the cluster */\n")
    for path, places in {"fs/gfs2/ops_fstype.c": 2, "fs/ocfs2/super.c": 1, "fs/ceph/super.c": 1}.items():
        def add_flag(text, path=path, places=places):
            text, found = re.subn(
                r"(\.fs_flags\s*=\s*)([^,]+)",
                lambda flags: flags[1] + re.sub(r"\s*\|\s*", " | ", flags[2]) + " | FS_REMOTE_SIZE",
                text)
            assert found == places, f"{path}: fs_flags in {found} places"
            return text

        tree.change(path, add_flag)
    tree.insert_after("fs/orangefs/orangefs-mod.c",
                      r"^static struct file_system_type orangefs_fs_type = \{\n(?:\t\.[^\n]*\n)*?(?=\t\.owner)",
                      "\t.fs_flags = FS_REMOTE_SIZE,\n")
