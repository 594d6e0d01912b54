// file: fs/jffs2/file.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, end;
@@
-inode->i_size = end;
+i_size_write(inode, end);
