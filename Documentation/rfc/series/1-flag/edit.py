# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: lists of flags and of advice, labels, Kconfig and a Makefile."""

import re


def edit(tree):
    def add_bit(text):
        bits = re.findall(r"DECLARE_VMA_BIT\(\w+, (\d+)\)", text)
        last = max(int(bit) for bit in bits)
        line = re.search(rf"^\tDECLARE_VMA_BIT\(\w+, {last}\),.*\n", text, re.M)
        return text[:line.end()] + f"\tDECLARE_VMA_BIT(NOSIGBUS, {last + 1}),\n" + text[line.end():]

    mm = "include/linux/mm.h"
    tree.change(mm, add_bit)
    tree.insert_after(mm, r"^#define VM_SEALED\s+VM_NONE\n#endif\n",
                      "#ifdef CONFIG_NOSIGBUS\n"
                      "#define VM_NOSIGBUS\t\tINIT_VM_FLAG(NOSIGBUS)\n"
                      "#else\n"
                      "#define VM_NOSIGBUS\t\tVM_NONE\n"
                      "#endif\n")
    # Some architectures have all advice in a header of their own.
    for header in tree.containing(r"^#define MADV_GUARD_REMOVE\b", "include/uapi", "arch",
                                  "tools/include/uapi", "tools/arch"):
        tree.insert_after(header, r"^#define MADV_GUARD_REMOVE.*\n",
                          "\n"
                          "#define MADV_NOSIGBUS\t104\t\t/* no SIGBUS past EOF */\n"
                          "#define MADV_SIGBUS\t105\t\t/* undo MADV_NOSIGBUS */\n")
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
    tree.insert_after("MAINTAINERS", r"^F:\tmm/madvise\.c\n", "F:\tmm/nosigbus.[ch]\n")
    tree.insert_after("Documentation/filesystems/proc.rst", r"^    sl    sealed\n",
                      "    ns    no SIGBUS past the end of the file\n")
    tree.insert_after("mm/madvise.c",
                      r"^\tcase MADV_GUARD_INSTALL:\n\tcase MADV_GUARD_REMOVE:\n(?=#ifdef)",
                      "#ifdef CONFIG_NOSIGBUS\n"
                      "\tcase MADV_NOSIGBUS:\n"
                      "\tcase MADV_SIGBUS:\n"
                      "#endif\n")
    tree.insert_before("mm/madvise.c", r"^\tcase __MADV_SET_ANON_VMA_NAME:\n\t\t/\*",
                       "\tcase MADV_NOSIGBUS:\n"
                       "\tcase MADV_SIGBUS:\n"
                       "\t\terror = nosigbus_madvise(vma, range->start, range->end, behavior,\n"
                       "\t\t\t\t\t &new_flags);\n"
                       "\t\tif (error)\n"
                       "\t\t\tgoto out;\n"
                       "\t\tbreak;\n")
    tree.insert_before("mm/ksm.c", r"^\tif \(vma_flags_test_any_mask\(&vma_flags, VMA_SPECIAL_FLAGS\)\)",
                       "\tif (vma_flags_to_legacy(vma_flags) & VM_NOSIGBUS)\n"
                       "\t\treturn false;\n")
    tree.insert_before("mm/Kconfig", r"^config SECRETMEM\n",
                       "# A flag of VMAs that there is room for only where flags have 64 bits. With storage\n"
                       "# keys, s390 allows the zero page in private mappings alone.\n"
                       "config NOSIGBUS\n"
                       "\tdef_bool y\n"
                       "\tdepends on MMU && 64BIT && !S390\n"
                       "\n")
    tree.insert_after("mm/Makefile", r"^obj-\$\(CONFIG_SECRETMEM\) \+= secretmem\.o\n",
                      "obj-$(CONFIG_NOSIGBUS) += nosigbus.o\n")
