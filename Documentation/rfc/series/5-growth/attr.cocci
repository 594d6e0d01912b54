// file: fs/attr.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier inode, dentry, ia_valid, error;
@@
 notify_change(...)
 {
 ...
 struct inode *inode = dentry->d_inode;
 <...
+if (ia_valid & ATTR_SIZE)
+	nosigbus_grown(inode);
 if (!error) {
 	fsnotify_change(dentry, ia_valid);
 	...
 }
 ...>
 }
