// file: io_uring/rw.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier req;
@@
 io_do_iopoll(...)
 {
 <...
-if (!io_is_uring_cmd(req))
-	io_req_rw_cleanup(req, 0);
+if (!io_is_uring_cmd(req)) {
+	nosigbus_grown(file_inode(req->file));
+	io_req_rw_cleanup(req, 0);
+}
 ...>
 }
