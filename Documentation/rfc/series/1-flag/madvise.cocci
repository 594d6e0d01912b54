// file: mm/madvise.c
// SPDX-License-Identifier: GPL-2.0-only
@@
@@
 #include "internal.h"
+#include "nosigbus.h"
