// SPDX-License-Identifier: GPL-2.0-only
/* Mappings that raise no SIGBUS past the end of their file (MADV_NOSIGBUS). */

#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/ksm.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/oom.h>
#include <linux/userfaultfd_k.h>

#include <asm/tlb.h>

#include "internal.h"
#include "nosigbus.h"

/* Unmaps what is past EOF in a range of a VMA, but for private copies. */
static void unmap_past_eof(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	pgoff_t eof = DIV_ROUND_UP(i_size_read(vma->vm_file->f_mapping->host), PAGE_SIZE);
	struct zap_details details = { .skip_cows = true };
	struct mmu_gather tlb;

	/* No fault maps zeros from here on. */
	vma_start_write(vma);
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

static bool past_eof(const struct vm_fault *vmf)
{
	loff_t size = i_size_read(vmf->vma->vm_file->f_mapping->host);

	return vmf->pgoff >= DIV_ROUND_UP(size, PAGE_SIZE);
}

/* Whether the page table has something else by now. */
static bool has_changed(const struct vm_fault *vmf)
{
	pte_t pte = ptep_get(vmf->pte);

	if (vmf->flags & FAULT_FLAG_ORIG_PTE_VALID)
		return !pte_same(pte, vmf->orig_pte);
	return !pte_none(pte);
}

/**
 * __nosigbus_read_fault() - Answer a read past EOF with the zero page.
 * @vmf: The fault, which the file system has answered with SIGBUS.
 * @answer: That.
 *
 * Return: What the fault is answered with: @answer if it is inside EOF.
 */
vm_fault_t __nosigbus_read_fault(struct vm_fault *vmf, vm_fault_t answer)
{
	struct vm_area_struct *vma = vmf->vma;
	struct mm_struct *mm = vma->vm_mm;
	vm_fault_t ret = VM_FAULT_NOPAGE;
	pte_t entry;

	/* What has no zero page (s390, with keys) has SIGBUS. */
	if (!past_eof(vmf) || mm_forbids_zeropage(mm))
		return answer;

	if (pmd_none(*vmf->pmd)) {
		if (vmf->prealloc_pte)
			pmd_install(mm, vmf->pmd, &vmf->prealloc_pte);
		else if (pte_alloc(mm, vmf->pmd))
			return VM_FAULT_OOM;
	}
	vmf->pte = pte_offset_map_lock(mm, vmf->pmd, vmf->address, &vmf->ptl);
	if (!vmf->pte)
		return VM_FAULT_NOPAGE;
	if (has_changed(vmf)) {
		update_mmu_tlb(vma, vmf->address, vmf->pte);
		goto unlock;
	}
	/* What was written here may have been taken by the OOM killer. */
	ret = check_stable_address_space(mm);
	if (ret)
		goto unlock;
	ret = VM_FAULT_NOPAGE;
	entry = pte_mkspecial(pfn_pte(zero_pfn(vmf->address), vma->vm_page_prot));
	if (userfaultfd_wp(vma) && (vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) &&
	    pte_is_uffd_wp_marker(vmf->orig_pte))
		entry = pte_mkuffd(entry);
	set_pte_at(mm, vmf->address, vmf->pte, entry);
	/* There was nothing, so there is nothing to flush. */
	update_mmu_cache(vma, vmf->address, vmf->pte);
unlock:
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	vmf->pte = NULL;
	return ret;
}

/**
 * __nosigbus_cow_fault() - Answer a write past EOF with a private page of zeros.
 * @vmf: The fault, in a private mapping, which the file system has answered with SIGBUS.
 * @answer: That.
 *
 * Return: What the fault is answered with: @answer if it is inside EOF, or
 * VM_FAULT_DONE_COW if vmf->cow_page is mapped.
 */
vm_fault_t __nosigbus_cow_fault(struct vm_fault *vmf, vm_fault_t answer)
{
	vm_fault_t ret;

	if (!past_eof(vmf))
		return answer;
	clear_user_highpage(vmf->cow_page, vmf->address);
	__folio_mark_uptodate(page_folio(vmf->cow_page));
	ret = finish_fault(vmf);
	return ret ? ret : VM_FAULT_DONE_COW;
}
