// file: fs/hostfs/hostfs_kern.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier inode, pos;
@@
 hostfs_write_end(...)
 {
 <...
-if (err > 0 && (pos > inode->i_size))
-	inode->i_size = pos;
+if (err > 0 && (pos > inode->i_size)) {
+	spin_lock(&inode->i_lock);
+	i_size_write(inode, pos);
+	spin_unlock(&inode->i_lock);
+}
 ...>
 }

@@
identifier inode, st;
@@
 hostfs_inode_update(struct inode *inode, const struct hostfs_stat *st)
 {
 <...
-inode->i_size = st->size;
+i_size_write(inode, st->size);
 ...>
 }
