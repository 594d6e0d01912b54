# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle does not parse: an enum with its comment, and a table of strings."""

import re


def edit(tree):
    types = "include/linux/mm_types.h"
    tree.insert_after(types, r"^ \* @VM_FAULT_COMPLETED:[^\n]*\n(?: \*\t[^\n]*\n)*",
                      " * @VM_FAULT_EOF:\t\twith VM_FAULT_SIGBUS: there is no page because the\n"
                      " *\t\t\t\tfile ends before it\n")
    tree.insert_after(types, r"^\tVM_FAULT_COMPLETED\s+=.*\n",
                      "\tVM_FAULT_EOF            = (__force vm_fault_t)0x008000,\n")
    def add_row(text):
        last = re.search(r'^\t\{ [^\n]*VM_FAULT_COMPLETED,\s+"COMPLETED" \}', text, re.M)
        row = last[0].replace("VM_FAULT_COMPLETED,", "VM_FAULT_EOF,      ")
        row = row.replace('"COMPLETED"', '"EOF"')
        return f"{text[:last.end()]},\t\\\n{row}{text[last.end():]}"

    tree.change(types, add_row)
    tree.insert_before("mm/migrate.c", r"^\tif \(folio_test_mlocked\(folio\) \|\| \(pvmw->vma->vm_flags & VM_LOCKED\)",
                       "\t/* A private page is to stay, and growth of the file unmaps zero pages. */\n"
                       "\tif (pvmw->vma->vm_flags & VM_NOSIGBUS)\n"
                       "\t\treturn false;\n")
