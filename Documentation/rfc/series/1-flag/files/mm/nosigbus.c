// SPDX-License-Identifier: GPL-2.0-only
/* Mappings that raise no SIGBUS past the end of their file (MADV_NOSIGBUS). */

#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/ksm.h>
#include <linux/mm.h>
#include <linux/mman.h>

#include <asm/tlb.h>

#include "internal.h"
#include "nosigbus.h"

/* Unmaps what is past EOF in a range of a VMA, but for private copies. */
static void unmap_past_eof(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	struct zap_details details = { .skip_cows = true };
	struct mmu_gather tlb;
	pgoff_t eof;

	/* No fault maps zeros from here on, so what is past EOF after this is all there is. */
	vma_start_write(vma);
	eof = DIV_ROUND_UP(i_size_read(vma->vm_file->f_mapping->host), PAGE_SIZE);
	if (eof > vma->vm_pgoff)
		start = max(start, vma->vm_start + ((eof - vma->vm_pgoff) << PAGE_SHIFT));
	if (start >= end)
		return;
	tlb_gather_mmu(&tlb, vma->vm_mm);
	zap_vma_range_batched(&tlb, vma, start, end - start, &details);
	tlb_finish_mmu(&tlb);
}

/**
 * nosigbus_madvise() - Work out the flags of a VMA that is given advice.
 * @vma: The VMA. The mmap lock is held for write.
 * @start: The first address that the advice is for.
 * @end: The one after the last.
 * @advice: MADV_NOSIGBUS or MADV_SIGBUS.
 * @flags: The flags, which are changed.
 *
 * Return: 0; -EINVAL if it is not the size of a regular file that says where the
 * memory of the mapping ends, or if it is shared; -EPERM if
 * it is sealed; or what breaking merged pages (KSM) has failed with.
 */
int nosigbus_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
		     int advice, vm_flags_t *flags)
{
	int error;

	if (*flags & VM_SEALED)
		return -EPERM;
	if (advice == MADV_SIGBUS) {
		if (*flags & VM_NOSIGBUS)
			unmap_past_eof(vma, start, end);
		*flags &= ~VM_NOSIGBUS;
		return 0;
	}
	if (!vma->vm_file || vma_is_anonymous(vma) || (*flags & VM_SPECIAL) ||
	    is_vm_hugetlb_page(vma) || vma_is_dax(vma) ||
	    !S_ISREG(vma->vm_file->f_mapping->host->i_mode))
		return -EINVAL;
	if (*flags & VM_MAYSHARE)
		return -EINVAL;
	/* KSM may have a private page of zeros be the zero page, which growth unmaps. */
	error = ksm_madvise(vma, start, end, MADV_UNMERGEABLE, flags);
	if (error)
		return error;
	*flags |= VM_NOSIGBUS;
	return 0;
}
