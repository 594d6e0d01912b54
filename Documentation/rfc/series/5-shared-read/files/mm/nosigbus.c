// SPDX-License-Identifier: GPL-2.0-only
/* Mappings that raise no SIGBUS past the end of their file (MADV_NOSIGBUS). */

#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/jump_label.h>
#include <linux/ksm.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/rhashtable.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/userfaultfd_k.h>
#include <linux/workqueue.h>

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
 * memory of the mapping ends, or if it is shared and writable; -EPERM if
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
	/*
	 * Nobody may write to a zero page by way of a shared mapping, now or later, and
	 * userfaultfd relies on VM_MAYWRITE where it has registered the VMA.
	 */
	if (*flags & VM_MAYSHARE) {
		if ((*flags & VM_WRITE) || userfaultfd_armed(vma))
			return -EINVAL;
		*flags &= ~VM_MAYWRITE;
	}
	/* KSM may have a private page of zeros be the zero page, which growth unmaps. */
	error = ksm_madvise(vma, start, end, MADV_UNMERGEABLE, flags);
	if (error)
		return error;
	*flags |= VM_NOSIGBUS;
	return 0;
}

/**
 * __nosigbus_update_vma() - Keep the count of mappings that may write to a file.
 * @vma: A VMA that is about to have other flags, locked for write.
 * @flags: What nosigbus_madvise() has made of them.
 */
void __nosigbus_update_vma(struct vm_area_struct *vma, vm_flags_t flags)
{
	if ((vma->vm_flags & VM_SHARED) && ((vma->vm_flags & ~flags) & VM_MAYWRITE))
		mapping_unmap_writable(vma->vm_file->f_mapping);
}

DEFINE_STATIC_KEY_FALSE(nosigbus_key);
EXPORT_SYMBOL(nosigbus_key);

/* A file that has zeros mapped past EOF, or had. It has one of these until it is evicted. */
struct zeros {
	struct rhash_head node;
	struct address_space *mapping;
	/* No page index below this has a zero page of ours mapped. */
	atomic64_t lowest;
	struct work_struct work;
	refcount_t refs;
	struct rcu_head rcu;
};

static struct rhashtable table;
static const struct rhashtable_params table_params = {
	.head_offset = offsetof(struct zeros, node),
	.key_offset = offsetof(struct zeros, mapping),
	.key_len = sizeof_field(struct zeros, mapping),
	.automatic_shrinking = true,
};

static struct workqueue_struct *workers;

static pgoff_t end_of_file(struct address_space *mapping)
{
	return DIV_ROUND_UP(i_size_read(mapping->host), PAGE_SIZE);
}

static void put_zeros(struct zeros *zeros)
{
	if (refcount_dec_and_test(&zeros->refs))
		kfree_rcu(zeros, rcu);
}

static void unmap_zeros(struct work_struct *work)
{
	struct zeros *zeros = container_of(work, struct zeros, work);
	pgoff_t end = end_of_file(zeros->mapping);
	pgoff_t start = atomic64_read(&zeros->lowest);

	/*
	 * Raised first: who maps another one lowers it before he looks at the size,
	 * which is larger by now, under the lock that unmapping takes.
	 */
	while (start < end) {
		if (!atomic64_try_cmpxchg(&zeros->lowest, (s64 *)&start, end))
			continue;
		unmap_mapping_pages(zeros->mapping, start, end - start, false);
		break;
	}
}

/* The record of a file, which is made if there is none. NULL if there is no memory. */
static struct zeros *zeros_of(struct address_space *mapping)
{
	struct inode *inode = mapping->host;
	struct zeros *zeros, *other;

	/* Pairs with the release below. The file is mapped, so it is not evicted. */
	if (smp_load_acquire(&inode->i_opflags) & IOP_ZEROS_MAPPED)
		return rhashtable_lookup_fast(&table, &mapping, table_params);

	zeros = kzalloc_obj(*zeros, GFP_KERNEL_ACCOUNT);
	if (!zeros)
		return NULL;
	zeros->mapping = mapping;
	atomic64_set(&zeros->lowest, S64_MAX);
	INIT_WORK(&zeros->work, unmap_zeros);
	refcount_set(&zeros->refs, 1);
	other = rhashtable_lookup_get_insert_fast(&table, &zeros->node, table_params);
	if (other) {
		kfree(zeros);
		if (IS_ERR(other))
			return NULL;
		zeros = other;
	}
	spin_lock(&inode->i_lock);
	/* Pairs with the acquire above. */
	smp_store_release(&inode->i_opflags, inode->i_opflags | IOP_ZEROS_MAPPED);
	spin_unlock(&inode->i_lock);
	return zeros;
}

struct wait {
	struct callback_head head;
	struct zeros *zeros;
};

static void wait_before_return(struct callback_head *head)
{
	struct wait *wait = container_of(head, struct wait, head);

	flush_work(&wait->zeros->work);
	put_zeros(wait->zeros);
	kfree(wait);
}

/**
 * __nosigbus_size_written() - Have zeros unmapped that a file has grown over.
 * @inode: The file, whose new size has been written.
 *
 * Context: Any in which i_size_write() may be called: with spinlocks held, or
 * for an inode that nobody has a reference on.
 */
void __nosigbus_size_written(struct inode *inode)
{
	struct zeros *zeros;
	struct wait *wait;

	/* Pairs with that in __nosigbus_read_fault(): one of the two sees the other's store. */
	smp_mb();
	if (!(READ_ONCE(inode->i_opflags) & IOP_ZEROS_MAPPED))
		return;
	rcu_read_lock();
	zeros = rhashtable_lookup(&table, &inode->i_mapping, table_params);
	if (!zeros || atomic64_read(&zeros->lowest) >= DIV_ROUND_UP(inode->i_size, PAGE_SIZE) ||
	    !refcount_inc_not_zero(&zeros->refs)) {
		rcu_read_unlock();
		return;
	}
	rcu_read_unlock();

	queue_work(workers, &zeros->work);
	if (in_task() && !(current->flags & (PF_KTHREAD | PF_USER_WORKER))) {
		wait = kmalloc_obj(*wait, GFP_ATOMIC | __GFP_NOWARN);
		if (wait) {
			wait->zeros = zeros;
			init_task_work(&wait->head, wait_before_return);
			if (!task_work_add(current, &wait->head, TWA_RESUME))
				return;
			kfree(wait);
		}
	}
	put_zeros(zeros);
}
EXPORT_SYMBOL(__nosigbus_size_written);

/**
 * __nosigbus_evict() - Forget an inode that had zeros mapped past EOF.
 * @inode: The inode, which nobody has mapped any more.
 */
void __nosigbus_evict(struct inode *inode)
{
	struct address_space *mapping = inode->i_mapping;
	struct zeros *zeros = rhashtable_lookup_fast(&table, &mapping, table_params);

	spin_lock(&inode->i_lock);
	inode->i_opflags &= ~IOP_ZEROS_MAPPED;
	spin_unlock(&inode->i_lock);
	if (WARN_ON_ONCE(!zeros))
		return;
	rhashtable_remove_fast(&table, &zeros->node, table_params);
	disable_work_sync(&zeros->work);
	put_zeros(zeros);
}

static int __init nosigbus_init(void)
{
	workers = alloc_workqueue("nosigbus", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!workers)
		return -ENOMEM;
	return rhashtable_init(&table, &table_params);
}
subsys_initcall(nosigbus_init);

/**
 * nosigbus_prepare() - Have i_size_write() look whether zeros are mapped, from now on.
 *
 * Context: Sleeps; without the mmap lock.
 */
void nosigbus_prepare(void)
{
	if (!static_key_enabled(&nosigbus_key.key))
		static_branch_enable(&nosigbus_key);
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
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct mm_struct *mm = vma->vm_mm;
	vm_fault_t ret = VM_FAULT_NOPAGE;
	struct zeros *zeros;
	s64 lowest;
	pte_t entry;

	/* What has no zero page (s390, with keys) has SIGBUS. */
	if (!past_eof(vmf) || mm_forbids_zeropage(mm))
		return answer;
	zeros = zeros_of(mapping);
	if (!zeros)
		return VM_FAULT_OOM;
	lowest = atomic64_read(&zeros->lowest);
	while (vmf->pgoff < lowest &&
	       !atomic64_try_cmpxchg(&zeros->lowest, &lowest, vmf->pgoff))
		;

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
	/*
	 * Pairs with that in __nosigbus_size_written(): the size is seen here, or the
	 * record and what it says there. And the lock of the page table, which is
	 * taken to unmap zeros after the size was written.
	 */
	smp_mb();
	if (!past_eof(vmf))
		goto unlock;
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
