// SPDX-License-Identifier: GPL-2.0-only

//! Looking for huge pages, and for the zero page, in page tables.
//!
//! C header: [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use super::{
    bindings,
    bindings::{
        PMD_SIZE,
        PUD_SIZE, //
    },
};
use core::ops::Range;
use kernel::{
    bindings::{
        mm_struct,
        pmd_t, //
    },
    page::PAGE_SIZE, //
};

/// Calls `each` for those parts of `range` (addresses) that are mapped by a huge page (PMD), or by
/// one that is being migrated. Sleeps.
///
/// # Safety
///
/// `mm` must be valid, and its mmap lock held for write, so that no directory goes. (What the
/// entries of the lowest one refer to may, and is not looked at.)
pub(super) unsafe fn for_each_huge_page(
    mm: *mut mm_struct,
    range: Range<usize>,
    mut each: impl FnMut(Range<usize>),
) {
    // SAFETY: As the caller promises. The entry is there, as the directory that it is in is.
    unsafe {
        for_each_pmd(mm, range, |pmd, part| {
            if bindings::nosigbus_pmd_is_huge(pmd) {
                each(part);
            }
        });
    }
}

/// Calls `each` for those parts of `range` (addresses) that have the zero page mapped. Sleeps.
///
/// # Safety
///
/// `mm` must be valid, and its mmap lock held for write; `range` must be in a VMA that is locked for write
/// and has `VM_MAYBE_GUARD`, so that neither directories nor page tables go.
pub(super) unsafe fn for_each_zero_page(
    mm: *mut mm_struct,
    range: Range<usize>,
    mut each: impl FnMut(Range<usize>),
) {
    let each_of_table = |pmd, part: Range<usize>| {
        // SAFETY: `for_each_pmd` passes an entry that is there. If it is neither empty nor a huge page
        // it refers to a page table, which stays, as the caller promises.
        let is_zero = |addr| unsafe { bindings::nosigbus_is_zero_page(pmd, addr) };
        // SAFETY: As above.
        let has_table =
            unsafe { !bindings::nosigbus_pmd_none(pmd) && !bindings::nosigbus_pmd_is_huge(pmd) };
        if !has_table {
            return;
        }
        let mut first = None;
        for addr in part.clone().step_by(PAGE_SIZE) {
            match (first, is_zero(addr)) {
                (None, true) => first = Some(addr),
                (Some(start), false) => {
                    each(start..addr);
                    first = None;
                }
                _ => {}
            }
        }
        if let Some(start) = first {
            each(start..part.end);
        }
    };
    // SAFETY: As the caller promises.
    unsafe { for_each_pmd(mm, range, each_of_table) };
}

/// Calls `each` for every entry of a page middle directory for `range` (addresses), where there are
/// such directories, with that part of the range which it is for. Sleeps.
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
        // There may be millions, without a page.
        // SAFETY: No lock is held that forbids sleeping.
        unsafe { bindings::nosigbus_cond_resched() };
        // SAFETY: As the caller promises.
        let size = match unsafe { pmd(mm, addr) } {
            None => PUD_SIZE,
            Some(pmd) => {
                let next = (addr | (PMD_SIZE - 1)).saturating_add(1).min(range.end);
                each(pmd, addr..next);
                PMD_SIZE
            }
        };
        addr = (addr | (size - 1)).saturating_add(1);
    }
}

/// The page middle directory's entry for an address, if there is such a directory.
///
/// # Safety
///
/// As for [`for_each_huge_page`].
unsafe fn pmd(mm: *mut mm_struct, addr: usize) -> Option<*mut pmd_t> {
    // SAFETY: Each entry is one of a directory that is there, since the entry above is not empty, and
    // stays, as the caller promises; upper levels have no huge pages of files but with DAX, which
    // is refused.
    unsafe {
        let pgd = bindings::nosigbus_pgd_offset(mm, addr);
        if bindings::nosigbus_pgd_none(pgd) {
            return None;
        }
        let p4d = bindings::nosigbus_p4d_offset(pgd, addr);
        if bindings::nosigbus_p4d_none(p4d) {
            return None;
        }
        let pud = bindings::nosigbus_pud_offset(p4d, addr);
        if bindings::nosigbus_pud_none(pud) {
            return None;
        }
        Some(bindings::nosigbus_pmd_offset(pud, addr))
    }
}
