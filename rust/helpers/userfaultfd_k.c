// SPDX-License-Identifier: GPL-2.0-only

#include <linux/userfaultfd_k.h>

bool nosigbus_userfaultfd_armed(struct vm_area_struct *vma)
{
	return userfaultfd_armed(vma);
}
