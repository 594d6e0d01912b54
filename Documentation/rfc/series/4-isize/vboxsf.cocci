// file: fs/vboxsf/utils.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, info;
@@
-inode->i_size = info->size;
+i_size_write(inode, info->size);
