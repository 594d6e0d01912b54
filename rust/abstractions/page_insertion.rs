// SPDX-License-Identifier: GPL-2.0-only

//! What a fault handler can map in place of a page of the file.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use super::{
    bindings,
    bindings::PMD_SIZE,
    errno::ehwpoison,
    memalloc::NoReclaim,
    shadow_pages::PageRef, //
};
use kernel::{
    bindings::{
        fault_flag_FAULT_FLAG_WRITE,
        vm_area_struct,
        vm_fault,
        vm_fault_reason_VM_FAULT_HWPOISON,
        vm_fault_reason_VM_FAULT_LOCKED,
        vm_fault_reason_VM_FAULT_NOPAGE,
        vm_fault_reason_VM_FAULT_OOM,
        vm_fault_reason_VM_FAULT_SIGBUS,
        vm_fault_t, //
    },
    error::to_result,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// How many pages core mm is given at a time.
const BATCH: usize = 16;

/// Allocates the page table of the address of a fault, if there is none. Sleeps; fails with `ENOMEM`.
///
/// # Safety
///
/// As for [`insert_zero_pages`].
pub(super) unsafe fn allocate_page_table(vmf: *mut vm_fault) -> Result {
    // SAFETY: As the caller promises; core mm has found the directory that `vmf->pmd` is in. To insert
    // no page is to do no more than what comes before that.
    unsafe {
        if !bindings::nosigbus_pmd_none((*vmf).pmd) {
            return Ok(());
        }
        let (vma, addr) = place(vmf);
        let (no_pages, mut none) = (core::ptr::null_mut(), 0);
        to_result(kernel::bindings::vm_insert_pages(
            vma, addr, no_pages, &mut none,
        ))
    }
}

/// Maps the shared zero page, read-only, at the address of a fault and behind it: at `pages` pages
/// in all, unless something else is there, or the VMA or the page table ends. Returns at how many,
/// which is at least one.
///
/// To be called after [`allocate_page_table`]. If the page table has just gone again, because madvise(2)
/// has emptied it for another thread, another one is allocated without waiting for memory. The old one is
/// given back after a grace period. So a fault may exceed limits until then, by a page for each batch of
/// [`BATCH`] zero pages and one more.
///
/// Fails with `EBUSY` (something else was at the address first), `ENOMEM` (no memory for a page
/// table, or it has gone once more: see [`inserted_result`]) or `EINVAL`: core mm
/// does not want the zero page in this VMA (`vm_mixed_zeropage_allowed()`), as in one that may become
/// writable and is shared. Fails with `EFAULT` if private copies are gone, because the OOM killer has
/// taken them from a process that it has killed: who still reads its memory must not find zeros there.
///
/// # Safety
///
/// `vmf` must be the argument of a `->fault` that has not returned and has not dropped its lock, of a VMA
/// with `VM_MIXEDMAP`.
pub(super) unsafe fn insert_zero_pages(vmf: *mut vm_fault, pages: usize) -> Result<usize> {
    // SAFETY: `vmf` is valid, as the caller promises.
    let (vma, addr) = unsafe { place(vmf) };
    // SAFETY: Has no precondition. Any zero page does; it is never freed.
    let zero_page = unsafe { bindings::nosigbus_zero_page(addr) };
    // As core mm's own faults do (`finish_fault()`).
    // SAFETY: The VMA is valid and locked, as the caller promises.
    let (is_private, may_have_copies) = unsafe {
        let is_private = is_private(vma);
        if is_private && bindings::nosigbus_mm_is_unstable((*vma).vm_mm) {
            return Err(EFAULT);
        }
        // Another thread's write fault may be setting it: see below.
        let anon_vma = core::ptr::read_volatile(&raw const (*vma).anon_vma);
        (is_private, is_private && !anon_vma.is_null())
    };
    let _noreclaim = NoReclaim::new();
    let mut inserted = 0;
    // Not where copies may have been taken already that this fault does not miss.
    if pages > 1 && !may_have_copies {
        // SAFETY: As the caller promises.
        inserted = unsafe { insert_several(vma, addr, zero_page, pages) };
    }
    if inserted == 0 {
        // SAFETY: The VMA has VM_MIXEDMAP, as the caller promises, so this does not change its
        // flags, and does not need the mmap lock.
        to_result(unsafe { kernel::bindings::vm_insert_page(vma, addr, zero_page) })?;
        inserted = 1;
    }

    // Another thread may have made a copy there since the VMA was looked at, and it may have been
    // taken. Then that was made known before (`__oom_reap_task_mm()`), and is seen here: there was
    // room for a zero page after that, under the same lock. The killed process is not in user mode
    // any more; but whoever reads its memory from elsewhere (process_vm_readv(2), /proc/PID/mem, a
    // kernel thread) can have found zeros until now.
    // SAFETY: The VMA is valid and locked, as the caller promises; the pages are in it.
    unsafe {
        if is_private && bindings::nosigbus_mm_is_unstable((*vma).vm_mm) {
            // With what has been copied since, which is about to be taken as well.
            kernel::bindings::zap_special_vma_range(vma, addr, inserted * PAGE_SIZE);
            return Err(EFAULT);
        }
    }
    Ok(inserted)
}

/// Maps a page at `pages` pages from `addr` on, unless something else is there, or the VMA or the page
/// table ends. Returns at how many: why it is none, [`kernel::bindings::vm_insert_page`] says better.
///
/// # Safety
///
/// `vma` must be valid, locked, with `VM_MIXEDMAP`, and `addr` in it. The page must never be freed.
unsafe fn insert_several(
    vma: *mut vm_area_struct,
    addr: usize,
    page: *mut kernel::bindings::page,
    pages: usize,
) -> usize {
    // SAFETY: As the caller promises.
    let vma_end = unsafe { (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_end };
    let table_end = (addr | (PMD_SIZE - 1)).saturating_add(1);
    let pages = pages.min((vma_end.min(table_end) - addr) / PAGE_SIZE);
    let mut batch = [page; BATCH];
    let mut inserted = 0;
    while inserted < pages {
        let given = BATCH.min(pages - inserted);
        let mut left = given;
        // SAFETY: As in `insert_zero_pages`, and there are as many pages as that; inside the VMA.
        let result = to_result(unsafe {
            let addr = addr + inserted * PAGE_SIZE;
            kernel::bindings::vm_insert_pages(vma, addr, batch.as_mut_ptr(), &mut left)
        });
        inserted += given - left;
        if result.is_err() {
            break;
        }
    }
    inserted
}

/// Maps a page at the address of a fault, with the protection of the VMA.
///
/// The page gets a reference and is counted in the process's RSS for as long as it is mapped. To be
/// called after [`allocate_page_table`], and fails, as [`insert_zero_pages`].
///
/// # Safety
///
/// As for [`insert_zero_pages`].
pub(super) unsafe fn insert_page(vmf: *mut vm_fault, page: &PageRef) -> Result {
    // SAFETY: `vmf` is valid, as the caller promises.
    let (vma, addr) = unsafe { place(vmf) };
    // Core mm looks only at pages that it has been answered with.
    // SAFETY: `page` is a reference.
    if unsafe { bindings::nosigbus_page_is_broken(page.as_ptr()) } {
        return Err(ehwpoison());
    }
    let _noreclaim = NoReclaim::new();
    // SAFETY: As in `insert_zero_pages`; `page` is a reference.
    to_result(unsafe { kernel::bindings::vm_insert_page(vma, addr, page.as_ptr()) })
}

/// Maps the one page that a file system's `->fault` has answered with, although it belongs to a
/// large one, which core mm would map as a whole. Returns what `->fault` is to return. To be called
/// after [`allocate_page_table`], which was called before the file system was asked.
///
/// # Safety
///
/// As for [`insert_zero_pages`], with `vmf->page` a page that the file system has answered with,
/// locked.
pub(super) unsafe fn insert_small(vmf: *mut vm_fault) -> vm_fault_t {
    // SAFETY: As the caller promises.
    unsafe {
        let (vma, addr) = place(vmf);
        let page = core::mem::replace(&mut (*vmf).page, core::ptr::null_mut());
        // Core mm looks only at what it maps itself.
        if bindings::nosigbus_page_is_broken(page) {
            bindings::nosigbus_unlock_page(page);
            bindings::nosigbus_put_page(page);
            return vm_fault_reason_VM_FAULT_HWPOISON;
        }
        // So is this: copies are gone that the OOM killer has taken (`finish_fault()`).
        if is_private(vma) && bindings::nosigbus_mm_is_unstable((*vma).vm_mm) {
            bindings::nosigbus_unlock_page(page);
            bindings::nosigbus_put_page(page);
            return vm_fault_reason_VM_FAULT_SIGBUS;
        }
        // Others wait for the page, which is locked, and are not to wait for memory as well.
        let noreclaim = NoReclaim::new();
        let inserted = to_result(kernel::bindings::vm_insert_page(vma, addr, page));
        drop(noreclaim);
        bindings::nosigbus_unlock_page(page);
        bindings::nosigbus_put_page(page);
        // What core mm does for a write to a page without a `->page_mkwrite`; with one it is asked
        // when the access is tried again, since the page is mapped read-only.
        if (*vmf).flags & fault_flag_FAULT_FLAG_WRITE != 0
            && (*(*vma).vm_ops).page_mkwrite.is_none()
        {
            kernel::bindings::file_update_time((*vma).vm_file);
        }
        inserted_result(inserted)
    }
}

/// What `->fault` is to return when a page has been inserted, or has not. Sleeps.
pub(super) fn inserted_result(inserted: Result) -> vm_fault_t {
    match inserted {
        Ok(()) => vm_fault_reason_VM_FAULT_NOPAGE,
        // Something else was first.
        Err(error) if error == EBUSY => vm_fault_reason_VM_FAULT_NOPAGE,
        // Core mm says so as well if the page table that it has just found, or made, is gone
        // (`pte_alloc_map_lock()`), because madvise(2) has emptied it for another thread. If there
        // is a page for us, there was one for the page table.
        Err(error) if error == ENOMEM && PageRef::zeroed().is_ok() => {
            vm_fault_reason_VM_FAULT_NOPAGE
        }
        Err(error) if error == ENOMEM => vm_fault_reason_VM_FAULT_OOM,
        Err(error) if error == ehwpoison() => vm_fault_reason_VM_FAULT_HWPOISON,
        Err(_) => vm_fault_reason_VM_FAULT_SIGBUS,
    }
}

/// Whether writes to a mapping make copies.
///
/// # Safety
///
/// `vma` must be valid, and locked.
unsafe fn is_private(vma: *const vm_area_struct) -> bool {
    // Not VM_SHARED: that is clear in a shared mapping of a file not open for writing.
    // SAFETY: As the caller promises.
    unsafe { (*vma).__bindgen_anon_2.vm_flags & bindings::VM_MAYSHARE == 0 }
}

/// The VMA and the address of a fault.
///
/// # Safety
///
/// `vmf` must be valid.
unsafe fn place(vmf: *mut vm_fault) -> (*mut vm_area_struct, usize) {
    // SAFETY: `vmf` is valid, as the caller promises.
    unsafe {
        (
            (*vmf).__bindgen_anon_1.vma,
            (*vmf).__bindgen_anon_1.address, //
        )
    }
}

/// Pages of zeros for core mm to copy from, at a write fault in a private mapping.
///
/// Core mm has the page that it copies from locked, and may allocate a page table meanwhile: it may
/// hold the lock for as long as its memory cgroup keeps it waiting. Nobody else is to wait for that. So
/// there is one page per CPU, and a fault that finds it locked gets another.
pub(crate) struct ZeroPages {
    /// One per possible CPU, never written.
    pages: KVec<Page>,
}

impl ZeroPages {
    /// Allocates the pages. Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Has no precondition; the number does not change after boot.
        let cpus = unsafe { bindings::nosigbus_nr_cpu_ids() } as usize;
        let mut pages = KVec::with_capacity(cpus, GFP_KERNEL)?;
        for _ in 0..cpus {
            pages.push(Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?, GFP_KERNEL)?;
        }
        Ok(Self { pages })
    }

    /// Gives core mm a page of zeros to copy, locked. Returns what `->fault` is to return. Sleeps.
    ///
    /// # Safety
    ///
    /// `vmf` must be the argument of a `->fault` that has not returned, for a write to a private
    /// mapping (`vmf->cow_page` is set).
    pub(super) unsafe fn give(&self, vmf: *mut vm_fault) -> vm_fault_t {
        // SAFETY: Has no precondition. The task may move to another CPU at once; any page does.
        let cpu = unsafe { bindings::nosigbus_raw_smp_processor_id() } as usize;
        let own = self.pages.get(cpu).map(Page::as_ptr);
        // SAFETY: `self` owns the page. Broken memory is no source of zeros.
        let lock = |&page: &_| unsafe {
            !bindings::nosigbus_page_is_broken(page) && bindings::nosigbus_trylock_page(page)
        };
        let page = match own.filter(lock) {
            Some(page) => {
                // SAFETY: As above.
                unsafe { bindings::nosigbus_get_page(page) };
                page
            }
            None => {
                let Ok(page) = PageRef::zeroed() else {
                    return vm_fault_reason_VM_FAULT_OOM;
                };
                // SAFETY: `page` is a reference. Nobody else has one, so this does not wait.
                unsafe { bindings::nosigbus_lock_page(page.as_ptr()) };
                page.into_raw()
            }
        };
        // SAFETY: `vmf` is valid, as the caller promises, and this field is `->fault`'s to set. Core
        // mm unlocks the page and puts its reference when it is done.
        unsafe { (*vmf).page = page };
        vm_fault_reason_VM_FAULT_LOCKED
    }
}

#[kunit_tests(nosigbus_page_insertion)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_zero() -> Result {
        for page in &ZeroPages::new()?.pages {
            let mut first = [0xa5u8; 64];
            // SAFETY: The destination is as long as the read, nobody writes to the page.
            unsafe { page.read_raw(first.as_mut_ptr(), 0, first.len())? };
            assert!(first.iter().all(|&byte| byte == 0));
        }
        Ok(())
    }

    #[test]
    fn giving_a_page_takes_a_reference() -> Result {
        let zero_pages = ZeroPages::new()?;
        let mut vmf = vm_fault::default();

        // SAFETY: `vmf` is valid, and `give` only sets its `page`.
        let result = unsafe { zero_pages.give(&mut vmf) };
        assert_eq!(result, vm_fault_reason_VM_FAULT_LOCKED);
        let page = vmf.page;
        assert!(zero_pages.pages.iter().any(|own| own.as_ptr() == page));

        // SAFETY: `zero_pages` owns the page.
        assert_eq!(unsafe { bindings::nosigbus_page_count(page) }, 2);
        // SAFETY: Gives back what `give` took, as core mm would.
        unsafe {
            bindings::nosigbus_unlock_page(page);
            bindings::nosigbus_put_page(page);
        }
        Ok(())
    }

    #[test]
    fn nobody_waits_for_a_page() -> Result {
        let zero_pages = ZeroPages::new()?;
        let mut faults: KVec<vm_fault> = KVec::new();
        for _ in 0..zero_pages.pages.len() + 2 {
            let mut vmf = vm_fault::default();
            // SAFETY: `vmf` is valid, and `give` only sets its `page`.
            let result = unsafe { zero_pages.give(&mut vmf) };
            assert_eq!(result, vm_fault_reason_VM_FAULT_LOCKED);
            assert!(faults.iter().all(|other| other.page != vmf.page));
            faults.push(vmf, GFP_KERNEL)?;
        }
        for vmf in &faults {
            // SAFETY: Gives back what `give` took, as core mm would.
            unsafe {
                bindings::nosigbus_unlock_page(vmf.page);
                bindings::nosigbus_put_page(vmf.page);
            }
        }
        Ok(())
    }
}
