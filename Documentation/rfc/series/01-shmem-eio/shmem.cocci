// file: mm/shmem.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier si, order;
@@
 shmem_swapin_folio(...)
 {
 <...
 if (unlikely(!si)) {
 	if (order < 0)
 		return -EEXIST;
 	else
-		return -EINVAL;
+		return -EIO;
 }
 ...>
 }
