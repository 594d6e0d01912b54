// file: include/linux/fsnotify.h
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier file;
@@
 fsnotify_modify(struct file *file)
 {
+nosigbus_grown(file_inode(file));
 ...
 }
