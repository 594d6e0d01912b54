# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: a list of flags, and a function that is one of several by #if."""


def edit(tree):
    fs = "include/linux/fs.h"
    tree.insert_after(fs, r"^#define IOP_FLCTX\s+0x0100\n",
                      "#define IOP_ZEROS_MAPPED\t0x0200\n")
    tree.insert_after(fs, r"^#include <linux/wait_bit\.h>\n", "#include <linux/jump_label.h>\n")
    tree.insert_before(fs, r"^static inline void i_size_write\(",
                       "#ifdef CONFIG_NOSIGBUS\n"
                       "DECLARE_STATIC_KEY_FALSE(nosigbus_key);\n"
                       "void __nosigbus_size_written(struct inode *inode);\n"
                       "void __nosigbus_grown(struct inode *inode);\n"
                       "void __nosigbus_evict(struct inode *inode);\n"
                       "\n"
                       "/* Somebody may have zeros mapped behind the old EOF (MADV_NOSIGBUS). */\n"
                       "static inline void nosigbus_size_written(struct inode *inode)\n"
                       "{\n"
                       "\tif (static_branch_unlikely(&nosigbus_key))\n"
                       "\t\t__nosigbus_size_written(inode);\n"
                       "}\n"
                       "\n"
                       "/* Unmaps them: for whoever has made the file grow, where he may sleep. */\n"
                       "static inline void nosigbus_grown(struct inode *inode)\n"
                       "{\n"
                       "\tif (static_branch_unlikely(&nosigbus_key))\n"
                       "\t\t__nosigbus_grown(inode);\n"
                       "}\n"
                       "\n"
                       "static inline void nosigbus_evict(struct inode *inode)\n"
                       "{\n"
                       "\tif (unlikely(inode->i_opflags & IOP_ZEROS_MAPPED))\n"
                       "\t\t__nosigbus_evict(inode);\n"
                       "}\n"
                       "#else\n"
                       "static inline void nosigbus_size_written(struct inode *inode)\n"
                       "{\n"
                       "}\n"
                       "\n"
                       "static inline void nosigbus_grown(struct inode *inode)\n"
                       "{\n"
                       "}\n"
                       "\n"
                       "static inline void nosigbus_evict(struct inode *inode)\n"
                       "{\n"
                       "}\n"
                       "#endif\n"
                       "\n", comment=True)
    tree.insert_after(fs, r"^\tsmp_store_release\(&inode->i_size, i_size\);\n",
                      "\tnosigbus_size_written(inode);\n")
    tree.insert_before("fs/backing-file.c",
                       r"^\tif \(ctx->end_write\)\n\t\tctx->end_write\(iocb, ret\);\n\n\treturn ret;\n\}\n"
                       r"EXPORT_SYMBOL_GPL\(backing_file_splice_write\)",
                       "\tnosigbus_grown(file_inode(out));\n")
