// SPDX-License-Identifier: GPL-2.0-only

//! A VMA's operations, wrapped: the file system's own table with some entries replaced.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! [`Prepared::install`] points `vma->vm_ops` at a copy of the file system's table that sits
//! inside a [`Wrapped`]; `container_of(vma->vm_ops)` finds it again, so that `vm_private_data`
//! stays the file system's. The `Wrapped` lives as long as there are VMAs with that table: core
//! mm copies `vm_ops` to the VMAs that come from a split, a fork or an mremap and tells so by
//! `->open`, and calls `->close` before a VMA goes. [`WrappedVma::restore`] gives a VMA the file
//! system's own table back.

use super::{
    atomic::update,
    bindings,
    errno::eopnotsupp,
    fault::{
        has_failed,
        may_be_huge,
        Fault,
        FaultFn,
        FaultResult, //
    },
    file::MappedFile,
    holders::{
        Holders,
        Mm, //
    },
    image,
    module::{
        Call,
        ModuleRef, //
    },
    page_mkwrite::Mkwrite,
    rcu,
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
        Refcount, //
    }, //
};

/// Answers the faults of wrapped VMAs. The value is shared by all VMAs of one mapping.
pub(crate) trait FaultHandler: Sized + Send + Sync + 'static {
    /// Where the address spaces are remembered that have the mapping, if that is anywhere.
    fn holders(&self) -> Option<&Holders>;

    /// Whether nothing has been mapped in place of a page of the file, nor is about to be. Then core mm
    /// and the file system are left alone, and of what follows only `failed` and `write_failed` are called.
    /// (Not so in a VMA that may have huge pages.)
    fn is_plain(&self) -> bool;

    /// Called where the file system has answered a fault with SIGBUS: the answer, which may be that.
    ///
    /// Runs as `fault` does.
    fn failed(fault: Fault<'_, Self>, sigbus: FaultResult) -> FaultResult;

    /// Called where the file system has answered a write to a read-only page with SIGBUS: the answer,
    /// which may be that.
    ///
    /// Runs as `fault` does.
    fn write_failed(mkwrite: Mkwrite<'_, Self>, sigbus: FaultResult) -> FaultResult;

    /// Called at each fault that core mm would take to the file system's `->fault`.
    ///
    /// Runs under the VMA lock or the mmap lock, for read, and may sleep.
    fn fault(fault: Fault<'_, Self>) -> FaultResult;

    /// Called at each write to a read-only page that core mm would take to the file system's
    /// `->page_mkwrite` or `->pfn_mkwrite`; where it has none, this is not called.
    ///
    /// Runs as `fault` does.
    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult;

    /// Whether core mm may map pages of the file, around the one at `pgoff` (index) that is read, as far as
    /// the page cache has them. Otherwise, or if that does not map this one, `fault` is called next.
    ///
    /// Must not sleep: called in an RCU read-side critical section that lasts until they are mapped.
    fn may_map_around(&self, file: &MappedFile<'_>, pgoff: u64) -> bool;
}

/// A table of operations and what its functions need.
///
/// # Invariants
///
/// - `native` is the table that the file system gave the VMA. It is part of the image of the kernel or
///   of a module, which the VMA's file keeps loaded.
/// - `ops` equals `*native` but for `open`, `close` and `fault` (which `*native` has), and for
///   `map_pages`, `page_mkwrite` and `pfn_mkwrite` where `*native` has them. It does not change.
/// - `added` is written before the first VMA has the table, and not after that.
/// - `vmas` is the number of VMAs whose `vm_ops` is `ops`, or 1 before the first one is.
/// - When `vmas` is 0, an RCU grace period passes before the memory that `ops` is in is freed.
/// - In these VMAs, the zero page is mapped at no page index below `lowest_zero_page`.
#[repr(C)]
pub(super) struct Wrapped<T: FaultHandler> {
    ops: UnsafeCell<vm_operations_struct>,
    /// Near the start, see [`rcu::free`].
    rcu: rcu::Head,
    pub(super) native: *const vm_operations_struct,
    /// That of `*native`, which most faults go on to.
    native_map_pages: Option<MapPagesFn>,
    /// Flags of the VMAs that `install` has set.
    added: vm_flags_t,
    vmas: Refcount,
    /// Whether KSM merged pages of the VMAs before.
    merging: bool,
    /// Never raised. A VMA that comes from another one has its page indexes.
    lowest_zero_page: Atomic<u64>,
    pub(super) handler: T,
    // Core mm calls into this module for as long as there is such a table.
    _module: ModuleRef,
}

impl<T: FaultHandler> Wrapped<T> {
    /// To be called before the zero page is mapped at a page index, and behind it.
    pub(super) fn map_zero_pages_from(&self, pgoff: u64) {
        // Relaxed: who relies on it, `WrappedVma::restore`, has waited for this fault by the VMA
        // lock, as has who copies the VMA.
        update(&self.lowest_zero_page, |lowest| lowest.min(pgoff));
    }

    /// The `Wrapped` of a VMA.
    ///
    /// # Safety
    ///
    /// `vma` must be valid and locked, and its `vm_ops` be the table of a `Wrapped<T>`.
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
        // All faults inside a file come by here, and most of them no further. The call is counted because
        // the file system may drop the lock and sleep, and the mapping may go meanwhile.
        // SAFETY: As the caller promises; by the type invariants, the file system has a `->fault`.
        unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            let this = Self::of(vma);
            if may_be_huge(vma) || !(*this).handler.is_plain() {
                return T::fault(Fault::new(vmf)).0;
            }
            let call = Call::begin();
            let result = (*(*this).native).fault.unwrap_unchecked()(vmf);
            drop(call);
            if result & vm_fault_reason_VM_FAULT_SIGBUS == 0 {
                return result;
            }
            Self::failed(vmf, result)
        }
    }

    /// Answers a fault that the file system has answered with `result`, an error.
    ///
    /// # Safety
    ///
    /// As for [`Self::fault`].
    #[cold]
    #[inline(never)]
    unsafe fn failed(vmf: *mut vm_fault, result: vm_fault_t) -> vm_fault_t {
        if !has_failed(result) {
            return result;
        }
        // SAFETY: As the caller promises, and the lock has not been dropped.
        T::failed(unsafe { Fault::new(vmf) }, FaultResult(result)).0
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->map_pages` of a VMA with this table, under its lock.
    unsafe extern "C" fn map_pages(vmf: *mut vm_fault, first: usize, last: usize) -> vm_fault_t {
        // SAFETY: As the caller promises.
        unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            let this = Self::of(vma);
            if may_be_huge(vma) || !(*this).handler.is_plain() {
                return Self::map_pages_beside(vmf, first, last);
            }
            // By the invariants, there is one; core mm would call it just so.
            (*this).native_map_pages.unwrap_unchecked()(vmf, first, last)
        }
    }

    /// As [`Self::map_pages`], where something may have been mapped in place of the file's pages.
    ///
    /// # Safety
    ///
    /// The same.
    #[inline(never)]
    unsafe fn map_pages_beside(vmf: *mut vm_fault, first: usize, last: usize) -> vm_fault_t {
        // SAFETY: Core mm calls this under the lock that it calls `->fault` under, and with the same
        // argument.
        let fault = unsafe { Fault::<T>::new(vmf) };
        // SAFETY: As the caller promises.
        let may = unsafe { !may_be_huge(fault.vma()) };
        if !may || !fault.handler().may_map_around(&fault.file(), fault.pgoff()) {
            // Nothing is mapped: core mm goes on with `->fault`.
            return 0;
        }
        // SAFETY: The VMA keeps the table alive.
        match unsafe { (*Self::of(fault.vma())).native_map_pages } {
            // SAFETY: Core mm would call it just so.
            Some(map_pages) => unsafe { map_pages(vmf, first, last) },
            None => 0,
        }
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->page_mkwrite` of a VMA with this table, under its lock.
    unsafe extern "C" fn page_mkwrite(vmf: *mut vm_fault) -> vm_fault_t {
        // SAFETY: As the caller promises.
        unsafe { Self::mkwrite(vmf, |native| native.page_mkwrite) }
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->pfn_mkwrite` of a VMA with this table, under its lock.
    unsafe extern "C" fn pfn_mkwrite(vmf: *mut vm_fault) -> vm_fault_t {
        // SAFETY: As the caller promises.
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
        // SAFETY: As the caller promises; by the type invariants, the file system has the operation.
        unsafe {
            let this = Self::of((*vmf).__bindgen_anon_1.vma);
            let native = native(&*(*this).native).unwrap_unchecked();
            if !(*this).handler.is_plain() {
                return T::mkwrite(Mkwrite::new(vmf, native)).0;
            }
            let call = Call::begin();
            let result = native(vmf);
            drop(call);
            if result & vm_fault_reason_VM_FAULT_SIGBUS == 0 {
                return result;
            }
            Self::write_failed(vmf, native, result)
        }
    }

    /// As [`Self::failed`], of a `->page_mkwrite` or `->pfn_mkwrite`, which `native` is the file system's
    /// of.
    ///
    /// # Safety
    ///
    /// As for [`Self::mkwrite`].
    #[cold]
    #[inline(never)]
    unsafe fn write_failed(vmf: *mut vm_fault, native: FaultFn, result: vm_fault_t) -> vm_fault_t {
        if !has_failed(result) {
            return result;
        }
        // SAFETY: As the caller promises, and the lock has not been dropped.
        let mkwrite = unsafe { Mkwrite::new(vmf, native) };
        T::write_failed(mkwrite, FaultResult(result)).0
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->open` of a VMA that has got this table by being a copy
    /// of another one, with the mmap lock held for write.
    unsafe extern "C" fn open(vma: *mut vm_area_struct) {
        // SAFETY: The VMA has this table, as the caller promises, and the one that it is a copy
        // of keeps the table alive.
        unsafe {
            let this = Self::of(vma);
            // INVARIANT: One VMA more.
            (*this).vmas.inc();
            if let Some(holders) = (*this).handler.holders() {
                // It is a new VMA of this address space. `put` is called before it goes.
                holders.opened(Mm::new((*vma).vm_mm));
            }
            if let Some(open) = (*(*this).native).open {
                open(vma);
            }
        }
    }

    /// # Safety
    ///
    /// To be called by core mm, once, as the last operation of a VMA with this table, when nobody
    /// else looks at the VMA any more, and before its `vm_file` is put.
    unsafe extern "C" fn close(vma: *mut vm_area_struct) {
        // SAFETY: The VMA has this table, as the caller promises.
        let this = unsafe { Self::of(vma) };

        // SAFETY: The VMA is counted, so `this` is valid.
        unsafe {
            if let Some(close) = (*(*this).native).close {
                close(vma);
            }
        }

        // SAFETY: Core mm does not use the table any more.
        unsafe { Self::put(this, Mm::new((*vma).vm_mm)) };
    }

    /// Takes a VMA of `mm` off the count.
    ///
    /// # Safety
    ///
    /// To be called once for each VMA that is counted, when nobody uses the table through it any
    /// more, and before it goes.
    unsafe fn put(this: *const Self, mm: Mm) {
        // SAFETY: The VMA is counted, so `this` is valid.
        if let Some(holders) = unsafe { (*this).handler.holders() } {
            holders.closed(mm);
        }
        // INVARIANT: One VMA less.
        // SAFETY: The VMA is counted, so `this` is valid; it is not looked at below unless this was
        // the last VMA.
        if unsafe { (*this).vmas.dec_and_test() } {
            // Dropping the handler may sleep; the last reference is to go after that.
            let _code = ModuleRef::new();
            // SAFETY: `Prepared::install` has leaked the box, and this was the last reference.
            let wrapped = unsafe { KBox::from_raw(this.cast_mut()) };
            const { assert!(core::mem::offset_of!(Wrapped<T>, rcu) < rcu::MAX_OFFSET) };
            // SAFETY: That is the field, which is near enough; and the memory is valid.
            unsafe { rcu::free(wrapped, |wrapped| &raw mut (*wrapped).rcu) };
        }
    }
}

/// A VMA and the new operations for it: all that can fail is done.
pub(crate) struct Prepared<'g, T: FaultHandler> {
    vma: LockedVma<'g>,
    wrapped: KBox<Wrapped<T>>,
}

impl<'g, T: FaultHandler> Prepared<'g, T> {
    /// Allocates the new operations of `vma`, charged to the caller's memory cgroup.
    ///
    /// Changes nothing yet, but that pages which KSM has merged are copied. Sleeps; fails with `ENOMEM`,
    /// with `ERESTARTSYS` if a signal came meanwhile, or with `EOPNOTSUPP` if the VMA has no
    /// fault handler, no file, or `VM_SPECIAL` flags already, or if its operations are in memory that
    /// was allocated: who has allocated them may free them at any time, or find his own state by
    /// `vma->vm_ops` (as Coda does both).
    pub(crate) fn new(vma: LockedVma<'g>, handler: T) -> Result<Self> {
        // SAFETY: The VMA is valid and locked.
        let native = unsafe { (*vma.as_ptr()).vm_ops };
        // SAFETY: `vm_ops` is null or valid for as long as the VMA's file is.
        let Some(mut ops) = (unsafe { native.as_ref() }).copied() else {
            return Err(eopnotsupp());
        };
        let Some(file) = vma.file() else {
            return Err(eopnotsupp());
        };
        // SAFETY: Not null, and so valid.
        let in_image = unsafe { image::contains(native.cast()) };
        let allocated = !in_image && !file.module_contains(native.cast());
        if allocated || ops.fault.is_none() || vma.is_special() {
            return Err(eopnotsupp());
        }

        ops.fault = Some(Wrapped::<T>::fault);
        ops.open = Some(Wrapped::<T>::open);
        ops.close = Some(Wrapped::<T>::close);
        let native_map_pages = ops.map_pages;
        ops.map_pages = native_map_pages.and(Some(Wrapped::<T>::map_pages));
        // Only where there is one: core mm takes a mapping that has them for one whose pages are
        // written back, with consequences from the first write fault to what can be pinned.
        ops.page_mkwrite = ops.page_mkwrite.and(Some(Wrapped::<T>::page_mkwrite));
        ops.pfn_mkwrite = ops.pfn_mkwrite.and(Some(Wrapped::<T>::pfn_mkwrite));

        // INVARIANT: `ops` is as `native` but for these; `vmas` is for the first VMA.
        let wrapped = KBox::new(
            Wrapped {
                native_map_pages,
                ops: UnsafeCell::new(ops),
                native,
                added: 0,
                merging: vma.break_ksm()?,
                vmas: Refcount::new(1),
                lowest_zero_page: Atomic::new(u64::MAX),
                rcu: rcu::Head::new(),
                handler,
                _module: ModuleRef::new(),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Self { vma, wrapped })
    }

    /// The VMA.
    pub(crate) fn vma(&self) -> &LockedVma<'g> {
        &self.vma
    }

    /// The mapping's handler.
    pub(crate) fn handler(&self) -> &T {
        &self.wrapped.handler
    }

    /// Gives the VMA its new operations. Cannot fail.
    pub(crate) fn install(mut self) {
        // INVARIANT: No VMA has the table yet.
        self.wrapped.added = self.vma.mark_mixed(self.wrapped.merging);
        if let Some(holders) = self.wrapped.handler.holders() {
            // SAFETY: The VMA is about to have the table. `put` is called before it goes.
            unsafe { holders.opened(Mm::new((*self.vma.as_ptr()).vm_mm)) };
        }
        // The reference that `vmas` starts with is the VMA's from here on; `close` takes it back.
        let wrapped = KBox::into_raw(self.wrapped);
        // SAFETY: The mmap lock and the VMA lock are held for write, so nobody calls any of `vm_ops`
        // now but `find_normal_page`, which is no other than it was. That one core mm asks for a
        // special entry, as the zero page's is, when it comes by the file's VMAs under the lock of
        // a page table, or of `i_mmap`, alone (`__vm_normal_page()`). Both tables are valid then:
        // the file system's by the invariants, and `wrapped` until a grace period after `close`.
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
    // No other table has this function: it is private, and calls `T::fault`.
    fault.is_some_and(|fault| core::ptr::fn_addr_eq(fault, Wrapped::<T>::fault as FaultFn))
}

impl<'g> LockedVma<'g> {
    /// Whether the VMA's faults go to a `T`.
    pub(crate) fn is_wrapped<T: FaultHandler>(&self) -> bool {
        // SAFETY: The VMA is valid and locked.
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
        // SAFETY: By the type invariants; the VMA keeps its `Wrapped` alive, and is locked.
        unsafe { &(*Wrapped::<T>::of(self.vma.as_ptr())).handler }
    }

    /// Gives the VMA the file system's operations back, and unmaps what the handler has mapped,
    /// which is nothing below the index (in pages) that `lowest` returns. With `maywrite`, undoes
    /// [`LockedVma::clear_maywrite`]. Cannot fail.
    pub(crate) fn restore(self, lowest: impl FnOnce(&T) -> u64, maywrite: bool) {
        // SAFETY: By the type invariants.
        let this = unsafe { Wrapped::<T>::of(self.vma.as_ptr()) };
        self.vma.start_write();
        // No fault maps anything from here on.
        let mut lowest = lowest(self.handler());
        if self.vma.is_shared() {
            // Were the zero page left where this can be made writable, all of the system could be
            // written to by it: that is not to depend on the handler. In a private VMA core mm
            // makes a copy.
            // SAFETY: The VMA is counted, so `this` is valid until `put`.
            lowest = lowest.min(unsafe { (*this).lowest_zero_page.load(Relaxed) });
        }
        self.vma.zap_stand_ins(lowest);

        // SAFETY: The VMA is counted, so `this` is valid until `put`. The mmap lock and the VMA
        // lock are held for write, so nobody calls any of `vm_ops` now but `find_normal_page` (see
        // `install`). Who is about to call that has the table still, in an RCU read-side critical
        // section, which a page table is locked in (`pte_offset_map_lock()`); by the invariants the
        // table stays until that is over. There may be special entries: in a shared VMA none since
        // `zap_stand_ins`, by the invariant of `lowest_zero_page`; in a private VMA the zero page's,
        // of others' making (userfaultfd), or left by a wrong `lowest`, which core mm knows in any
        // VMA.
        unsafe {
            (*self.vma.as_ptr()).vm_ops = (*this).native;
            self.vma.unmark_mixed((*this).added);
            self.vma.merge_again((*this).merging);
            Wrapped::put(this, Mm::new((*self.vma.as_ptr()).vm_mm));
        }
        if maywrite {
            self.vma.restore_maywrite();
        }
    }
}

type MapPagesFn = unsafe extern "C" fn(*mut vm_fault, usize, usize) -> vm_fault_t;

#[kunit_tests(nosigbus_vm_operations)]
mod tests {
    use super::*;
    use crate::abstractions::{
        fault::Native,
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
        page::PAGE_SIZE,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        },
    };

    /// Counts its own end, and leaves every fault to the file system.
    struct Probe(Arc<Atomic<i32>>);

    impl FaultHandler for Probe {
        fn holders(&self) -> Option<&Holders> {
            None
        }

        fn fault(fault: Fault<'_, Self>) -> FaultResult {
            match fault.native() {
                Native::Answered(result) | Native::Sigbus(_, result) => result,
                Native::Page(page) => page.pass(),
            }
        }

        fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult {
            match mkwrite.native() {
                Native::Answered(result) | Native::Sigbus(_, result) => result,
                Native::Page(page) => page.pass(),
            }
        }

        fn is_plain(&self) -> bool {
            false
        }

        fn failed(_: Fault<'_, Self>, sigbus: FaultResult) -> FaultResult {
            sigbus
        }

        fn write_failed(_: Mkwrite<'_, Self>, sigbus: FaultResult) -> FaultResult {
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

    const MAGIC: u64 = 0x6e6f_7369_6762_7573;

    /// A table of operations as Coda has it: whose it is says what is beside it.
    #[repr(C)]
    struct Container {
        ops: vm_operations_struct,
        magic: u64,
    }

    /// How often the operations below were called, and how often they found something else.
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

        let guard = MmapWriteGuard::lock_killable(mm)?;
        let vma = guard.vma_lookup(addr).ok_or(EINVAL)?.as_ptr();
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
        assert_eq!(wrapped, Err(eopnotsupp()));
        Ok(())
    }

    fn wrap(addr: usize, ends: &Arc<Atomic<i32>>, install: bool) -> Result {
        let task = current!();
        let guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vma_lookup(addr).ok_or(EINVAL)?;
        let prepared = Prepared::new(vma, Probe(ends.clone()))?;
        if install {
            prepared.install();
        }
        Ok(())
    }

    fn is_wrapped(addr: usize) -> Result<bool> {
        let task = current!();
        let guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vma_lookup(addr).ok_or(EINVAL)?;
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
        assert_eq!(wrap(addr, &ends, true), Err(eopnotsupp()));
        // The second one, which came to nothing.
        assert_eq!(ends.load(Relaxed), 1);
        unmap(addr, PAGE_SIZE)?;
        assert_eq!(ends.load(Relaxed), 2);
        Ok(())
    }

    fn restore(addr: usize) -> Result {
        let task = current!();
        let guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vma_lookup(addr).ok_or(EINVAL)?;
        vma.into_wrapped::<Probe>()
            .ok_or(ENOENT)?
            .restore(|_| 0, false);
        Ok(())
    }

    /// Where mremap(2) can bring a mapping: the offset in bytes has more than 64 bits.
    #[test]
    fn far_behind_all_offsets() -> Result {
        const FAR: usize = 1 << (usize::BITS - kernel::page::PAGE_SHIFT as u32);
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let file = ShmemFile::new(PAGE_SIZE)?;
        let addr = file.map(PAGE_SIZE, Sharing::Shared, Access::Read)?;
        wrap(addr, &ends, true)?;

        let task = current!();
        let guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vma_lookup(addr).ok_or(EINVAL)?;
        let raw = vma.as_ptr();
        let wrapped = vma.into_wrapped::<Probe>().ok_or(ENOENT)?;
        // SAFETY: Valid, and locked; nobody else looks at it before it is as it was.
        unsafe { (*raw).vm_pgoff = FAR };
        wrapped.restore(|_| FAR as u64, false);
        // SAFETY: As above.
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
