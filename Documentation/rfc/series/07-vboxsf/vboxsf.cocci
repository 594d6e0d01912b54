// file: fs/vboxsf/utils.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, info;
@@
+/* getattr and d_revalidate hold no lock. */
+spin_lock(&inode->i_lock);
-inode->i_size = info->size;
+i_size_write(inode, info->size);
+spin_unlock(&inode->i_lock);
