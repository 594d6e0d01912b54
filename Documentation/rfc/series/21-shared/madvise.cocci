// file: mm/madvise.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier vma, new;
@@
 madvise_update_vma(...)
 {
 <...
 vma_start_write(vma);
+nosigbus_update_vma(vma, &new);
 vma->flags = new;
 ...>
 }
