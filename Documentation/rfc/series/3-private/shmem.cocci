// file: mm/shmem.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier vmf, err;
@@
 shmem_fault(struct vm_fault *vmf)
 {
 ...
 err = shmem_get_folio_gfp(...);
+if (err == -EINVAL)
+	return VM_FAULT_SIGBUS | VM_FAULT_EOF;
 if (err)
 	return vmf_error(err);
 ...
 }

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
