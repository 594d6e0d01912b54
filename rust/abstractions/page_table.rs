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
/// one that is being migrated.
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
    let mut addr = range.start;
    while addr < range.end {
        // SAFETY: As the caller promises.
        let size = match unsafe { pmd(mm, addr) } {
            None => PUD_SIZE,
            Some(pmd) => {
                let next = (addr | (PMD_SIZE - 1)).saturating_add(1).min(range.end);
                // SAFETY: The entry is there, as the directory that it is in is.
                if unsafe { bindings::nosigbus_pmd_is_huge(pmd) } {
                    each(addr..next);
                }
                PMD_SIZE
            }
        };
        addr = (addr | (size - 1)).saturating_add(1);
    }
}

/// Calls `each` for those parts of `range` (addresses) that have the zero page mapped.
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
    let (mut addr, mut run) = (range.start, range.start..range.start);
    while addr < range.end {
        // SAFETY: As the caller promises; the entry is there, as the directory that it is in is, and so
        // is the page table.
        let (is_zero, size) = unsafe {
            match pmd(mm, addr) {
                None => (false, PUD_SIZE),
                Some(pmd) if bindings::nosigbus_pmd_none(pmd) => (false, PMD_SIZE),
                Some(pmd) if bindings::nosigbus_pmd_is_huge(pmd) => (false, PMD_SIZE),
                Some(pmd) => (bindings::nosigbus_is_zero_page(pmd, addr), PAGE_SIZE),
            }
        };
        let next = (addr | (size - 1)).saturating_add(1);
        if is_zero {
            run = if run.end == addr { run.start } else { addr }..next;
        } else if !run.is_empty() && run.end == addr {
            each(run.clone());
            run = addr..addr;
        }
        addr = next;
    }
    if !run.is_empty() {
        each(run);
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
