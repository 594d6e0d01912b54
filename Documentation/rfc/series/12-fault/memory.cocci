// file: mm/memory.c
// SPDX-License-Identifier: GPL-2.0-only
@@
@@
 #include "internal.h"
+#include "nosigbus.h"

@@
identifier vmf, ret;
@@
 do_read_fault(struct vm_fault *vmf)
 {
 ...
 ret = __do_fault(vmf);
 if (unlikely(...))
-	return ret;
+	return nosigbus_read_fault(vmf, ret);
 ...
 }

@@
identifier vmf, ret;
identifier uncharge_out;
@@
 do_cow_fault(struct vm_fault *vmf)
 {
 <...
 ret = __do_fault(vmf);
-if (unlikely(ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY)))
-	goto uncharge_out;
+if (unlikely(ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY))) {
+	ret = nosigbus_cow_fault(vmf, ret);
+	if (ret & VM_FAULT_DONE_COW)
+		return ret;
+	goto uncharge_out;
+}
 ...>
 }
