// SPDX-License-Identifier: GPL-2.0-only

//! A write to a page that is mapped read-only in a wrapped VMA: `->page_mkwrite` and
//! `->pfn_mkwrite`.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{
    bindings,
    fault::{
        Fault,
        FaultFn,
        FaultResult,
        FilePage,
        FsResult, //
    },
    file::MappedFile,
    holders::MmKey,
    shadow_pages::ShadowPages,
    vm_operations::FaultHandler, //
};
use kernel::bindings::{
    vm_fault,
    vm_fault_reason_VM_FAULT_LOCKED,
    vm_fault_reason_VM_FAULT_RETRY, //
};

/// A write to a page that is mapped read-only in a shared mapping. `->page_mkwrite` or
/// `->pfn_mkwrite` has not returned yet.
///
/// # Invariants
///
/// `fault` satisfies the invariants of [`Fault`], except that `vmf` is the argument of
/// `->page_mkwrite` or `->pfn_mkwrite`. `native` is the file system's operation of the same name.
/// Core mm holds a reference on the page, if `vmf->page` is not null.
pub(crate) struct Mkwrite<'a, T: FaultHandler> {
    fault: Fault<'a, T>,
    native: FaultFn,
}

impl<'a, T: FaultHandler> Mkwrite<'a, T> {
    /// # Safety
    ///
    /// For `'a`: `vmf` must be the argument of a `->page_mkwrite` or `->pfn_mkwrite` of a wrapped
    /// VMA that has not returned, with its VMA or mmap lock held. `native` must be the file
    /// system's operation of the same name.
    pub(super) unsafe fn new(vmf: *mut vm_fault, native: FaultFn) -> Self {
        // INVARIANT: As the caller promises.
        Self {
            // SAFETY: The safety requirements include those of `Fault::new`.
            fault: unsafe { Fault::new(vmf) },
            native,
        }
    }

    /// The mapping's handler.
    pub(crate) fn handler(&self) -> &T {
        self.fault.handler()
    }

    /// The mapped file.
    pub(crate) fn file(&self) -> MappedFile<'_> {
        self.fault.file()
    }

    /// The mm that is accessed, as a key.
    pub(crate) fn mm_key(&self) -> MmKey {
        self.fault.mm_key()
    }

    /// As [`Fault::charged`].
    pub(crate) fn charged<R>(&self, f: impl FnOnce() -> R) -> R {
        self.fault.charged(f)
    }

    /// The page of the file that is accessed, in pages from its start.
    pub(crate) fn pgoff(&self) -> u64 {
        self.fault.pgoff()
    }

    fn page(&self) -> *mut kernel::bindings::page {
        // SAFETY: By the invariants of `fault`, `vmf` is valid.
        unsafe { (*self.fault.vmf()).page }
    }

    /// Whether the page is in the page cache. (It may be truncated at any time.) Also `true` if
    /// there is no `struct page`, as for `->pfn_mkwrite`.
    pub(crate) fn is_of_file(&self) -> bool {
        let page = self.page();
        // SAFETY: By the type invariants core mm has a reference on the page, if there is one.
        page.is_null() || !unsafe { bindings::nosigbus_page_folio_raw_mapping(page) }.is_null()
    }

    /// Whether the page is one of `shadows`.
    pub(crate) fn is_shadow(&self, shadows: &ShadowPages) -> bool {
        shadows
            .get(self.pgoff())
            .is_some_and(|shadow| shadow.as_ptr() == self.page())
    }

    /// Allows the write without asking the file system. Call it only if [`Self::is_shadow`]: for a
    /// page of the file, the file system may have to reserve space. Returns `self` in `Err` if
    /// `vmf->page` is null.
    pub(crate) fn allow(self) -> Result<FaultResult, Self> {
        if self.page().is_null() {
            return Err(self);
        }
        // Return the page locked. If it is unlocked, core mm locks it, sees `folio->mapping ==
        // NULL`, and retries because it assumes truncation (`do_page_mkwrite()`).
        // SAFETY: By the type invariants core mm has a reference on the page. It unlocks the page
        // if `->page_mkwrite` returns VM_FAULT_LOCKED.
        unsafe { bindings::nosigbus_lock_page(self.page()) };
        Ok(FaultResult(vm_fault_reason_VM_FAULT_LOCKED))
    }

    /// Calls the file system's `->page_mkwrite` or `->pfn_mkwrite`.
    pub(crate) fn call_file_system(self) -> FsResult<Self> {
        let (operation, vmf) = (self.native, self.fault.vmf());
        // Core mm does not look at `VM_FAULT_RETRY` here (`do_page_mkwrite()`), and goes on as
        // after success, with the lock held. Some file systems (exfat, netfs, orangefs) return it.
        // Trying again would be wrong: the task may hold the lock that exfat found taken, and
        // orangefs has locked the page.
        // SAFETY: By the type invariants `native` is the file system's operation for this `vmf`,
        // which has not been answered.
        unsafe { FsResult::ask(self, operation, vmf, vm_fault_reason_VM_FAULT_RETRY) }
    }
}

impl<'a, T: FaultHandler> FilePage<Mkwrite<'a, T>> {
    /// Lets the write happen.
    pub(crate) fn pass(self) -> FaultResult {
        FaultResult(self.result)
    }

    /// Allows the write unless `withdraw` returns `true`; then the access is retried. The page is
    /// locked before `withdraw` is called, and stays locked until core mm has made the PTE
    /// writable.
    pub(crate) fn pass_unless(self, withdraw: impl FnOnce(&Mkwrite<'a, T>) -> bool) -> FaultResult {
        let page = self.fault.page();
        let locked = self.result & vm_fault_reason_VM_FAULT_LOCKED != 0;
        // SAFETY: By the type invariants there is a reference on the page.
        let truncated = unsafe {
            if !locked {
                bindings::nosigbus_lock_page(page);
            }
            bindings::nosigbus_page_folio_raw_mapping(page).is_null()
        };
        if truncated || withdraw(&self.fault) {
            // SAFETY: The page is locked, by the file system or by us above.
            unsafe { kernel::bindings::unlock_page(page) };
            return FaultResult::nopage();
        }
        FaultResult(self.result | vm_fault_reason_VM_FAULT_LOCKED)
    }
}
