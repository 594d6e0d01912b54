// file: virt/kvm/guest_memfd.c
// SPDX-License-Identifier: GPL-2.0-only
@@
expression inode, offset;
@@
 kvm_gmem_fault_user_mapping(...)
 {
 <...
 if (offset >= i_size_read(inode))
-	return VM_FAULT_SIGBUS;
+	return VM_FAULT_SIGBUS | VM_FAULT_EOF;
 ...>
 }
