# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot do: a Makefile, a comment, and a function that moves to a header."""

import re


def edit(tree):
    memory, internal = "mm/memory.c", "mm/internal.h"
    text = (tree.root / memory).read_text(encoding="utf-8")
    moved = re.search(r"^/\*\n(?: \*[^\n]*\n)+static __always_inline bool "
                      r"vmf_orig_pte_uffd_wp\(.*?^\}\n\n", text, re.M | re.S)[0]
    tree.change(memory, lambda old: old.replace(moved, ""))
    tree.insert_before(internal, r"^vm_fault_t do_swap_page\(struct vm_fault \*vmf\);\n",
                       moved +
                       "bool vmf_pte_changed(struct vm_fault *vmf);\n"
                       "bool vm_mixed_zeropage_allowed(struct vm_area_struct *vma);\n")
    tree.change(memory, lambda old: old.replace("static bool vmf_pte_changed(struct vm_fault *vmf);\n", "")
                .replace("static bool vmf_pte_changed(struct vm_fault *vmf)\n{",
                         "bool vmf_pte_changed(struct vm_fault *vmf)\n{")
                .replace("static bool vm_mixed_zeropage_allowed(",
                         "bool vm_mixed_zeropage_allowed("))
    tree.insert_after("mm/khugepaged.c",
                      r"^\t\t \* entry, it is still empty and can be removed\.\n",
                      "\t\t *\n"
                      "\t\t * A fault past EOF in a VMA with VM_NOSIGBUS does not\n"
                      "\t\t * take that lock. It maps only zero pages. They are not\n"
                      "\t\t * accounted, and can be removed with the page table.\n")
    tree.insert_after("mm/Makefile", r"^obj-\$\(CONFIG_SECRETMEM\) \+= secretmem\.o\n",
                      "obj-$(CONFIG_NOSIGBUS) += nosigbus.o\n")
    tree.insert_after("MAINTAINERS", r"^F:\tmm/madvise\.c\n", "F:\tmm/nosigbus.[ch]\n")
