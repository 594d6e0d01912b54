/* SPDX-License-Identifier: GPL-2.0-only */
/* Mappings that raise no SIGBUS past the end of their file (MADV_NOSIGBUS). */
#ifndef _MM_NOSIGBUS_H
#define _MM_NOSIGBUS_H

#ifdef CONFIG_NOSIGBUS
int nosigbus_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
		     int advice, vm_flags_t *flags);
#else
static inline int nosigbus_madvise(struct vm_area_struct *vma, unsigned long start,
				   unsigned long end, int advice, vm_flags_t *flags)
{
	return -EINVAL;
}
#endif

#endif /* _MM_NOSIGBUS_H */
