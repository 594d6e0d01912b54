# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: headers of advice, labels of a switch, comments."""


def edit(tree):
    # Some architectures have all advice in a header of their own.
    for header in tree.containing(r"^#define MADV_GUARD_REMOVE\b", "include/uapi", "arch",
                                  "tools/include/uapi", "tools/arch"):
        tree.insert_after(header, r"^#define MADV_GUARD_REMOVE.*\n",
                          "\n"
                          "#define MADV_NOSIGBUS\t104\t\t/* zeros instead of SIGBUS past EOF */\n"
                          "#define MADV_SIGBUS\t105\t\t/* SIGBUS past EOF again */\n")
    madvise = "mm/madvise.c"
    tree.insert_after(madvise, r"^\tcase MADV_GUARD_INSTALL:\n\tcase MADV_GUARD_REMOVE:\n(?=#ifdef)",
                      "#ifdef CONFIG_NOSIGBUS\n"
                      "\tcase MADV_NOSIGBUS:\n"
                      "\tcase MADV_SIGBUS:\n"
                      "#endif\n")
    tree.insert_before(madvise, r"^\tcase __MADV_SET_ANON_VMA_NAME:\n\t\t/\*",
                       "\tcase MADV_NOSIGBUS:\n"
                       "\tcase MADV_SIGBUS:\n"
                       "\t\terror = nosigbus_madvise(vma, range->start, range->end,\n"
                       "\t\t\t\t\t behavior, &new_flags);\n"
                       "\t\tif (error)\n"
                       "\t\t\tgoto out;\n"
                       "\t\tbreak;\n")
    tree.insert_before(madvise, r"^\tblk_start_plug\(&plug\);\n\tif \(is_madvise_populate",
                       "\terror = nosigbus_check(madv_behavior->mm, range->start, range->end,\n"
                       "\t\t\t       madv_behavior->behavior);\n"
                       "\tif (error)\n"
                       "\t\treturn error;\n"
                       "\n")
    tree.insert_after(madvise, r"^ \*  MADV_POPULATE_WRITE - [^\n]*\n \*\t\t[^\n]*\n",
                      " *  MADV_NOSIGBUS - accesses past the end of the mapped file see zeros, and\n"
                      " *\t\traise no SIGBUS. Fails if any mapping in the range is not\n"
                      " *\t\tone of a regular file, before it changes anything.\n"
                      " *  MADV_SIGBUS - cancel MADV_NOSIGBUS.\n")
