# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle does not parse: an enum with its comment, a table of strings, new functions."""

import re


def edit(tree):
    types = "include/linux/mm_types.h"
    tree.insert_after(types, r"^ \* @VM_FAULT_COMPLETED:[^\n]*\n(?: \*\t[^\n]*\n)*",
                      " * @VM_FAULT_EOF:\t\t->fault returned VM_FAULT_SIGBUS because the\n"
                      " *\t\t\t\tpage is past EOF. do_fault() clears this\n")
    tree.insert_after(types, r"^\tVM_FAULT_COMPLETED\s+=.*\n",
                      "\tVM_FAULT_EOF            = (__force vm_fault_t)0x008000,\n")

    def add_row(text):
        last = re.search(r'^\t\{ [^\n]*VM_FAULT_COMPLETED,\s+"COMPLETED" \}', text, re.M)
        row = last[0].replace("VM_FAULT_COMPLETED,", "VM_FAULT_EOF,      ")
        row = row.replace('"COMPLETED"', '"EOF"')
        return f"{text[:last.end()]},\t\\\n{row}{text[last.end():]}"

    tree.change(types, add_row)
    tree.insert_before("mm/shmem.c", r"^static int shmem_get_folio_gfp\(struct inode \*inode, pgoff_t index,\n[^;]*?\n\{",
                       "/* The error for a page past EOF, of which a fault is told. */\n"
                       "static int shmem_past_eof(vm_fault_t *fault_type)\n"
                       "{\n"
                       "\tif (fault_type)\n"
                       "\t\t*fault_type |= VM_FAULT_EOF;\n"
                       "\treturn -EINVAL;\n"
                       "}\n"
                       "\n", comment=True)

    def strip(text):
        start = text.index("\nstatic vm_fault_t do_fault(struct vm_fault *vmf)\n{")
        end = text.index("\treturn ret;\n}\n", start)
        return (text[:end] + "\t/* Architectures know nothing of VM_FAULT_EOF. */\n"
                "\treturn ret & ~VM_FAULT_EOF;\n" + text[end + len("\treturn ret;\n"):])

    tree.change("mm/memory.c", strip)
