# SPDX-License-Identifier: GPL-2.0-only
"""A function that is one of several by #if."""


def edit(tree):
    def use_i_size_write(text):
        store = "\tsmp_store_release(&inode->i_size, i_size);\n"
        assert text.count(store) == 1, "include/linux/netfs.h: the store of the size"
        return text.replace(store, "\ti_size_write(inode, i_size);\n")

    tree.change("include/linux/netfs.h", use_i_size_write)
