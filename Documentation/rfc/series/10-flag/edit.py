# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: lists of flags and of strings, Kconfig, documents."""

import re


def edit(tree):
    def add_bit(text):
        bits = re.findall(r"DECLARE_VMA_BIT\(\w+, (\d+)\)", text)
        last = max(int(bit) for bit in bits)
        line = re.search(rf"^\tDECLARE_VMA_BIT\(\w+, {last}\),.*\n", text, re.M)
        return text[:line.end()] + f"\tDECLARE_VMA_BIT(NOSIGBUS, {last + 1}),\n" + text[line.end():]

    mm = "include/linux/mm.h"
    tree.change(mm, add_bit)
    tree.insert_after(mm, r"^#define VMA_DROPPABLE\s+EMPTY_VMA_FLAGS\n#endif\n",
                      "#ifdef CONFIG_NOSIGBUS\n"
                      "#define VM_NOSIGBUS\t\tINIT_VM_FLAG(NOSIGBUS)\n"
                      "#define VMA_NOSIGBUS\t\tmk_vma_flags(VMA_NOSIGBUS_BIT)\n"
                      "#else\n"
                      "#define VM_NOSIGBUS\t\tVM_NONE\n"
                      "#define VMA_NOSIGBUS\t\tEMPTY_VMA_FLAGS\n"
                      "#endif\n")
    tree.insert_after("fs/proc/task_mmu.c", r'^\t\t\[ilog2\(VM_SEALED\)\] = "sl",\n#endif\n',
                      "#ifdef CONFIG_NOSIGBUS\n"
                      '\t\t[ilog2(VM_NOSIGBUS)] = "ns",\n'
                      "#endif\n")
    trace = "include/trace/events/mmflags.h"
    tree.insert_after(trace, r"^# define IF_HAVE_VM_DROPPABLE\(flag, name\)\n#endif\n",
                      "\n"
                      "#ifdef CONFIG_NOSIGBUS\n"
                      "# define IF_HAVE_VM_NOSIGBUS(flag, name) {flag, name},\n"
                      "#else\n"
                      "# define IF_HAVE_VM_NOSIGBUS(flag, name)\n"
                      "#endif\n")
    tree.insert_after(trace, r"^IF_HAVE_VM_DROPPABLE\(VM_DROPPABLE,.*\n",
                      'IF_HAVE_VM_NOSIGBUS(VM_NOSIGBUS,\t"nosigbus")\t\t\\\n')
    tree.insert_after("Documentation/filesystems/proc.rst", r"^    sl    sealed\n",
                      "    ns    no SIGBUS past the end of the file\n")
    tree.insert_before("mm/ksm.c",
                       r"^\tif \(vma_flags_test_any_mask\(&vma_flags, VMA_SPECIAL_FLAGS\)\)",
                       "\t/* Growth of the file unmaps zero pages, so none may stand for a copy. */\n"
                       "\tif (vma_flags_test_single_mask(&vma_flags, VMA_NOSIGBUS))\n"
                       "\t\treturn false;\n")
    tree.insert_before("mm/migrate.c",
                       r"^\tif \(folio_test_mlocked\(folio\) \|\| \(pvmw->vma->vm_flags & VM_LOCKED\)",
                       "\t/* Growth of the file unmaps zero pages, so none may stand for a copy. */\n"
                       "\tif (vma_test_single_mask(pvmw->vma, VMA_NOSIGBUS))\n"
                       "\t\treturn false;\n")
    tree.insert_before("mm/Kconfig", r"^config SECRETMEM\n",
                       "# VMA flags have room for it only if they have 64 bits. s390 forbids the zero page in\n"
                       "# a process that uses storage keys, and cannot remove it from shared mappings then.\n"
                       "config NOSIGBUS\n"
                       "\tdef_bool y\n"
                       "\tdepends on MMU && 64BIT && !S390\n"
                       "\n")
