// file: mm/secretmem.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, offset;
@@
 secretmem_fault(...)
 {
 <...
 if (offset >= i_size_read(inode))
-	return vmf_error(-EINVAL);
+	return VM_FAULT_SIGBUS | VM_FAULT_EOF;
 ...>
 }
