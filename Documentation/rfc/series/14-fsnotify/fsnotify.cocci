// file: include/linux/fsnotify.h
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier file;
@@
 fsnotify_modify(struct file *file)
 {
+/* Whoever is told of the change can see it in mappings (MADV_NOSIGBUS). */
+nosigbus_grown(file_inode(file));
 ...
 }
