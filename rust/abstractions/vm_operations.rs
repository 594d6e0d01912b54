// SPDX-License-Identifier: GPL-2.0-only

//! A VMA's operations, wrapped: the file system's own table with some entries replaced.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! [`Prepared::install`] points `vma->vm_ops` at a copy of the file system's table inside a
//! [`Wrapped`]. `container_of(vma->vm_ops)` finds the `Wrapped` again, so `vm_private_data` stays
//! the file system's. [`WrappedVma::restore`] gives a VMA the file system's own table back.
//!
//! A `Wrapped` counts the VMAs that have its table. Core mm copies `vm_ops` on split, fork and
//! mremap, calls `->open` for the copy, and calls `->close` before a VMA is freed. When the last
//! VMA is gone, the handler is dropped at once, and the memory is freed after an RCU grace period.

use super::{
    atomic::update,
    bindings,
    fault::{
        is_replaceable_sigbus,
        may_be_huge,
        Fault,
        FaultFn,
        FaultResult, //
    },
    file::MappedFile,
    holders::MmKey,
    image,
    module::{
        Call,
        ModuleRef, //
    },
    page_mkwrite::Mkwrite,
    rcu,
    shadow_pages::ShadowPages,
    vma::LockedVma, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData, //
};
use kernel::{
    bindings::{
        vm_area_struct,
        vm_fault,
        vm_fault_reason_VM_FAULT_SIGBUS,
        vm_fault_t,
        vm_operations_struct, //
    },
    mm::virt::{
        vm_flags_t,
        VmaRef, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Refcount, //
    }, //
};

/// Answers the faults of wrapped VMAs. The value is shared by all VMAs of one mapping.
pub(crate) trait FaultHandler: Sized + Send + Sync + 'static {
    /// `true` until this mapping is about to get its first zero page or shadow page; then `false`
    /// for good. (Private pages do not count.) What the wrappers call:
    ///
    /// - `true`: the file system's operation. If it returns `VM_FAULT_SIGBUS`, then
    ///   [`Self::fault_sigbus`] for `->fault`, [`Self::mkwrite_sigbus`] for `->page_mkwrite` and
    ///   `->pfn_mkwrite`.
    /// - `false`: [`Self::fault`] for `->fault`, [`Self::mkwrite`] for `->page_mkwrite` and
    ///   `->pfn_mkwrite`; for `->map_pages`, [`Self::may_map_around`] and then the file system.
    ///
    /// In a VMA without `VM_NOHUGEPAGE`, `->fault` and `->map_pages` are answered as for `false`.
    fn file_system_first(&self) -> bool;

    /// Called when the file system's `->fault` returned `VM_FAULT_SIGBUS` while
    /// [`Self::file_system_first`] was `true`: the page is past EOF, or could not be read. Returns
    /// the result for core mm, which may be `sigbus`.
    ///
    /// # Context
    ///
    /// As [`Self::fault`].
    fn fault_sigbus(fault: Fault<'_, Self>, sigbus: FaultResult) -> FaultResult;

    /// Called when the file system's `->page_mkwrite` or `->pfn_mkwrite` returned `VM_FAULT_SIGBUS`
    /// while [`Self::file_system_first`] was `true`. Returns the result for core mm, which may be
    /// `sigbus`.
    ///
    /// # Context
    ///
    /// As [`Self::fault`].
    fn mkwrite_sigbus(mkwrite: Mkwrite<'_, Self>, sigbus: FaultResult) -> FaultResult;

    /// Handles `->fault` when [`Self::file_system_first`] is `false` or the VMA lacks
    /// `VM_NOHUGEPAGE`. The handler may call the file system by [`Fault::call_file_system`].
    ///
    /// # Context
    ///
    /// The VMA lock or the mmap lock is held, for read, and none of the locks that come after it in
    /// the lock order. (An inode lock may be held: write(2) faults in its buffer under it.) May
    /// sleep.
    fn fault(fault: Fault<'_, Self>) -> FaultResult;

    /// Handles `->page_mkwrite` and `->pfn_mkwrite` when [`Self::file_system_first`] is `false`.
    /// Not called if the file system has neither.
    ///
    /// # Context
    ///
    /// As [`Self::fault`].
    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult;

    /// Returns whether core mm may fault-around (`->map_pages`) at page `pgoff`. If it returns
    /// `false`, or fault-around did not map `pgoff`, core mm calls `->fault`.
    ///
    /// # Context
    ///
    /// An RCU read-side critical section, which ends after the pages are mapped. Must not sleep.
    fn may_map_around(&self, file: &MappedFile<'_>, pgoff: u64) -> bool;
}

/// Copy of the file system's vm_operations_struct, and the data that the replaced functions use.
///
/// # Invariants
///
/// - `native` is the table that the file system gave the VMA. It is part of the image of the kernel
///   or of a module, which the VMA's file keeps loaded.
/// - `ops` is a copy of `*native` in which `fault`, `open`, `close`, and those of `map_pages`,
///   `page_mkwrite` and `pfn_mkwrite` that `*native` has, are replaced. `(*native).fault` is not
///   null. `ops` is immutable once a VMA uses it.
/// - `native_map_pages` is `(*native).map_pages`.
/// - `flags_added` and `cleared_maywrite` are constant once a VMA uses the table.
/// - `shadows` is constant.
/// - Each VMA with the table has a file, `VM_MIXEDMAP` and `VM_MAYBE_GUARD`.
/// - `vmas` is the number of VMAs whose `vm_ops` is `ops`, or 1 before the first one is.
/// - When `vmas` is 0, an RCU grace period passes before the memory that `ops` is in is freed.
/// - In these VMAs, this module has mapped the zero page only at page index `lowest_zero_page` and
///   above. (userfaultfd may have mapped it anywhere in a private one.)
#[repr(C)]
pub(super) struct Wrapped<T: FaultHandler> {
    ops: UnsafeCell<vm_operations_struct>,
    /// Near the start, see [`rcu::free`].
    rcu: rcu::Head,
    pub(super) native: *const vm_operations_struct,
    /// A copy of `(*native).map_pages`: most read faults call it, and so need not read `*native`.
    native_map_pages: Option<MapPagesFn>,
    /// VM_* flags that ENABLE set and DISABLE must clear.
    flags_added: vm_flags_t,
    vmas: Refcount,
    /// Whether the VMA had `VM_MERGEABLE` at ENABLE, so that DISABLE must restore it.
    had_mergeable: bool,
    /// Whether ENABLE cleared `VM_MAYWRITE`, so that DISABLE must restore it. Not every VMA had the
    /// flag: mmap(2) clears it for a file with F_SEAL_FUTURE_WRITE. DISABLE must not set it there.
    cleared_maywrite: bool,
    /// Only lowered. Valid for all VMAs of the mapping, since split, fork and mremap keep page
    /// indexes.
    lowest_zero_page: Atomic<u64>,
    /// The shadow pages of the mapping; `None` if it cannot have any.
    shadows: Option<Arc<ShadowPages>>,
    pub(super) handler: T,
    // Keeps this module loaded: core mm calls into it as long as a VMA has the table.
    _module: ModuleRef,
}

impl<T: FaultHandler> Wrapped<T> {
    /// Lowers `lowest_zero_page` to `pgoff`. Must be called before the zero page is mapped there.
    pub(super) fn note_zero_page_at(&self, pgoff: u64) {
        // Relaxed is enough: `WrappedVma::restore()` and fork take the VMA lock for write, which
        // waits for this fault.
        update(&self.lowest_zero_page, |lowest| lowest.min(pgoff));
    }

    /// The `Wrapped` of a VMA.
    ///
    /// # Safety
    ///
    /// `vma` must be valid, and its `vm_ops` be the table of a `Wrapped<T>`. A lock of the VMA must
    /// be held, or no other task be able to find it, so that `vm_ops` does not change meanwhile.
    pub(super) unsafe fn of(vma: *mut vm_area_struct) -> *const Self {
        // SAFETY: The caller promises that the table is in a `Wrapped<T>`.
        unsafe {
            let ops = (*vma).vm_ops.cast::<UnsafeCell<vm_operations_struct>>();
            kernel::container_of!(ops.cast_mut(), Self, ops)
        }
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->fault` of a VMA with this table, under its lock.
    unsafe extern "C" fn fault(vmf: *mut vm_fault) -> vm_fault_t {
        // Fast path for faults inside EOF. Count the call: the file system may drop the VMA lock
        // and sleep, and the VMA, with its module reference, may be unmapped meanwhile.
        // SAFETY: As the caller promises, `vmf` is the argument of the `->fault` of a VMA that is
        // locked and has this table. So by the invariants of `Wrapped` it is counted in `vmas`, the
        // `Wrapped` is valid, `native` is the file system's table, and that has a `->fault`.
        // `Fault::new` and `fault_sigbus` ask for what the caller promises. `_module` keeps the
        // module loaded until the file system drops the lock. After the call, `fault_sigbus` uses
        // `vmf` only if the result says that the lock is still held.
        unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            let this = Self::of(vma);
            if may_be_huge(vma) || !(*this).handler.file_system_first() {
                return T::fault(Fault::new(vmf)).0;
            }
            let call = Call::begin();
            let result = (*(*this).native).fault.unwrap_unchecked()(vmf);
            drop(call);
            if result & vm_fault_reason_VM_FAULT_SIGBUS == 0 {
                return result;
            }
            Self::fault_sigbus(vmf, result)
        }
    }

    /// Handles a fault for which the file system's `->fault` has returned `result`, an error.
    ///
    /// # Safety
    ///
    /// As for [`Self::fault`].
    #[cold]
    #[inline(never)]
    unsafe fn fault_sigbus(vmf: *mut vm_fault, result: vm_fault_t) -> vm_fault_t {
        if !is_replaceable_sigbus(result) {
            return result;
        }
        // SAFETY: The invariants of `Fault` hold, as the caller promises: without `VM_FAULT_RETRY`
        // the file system has not dropped the lock.
        T::fault_sigbus(unsafe { Fault::new(vmf) }, FaultResult(result)).0
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->map_pages` of a VMA with this table, under its lock.
    unsafe extern "C" fn map_pages(vmf: *mut vm_fault, first: usize, last: usize) -> vm_fault_t {
        // SAFETY: As the caller promises, `vmf` is valid and its VMA is locked and has this table.
        // So by the invariants of `Wrapped` it is counted in `vmas`, and the `Wrapped` is valid.
        unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            let this = Self::of(vma);
            if may_be_huge(vma) || !(*this).handler.file_system_first() {
                return Self::map_pages_slow(vmf, first, last);
            }
            // By the type invariants, the table has `map_pages` only if the file system has one,
            // and `native_map_pages` is that. The arguments are those of core mm.
            (*this).native_map_pages.unwrap_unchecked()(vmf, first, last)
        }
    }

    /// Slow path of [`Self::map_pages`], for mappings that may have zero pages or shadow pages, and
    /// for VMAs that may have huge pages.
    ///
    /// # Safety
    ///
    /// As for [`Self::map_pages`].
    #[inline(never)]
    unsafe fn map_pages_slow(vmf: *mut vm_fault, first: usize, last: usize) -> vm_fault_t {
        // SAFETY: As the caller promises, `vmf` is the argument of a `->map_pages` that has not
        // returned, core mm holds a lock of the VMA, and the VMA has the table of a `Wrapped<T>`.
        let fault = unsafe { Fault::<T>::new(vmf) };
        // SAFETY: By the invariants of `Fault`, the VMA is valid and locked.
        let may = unsafe { !may_be_huge(fault.vma()) };
        if !may || !fault.handler().may_map_around(&fault.file(), fault.pgoff()) {
            // Nothing is mapped: core mm goes on with `->fault`.
            return 0;
        }
        // SAFETY: The VMA is counted in `vmas`, and its lock is held, so the `Wrapped` is valid.
        match unsafe { (*Self::of(fault.vma())).native_map_pages } {
            // SAFETY: As the caller promises, these are the arguments and locks of core mm.
            Some(map_pages) => unsafe { map_pages(vmf, first, last) },
            None => 0,
        }
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->page_mkwrite` of a VMA with this table, under its lock.
    unsafe extern "C" fn page_mkwrite(vmf: *mut vm_fault) -> vm_fault_t {
        // SAFETY: As the caller promises; the closure selects the operation that core mm has
        // called.
        unsafe { Self::mkwrite(vmf, |native| native.page_mkwrite) }
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->pfn_mkwrite` of a VMA with this table, under its lock.
    unsafe extern "C" fn pfn_mkwrite(vmf: *mut vm_fault) -> vm_fault_t {
        // SAFETY: As the caller promises; the closure selects the operation that core mm has
        // called.
        unsafe { Self::mkwrite(vmf, |native| native.pfn_mkwrite) }
    }

    /// # Safety
    ///
    /// `vmf` must be the argument of the operation that `native` selects, called by core mm for a
    /// VMA with this table, under its lock.
    unsafe fn mkwrite(
        vmf: *mut vm_fault,
        native: impl FnOnce(&vm_operations_struct) -> Option<FaultFn>,
    ) -> vm_fault_t {
        // SAFETY: As the caller promises, `vmf` is valid and its VMA is locked and has this table.
        // So by the invariants of `Wrapped` it is counted in `vmas`, and the `Wrapped` is valid.
        // `ops` has the operation that core mm has called only if `*native` has it.
        // `Mkwrite::new` and `mkwrite_sigbus` ask for what the caller promises. `_module` keeps the
        // module loaded until the file system drops the lock.
        unsafe {
            let this = Self::of((*vmf).__bindgen_anon_1.vma);
            let native = native(&*(*this).native).unwrap_unchecked();
            if !(*this).handler.file_system_first() {
                return T::mkwrite(Mkwrite::new(vmf, native)).0;
            }
            let call = Call::begin();
            let result = native(vmf);
            drop(call);
            if result & vm_fault_reason_VM_FAULT_SIGBUS == 0 {
                return result;
            }
            Self::mkwrite_sigbus(vmf, native, result)
        }
    }

    /// Like [`Self::fault_sigbus`], for a failed `native`, the file system's `->page_mkwrite` or
    /// `->pfn_mkwrite`.
    ///
    /// # Safety
    ///
    /// As for [`Self::mkwrite`].
    #[cold]
    #[inline(never)]
    unsafe fn mkwrite_sigbus(
        vmf: *mut vm_fault,
        native: FaultFn,
        result: vm_fault_t,
    ) -> vm_fault_t {
        if !is_replaceable_sigbus(result) {
            return result;
        }
        // SAFETY: The invariants of `Mkwrite` hold, as the caller promises: without
        // `VM_FAULT_RETRY` the file system has not dropped the lock.
        let mkwrite = unsafe { Mkwrite::new(vmf, native) };
        T::mkwrite_sigbus(mkwrite, FaultResult(result)).0
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->open` of a VMA that is a copy of another VMA with this
    /// table, with the mmap lock held for write.
    unsafe extern "C" fn open(vma: *mut vm_area_struct) {
        // SAFETY: As the caller promises, the VMA has this table. It is a copy of a VMA that is
        // counted in `vmas`, so the `Wrapped` is valid.
        unsafe {
            let this = Self::of(vma);
            // INVARIANT: One VMA more.
            (*this).vmas.inc();
            if let Some(shadows) = &(*this).shadows {
                // `opened()`: the mm has gained this VMA. `put` calls `closed()` of the same
                // holders before the VMA is freed: `shadows` is constant.
                shadows.holders().opened(MmKey::new((*vma).vm_mm));
            }
            if let Some(open) = (*(*this).native).open {
                open(vma);
            }
        }
    }

    /// # Safety
    ///
    /// To be called by core mm, once, as the last operation of a VMA with this table: no other task
    /// can find the VMA any more, and its `vm_file` has not been put yet.
    unsafe extern "C" fn close(vma: *mut vm_area_struct) {
        // SAFETY: As the caller promises, the VMA has this table, and no other task can find it.
        let this = unsafe { Self::of(vma) };

        // SAFETY: The VMA is counted, so `this` is valid.
        unsafe {
            if let Some(close) = (*(*this).native).close {
                close(vma);
            }
        }

        // SAFETY: Core mm calls `->close` once for each counted VMA, and does not use the table
        // through it afterwards. The VMA is still valid.
        unsafe { Self::put(this, MmKey::new((*vma).vm_mm)) };
    }

    /// Uncounts a VMA of `mm`. With the last one, drops the handler and frees the `Wrapped`.
    ///
    /// # Safety
    ///
    /// To be called once for each VMA counted in `vmas`, after the last use of the table through
    /// that VMA, and before the VMA is freed.
    unsafe fn put(this: *const Self, mm: MmKey) {
        // SAFETY: The VMA is counted, so `this` is valid.
        if let Some(shadows) = unsafe { &(*this).shadows } {
            shadows.holders().closed(mm);
        }
        // INVARIANT: One VMA less.
        // SAFETY: The VMA is counted, so `this` is valid; it is not looked at below unless this was
        // the last VMA.
        if unsafe { (*this).vmas.dec_and_test() } {
            // Hold a module reference until the handler is dropped, which may sleep.
            // SAFETY: `(*this)._module` keeps the module loaded meanwhile; `rcu::free` drops that.
            let _code = unsafe { ModuleRef::new() };
            // SAFETY: `Prepared::install` has leaked the box, and this was the last reference.
            let wrapped = unsafe { KBox::from_raw(this.cast_mut()) };
            const { assert!(core::mem::offset_of!(Wrapped<T>, rcu) < rcu::MAX_OFFSET) };
            // SAFETY: The closure returns the `rcu` field; its offset was checked above.
            unsafe { rcu::free(wrapped, |wrapped| &raw mut (*wrapped).rcu) };
        }
    }
}

/// A VMA whose new `vm_ops` are allocated but not installed. [`Prepared::install`] cannot fail.
pub(crate) struct Prepared<'g, T: FaultHandler> {
    vma: LockedVma<'g>,
    wrapped: KBox<Wrapped<T>>,
}

impl<'g, T: FaultHandler> Prepared<'g, T> {
    /// Allocates the new operations of `vma`, charged to the caller's memory cgroup. `shadows` are
    /// the shadow pages that `handler` will map; `None` if it will not map any.
    ///
    /// Unmerges KSM pages; changes nothing else.
    ///
    /// # Context
    ///
    /// Call it only in an ioctl of this module's device or in a KUnit test: either keeps the module
    /// loaded meanwhile. Sleeps.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`.
    /// - `ERESTARTSYS`: a signal.
    /// - `EOPNOTSUPP`: the VMA has no `->fault`, no file, a `VM_SPECIAL` flag, a file with DAX, or
    ///   a `vm_ops` table in allocated memory. (The owner of such a table may use `container_of()`
    ///   on it and free it, as Coda does.)
    pub(crate) fn new(
        vma: LockedVma<'g>,
        handler: T,
        shadows: Option<Arc<ShadowPages>>,
    ) -> Result<Self> {
        // SAFETY: By the invariants of `LockedVma` the VMA is valid and its mmap lock is held.
        let native = unsafe { (*vma.as_ptr()).vm_ops };
        // SAFETY: `vm_ops` is null or points to a table that is valid as long as the VMA's file is
        // open, which the VMA sees to.
        let Some(mut ops) = (unsafe { native.as_ref() }).copied() else {
            return Err(EOPNOTSUPP);
        };
        let Some(file) = vma.file() else {
            return Err(EOPNOTSUPP);
        };
        // SAFETY: `native` is not null, and so points to a valid table.
        let in_image = unsafe { image::contains(native.cast()) };
        let allocated = !in_image && !file.module_contains(native.cast());
        // `page_table` takes each entry above a PMD for a table. Only DAX maps files by larger
        // leaves.
        if allocated || ops.fault.is_none() || vma.is_special() || file.is_dax() {
            return Err(EOPNOTSUPP);
        }

        ops.fault = Some(Wrapped::<T>::fault);
        ops.open = Some(Wrapped::<T>::open);
        ops.close = Some(Wrapped::<T>::close);
        let native_map_pages = ops.map_pages;
        ops.map_pages = native_map_pages.and(Some(Wrapped::<T>::map_pages));
        // Replace these only if the file system has them. Core mm treats a VMA with
        // `->page_mkwrite` as needing dirty tracking (`vma_needs_dirty_tracking()`): it would
        // write-protect clean pages and refuse long-term pins.
        ops.page_mkwrite = ops.page_mkwrite.and(Some(Wrapped::<T>::page_mkwrite));
        ops.pfn_mkwrite = ops.pfn_mkwrite.and(Some(Wrapped::<T>::pfn_mkwrite));

        // INVARIANT: `ops` is a copy of `*native` but for the entries replaced above.
        // `native_map_pages` was read before its entry was replaced. No VMA has the table yet: so
        // `vmas` is 1, and the module has mapped no zero page in one.
        let wrapped = KBox::new(
            Wrapped {
                native_map_pages,
                ops: UnsafeCell::new(ops),
                native,
                flags_added: 0,
                had_mergeable: vma.break_ksm()?,
                cleared_maywrite: false,
                vmas: Refcount::new(1),
                lowest_zero_page: Atomic::new(u64::MAX),
                rcu: rcu::Head::new(),
                shadows,
                handler,
                // SAFETY: This code runs in an ioctl, whose open file holds a reference on the
                // module, or in a KUnit test, which runs while the module is being loaded.
                _module: unsafe { ModuleRef::new() },
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Self { vma, wrapped })
    }

    /// Gives the VMA its new operations. If it is shared and not writable, mprotect(2) cannot make
    /// it so until [`WrappedVma::restore`]. Cannot fail.
    pub(crate) fn install(mut self) {
        // INVARIANT: The VMA has a file, as `Prepared::new` has seen. `set_stand_in_flags` sets
        // `VM_MIXEDMAP` and `VM_MAYBE_GUARD`.
        // INVARIANT: No VMA has the table yet, so `flags_added` and `cleared_maywrite` may change.
        self.wrapped.cleared_maywrite = self.vma.clear_maywrite();
        self.wrapped.flags_added = self.vma.set_stand_in_flags(self.wrapped.had_mergeable);
        if let Some(shadows) = &self.wrapped.shadows {
            // SAFETY: The VMA is valid and gets the table below. `put` calls `closed()` of the same
            // holders before the VMA is freed: `shadows` is constant.
            unsafe {
                let mm = MmKey::new((*self.vma.as_ptr()).vm_mm);
                shadows.holders().opened(mm);
            }
        }
        // `vmas` started at 1: that count is this VMA's from here on. `close` or `restore` drops
        // it.
        let wrapped = KBox::into_raw(self.wrapped);
        // SAFETY: `vma` is valid by the invariants of `LockedVma`. Holding the mmap lock and the
        // VMA lock for write excludes all callers of `vm_ops` except one: rmap walkers call
        // `->find_normal_page` for special PTEs under the page-table lock or `i_mmap_rwsem` alone
        // (`__vm_normal_page()`). Both tables have the same `find_normal_page`, and both are valid:
        // `*native` by the invariants of `Wrapped`, `ops` until a grace period after the last
        // `->close`.
        unsafe { bindings::nosigbus_set_vm_ops(self.vma.as_ptr(), (*wrapped).ops.get()) };
    }
}

/// The handler that a VMA's faults go to, if it is a `T`.
pub(crate) fn handler_of<T: FaultHandler>(vma: &VmaRef) -> Option<&T> {
    let vma = vma.as_ptr();
    // SAFETY: There is a `VmaRef` only while the mmap lock or the VMA lock is held, for read at
    // least, which keeps the VMA from going and its operations from changing.
    unsafe { is_wrapped::<T>(vma).then(|| &(*Wrapped::<T>::of(vma)).handler) }
}

/// Whether a VMA's faults go to a `T`.
///
/// # Safety
///
/// `vma` must be valid, and its lock or its mm's mmap lock held.
unsafe fn is_wrapped<T: FaultHandler>(vma: *mut vm_area_struct) -> bool {
    // SAFETY: As the caller promises; a VMA's operations are null or valid.
    let fault = unsafe { (*vma).vm_ops.as_ref() }.and_then(|ops| ops.fault);
    // Only tables of a `Wrapped<T>` have this function: it is private to this file. Rust does not
    // promise different addresses for two handlers: functions with the same code may be merged. The
    // only other handler is that of the KUnit tests, whose code differs. Nor does Rust promise one
    // address for one function, but the kernel builds with one codegen unit.
    fault.is_some_and(|fault| core::ptr::fn_addr_eq(fault, Wrapped::<T>::fault as FaultFn))
}

impl<'g> LockedVma<'g> {
    /// Whether the VMA's faults go to a `T`.
    pub(crate) fn is_wrapped<T: FaultHandler>(&self) -> bool {
        // SAFETY: By the invariants of `LockedVma` the VMA is valid and its mmap lock is held.
        unsafe { is_wrapped::<T>(self.as_ptr()) }
    }

    /// The VMA as one whose faults go to a `T`, if they do.
    pub(crate) fn into_wrapped<T: FaultHandler>(self) -> Option<WrappedVma<'g, T>> {
        if !self.is_wrapped::<T>() {
            return None;
        }
        // INVARIANT: Just asked.
        Some(WrappedVma {
            vma: self,
            _handler: PhantomData,
        })
    }
}

/// A VMA whose faults go to a `T`.
///
/// # Invariants
///
/// The `vm_ops` of `vma` is the table of a `Wrapped<T>`.
pub(crate) struct WrappedVma<'g, T: FaultHandler> {
    vma: LockedVma<'g>,
    _handler: PhantomData<&'g T>,
}

impl<'g, T: FaultHandler> WrappedVma<'g, T> {
    /// The mapping's handler.
    pub(crate) fn handler(&self) -> &T {
        // SAFETY: By the type invariants `vm_ops` is the table of a `Wrapped<T>`. By its invariants
        // that counts this VMA, and so is valid as long as the VMA is locked.
        unsafe { &(*Wrapped::<T>::of(self.vma.as_ptr())).handler }
    }

    /// Restores the file system's `vm_ops` and zaps all zero pages and shadow pages. `lowest`
    /// returns the first page index that may have one; it is called when no fault can map another.
    /// Cannot fail.
    ///
    /// # Context
    ///
    /// Takes the VMA lock for write, the locks that `lowest` takes, and page-table locks. Sleeps.
    pub(crate) fn restore(self, lowest: impl FnOnce(&T) -> u64) {
        // SAFETY: By the type invariants the VMA is wrapped by a `Wrapped<T>`.
        let this = unsafe { Wrapped::<T>::of(self.vma.as_ptr()) };
        self.vma.start_write();
        // No fault maps anything from here on.
        let mut lowest = lowest(self.handler());
        if self.vma.is_shared() {
            // Security: if a zero page stayed mapped here and mprotect() then made the VMA
            // writable, user space could write to the system-wide zero page. Do not trust
            // `lowest()` of the handler for that; use our own bound. In a private VMA core mm makes
            // a copy.
            // SAFETY: The VMA is counted, so `this` is valid until `put`.
            lowest = lowest.min(unsafe { (*this).lowest_zero_page.load(Relaxed) });
        }
        self.vma.zap_stand_ins(lowest);

        // SAFETY: The VMA is counted, so `this` is valid until `put`. The mmap lock and the VMA
        // lock are held for write, so core mm calls no function of `vm_ops` now except
        // `find_normal_page` (see `install`).
        // - A concurrent `find_normal_page` caller may still use `ops`. It is in an RCU read-side
        //   critical section (`pte_offset_map_lock()`), and by the invariants of `Wrapped` `ops` is
        //   freed only after a grace period.
        // - Special PTEs: in a shared VMA none is left, since `zap_stand_ins()` zapped everything
        //   from `lowest_zero_page` on. In a private VMA, zero-page PTEs may remain below `lowest`:
        //   userfaultfd's, or the handler's if `lowest` was wrong. Core mm handles those in any
        //   VMA.
        unsafe {
            bindings::nosigbus_set_vm_ops(self.vma.as_ptr(), (*this).native);
            self.vma.clear_stand_in_flags((*this).flags_added);
            self.vma.restore_mergeable((*this).had_mergeable);
            if (*this).cleared_maywrite {
                self.vma.restore_maywrite();
            }
            Wrapped::put(this, MmKey::new((*self.vma.as_ptr()).vm_mm));
        }
    }
}

type MapPagesFn = unsafe extern "C" fn(*mut vm_fault, usize, usize) -> vm_fault_t;

#[kunit_tests(nosigbus_vm_operations)]
mod tests {
    use super::*;
    use crate::abstractions::{
        fault::FsResult,
        mm::MmapWriteGuard,
        module::module_refcount,
        user_memory::{
            unmap,
            Access,
            Sharing, //
            ShmemFile,
        }, //
    };
    use kernel::{
        bindings::vm_fault_reason_VM_FAULT_RETRY,
        page::PAGE_SIZE, //
    };

    /// Counts its own end, and leaves every fault to the file system.
    struct Probe(Arc<Atomic<i32>>);

    impl FaultHandler for Probe {
        fn fault(fault: Fault<'_, Self>) -> FaultResult {
            match fault.call_file_system() {
                FsResult::Final(result) | FsResult::Sigbus(_, result) => result,
                FsResult::Page(page) => page.pass(),
            }
        }

        fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult {
            match mkwrite.call_file_system() {
                FsResult::Final(result) | FsResult::Sigbus(_, result) => result,
                FsResult::Page(page) => page.pass(),
            }
        }

        fn file_system_first(&self) -> bool {
            false
        }

        fn fault_sigbus(_: Fault<'_, Self>, sigbus: FaultResult) -> FaultResult {
            sigbus
        }

        fn mkwrite_sigbus(_: Mkwrite<'_, Self>, sigbus: FaultResult) -> FaultResult {
            sigbus
        }

        fn may_map_around(&self, _: &MappedFile<'_>, _: u64) -> bool {
            true
        }
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            self.0.add(1, Relaxed);
        }
    }

    /// As exfat's `->page_mkwrite` while another task has the inode locked.
    unsafe extern "C" fn asks_for_a_retry(_: *mut vm_fault) -> vm_fault_t {
        vm_fault_reason_VM_FAULT_RETRY
    }

    #[test]
    fn mkwrite_that_asks_for_a_retry_succeeds() {
        // SAFETY: Zeros are a valid `vm_fault`: integers and pointers.
        let mut vmf: vm_fault = unsafe { core::mem::zeroed() };
        vmf.page = core::ptr::dangling_mut();
        // SAFETY: Nothing but `vmf->page` is looked at, and that only for being null.
        let mkwrite = unsafe { Mkwrite::<Probe>::new(&mut vmf, asks_for_a_retry) };
        assert_eq!(Probe::mkwrite(mkwrite).0, 0);
    }

    const MAGIC: u64 = 0x6e6f_7369_6762_7573;

    /// Test double for Coda: private data next to the vm_ops table.
    #[repr(C)]
    struct Container {
        ops: vm_operations_struct,
        magic: u64,
    }

    /// How often `foreign` was called with the table of a `Container`, and how often with another.
    static FOREIGN: [Atomic<i32>; 2] = [Atomic::new(0), Atomic::new(0)];

    unsafe extern "C" fn foreign(vma: *mut vm_area_struct) {
        // SAFETY: To be called with the table of a `Container`.
        let magic = unsafe {
            let ops = (*vma).vm_ops.cast_mut();
            core::ptr::read_volatile(&raw const (*kernel::container_of!(ops, Container, ops)).magic)
        };
        FOREIGN[usize::from(magic != MAGIC)].add(1, Relaxed);
    }

    #[test]
    fn tables_in_allocated_memory_are_refused() -> Result {
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let file = ShmemFile::new(2 * PAGE_SIZE)?;
        let addr = file.map(2 * PAGE_SIZE, Sharing::Shared, Access::Read)?;
        let task = current!();
        let mm = task.mm().ok_or(EINVAL)?;

        let mut guard = MmapWriteGuard::lock_killable(mm)?;
        let vma = guard.vmas_from(addr).next().ok_or(EINVAL)?.as_ptr();
        // SAFETY: Valid, and locked.
        let mut ops = unsafe { *(*vma).vm_ops };
        (ops.open, ops.close) = (Some(foreign as _), Some(foreign as _));
        let container = KBox::new(Container { ops, magic: MAGIC }, GFP_KERNEL)?;
        // SAFETY: The table is valid until both VMAs are unmapped, below.
        unsafe { (*vma).vm_ops = &raw const container.ops };
        drop(guard);

        let wrapped = wrap(addr, &ends, true);
        // A split, and so one `open` and two `close`.
        unmap(addr, PAGE_SIZE)?;
        unmap(addr + PAGE_SIZE, PAGE_SIZE)?;
        let [mine, others] = &FOREIGN;
        assert_eq!(others.load(Relaxed), 0);
        assert_eq!(mine.load(Relaxed), 3);
        assert_eq!(wrapped, Err(EOPNOTSUPP));
        Ok(())
    }

    fn wrap(addr: usize, ends: &Arc<Atomic<i32>>, install: bool) -> Result {
        let task = current!();
        let mut guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vmas_from(addr).next().ok_or(EINVAL)?;
        let prepared = Prepared::new(vma, Probe(ends.clone()), None)?;
        if install {
            prepared.install();
        }
        Ok(())
    }

    fn is_wrapped(addr: usize) -> Result<bool> {
        let task = current!();
        let mut guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vmas_from(addr).next().ok_or(EINVAL)?;
        Ok(vma.is_wrapped::<Probe>())
    }

    #[test]
    fn preparing_changes_nothing() -> Result {
        let modules = module_refcount();
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let file = ShmemFile::new(PAGE_SIZE)?;
        let addr = file.map(PAGE_SIZE, Sharing::Shared, Access::Read)?;

        wrap(addr, &ends, false)?;
        assert!(!is_wrapped(addr)?);
        assert_eq!(ends.load(Relaxed), 1);
        assert_eq!(module_refcount(), modules);
        Ok(())
    }

    #[test]
    fn lives_until_the_last_vma_goes() -> Result {
        let modules = module_refcount();
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let file = ShmemFile::new(5 * PAGE_SIZE)?;
        let addr = file.map(5 * PAGE_SIZE, Sharing::Shared, Access::Read)?;

        wrap(addr, &ends, true)?;
        assert!(is_wrapped(addr)?);
        assert_eq!(module_refcount(), modules + 1);

        // From the middle (a split, so one VMA more), the head, and the rest.
        for (page, pages) in [(2, 1), (0, 1), (1, 1), (4, 1)] {
            unmap(addr + page * PAGE_SIZE, pages * PAGE_SIZE)?;
            assert_eq!(ends.load(Relaxed), 0);
            assert_eq!(module_refcount(), modules + 1);
            assert!(is_wrapped(addr + 3 * PAGE_SIZE)?);
        }
        unmap(addr + 3 * PAGE_SIZE, PAGE_SIZE)?;
        assert_eq!(ends.load(Relaxed), 1);
        assert_eq!(module_refcount(), modules);
        Ok(())
    }

    #[test]
    fn a_wrapped_vma_is_not_wrapped_again() -> Result {
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let file = ShmemFile::new(PAGE_SIZE)?;
        let addr = file.map(PAGE_SIZE, Sharing::Private, Access::ReadWrite)?;

        wrap(addr, &ends, true)?;
        assert_eq!(wrap(addr, &ends, true), Err(EOPNOTSUPP));
        // The second one, which came to nothing.
        assert_eq!(ends.load(Relaxed), 1);
        unmap(addr, PAGE_SIZE)?;
        assert_eq!(ends.load(Relaxed), 2);
        Ok(())
    }

    fn restore(addr: usize) -> Result {
        let task = current!();
        let mut guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vmas_from(addr).next().ok_or(EINVAL)?;
        vma.into_wrapped::<Probe>().ok_or(ENOENT)?.restore(|_| 0);
        Ok(())
    }

    /// mremap(2) can move a mapping to page indexes whose byte offset does not fit in 64 bits.
    #[test]
    fn far_behind_all_offsets() -> Result {
        const FAR: usize = 1 << (usize::BITS - kernel::page::PAGE_SHIFT as u32);
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let file = ShmemFile::new(PAGE_SIZE)?;
        let addr = file.map(PAGE_SIZE, Sharing::Shared, Access::Read)?;
        wrap(addr, &ends, true)?;

        let task = current!();
        let mut guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vmas_from(addr).next().ok_or(EINVAL)?;
        let raw = vma.as_ptr();
        let wrapped = vma.into_wrapped::<Probe>().ok_or(ENOENT)?;
        // SAFETY: The VMA is valid, and the mmap lock is held for write until `vm_pgoff` is
        // restored.
        unsafe { (*raw).vm_pgoff = FAR };
        wrapped.restore(|_| FAR as u64);
        // SAFETY: The VMA is valid, and the mmap lock is still held for write.
        unsafe { (*raw).vm_pgoff = 0 };
        drop(guard);
        unmap(addr, PAGE_SIZE)?;
        assert_eq!(ends.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn restored_vmas_are_off_the_count() -> Result {
        let modules = module_refcount();
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let file = ShmemFile::new(3 * PAGE_SIZE)?;
        let addr = file.map(3 * PAGE_SIZE, Sharing::Shared, Access::ReadWrite)?;

        assert_eq!(restore(addr), Err(ENOENT));
        wrap(addr, &ends, true)?;
        unmap(addr + PAGE_SIZE, PAGE_SIZE)?;

        restore(addr)?;
        assert!(!is_wrapped(addr)?);
        assert!(is_wrapped(addr + 2 * PAGE_SIZE)?);
        assert_eq!(ends.load(Relaxed), 0);
        assert_eq!(restore(addr), Err(ENOENT));

        restore(addr + 2 * PAGE_SIZE)?;
        assert_eq!(ends.load(Relaxed), 1);
        assert_eq!(module_refcount(), modules);

        // And again, as if nothing had been.
        wrap(addr, &ends, true)?;
        assert!(is_wrapped(addr)?);
        unmap(addr, 3 * PAGE_SIZE)?;
        assert_eq!(ends.load(Relaxed), 2);
        assert_eq!(module_refcount(), modules);
        Ok(())
    }
}
