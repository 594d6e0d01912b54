// file: fs/affs/file.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, other, size;
@@
-inode->i_size = other = size;
+other = size;
+i_size_write(inode, size);
