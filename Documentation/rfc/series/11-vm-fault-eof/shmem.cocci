// file: mm/shmem.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, offset;
symbol sgp, SGP_CACHE, fault_type;
@@
 shmem_get_folio_gfp(...)
 {
 <...
 if (sgp <= SGP_CACHE && offset >= i_size_read(inode))
-	return -EINVAL;
+	return shmem_past_eof(fault_type);
 ...>
 }

@@
expression inode, offset;
identifier error;
symbol sgp, SGP_CACHE, fault_type;
@@
 shmem_get_folio_gfp(...)
 {
 <...
 if (sgp <= SGP_CACHE && offset >= i_size_read(inode)) {
-	error = -EINVAL;
+	error = shmem_past_eof(fault_type);
 	...
 }
 ...>
 }

@@
identifier vmf, err, ret;
@@
 shmem_fault(struct vm_fault *vmf)
 {
 <...
 err = shmem_get_folio_gfp(..., &ret);
 if (err)
-	return vmf_error(err);
+	return vmf_error(err) | (ret & VM_FAULT_EOF);
 ...>
 }
