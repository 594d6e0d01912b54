# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: scoped_with_creds()."""


def edit(tree):
    tree.insert_before("fs/backing-file.c",
                       r"^\tif \(ctx->end_write\)\n\t\tctx->end_write\(iocb, ret\);\n\n\treturn ret;\n\}\n"
                       r"EXPORT_SYMBOL_GPL\(backing_file_splice_write\)",
                       "\tnosigbus_grown(file_inode(out));\n")
