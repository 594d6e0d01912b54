// SPDX-License-Identifier: GPL-2.0-only
/* Mappings that raise no SIGBUS past the end of their file (MADV_NOSIGBUS). */

#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/pgtable.h>
#include <linux/sizes.h>
#include <linux/userfaultfd_k.h>

#include "internal.h"
#include "nosigbus.h"

/* The index of the first page that is past EOF. */
static pgoff_t end_of_file(const struct address_space *mapping)
{
	return DIV_ROUND_UP(i_size_read(mapping->host), PAGE_SIZE);
}

static bool past_eof(const struct vm_fault *vmf)
{
	return vmf->pgoff >= end_of_file(vmf->vma->vm_file->f_mapping);
}

static bool is_zeros(pte_t pte)
{
	return pte_present(pte) && is_zero_pfn(pte_pfn(pte));
}

/*
 * Maps the zero page. If the page before has it as well, the process reads one page after
 * the other: maps the zero page ahead then, to the end of 64 KiB.
 */
static void map_zeros(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long start = vmf->address, end = start + PAGE_SIZE, addr = start;
	pte_t *pte = vmf->pte, entry;

	VM_WARN_ON_ONCE(!vm_mixed_zeropage_allowed(vma));
	if (!uffd_disable_fault_around(vma) && start > max(vma->vm_start, start & PMD_MASK) &&
	    is_zeros(ptep_get(pte - 1)))
		end = min(vma->vm_end, ALIGN(end, SZ_64K));
	do {
		entry = pte_mkspecial(pfn_pte(zero_pfn(addr), vma->vm_page_prot));
		if (vmf_orig_pte_uffd_wp(vmf))
			entry = pte_mkuffd(entry);
		set_pte_at(vma->vm_mm, addr, pte++, entry);
		addr += PAGE_SIZE;
	} while (addr < end && pte_none(ptep_get(pte)));
	/* The entries were none before, so there is nothing to flush. */
	update_mmu_cache_range(vmf, vma, start, vmf->pte, (addr - start) >> PAGE_SHIFT);
}

/**
 * __nosigbus_read_fault() - Map the zero page for a read past EOF.
 * @vmf: The fault. ->fault found the page past EOF.
 *
 * Return: VM_FAULT_NOPAGE if the zero page is mapped, or if the access has to be tried
 * again: the file has grown since, or the page table has changed.
 */
vm_fault_t __nosigbus_read_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct mm_struct *mm = vma->vm_mm;
	vm_fault_t ret = VM_FAULT_NOPAGE;

	if (!past_eof(vmf))
		return VM_FAULT_NOPAGE;

	if (pmd_none(*vmf->pmd)) {
		if (vmf->prealloc_pte)
			pmd_install(mm, vmf->pmd, &vmf->prealloc_pte);
		else if (pte_alloc(mm, vmf->pmd))
			return VM_FAULT_OOM;
	}
	vmf->pte = pte_offset_map_lock(mm, vmf->pmd, vmf->address, &vmf->ptl);
	if (!vmf->pte)
		return VM_FAULT_NOPAGE;
	if (vmf_pte_changed(vmf)) {
		update_mmu_tlb(vma, vmf->address, vmf->pte);
		goto unlock;
	}
	/* The OOM reaper may have taken a private copy from here. */
	ret = check_stable_address_space(mm);
	if (ret)
		goto unlock;
	ret = VM_FAULT_NOPAGE;
	map_zeros(vmf);
unlock:
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	vmf->pte = NULL;
	return ret;
}

/**
 * __nosigbus_cow_fault() - Map a private page of zeros for a write past EOF.
 * @vmf: The fault, in a private mapping. ->fault found the page past EOF.
 *
 * Return: VM_FAULT_DONE_COW if vmf->cow_page is mapped; VM_FAULT_NOPAGE if the access has
 * to be tried again; an error.
 */
vm_fault_t __nosigbus_cow_fault(struct vm_fault *vmf)
{
	vm_fault_t ret;

	if (!past_eof(vmf))
		return VM_FAULT_NOPAGE;
	clear_user_highpage(vmf->cow_page, vmf->address);
	__folio_mark_uptodate(page_folio(vmf->cow_page));
	ret = finish_fault(vmf);
	return ret ? ret : VM_FAULT_DONE_COW;
}
