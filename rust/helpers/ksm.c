// SPDX-License-Identifier: GPL-2.0-only

#include <linux/ksm.h>

int nosigbus_ksm_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			 int advice, vm_flags_t *flags)
{
	return ksm_madvise(vma, start, end, advice, flags);
}
