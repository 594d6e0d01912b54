// SPDX-License-Identifier: GPL-2.0-only

#include <linux/mm.h>
#include <linux/pgtable.h>

/* Waits for the task that holds the lock of this PMD. */
void nosigbus_pmd_lock_unlock(struct mm_struct *mm, pmd_t *pmd)
{
	spin_unlock(pmd_lock(mm, pmd));
}

pgd_t *nosigbus_pgd_offset(struct mm_struct *mm, unsigned long addr)
{
	return pgd_offset(mm, addr);
}

bool nosigbus_pgd_none(pgd_t *pgd)
{
	return pgd_none(pgdp_get(pgd));
}

p4d_t *nosigbus_p4d_offset(pgd_t *pgd, unsigned long addr)
{
	return p4d_offset(pgd, addr);
}

bool nosigbus_p4d_none(p4d_t *p4d)
{
	return p4d_none(p4dp_get(p4d));
}

pud_t *nosigbus_pud_offset(p4d_t *p4d, unsigned long addr)
{
	return pud_offset(p4d, addr);
}

bool nosigbus_pud_none(pud_t *pud)
{
	return pud_none(pudp_get(pud));
}

pmd_t *nosigbus_pmd_offset(pud_t *pud, unsigned long addr)
{
	return pmd_offset(pud, addr);
}

unsigned long nosigbus_pgd_addr_end(unsigned long addr, unsigned long end)
{
	return pgd_addr_end(addr, end);
}

/* Where a level is folded, pXd_addr_end() returns `end`. So apply the levels above it first. */
unsigned long nosigbus_p4d_addr_end(unsigned long addr, unsigned long end)
{
	return p4d_addr_end(addr, pgd_addr_end(addr, end));
}

unsigned long nosigbus_pud_addr_end(unsigned long addr, unsigned long end)
{
	return pud_addr_end(addr, nosigbus_p4d_addr_end(addr, end));
}

bool nosigbus_pmd_is_huge(pmd_t *pmd)
{
	return pmd_is_huge(pmdp_get_lockless(pmd));
}

bool nosigbus_pmd_none(pmd_t *pmd)
{
	return pmd_none(pmdp_get_lockless(pmd));
}

/* Whether it points to a PTE table. */
bool nosigbus_pmd_has_table(pmd_t *pmd)
{
	return !pmd_none(*pmd) && !pmd_is_huge(*pmd);
}

#ifdef CONFIG_HIGHPTE
#error "looks into page tables that have no permanent address: turn CONFIG_HIGHPTE off"
#endif

/* Whether the PTE for addr, in the PTE table that pmd points to, maps the zero page. */
bool nosigbus_pte_is_zero_page(pmd_t *pmd, unsigned long addr)
{
	pte_t pte = ptep_get_lockless(pte_offset_kernel(pmd, addr));

	return pte_present(pte) && pte_pfn(pte) == page_to_pfn(ZERO_PAGE(addr));
}
