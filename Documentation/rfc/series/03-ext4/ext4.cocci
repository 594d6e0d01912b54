// file: fs/ext4/extents.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, len;
@@
-inode->i_size += len;
+i_size_write(inode, inode->i_size + len);
