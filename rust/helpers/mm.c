// SPDX-License-Identifier: GPL-2.0-only

#include <linux/mm.h>

void nosigbus_vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vm_flags_mod(vma, set, clear);
}

/* add_mm_counter() without its tracepoint, which modules cannot call. */
void nosigbus_mm_add_shmem_pages(struct mm_struct *mm, long pages)
{
	percpu_counter_add(&mm->rss_stat[MM_SHMEMPAGES], pages);
}

/* To libclang, VM_SPECIAL is no constant. */
bool nosigbus_vma_is_special(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_SPECIAL;
}

struct page *nosigbus_alloc_zeroed_user_page(void)
{
	return alloc_page(GFP_HIGHUSER | __GFP_ACCOUNT | __GFP_ZERO);
}

struct page *nosigbus_zero_page(unsigned long addr)
{
	return ZERO_PAGE(addr);
}

struct page *nosigbus_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}

void nosigbus_get_page(struct page *page)
{
	get_page(page);
}

void nosigbus_put_page(struct page *page)
{
	put_page(page);
}

void nosigbus_set_vm_ops(struct vm_area_struct *vma, const struct vm_operations_struct *ops)
{
	/* Publishes the initialised table. Tasks load vm_ops, and read the table through it. */
	smp_store_release(&vma->vm_ops, ops);
}

/* The field as it is. (folio_raw_mapping() of core mm clears its flag bits.) */
struct address_space *nosigbus_folio_raw_mapping(const struct folio *folio)
{
	return folio->mapping;
}

struct address_space *nosigbus_page_folio_raw_mapping(const struct page *page)
{
	return READ_ONCE(page_folio(page)->mapping);
}

bool nosigbus_folio_mapped(const struct folio *folio)
{
	return folio_mapped(folio);
}

void nosigbus_folio_put(struct folio *folio)
{
	folio_put(folio);
}

#ifdef CONFIG_KUNIT
int nosigbus_page_count(const struct page *page)
{
	return page_count(page);
}
#endif
