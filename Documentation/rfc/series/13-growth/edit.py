# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: an enum, and a function that is one of several by #if."""

import re


def edit(tree):
    def add_bit(text):
        last = max(int(bit) for bit in re.findall(r"^\tAS_\w+\s*= (\d+),", text, re.M) if int(bit) < 16)
        return re.sub(r"(?=^\t/\* Bits 16-25 are used for FOLIO_ORDER \*/\n)",
                      f"\tAS_ZEROS_MAPPED = {last + 1},\t/* has, or had, zeros mapped past EOF */\n",
                      text, count=1, flags=re.M)

    tree.change("include/linux/pagemap.h", add_bit)
    fs = "include/linux/fs.h"
    tree.insert_before(fs, r"^#include <linux/uuid\.h>\n", "#include <linux/nosigbus.h>\n")
    tree.insert_after(fs, r"^\tsmp_store_release\(&inode->i_size, i_size\);\n",
                      "\tnosigbus_size_written(inode);\n")
    tree.insert_before("MAINTAINERS", r"^F:\tinclude/uapi/asm-generic/mman-common\.h\nF:\tmm/madvise\.c\n",
                       "F:\tinclude/linux/nosigbus.h\n")
