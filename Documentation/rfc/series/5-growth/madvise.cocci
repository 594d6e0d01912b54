// file: mm/madvise.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier behavior, madv_behavior, error;
@@
 do_madvise(..., int behavior)
 {
 <...
+if (behavior == MADV_NOSIGBUS)
+	nosigbus_prepare();
 error = madvise_lock(&madv_behavior);
 ...>
 }

@@
identifier behavior, madv_behavior, ret;
@@
 vector_madvise(..., int behavior)
 {
 <...
+if (behavior == MADV_NOSIGBUS)
+	nosigbus_prepare();
 ret = madvise_lock(&madv_behavior);
 ...>
 }
