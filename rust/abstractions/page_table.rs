// SPDX-License-Identifier: GPL-2.0-only

//! Looking for huge pages, and for the zero page, in page tables.
//!
//! C header: [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use super::{
    bindings,
    bindings::PMD_SIZE, //
};
use core::ops::Range;
use kernel::{
    bindings::{
        mm_struct,
        pmd_t, //
    },
    page::PAGE_SIZE,
    sync::rcu, //
};

/// Calls `each` for every part of `range` (addresses) that a PMD leaf or a PMD migration entry
/// maps. `each` is to zap it.
///
/// Then takes and releases the PMD lock, also of PMDs that are not huge. After that no rmap walker
/// is between clearing the PMD and reading `vm_flags` (`__split_huge_pmd_locked()` does both under
/// the PMD lock).
///
/// # Safety
///
/// - `mm` must be valid and its mmap lock held for write, so that PGD to PMD tables are not freed.
///   (PTE tables may be freed; this function does not read them.)
/// - In `range`, no entry above the PMD level may be a leaf.
pub(super) unsafe fn for_each_huge_page(
    mm: *mut mm_struct,
    range: Range<usize>,
    mut each: impl FnMut(Range<usize>),
) {
    // SAFETY: As the caller promises. `for_each_pmd` passes an entry of a PMD table that exists and
    // is not freed.
    unsafe {
        for_each_pmd(mm, range, |pmd, part| {
            if bindings::nosigbus_pmd_is_huge(pmd) {
                each(part);
            }
            bindings::nosigbus_pmd_lock_unlock(mm, pmd);
        });
    }
}

/// Calls `each` for every part of `range` (addresses) in which all PTEs map the zero page. Sleeps.
///
/// # Safety
///
/// `mm` must be valid, and its mmap lock held for write, so that PGD to PMD tables are not freed.
/// In `range`, no entry above the PMD level may be a leaf.
pub(super) unsafe fn for_each_zero_page(
    mm: *mut mm_struct,
    range: Range<usize>,
    mut each: impl FnMut(Range<usize>),
) {
    let each_of_table = |pmd: *mut pmd_t, part: Range<usize>| {
        let mut rest = part;
        // SAFETY: `for_each_pmd` passes an entry that is there.
        while let Some(zeros) = unsafe { next_zero_pages(pmd, rest.clone()) } {
            rest.start = zeros.end;
            each(zeros);
        }
    };
    // SAFETY: The safety requirements are the same.
    unsafe { for_each_pmd(mm, range, each_of_table) };
}

/// Returns the first part of `range` (addresses) in which every PTE maps the zero page.
///
/// # Safety
///
/// `pmd` must be the PMD that covers `range`, in a PMD table that is not freed.
unsafe fn next_zero_pages(pmd: *const pmd_t, range: Range<usize>) -> Option<Range<usize>> {
    // SAFETY: `pmd` is valid, as the caller promises; `with_page_table` passes a PTE table that
    // exists.
    unsafe {
        with_page_table(pmd, |table| {
            let is_zero = |&addr: &usize| bindings::nosigbus_pte_is_zero_page(table, addr);
            let mut pages = range.clone().step_by(PAGE_SIZE);
            let start = pages.find(is_zero)?;
            let end = pages.find(|addr| !is_zero(addr)).unwrap_or(range.end);
            Some(start..end)
        })?
    }
}

/// Whether the PTE for `addr` maps the zero page.
///
/// # Safety
///
/// `pmd` must be the PMD that covers `addr`, in a PMD table that is not freed.
pub(super) unsafe fn has_zero_page(pmd: *const pmd_t, addr: usize) -> bool {
    // SAFETY: `pmd` is valid, as the caller promises; `with_page_table` passes a PTE table that
    // exists.
    let is_zero = unsafe {
        with_page_table(pmd, |table| {
            bindings::nosigbus_pte_is_zero_page(table, addr)
        })
    };
    is_zero == Some(true)
}

/// If `pmd` points to a PTE table, calls `look` with a copy of the PMD under `rcu_read_lock()`,
/// which keeps the PTE table from being freed.
///
/// # Safety
///
/// `pmd` must point into a PMD table that is not freed while this runs.
unsafe fn with_page_table<R>(pmd: *const pmd_t, look: impl FnOnce(*mut pmd_t) -> R) -> Option<R> {
    // `madvise()` of another thread, and a khugepaged collapse that checked the VMA before
    // `VM_MAYBE_GUARD` was set (`retract_page_tables()`), may free the PTE table. Both free it
    // after an RCU grace period.
    let _rcu = rcu::read_lock();
    // SAFETY: `pmd` points into a PMD table that is not freed, as the caller promises.
    let mut table = unsafe { pmd.read_volatile() };
    let table = &raw mut table;
    // SAFETY: `table` points to a copy of a PMD.
    unsafe { bindings::nosigbus_pmd_has_table(table) }.then(|| look(table))
}

/// Calls `each` for every PMD of `range` (addresses), with the part of the range that it covers.
/// Skips parts that have no PMD table. Sleeps.
///
/// # Safety
///
/// As for [`for_each_huge_page`].
unsafe fn for_each_pmd(
    mm: *mut mm_struct,
    range: Range<usize>,
    mut each: impl FnMut(*mut pmd_t, Range<usize>),
) {
    let mut addr = range.start;
    while addr < range.end {
        // A sparse range can have millions of PMDs.
        // SAFETY: No lock is held that forbids sleeping.
        unsafe { bindings::nosigbus_cond_resched() };
        // SAFETY: `mm` is valid, and its mmap lock held for write, as the caller promises.
        addr = match unsafe { pmd(mm, addr..range.end) } {
            Err(next) => next,
            Ok(pmd) => {
                let next = (addr | (PMD_SIZE - 1)).saturating_add(1).min(range.end);
                each(pmd, addr..next);
                next
            }
        };
    }
}

/// Returns the PMD for the start of `range`, or, if an upper level is empty, the next address to
/// look at.
///
/// # Safety
///
/// As for [`for_each_huge_page`].
unsafe fn pmd(mm: *mut mm_struct, range: Range<usize>) -> Result<*mut pmd_t, usize> {
    let Range { start: addr, end } = range;
    // SAFETY: As the caller promises, no table is freed meanwhile, and no entry above the PMD level
    // is a leaf. So at each level the table exists if the entry above is not empty.
    unsafe {
        let pgd = bindings::nosigbus_pgd_offset(mm, addr);
        if bindings::nosigbus_pgd_none(pgd) {
            return Err(bindings::nosigbus_pgd_addr_end(addr, end));
        }
        let p4d = bindings::nosigbus_p4d_offset(pgd, addr);
        if bindings::nosigbus_p4d_none(p4d) {
            return Err(bindings::nosigbus_p4d_addr_end(addr, end));
        }
        let pud = bindings::nosigbus_pud_offset(p4d, addr);
        if bindings::nosigbus_pud_none(pud) {
            return Err(bindings::nosigbus_pud_addr_end(addr, end));
        }
        Ok(bindings::nosigbus_pmd_offset(pud, addr))
    }
}
