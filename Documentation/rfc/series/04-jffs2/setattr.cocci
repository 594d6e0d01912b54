// file: fs/jffs2/fs.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier inode, iattr;
@@
 if (ivalid & ATTR_SIZE && inode->i_size < iattr->ia_size) {
 	...
-	inode->i_size = iattr->ia_size;
+	i_size_write(inode, iattr->ia_size);
 	...
 } else { ... }
