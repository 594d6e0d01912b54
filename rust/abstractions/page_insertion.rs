// SPDX-License-Identifier: GPL-2.0-only

//! Mapping the zero page, or another page, in place of a page of the file.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use super::{
    bindings,
    bindings::PMD_SIZE,
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

/// Batch size of `vm_insert_pages()`.
const BATCH: usize = 16;

/// Allocates the PTE table for the address of a fault, if there is none. Sleeps; fails with
/// `ENOMEM`.
///
/// # Safety
///
/// As for [`insert_zero_pages`].
pub(super) unsafe fn allocate_page_table(vmf: *mut vm_fault) -> Result {
    // SAFETY: As the caller promises; core mm has found the directory that `vmf->pmd` is in.
    // `vm_insert_pages()` with zero pages only allocates the page table (`insert_pages()`).
    unsafe {
        if !bindings::nosigbus_pmd_none((*vmf).pmd) {
            return Ok(());
        }
        let (vma, addr) = vma_and_address(vmf);
        let (no_pages, mut none) = (core::ptr::null_mut(), 0);
        to_result(kernel::bindings::vm_insert_pages(
            vma, addr, no_pages, &mut none,
        ))
    }
}

/// Maps the zero page read-only at up to `pages` consecutive PTEs from the fault address. Stops at
/// a non-empty PTE and at the end of the VMA or of the page table. Returns the number of PTEs set
/// (at least 1).
///
/// # Context
///
/// Call [`allocate_page_table`] first. madvise(2) of another thread may free the page table in
/// between; then this allocates a new one under `PF_MEMALLOC`. The old table is freed after a grace
/// period. Until then up to 1 + `pages` / [`BATCH`] page tables may exceed the memcg limit.
///
/// # Errors
///
/// - `EBUSY`: the PTE is not empty.
/// - `ENOMEM`: no memory for a page table, or it was freed again ([`result_of_insertion`] tells the
///   two apart).
/// - `EINVAL`: core mm refuses the zero page (`vm_mixed_zeropage_allowed()`).
/// - `EFAULT`: the VMA is private, and the OOM reaper is zapping its anonymous pages, or has done
///   so (`MMF_UNSTABLE`). A remote reader must not see zeros there.
///
/// # Safety
///
/// `vmf` must be the argument of a `->fault` that has not returned, and that has not dropped the
/// VMA lock or mmap lock. Its VMA must have `VM_MIXEDMAP`.
pub(super) unsafe fn insert_zero_pages(vmf: *mut vm_fault, pages: usize) -> Result<usize> {
    // SAFETY: `vmf` is valid, as the caller promises.
    let (vma, addr) = unsafe { vma_and_address(vmf) };
    // SAFETY: Has no precondition. `ZERO_PAGE()` is never freed.
    let zero_page = unsafe { bindings::nosigbus_zero_page(addr) };
    // Check `MMF_UNSTABLE` for private VMAs, like `finish_fault()`.
    // SAFETY: The VMA is valid and locked, as the caller promises.
    let (is_private, may_have_copies) = unsafe {
        let is_private = is_private(vma);
        if is_private && bindings::nosigbus_check_stable_address_space((*vma).vm_mm) {
            return Err(EFAULT);
        }
        // Another thread's write fault may be setting it: see below.
        let anon_vma = core::ptr::read_volatile(&raw const (*vma).anon_vma);
        (is_private, is_private && !anon_vma.is_null())
    };
    let _noreclaim = NoReclaim::new();
    let mut inserted = 0;
    // In a private VMA with anonymous pages, map one PTE only. The OOM reaper may have zapped an
    // anonymous page next to it, and zeros must not take its place.
    if pages > 1 && !may_have_copies {
        // SAFETY: As the caller promises, the VMA is valid and locked, and has VM_MIXEDMAP.
        // `zero_page` is valid.
        inserted = unsafe { insert_several(vma, addr, zero_page, pages) };
    }
    if inserted == 0 {
        // SAFETY: The VMA has VM_MIXEDMAP, as the caller promises, so this does not change its
        // flags, and does not need the mmap lock.
        to_result(unsafe { kernel::bindings::vm_insert_page(vma, addr, zero_page) })?;
        inserted = 1;
    }

    // Recheck `MMF_UNSTABLE` after the insertion. Another thread may have made an anonymous copy at
    // one of these PTEs since the first check, and the OOM reaper may have zapped it. The reaper
    // sets `MMF_UNSTABLE` first and clears the PTE under the page-table lock; we found the PTE
    // empty under the same lock, so we see the flag. The killed process is not in user mode any
    // more. But until now, a remote reader (process_vm_readv(2), /proc/PID/mem, a kernel thread)
    // may have found zeros.
    // SAFETY: The VMA is valid and locked, as the caller promises; the pages are in it.
    unsafe {
        if is_private && bindings::nosigbus_check_stable_address_space((*vma).vm_mm) {
            // This also zaps anonymous pages in the range; the OOM reaper would zap them next.
            kernel::bindings::zap_special_vma_range(vma, addr, inserted * PAGE_SIZE);
            return Err(EFAULT);
        }
    }
    Ok(inserted)
}

/// Maps `page` at up to `pages` consecutive PTEs from `addr` on. Stops at a non-empty PTE, and at
/// the end of the VMA or of the page table. Returns the number of PTEs set. If that is 0, call
/// `vm_insert_page()` to get the reason.
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
    // SAFETY: `vma` is valid and locked, as the caller promises.
    let vma_end = unsafe { (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_end };
    let table_end = (addr | (PMD_SIZE - 1)).saturating_add(1);
    let pages = pages.min((vma_end.min(table_end) - addr) / PAGE_SIZE);
    let mut batch = [page; BATCH];
    let mut inserted = 0;
    while inserted < pages {
        let given = BATCH.min(pages - inserted);
        let mut left = given;
        // SAFETY: As the caller promises, the VMA is valid and locked, and has VM_MIXEDMAP, so this
        // does not change its flags. `batch` has `left` pages. The addresses are inside the VMA.
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
/// While the page is mapped, core mm holds a reference on it, and counts it in the RSS. Call
/// [`allocate_page_table`] first.
///
/// # Errors
///
/// `EBUSY` and `ENOMEM`: as [`insert_zero_pages`]. `EHWPOISON`: the page is broken.
///
/// # Safety
///
/// As for [`insert_zero_pages`].
pub(super) unsafe fn insert_page(vmf: *mut vm_fault, page: &PageRef) -> Result {
    // SAFETY: `vmf` is valid, as the caller promises.
    let (vma, addr) = unsafe { vma_and_address(vmf) };
    // `__do_fault()` checks `PageHWPoison()`, but only in a page that `->fault` has returned. We
    // insert this page ourselves, so check it here.
    // SAFETY: `page` is a reference.
    if unsafe { bindings::nosigbus_is_page_hwpoison(page.as_ptr()) } {
        return Err(EHWPOISON);
    }
    let _noreclaim = NoReclaim::new();
    // SAFETY: The VMA is valid and locked, as the caller promises. It has VM_MIXEDMAP, so this does
    // not change its flags, and does not need the mmap lock. `page` owns a reference.
    to_result(unsafe { kernel::bindings::vm_insert_page(vma, addr, page.as_ptr()) })
}

/// Inserts only `vmf->page`, where core mm would map its whole large folio. Returns what `->fault`
/// is to return. Call [`allocate_page_table`] before the file system's `->fault`, since the folio
/// is locked after that.
///
/// # Safety
///
/// As for [`insert_zero_pages`], with `vmf->page` a page that the file system has answered with,
/// locked.
pub(super) unsafe fn insert_alone(vmf: *mut vm_fault) -> vm_fault_t {
    // SAFETY: As the caller promises, `vmf` is valid, its VMA locked and with VM_MIXEDMAP, and
    // `vmf->page` locked and referenced. `replace` takes the lock and the reference from `vmf`.
    // Each of the three ways out unlocks and puts the page once, and none uses it afterwards.
    // `vm_insert_page()` takes a reference of its own.
    unsafe {
        let (vma, addr) = vma_and_address(vmf);
        let page = core::mem::replace(&mut (*vmf).page, core::ptr::null_mut());
        // `->fault` of the VMA will not return this page, so `__do_fault()` does not check it.
        if bindings::nosigbus_is_page_hwpoison(page) {
            kernel::bindings::unlock_page(page);
            bindings::nosigbus_put_page(page);
            return vm_fault_reason_VM_FAULT_HWPOISON;
        }
        // `finish_fault()` would also check `MMF_UNSTABLE` for private VMAs.
        if is_private(vma) && bindings::nosigbus_check_stable_address_space((*vma).vm_mm) {
            kernel::bindings::unlock_page(page);
            bindings::nosigbus_put_page(page);
            return vm_fault_reason_VM_FAULT_SIGBUS;
        }
        // We hold the page lock. Do not reclaim under it.
        let noreclaim = NoReclaim::new();
        let inserted = to_result(kernel::bindings::vm_insert_page(vma, addr, page));
        drop(noreclaim);
        kernel::bindings::unlock_page(page);
        bindings::nosigbus_put_page(page);
        // Like `fault_dirty_shared_page()`: without `->page_mkwrite` update the file times here.
        // With it, the PTE is read-only, and the retried access calls `->page_mkwrite`, which does
        // so.
        if (*vmf).flags & fault_flag_FAULT_FLAG_WRITE != 0
            && (*(*vma).vm_ops).page_mkwrite.is_none()
        {
            kernel::bindings::file_update_time((*vma).vm_file);
        }
        result_of_insertion(inserted)
    }
}

/// Translates the result of an insertion to what `->fault` is to return.
///
/// # Context
///
/// Without the semaphore: on `ENOMEM` it allocates a page, to tell two cases apart. Sleeps.
pub(super) fn result_of_insertion(inserted: Result) -> vm_fault_t {
    match inserted {
        Ok(()) => vm_fault_reason_VM_FAULT_NOPAGE,
        // Another thread has set the PTE first.
        Err(error) if error == EBUSY => vm_fault_reason_VM_FAULT_NOPAGE,
        // `vm_insert_page()` also returns `ENOMEM` when another thread's madvise() freed the page
        // table between lookup and lock (`pte_alloc_map_lock()`). Try an allocation to tell the
        // cases apart: if it succeeds, retry the fault.
        Err(error) if error == ENOMEM && PageRef::zeroed().is_ok() => {
            vm_fault_reason_VM_FAULT_NOPAGE
        }
        Err(error) if error == ENOMEM => vm_fault_reason_VM_FAULT_OOM,
        Err(error) if error == EHWPOISON => vm_fault_reason_VM_FAULT_HWPOISON,
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
    // SAFETY: `vma` is valid, and its lock keeps the flags from changing, as the caller promises.
    unsafe { (*vma).__bindgen_anon_2.vm_flags & bindings::VM_MAYSHARE == 0 }
}

/// The VMA and the address of a fault.
///
/// # Safety
///
/// `vmf` must be valid.
unsafe fn vma_and_address(vmf: *mut vm_fault) -> (*mut vm_area_struct, usize) {
    // SAFETY: `vmf` is valid, as the caller promises.
    unsafe {
        (
            (*vmf).__bindgen_anon_1.vma,
            (*vmf).__bindgen_anon_1.address, //
        )
    }
}

/// Pages of zeros for core mm to copy from, at a write fault in a private mapping. (Ordinary pages,
/// not `ZERO_PAGE()`: core mm locks them.)
///
/// `do_cow_fault()` holds the lock of the source page while it allocates a page table, which can
/// block in memcg reclaim. To avoid contention on that lock there is one source page per CPU. If it
/// is locked, the fault uses a newly allocated page.
pub(crate) struct CowSources {
    /// One per possible CPU, never written.
    pages: KVec<Page>,
}

impl CowSources {
    /// Allocates the pages. Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let cpus = kernel::cpu::nr_cpu_ids() as usize;
        let mut pages = KVec::with_capacity(cpus, GFP_KERNEL)?;
        for _ in 0..cpus {
            pages.push(Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?, GFP_KERNEL)?;
        }
        Ok(Self { pages })
    }

    /// Gives core mm a page of zeros to copy, locked. Returns what `->fault` is to return.
    ///
    /// # Context
    ///
    /// May allocate a page. Waits for no page lock. Sleeps.
    ///
    /// # Safety
    ///
    /// `vmf` must be the argument of a `->fault` that has not returned, for a write to a private
    /// mapping (`vmf->cow_page` is set).
    pub(super) unsafe fn set_cow_source(&self, vmf: *mut vm_fault) -> vm_fault_t {
        // SAFETY: Has no precondition. The task may migrate at any time: any page of zeros will do.
        let cpu = unsafe { kernel::bindings::raw_smp_processor_id() } as usize;
        let own = self.pages.get(cpu).map(Page::as_ptr);
        // Broken memory is no source of zeros.
        // SAFETY: `self` owns a reference on the page.
        let lock = |&page: &_| unsafe {
            !bindings::nosigbus_is_page_hwpoison(page) && bindings::nosigbus_trylock_page(page)
        };
        let page = match own.filter(lock) {
            Some(page) => {
                // SAFETY: The page is one of `pages`, each of which has a reference of this
                // value's.
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
        // SAFETY: `vmf` is valid, as the caller promises. `->fault` may set its `page`; core mm
        // unlocks the page and puts the reference after the copy (`do_cow_fault()`).
        unsafe { (*vmf).page = page };
        vm_fault_reason_VM_FAULT_LOCKED
    }
}

#[kunit_tests(nosigbus_page_insertion)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_zero() -> Result {
        for page in &CowSources::new()?.pages {
            let mut first = [0xa5u8; 64];
            // SAFETY: The destination is as long as the read, nobody writes to the page.
            unsafe { page.read_raw(first.as_mut_ptr(), 0, first.len())? };
            assert!(first.iter().all(|&byte| byte == 0));
        }
        Ok(())
    }

    #[test]
    fn giving_a_page_takes_a_reference() -> Result {
        let sources = CowSources::new()?;
        let mut vmf = vm_fault::default();

        // SAFETY: `vmf` is valid, and `set_cow_source` only sets its `page`.
        let result = unsafe { sources.set_cow_source(&mut vmf) };
        assert_eq!(result, vm_fault_reason_VM_FAULT_LOCKED);
        let page = vmf.page;
        assert!(sources.pages.iter().any(|own| own.as_ptr() == page));

        // SAFETY: `zero_pages` owns the page.
        assert_eq!(unsafe { bindings::nosigbus_page_count(page) }, 2);
        // SAFETY: Gives back what `set_cow_source` took, as core mm would.
        unsafe {
            kernel::bindings::unlock_page(page);
            bindings::nosigbus_put_page(page);
        }
        Ok(())
    }

    #[test]
    fn nobody_waits_for_a_page() -> Result {
        let sources = CowSources::new()?;
        let mut faults: KVec<vm_fault> = KVec::new();
        for _ in 0..sources.pages.len() + 2 {
            let mut vmf = vm_fault::default();
            // SAFETY: `vmf` is valid, and `set_cow_source` only sets its `page`.
            let result = unsafe { sources.set_cow_source(&mut vmf) };
            assert_eq!(result, vm_fault_reason_VM_FAULT_LOCKED);
            assert!(faults.iter().all(|other| other.page != vmf.page));
            faults.push(vmf, GFP_KERNEL)?;
        }
        for vmf in &faults {
            // SAFETY: Gives back what `set_cow_source` took, as core mm would.
            unsafe {
                kernel::bindings::unlock_page(vmf.page);
                bindings::nosigbus_put_page(vmf.page);
            }
        }
        Ok(())
    }
}
