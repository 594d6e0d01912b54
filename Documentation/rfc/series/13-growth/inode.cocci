// file: fs/inode.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier inode, op;
@@
 evict(struct inode *inode)
 {
 <...
+nosigbus_evict(inode);
 if (op->evict_inode) {
 	op->evict_inode(inode);
 } else { ... }
 ...>
 }
