// file: fs/backing-file.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier iocb;
expression is_write;
@@
 backing_aio_rw_complete(struct kiocb *iocb, long res)
 {
 <...
-if (is_write)
-	kiocb_end_write(iocb);
+if (is_write) {
+	nosigbus_grown(file_inode(iocb->ki_filp));
+	kiocb_end_write(iocb);
+}
 ...>
 }
