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
@@
 do_cow_fault(struct vm_fault *vmf)
 {
 <...
 ret = __do_fault(vmf);
+if (unlikely(ret & VM_FAULT_SIGBUS))
+	ret = nosigbus_cow_fault(vmf, ret);
 ...>
 }
