// file: mm/filemap.c
// SPDX-License-Identifier: GPL-2.0-only
@@
identifier vmf;
expression index, max_idx;
@@
 filemap_fault(struct vm_fault *vmf)
 {
 <...
 if (unlikely(index >= max_idx))
-	return VM_FAULT_SIGBUS;
+	return VM_FAULT_SIGBUS | VM_FAULT_EOF;
 ...>
 }

@@
identifier vmf;
expression index, max_idx;
@@
 filemap_fault(struct vm_fault *vmf)
 {
 <...
 if (unlikely(index >= max_idx)) {
 	...
-	return VM_FAULT_SIGBUS;
+	return VM_FAULT_SIGBUS | VM_FAULT_EOF;
 }
 ...>
 }
