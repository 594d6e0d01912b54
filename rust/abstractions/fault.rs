// SPDX-License-Identifier: GPL-2.0-only

//! A page fault in a wrapped VMA, and how the file system answers it.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{
    bindings,
    bindings::PMD_SIZE,
    file::MappedFile,
    holders::MmKey,
    memalloc,
    module::Call,
    page_insertion::{
        allocate_page_table,
        insert_alone,
        insert_page,
        insert_zero_pages,
        result_of_insertion,
        CowSources, //
    },
    page_table::has_zero_page,
    shadow_pages::PageRef,
    vm_operations::{
        FaultHandler,
        Wrapped, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings::{
        fault_flag_FAULT_FLAG_WRITE,
        vm_area_struct,
        vm_fault,
        vm_fault_reason_VM_FAULT_HWPOISON,
        vm_fault_reason_VM_FAULT_HWPOISON_LARGE,
        vm_fault_reason_VM_FAULT_LOCKED,
        vm_fault_reason_VM_FAULT_MAJOR,
        vm_fault_reason_VM_FAULT_NOPAGE,
        vm_fault_reason_VM_FAULT_OOM,
        vm_fault_reason_VM_FAULT_RETRY,
        vm_fault_reason_VM_FAULT_SIGBUS,
        vm_fault_t, //
    },
    mm::virt::flags,
    page::PAGE_SIZE,
    prelude::*, //
};

/// A file system's `->fault`, `->page_mkwrite` or `->pfn_mkwrite`.
pub(super) type FaultFn = unsafe extern "C" fn(*mut vm_fault) -> vm_fault_t;

/// A return value of `->fault`, `->page_mkwrite` or `->pfn_mkwrite`: `VM_FAULT_*` bits.
///
/// A handler must return a result of the fault that it was called with. If the file system has
/// answered with [`FsResult::Final`], it must return that result: the lock may have been dropped,
/// and core mm goes by the bits. The compiler checks neither.
#[must_use = "core mm has to get it"]
pub(crate) struct FaultResult(pub(super) vm_fault_t);

impl FaultResult {
    /// `VM_FAULT_NOPAGE`: the handler has left nothing to do for core mm. The access is retried.
    /// (Not `VM_FAULT_RETRY`, which says that the lock was dropped.)
    pub(crate) fn nopage() -> Self {
        Self(vm_fault_reason_VM_FAULT_NOPAGE)
    }

    /// `VM_FAULT_SIGBUS` for a task with a fatal signal pending. SIGKILL is delivered first.
    pub(crate) fn killed() -> Self {
        Self::sigbus()
    }

    /// `VM_FAULT_SIGBUS`.
    pub(crate) fn sigbus() -> Self {
        Self(vm_fault_reason_VM_FAULT_SIGBUS)
    }

    /// `VM_FAULT_OOM`.
    pub(crate) fn oom() -> Self {
        Self(vm_fault_reason_VM_FAULT_OOM)
    }
}

/// A fault for which `->fault` has not returned yet.
///
/// # Invariants
///
/// - `vmf` is the argument of an operation of the VMA that has not returned. The VMA lock or the
///   mmap lock, under which core mm called it, is held, so `vmf->vma` is valid.
/// - That VMA's `vm_ops` is the table of a `Wrapped<T>`. That counts the VMA, and so is valid.
/// - If a handler has the `Fault`, the operation is `->fault`, and `vmf->pmd` points into a PMD
///   table, which core mm has found. (`Wrapped::map_pages_slow` makes a `Fault` of a `->map_pages`,
///   and [`Mkwrite`](super::page_mkwrite::Mkwrite) has one of a `->page_mkwrite` or
///   `->pfn_mkwrite`. Neither lets a handler have it, nor calls a method that needs this.)
pub(crate) struct Fault<'a, T: FaultHandler> {
    vmf: NonNull<vm_fault>,
    _lifetime: PhantomData<(&'a vm_fault, &'a T)>,
}

/// The result of inserting a page: how many PTEs were set, or why none was.
pub(crate) struct Insertion(Result<usize>);

impl Insertion {
    /// Returns the number of PTEs that were set; 0 if the insertion failed.
    pub(crate) fn mapped(&self) -> usize {
        self.0.unwrap_or(0)
    }

    /// Returns the result of the fault.
    ///
    /// # Context
    ///
    /// Without the semaphore: may allocate memory, to tell two cases of `ENOMEM` apart
    /// ([`result_of_insertion`]). Sleeps.
    pub(crate) fn result(self) -> FaultResult {
        FaultResult(result_of_insertion(self.0.map(|_| ())))
    }
}

/// The result of the file system's `->fault` for a `Fault`, or of its `->page_mkwrite` or
/// `->pfn_mkwrite` for a `Mkwrite`.
#[must_use = "core mm waits for the answer"]
pub(crate) enum FsResult<F> {
    /// A result that is neither of the two below, such as `VM_FAULT_RETRY` or `VM_FAULT_OOM`. It
    /// must be returned to core mm unchanged: the lock may have been dropped.
    Final(FaultResult),
    /// A page of the file, which core mm is to map, or to make writable.
    Page(FilePage<F>),
    /// `VM_FAULT_SIGBUS`; the lock is still held, so the handler may return another result.
    Sigbus(F, FaultResult),
}

impl<F> FsResult<F> {
    /// Calls an operation of the file system. Clears the bits `ignored` of its result.
    ///
    /// # Safety
    ///
    /// - `operation` must be a `->fault`, `->page_mkwrite` or `->pfn_mkwrite` of the file system
    ///   that owns the VMA of `vmf`.
    /// - `vmf` must be the argument with which core mm called the wrapper of that operation, and
    ///   the wrapper must not have returned.
    /// - `fault` must wrap the same `vmf`.
    /// - `ignored` may contain `VM_FAULT_RETRY` only if `operation` is not a `->fault`.
    pub(super) unsafe fn ask(
        fault: F,
        operation: FaultFn,
        vmf: *mut vm_fault,
        ignored: vm_fault_t,
    ) -> Self {
        // The file system may drop the VMA lock; munmap may then drop the last module reference.
        // Count the call, so that rmmod waits until it has returned.
        // SAFETY: The VMA's reference keeps the module loaded until `operation` drops the lock.
        let call = unsafe { Call::begin() };
        // SAFETY: As the caller promises, `vmf` is valid, and the locks of core mm's call are held.
        let result = unsafe { operation(vmf) } & !ignored;
        drop(call);
        if is_replaceable_sigbus(result) {
            Self::Sigbus(fault, FaultResult(result))
        } else if result & !vm_fault_reason_VM_FAULT_LOCKED & !MAJOR == 0
            // SAFETY: Not VM_FAULT_RETRY, so `vmf` is as valid as before.
            && !unsafe { (*vmf).page.is_null() }
        {
            // INVARIANT: Neither an error nor VM_FAULT_NOPAGE, and there is a page.
            Self::Page(FilePage { fault, result })
        } else {
            // This may be `VM_FAULT_RETRY`: then the lock was dropped, so do not touch the VMA.
            Self::Final(FaultResult(result))
        }
    }
}

/// Returns whether `result` is a plain `VM_FAULT_SIGBUS` that we may replace: without
/// `VM_FAULT_RETRY` (the lock was dropped, `vmf` is stale) and without hwpoison.
pub(super) fn is_replaceable_sigbus(result: vm_fault_t) -> bool {
    const OTHERS: vm_fault_t = vm_fault_reason_VM_FAULT_RETRY | POISON;
    result & (vm_fault_reason_VM_FAULT_SIGBUS | OTHERS) == vm_fault_reason_VM_FAULT_SIGBUS
}

const MAJOR: vm_fault_t = vm_fault_reason_VM_FAULT_MAJOR;
const POISON: vm_fault_t =
    vm_fault_reason_VM_FAULT_HWPOISON | vm_fault_reason_VM_FAULT_HWPOISON_LARGE;

/// How to map the page that the file system's `->fault` returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MapAs {
    /// Returned to core mm, which maps the whole folio (`finish_fault()`).
    Folio,
    /// Only this page of the folio is mapped.
    Page,
    /// The page is unlocked and released, not mapped; the access is retried.
    Nothing,
}

/// The page of the file that the file system returned for a fault (`F`: [`Fault`] or
/// [`Mkwrite`](super::page_mkwrite::Mkwrite)).
///
/// # Invariants
///
/// `result` contains no bits but `VM_FAULT_LOCKED` and `VM_FAULT_MAJOR`. `vmf->page` is not null
/// and has a reference. If `F` is a `Fault`, the file system took it, and this value owns it. If
/// `F` is a `Mkwrite`, core mm owns it.
#[must_use = "its page stays locked until it is passed on"]
pub(crate) struct FilePage<F> {
    pub(super) fault: F,
    pub(super) result: vm_fault_t,
}

impl<F> FilePage<F> {
    /// The `Fault` or `Mkwrite` for which the file system returned this page.
    pub(crate) fn fault(&self) -> &F {
        &self.fault
    }
}

impl<'a, T: FaultHandler> FilePage<Fault<'a, T>> {
    /// Returns the page to core mm, which maps its folio. Exception: if the VMA lacks
    /// `VM_NOHUGEPAGE` and the folio is PMD-mappable, maps only this page, by a PTE.
    pub(crate) fn pass(mut self) -> FaultResult {
        // SAFETY: By the invariants of `Fault`, `vmf` and its VMA are valid, and the VMA is locked.
        // By those of `FilePage`, `vmf->page` has a reference.
        let is_huge = unsafe {
            may_be_huge(self.fault.vma())
                && bindings::nosigbus_page_folio_test_pmd_mappable((*self.fault.vmf.as_ptr()).page)
        };
        if is_huge {
            self.lock();
            return self.pass_alone();
        }
        FaultResult(self.result)
    }

    /// Locks the page, calls `how_to_map`, and acts on its answer. The page stays locked until it
    /// is mapped, except for a write: core mm unlocks it before it calls `->page_mkwrite`.
    pub(crate) fn pass_as(
        mut self,
        how_to_map: impl FnOnce(&Fault<'a, T>) -> MapAs,
    ) -> FaultResult {
        self.lock();
        match how_to_map(&self.fault) {
            MapAs::Folio => self.pass(),
            MapAs::Page => self.pass_alone(),
            MapAs::Nothing => self.withdraw(),
        }
    }

    /// Maps only this page of a large folio. The page must be locked.
    fn pass_alone(self) -> FaultResult {
        let vmf = self.fault.vmf.as_ptr();
        // SAFETY: By the type invariants of `Fault`, `vmf` is valid. By those of `FilePage`, its
        // page has a reference. The page is locked, by the caller.
        unsafe {
            // cow_page set: core mm copies this one page, so the folio is not mapped.
            if (*vmf).cow_page.is_null() && bindings::nosigbus_page_folio_test_large((*vmf).page) {
                return FaultResult(insert_alone(vmf) | self.result & MAJOR);
            }
        }
        FaultResult(self.result)
    }

    fn withdraw(self) -> FaultResult {
        let vmf = self.fault.vmf.as_ptr();
        // SAFETY: By the type invariants of `Fault`, `vmf` is valid. By those of `FilePage`, this
        // value owns the reference on the page. The page is locked, by `pass_as`.
        unsafe {
            kernel::bindings::unlock_page((*vmf).page);
            bindings::nosigbus_put_page((*vmf).page);
            (*vmf).page = core::ptr::null_mut();
        }
        FaultResult::nopage()
    }

    /// Locks the page, as core mm would.
    fn lock(&mut self) {
        if self.result & vm_fault_reason_VM_FAULT_LOCKED == 0 {
            // SAFETY: By the type invariants there is a reference on the page.
            unsafe { bindings::nosigbus_lock_page((*self.fault.vmf.as_ptr()).page) };
            self.result |= vm_fault_reason_VM_FAULT_LOCKED;
        }
    }
}

impl<'a, T: FaultHandler> Fault<'a, T> {
    /// # Safety
    ///
    /// For `'a`: `vmf` must be the argument of an operation of a wrapped VMA that has not returned,
    /// with its VMA or mmap lock held. A handler may get the value only if that is `->fault`.
    /// (These are the invariants of this type.)
    pub(super) unsafe fn new(vmf: *mut vm_fault) -> Self {
        // INVARIANT: As the caller promises.
        Self {
            // SAFETY: Valid, as the caller promises.
            vmf: unsafe { NonNull::new_unchecked(vmf) },
            _lifetime: PhantomData,
        }
    }

    pub(super) fn vmf(&self) -> *mut vm_fault {
        self.vmf.as_ptr()
    }

    pub(super) fn vma(&self) -> *mut vm_area_struct {
        // SAFETY: By the type invariants `vmf` is valid.
        unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.vma }
    }

    /// The mapping's handler.
    pub(crate) fn handler(&self) -> &T {
        // SAFETY: By the type invariants `vm_ops` is the table of a `Wrapped<T>`, which is valid as
        // long as the VMA is locked: it counts the VMA in `vmas`.
        unsafe { &(*Wrapped::<T>::of(self.vma())).handler }
    }

    /// The mapped file.
    pub(crate) fn file(&self) -> MappedFile<'_> {
        // SAFETY: By the type invariants the VMA is valid. By those of `Wrapped` it has a file.
        let file = unsafe { NonNull::new_unchecked((*self.vma()).vm_file) };
        // SAFETY: The VMA holds a reference on its file, and cannot go while it is locked.
        unsafe { MappedFile::from_raw(file) }
    }

    /// The faulting mm, as a key.
    pub(crate) fn mm_key(&self) -> MmKey {
        // SAFETY: By the type invariants `vmf->vma` is valid.
        MmKey::new(unsafe { (*self.vma()).vm_mm })
    }

    /// Runs `f` with the memory that it allocates charged to the memcg of the faulting mm.
    pub(crate) fn charged<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariants the VMA is valid, and so is its mm.
        unsafe { memalloc::charged_to((*self.vma()).vm_mm, f) }
    }

    /// The page index in the file that is accessed.
    pub(crate) fn pgoff(&self) -> u64 {
        // SAFETY: By the type invariants `vmf` is valid.
        unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.pgoff as u64 }
    }

    /// Whether the access is a write.
    pub(crate) fn is_write(&self) -> bool {
        // SAFETY: By the type invariants `vmf` is valid.
        unsafe { (*self.vmf.as_ptr()).flags & fault_flag_FAULT_FLAG_WRITE != 0 }
    }

    /// Whether core mm may map a PMD in this VMA: `VM_NOHUGEPAGE` is clear.
    pub(crate) fn may_be_huge(&self) -> bool {
        // SAFETY: By the type invariants `vmf->vma` is valid and locked.
        unsafe { may_be_huge(self.vma()) }
    }

    /// Allocates the PTE table for the faulting address, if it is missing. On error, returns the
    /// result of the fault.
    ///
    /// # Context
    ///
    /// With neither the semaphore nor a folio lock held: may enter reclaim. Sleeps.
    pub(crate) fn allocate_page_table(&self) -> Result<(), FaultResult> {
        // SAFETY: By the type invariants `vmf` is the argument of a `->fault`, the VMA is locked,
        // and core mm has found the PMD. By those of `Wrapped` the VMA has VM_MIXEDMAP.
        let allocated = unsafe { allocate_page_table(self.vmf.as_ptr()) };
        allocated.map_err(|error| FaultResult(result_of_insertion(Err(error))))
    }

    /// Whether there is a PTE table for the faulting address. Another thread may free it
    /// (madvise(2)).
    pub(crate) fn has_page_table(&self) -> bool {
        // SAFETY: By the type invariants `vmf` is valid and `pmd` points into a PMD table.
        !unsafe { bindings::nosigbus_pmd_none((*self.vmf.as_ptr()).pmd) }
    }

    /// Returns the number of pages from this address to the end of its 64 KiB window, the default
    /// of `fault_around_bytes`.
    pub(crate) fn pages_to_window_end(&self) -> usize {
        const AROUND: usize = 1 << 16;
        ((self.address() | (AROUND - 1)) + 1 - self.address()).div_ceil(PAGE_SIZE)
    }

    /// The address of the page that is accessed.
    fn address(&self) -> usize {
        // SAFETY: By the type invariants `vmf` is valid.
        unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.address }
    }

    /// Returns whether the previous PTE in the same page table maps the zero page. Returns `false`
    /// for the first PTE of a page table.
    pub(crate) fn follows_zero_page(&self) -> bool {
        let addr = self.address();
        if addr % PMD_SIZE < PAGE_SIZE {
            return false;
        }
        // SAFETY: By the type invariants `vmf` is valid and `pmd` points into a PMD table, which is
        // not freed while the VMA is locked. The address is in the same PMD, as checked above.
        unsafe { has_zero_page((*self.vmf.as_ptr()).pmd, addr - PAGE_SIZE) }
    }

    /// Maps the zero page read-only at up to `pages` consecutive PTEs, starting at the fault
    /// address. Stops at the first non-empty PTE.
    pub(crate) fn insert_zero_pages(&self, pages: usize) -> Insertion {
        // SAFETY: By the type invariants `vm_ops` is the table of a `Wrapped<T>`, which is valid.
        unsafe { &*Wrapped::<T>::of(self.vma()) }.note_zero_page_at(self.pgoff());
        // SAFETY: By the type invariants `vmf` is the argument of a `->fault` and the VMA is
        // locked. By those of `Wrapped` the VMA has VM_MIXEDMAP.
        Insertion(unsafe { insert_zero_pages(self.vmf.as_ptr(), pages) })
    }

    /// For a write to a private VMA (cow_page set): gives core mm a zero-filled page to copy. The
    /// handler must return this result, and must not ask the file system any more: `vmf->page` is
    /// set, and locked. `None` otherwise.
    pub(crate) fn private_copy_of_zeros(&self, zeros: &CowSources) -> Option<FaultResult> {
        // SAFETY: By the type invariants `vmf` is valid.
        if unsafe { (*self.vmf.as_ptr()).cow_page.is_null() } {
            return None;
        }
        // SAFETY: By the type invariants `vmf` is the argument of a `->fault`. `cow_page` is set,
        // so it is for a write to a private mapping.
        Some(FaultResult(unsafe {
            zeros.set_cow_source(self.vmf.as_ptr())
        }))
    }

    /// Maps a shadow page at the faulting address.
    pub(crate) fn insert_shadow_page(&self, page: &PageRef) -> Insertion {
        // SAFETY: By the type invariants `vmf` is the argument of a `->fault` and the VMA is
        // locked. By those of `Wrapped` the VMA has VM_MIXEDMAP.
        Insertion(unsafe { insert_page(self.vmf.as_ptr(), page) }.map(|()| 1))
    }

    /// Returns whether the file system's `->fault` takes only page-cache locks (invalidate lock,
    /// folio lock). True for `filemap_fault()` and for file systems in
    /// [`MappedFile::fault_takes_only_page_cache_locks`].
    pub(crate) fn takes_only_page_cache_locks(&self) -> bool {
        let filemap_fault: FaultFn = kernel::bindings::filemap_fault;
        core::ptr::fn_addr_eq(self.operation(), filemap_fault)
            || self.file().fault_takes_only_page_cache_locks()
    }

    /// Returns whether the VMA has `->page_mkwrite`, so that core mm maps pages read-only first and
    /// calls [`FaultHandler::mkwrite`] on the first write.
    pub(crate) fn has_mkwrite(&self) -> bool {
        // SAFETY: By the type invariants the `Wrapped` is valid. By those of `Wrapped`, `native` is
        // the file system's table.
        unsafe { (*(*Wrapped::<T>::of(self.vma())).native).page_mkwrite }.is_some()
    }

    /// Calls the file system's `->fault`.
    ///
    /// # Context
    ///
    /// With no lock but the VMA lock or mmap lock held. The file system may drop that lock, and
    /// then returns [`FsResult::Final`]. It may return with the page locked. Sleeps.
    pub(crate) fn call_file_system(self) -> FsResult<Self> {
        let (operation, vmf) = (self.operation(), self.vmf.as_ptr());
        // SAFETY: By the type invariants `vmf` has not been answered; `operation` is the `->fault`
        // of the file system that owns its VMA.
        unsafe { FsResult::ask(self, operation, vmf, 0) }
    }

    /// The file system's `->fault`.
    fn operation(&self) -> FaultFn {
        // SAFETY: By the type invariants the `Wrapped` is valid. By those of `Wrapped`, `native` is
        // the file system's table, and has a `->fault`.
        unsafe {
            (*(*Wrapped::<T>::of(self.vma())).native)
                .fault
                .unwrap_unchecked()
        }
    }
}

/// Whether core mm may map a PMD in this VMA: `VM_NOHUGEPAGE` is clear. ENABLE sets it;
/// `madvise(MADV_HUGEPAGE)` clears it again.
///
/// # Safety
///
/// `vma` must be valid and locked.
pub(super) unsafe fn may_be_huge(vma: *mut vm_area_struct) -> bool {
    // SAFETY: As the caller promises, the VMA is valid, and its lock keeps the flags from changing.
    unsafe { (*vma).__bindgen_anon_2.vm_flags & flags::NOHUGEPAGE == 0 }
}
