// file: mm/madvise.c
// SPDX-License-Identifier: GPL-2.0-only
@@
@@
 #include "internal.h"
+#include "nosigbus.h"

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
identifier behavior, madv_behavior, ret, iter, total_len;
@@
 vector_madvise(..., int behavior)
 {
 <...
 total_len = iov_iter_count(iter);
+if (behavior == MADV_NOSIGBUS)
+	nosigbus_prepare();
 ret = madvise_lock(&madv_behavior);
 ...>
 }
