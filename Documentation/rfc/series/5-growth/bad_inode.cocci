// file: fs/bad_inode.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier inode;
@@
 make_bad_inode(struct inode *inode)
 {
 <...
+spin_lock(&inode->i_lock);
 inode->i_opflags &= ~IOP_XATTR;
+spin_unlock(&inode->i_lock);
 ...>
 }
