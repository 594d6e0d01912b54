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
    file::MappedFile,
    holders::{
        Holders,
        Mm, //
    },
    image,
    memalloc::ChargedTo,
    module::ModuleRef,
    page_insertion::{
        allocate_page_table,
        insert_page,
        insert_small,
        insert_zero_pages,
        inserted_result,
        ZeroPages, //
    },
    rcu,
    shadow_pages::{
        PageRef,
        ShadowPages, //
    },
    vma::LockedVma, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::RangeInclusive,
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
        vm_fault_t,
        vm_operations_struct, //
    },
    mm::virt::{
        flags,
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

    /// Called at each fault that core mm would take to the file system's `->fault`.
    ///
    /// Runs under the VMA lock or the mmap lock, for read, and may sleep.
    fn fault(fault: Fault<'_, Self>) -> FaultResult;

    /// Called at each write to a read-only page that core mm would take to the file system's
    /// `->page_mkwrite` or `->pfn_mkwrite`; where it has none, this is not called.
    ///
    /// Runs as `fault` does.
    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult;

    /// Says what may be mapped without asking the file system, where a page is read. If nothing is
    /// mapped there by that, `fault` is called next.
    ///
    /// Must not sleep: called in an RCU read-side critical section that lasts until pages of the
    /// file are mapped.
    fn may_map_around(read: &ReadFault<'_, Self>) -> MayMap;

    /// Answers a read without asking the file system, as `may_map_around` has announced; `None` if
    /// that is not possible any more. Core mm would have mapped `around` (indexes), among them the
    /// page that is read, as far as it is in the page cache.
    ///
    /// Runs as `fault` does.
    fn map_around(fault: &Fault<'_, Self>, around: RangeInclusive<u64>) -> Option<FaultResult>;
}

/// What may be mapped without asking the file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MayMap {
    Nothing,
    /// What is in the page cache.
    File,
    /// What [`FaultHandler::map_around`] maps.
    StandIns,
}

/// What `->fault` and its like return: bits `VM_FAULT_*`.
pub(crate) struct FaultResult(vm_fault_t);

impl FaultResult {
    /// Nothing is mapped, or something else is by now: the access is to be tried again.
    pub(crate) fn again() -> Self {
        Self(vm_fault_reason_VM_FAULT_NOPAGE)
    }

    /// The task is being killed, and cannot wait any longer: `SIGBUS`, which it does not live to see.
    pub(crate) fn given_up() -> Self {
        Self(vm_fault_reason_VM_FAULT_SIGBUS)
    }

    /// There is no memory.
    pub(crate) fn oom() -> Self {
        Self(vm_fault_reason_VM_FAULT_OOM)
    }
}

/// A fault that has not been answered yet.
///
/// # Invariants
///
/// `vmf` is the argument of a `->fault`, or of a `->map_pages` that answers in its place, that has not
/// returned. The lock that core mm called it under is held, so `vmf->vma` is valid; that VMA's `vm_ops`
/// is the table of a `Wrapped<T>`. The RCU read-side critical section that core mm calls `->map_pages`
/// in has been left, but for the one in a [`ReadFault`].
pub(crate) struct Fault<'a, T: FaultHandler> {
    vmf: NonNull<vm_fault>,
    _lifetime: PhantomData<(&'a vm_fault, &'a T)>,
}

/// As [`Fault`], of a read, where nothing can be done that sleeps.
pub(crate) struct ReadFault<'a, T: FaultHandler>(Fault<'a, T>);

impl<T: FaultHandler> ReadFault<'_, T> {
    /// The mapping's handler.
    pub(crate) fn handler(&self) -> &T {
        self.0.handler()
    }

    /// The mapped file.
    pub(crate) fn file(&self) -> MappedFile<'_> {
        self.0.file()
    }

    /// The page index in the file.
    pub(crate) fn pgoff(&self) -> u64 {
        self.0.pgoff()
    }
}

/// What has come of mapping a page as the answer to a fault.
pub(crate) struct Insertion(Result<usize>);

impl Insertion {
    /// At how many addresses it has been mapped. If none, something else is, or there was no memory.
    pub(crate) fn mapped(&self) -> usize {
        self.0.unwrap_or(0)
    }

    /// The answer. Sleeps: may allocate memory, charged to the task.
    pub(crate) fn result(self) -> FaultResult {
        FaultResult(inserted_result(self.0.map(|_| ())))
    }
}

/// How the file system has answered a `F`, a [`Fault`] or a [`Mkwrite`].
pub(crate) enum Native<F> {
    /// In a way that is passed on.
    Answered(FaultResult),
    /// With a page of the file: to be mapped, or written to.
    Page(FilePage<F>),
    /// With SIGBUS, which may be passed on, or answered in another way.
    Sigbus(F, FaultResult),
}

impl<F> Native<F> {
    /// Calls an operation of the file system.
    ///
    /// # Safety
    ///
    /// `operation` must be such a one, of the VMA of `vmf`, which must be the argument of the
    /// operation that `question` is about, not answered yet.
    unsafe fn ask(question: F, operation: Option<FaultFn>, vmf: *mut vm_fault) -> Self {
        // The file system may drop the lock and sleep, and the mapping, with its reference, may go
        // meanwhile: this function still has to be there to return to.
        let _code = ModuleRef::new();

        let result = match operation {
            // SAFETY: Core mm would call it just so, as the caller promises.
            Some(operation) => unsafe { operation(vmf) },
            None => vm_fault_reason_VM_FAULT_SIGBUS,
        };

        if result & vm_fault_reason_VM_FAULT_SIGBUS != 0
            && result & (vm_fault_reason_VM_FAULT_RETRY | POISON) == 0
        {
            // Only VM_FAULT_RETRY says that the lock has been dropped.
            Self::Sigbus(question, FaultResult(result))
        } else if result & !vm_fault_reason_VM_FAULT_LOCKED & !MAJOR == 0
            // SAFETY: Not VM_FAULT_RETRY, so `vmf` is as valid as before.
            && !unsafe { (*vmf).page.is_null() }
        {
            // INVARIANT: Neither an error nor VM_FAULT_NOPAGE, and there is a page.
            Self::Page(FilePage { question, result })
        } else {
            // With VM_FAULT_RETRY, not even the VMA may be looked at any more.
            Self::Answered(FaultResult(result))
        }
    }
}

const MAJOR: vm_fault_t = vm_fault_reason_VM_FAULT_MAJOR;
const POISON: vm_fault_t =
    vm_fault_reason_VM_FAULT_HWPOISON | vm_fault_reason_VM_FAULT_HWPOISON_LARGE;

/// What is to become of a page of the file that the file system has answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passage {
    /// It is mapped as core mm does it: with its neighbours, if it is part of a large page.
    Whole,
    /// It is mapped, and nothing else.
    Alone,
    /// It is not mapped: the access is to be tried again.
    Withdrawn,
}

/// A page of the file that the file system has answered a `F` with, a [`Fault`] or a [`Mkwrite`].
///
/// # Invariants
///
/// `result` is what the file system's operation has returned: nothing but `VM_FAULT_LOCKED` and
/// `VM_FAULT_MAJOR`. The page is `vmf->page`, with a reference, which has come with it if `F` is a
/// [`Fault`].
pub(crate) struct FilePage<F> {
    question: F,
    result: vm_fault_t,
}

impl<F> FilePage<F> {
    /// What the file system has answered.
    pub(crate) fn question(&self) -> &F {
        &self.question
    }
}

impl<'a, T: FaultHandler> FilePage<Fault<'a, T>> {
    /// Passes the page on.
    pub(crate) fn pass(mut self) -> FaultResult {
        // SAFETY: By the type invariants of `Fault` and of this.
        let is_huge = unsafe {
            may_be_huge(self.question.vma())
                && bindings::nosigbus_page_is_pmd_mappable((*self.question.vmf.as_ptr()).page)
        };
        if is_huge {
            self.lock();
            return self.pass_alone();
        }
        FaultResult(self.result)
    }

    /// Passes the page on as `passage` says. It is locked from before that until it is mapped.
    pub(crate) fn pass_as(mut self, passage: impl FnOnce(&Fault<'a, T>) -> Passage) -> FaultResult {
        self.lock();
        match passage(&self.question) {
            Passage::Whole => self.pass(),
            Passage::Alone => self.pass_alone(),
            Passage::Withdrawn => self.withdraw(),
        }
    }

    /// Maps this one page, which is locked, though it may be part of a large one.
    fn pass_alone(self) -> FaultResult {
        let vmf = self.question.vmf.as_ptr();
        // SAFETY: By the type invariants of `Fault` and of this; locked.
        unsafe {
            // Core mm makes a copy of one page only.
            if (*vmf).cow_page.is_null() && bindings::nosigbus_page_is_large((*vmf).page) {
                return FaultResult(insert_small(vmf) | self.result & MAJOR);
            }
        }
        FaultResult(self.result)
    }

    fn withdraw(self) -> FaultResult {
        let vmf = self.question.vmf.as_ptr();
        // SAFETY: By the type invariants; locked, and nobody else gives back the reference.
        unsafe {
            bindings::nosigbus_unlock_page((*vmf).page);
            bindings::nosigbus_put_page((*vmf).page);
            (*vmf).page = core::ptr::null_mut();
        }
        FaultResult::again()
    }

    /// Locks the page, as core mm would.
    fn lock(&mut self) {
        if self.result & vm_fault_reason_VM_FAULT_LOCKED == 0 {
            // SAFETY: By the type invariants there is a reference on the page.
            unsafe { bindings::nosigbus_lock_page((*self.question.vmf.as_ptr()).page) };
            self.result |= vm_fault_reason_VM_FAULT_LOCKED;
        }
    }
}

impl<'a, T: FaultHandler> FilePage<Mkwrite<'a, T>> {
    /// Lets the write happen.
    pub(crate) fn pass(self) -> FaultResult {
        FaultResult(self.result)
    }

    /// Lets the write happen unless `withdraw` says otherwise, in which case it is to be tried
    /// again. The page is locked from before that until it is mapped writable.
    pub(crate) fn pass_unless(self, withdraw: impl FnOnce(&Mkwrite<'a, T>) -> bool) -> FaultResult {
        let page = self.question.page();
        let locked = self.result & vm_fault_reason_VM_FAULT_LOCKED != 0;
        // SAFETY: By the type invariants there is a reference on the page.
        let truncated = unsafe {
            if !locked {
                bindings::nosigbus_lock_page(page);
            }
            bindings::nosigbus_page_mapping(page).is_null()
        };
        if truncated || withdraw(&self.question) {
            // SAFETY: Locked by now.
            unsafe { bindings::nosigbus_unlock_page(page) };
            return FaultResult::again();
        }
        FaultResult(self.result | vm_fault_reason_VM_FAULT_LOCKED)
    }
}

impl<'a, T: FaultHandler> Fault<'a, T> {
    fn vma(&self) -> *mut vm_area_struct {
        // SAFETY: By the type invariants.
        unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.vma }
    }

    /// The mapping's handler.
    pub(crate) fn handler(&self) -> &T {
        // SAFETY: By the type invariants; the VMA keeps its `Wrapped` alive, and cannot go while
        // it is locked.
        unsafe { &(*Wrapped::<T>::of(self.vma())).handler }
    }

    /// The mapped file.
    pub(crate) fn file(&self) -> MappedFile<'_> {
        // SAFETY: The VMA is valid, and has a file, without which it would not be wrapped.
        let file = unsafe { NonNull::new_unchecked((*self.vma()).vm_file) };
        // SAFETY: The VMA holds a reference on its file, and cannot go while it is locked.
        unsafe { MappedFile::from_raw(file) }
    }

    /// The address space that is accessed.
    pub(crate) fn mm(&self) -> Mm {
        // SAFETY: By the type invariants.
        Mm::new(unsafe { (*self.vma()).vm_mm })
    }

    /// Has memory charged to the memory cgroup of that address space.
    pub(crate) fn charge(&self) -> ChargedTo {
        // SAFETY: By the type invariants: the VMA keeps its address space.
        unsafe { ChargedTo::new((*self.vma()).vm_mm) }
    }

    /// The page of the file that is accessed, in pages from its start.
    pub(crate) fn pgoff(&self) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { (*self.vmf.as_ptr()).__bindgen_anon_1.pgoff as u64 }
    }

    /// Whether the access is a write.
    pub(crate) fn is_write(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { (*self.vmf.as_ptr()).flags & fault_flag_FAULT_FLAG_WRITE != 0 }
    }

    /// Allocates the page table that is to have the page, if there is none. Sleeps; fails with the
    /// answer to the fault.
    pub(crate) fn allocate_page_table(&self) -> Result<(), FaultResult> {
        // SAFETY: By the type invariants; a wrapped VMA has VM_MIXEDMAP.
        let allocated = unsafe { allocate_page_table(self.vmf.as_ptr()) };
        allocated.map_err(|error| FaultResult(inserted_result(Err(error))))
    }

    /// Whether there is a page table. Another thread may have it freed (madvise(2)).
    pub(crate) fn has_page_table(&self) -> bool {
        // SAFETY: By the type invariants; core mm has found the directory.
        !unsafe { bindings::nosigbus_pmd_none((*self.vmf.as_ptr()).pmd) }
    }

    /// Maps the shared zero page, read-only, here and behind, at `pages` pages in all if there is
    /// nothing else: the answer.
    pub(crate) fn insert_zero_pages(&self, pages: usize) -> Insertion {
        // SAFETY: By the type invariants; the VMA keeps its `Wrapped` alive.
        unsafe { &*Wrapped::<T>::of(self.vma()) }.map_zero_pages_from(self.pgoff());
        // SAFETY: By the type invariants; a wrapped VMA has VM_MIXEDMAP.
        Insertion(unsafe { insert_zero_pages(self.vmf.as_ptr(), pages) })
    }

    /// Has core mm make a private page of zeros, if this is a write to a private mapping: the
    /// answer.
    pub(crate) fn private_copy_of_zeros(&self, zeros: &ZeroPages) -> Option<FaultResult> {
        // SAFETY: By the type invariants.
        if unsafe { (*self.vmf.as_ptr()).cow_page.is_null() } {
            return None;
        }
        // SAFETY: By the type invariants, and it is a write to a private mapping.
        Some(FaultResult(unsafe { zeros.give(self.vmf.as_ptr()) }))
    }

    /// Maps a shadow page: the answer.
    pub(crate) fn insert_shadow_page(&self, page: &PageRef) -> Insertion {
        // SAFETY: By the type invariants; a wrapped VMA has VM_MIXEDMAP.
        Insertion(unsafe { insert_page(self.vmf.as_ptr(), page) }.map(|()| 1))
    }

    /// Whether the file system takes no locks but those of the page cache when it reads a page at a
    /// fault: it answers by `filemap_fault()` itself, or is known to add none.
    pub(crate) fn reads_as_page_cache_does(&self) -> bool {
        // SAFETY: By the type invariants; `native` is the file system's table.
        let operation = unsafe { (*(*Wrapped::<T>::of(self.vma())).native).fault };
        let filemap_fault: FaultFn = kernel::bindings::filemap_fault;
        operation.is_some_and(|operation| core::ptr::fn_addr_eq(operation, filemap_fault))
            || self.file().adds_no_locks_to_page_cache()
    }

    /// Whether [`FaultHandler::mkwrite`] is called before a page that is mapped now is first written to.
    pub(crate) fn is_asked_before_writes(&self) -> bool {
        // SAFETY: By the type invariants; `native` is the file system's table.
        unsafe { (*(*Wrapped::<T>::of(self.vma())).native).page_mkwrite }.is_some()
    }

    /// Lets the file system answer.
    pub(crate) fn native(self) -> Native<Self> {
        let vmf = self.vmf.as_ptr();
        // SAFETY: By the type invariants; `native` is the file system's table.
        unsafe {
            let operation = (*(*Wrapped::<T>::of(self.vma())).native).fault;
            Native::ask(self, operation, vmf)
        }
    }
}

/// Whether core mm would map huge pages in a wrapped VMA: madvise(2) with `MADV_HUGEPAGE` has taken
/// away the flag that keeps it from that.
///
/// # Safety
///
/// `vma` must be valid and locked.
unsafe fn may_be_huge(vma: *mut vm_area_struct) -> bool {
    // SAFETY: As the caller promises.
    unsafe { (*vma).__bindgen_anon_2.vm_flags & flags::NOHUGEPAGE == 0 }
}

/// A write to a page that is mapped read-only in a shared mapping, not answered yet.
///
/// # Invariants
///
/// What holds for [`Fault`] holds for `fault`, but that it is the argument of a `->page_mkwrite` or
/// `->pfn_mkwrite`. `native` is the file system's operation of the same name. Core mm holds a
/// reference on the page, if `vmf->page` is not null.
pub(crate) struct Mkwrite<'a, T: FaultHandler> {
    fault: Fault<'a, T>,
    native: Option<FaultFn>,
}

impl<'a, T: FaultHandler> Mkwrite<'a, T> {
    /// The mapping's handler.
    pub(crate) fn handler(&self) -> &T {
        self.fault.handler()
    }

    /// The mapped file.
    pub(crate) fn file(&self) -> MappedFile<'_> {
        self.fault.file()
    }

    /// The address space that is accessed.
    pub(crate) fn mm(&self) -> Mm {
        self.fault.mm()
    }

    /// Has memory charged to the memory cgroup of that address space.
    pub(crate) fn charge(&self) -> ChargedTo {
        self.fault.charge()
    }

    /// The page of the file that is accessed, in pages from its start.
    pub(crate) fn pgoff(&self) -> u64 {
        self.fault.pgoff()
    }

    fn page(&self) -> *mut kernel::bindings::page {
        // SAFETY: By the type invariants.
        unsafe { (*self.fault.vmf.as_ptr()).page }
    }

    /// Whether the page is one of `shadows`.
    pub(crate) fn is_shadow(&self, shadows: &ShadowPages) -> bool {
        let page = self.page();
        // Pages of a file, unless they have been truncated, say whose they are: that is sooner seen.
        // SAFETY: Core mm has a reference on the page, if there is one.
        if page.is_null() || !unsafe { bindings::nosigbus_page_mapping(page) }.is_null() {
            return false;
        }
        shadows
            .get(self.pgoff())
            .is_some_and(|shadow| shadow.as_ptr() == page)
    }

    /// Lets the write happen, to a page that is the mapping's own; gives it back if there is no
    /// page.
    pub(crate) fn allow(self) -> Result<FaultResult, Self> {
        if self.page().is_null() {
            return Err(self);
        }
        // Without the lock in hand core mm takes it, and a page without a file for a truncated one.
        // SAFETY: Core mm has a reference on the page, and unlocks it.
        unsafe { bindings::nosigbus_lock_page(self.page()) };
        Ok(FaultResult(vm_fault_reason_VM_FAULT_LOCKED))
    }

    /// Lets the file system answer.
    pub(crate) fn native(self) -> Native<Self> {
        let (operation, vmf) = (self.native, self.fault.vmf.as_ptr());
        // SAFETY: By the type invariants.
        unsafe { Native::ask(self, operation, vmf) }
    }
}

/// A table of operations and what its functions need.
///
/// # Invariants
///
/// - `native` is the table that the file system gave the VMA. It is part of the image of the kernel or
///   of a module, which the VMA's file keeps loaded.
/// - `ops` equals `*native` but for `open`, `close` and `fault`, and for `map_pages`,
///   `page_mkwrite` and `pfn_mkwrite` where `*native` has them. It does not change.
/// - `added` is written before the first VMA has the table, and not after that.
/// - `vmas` is the number of VMAs whose `vm_ops` is `ops`, or 1 before the first one is.
/// - When `vmas` is 0, an RCU grace period passes before the memory that `ops` is in is freed.
/// - In these VMAs, the zero page is mapped at no page index below `lowest_zero_page`.
#[repr(C)]
struct Wrapped<T: FaultHandler> {
    ops: UnsafeCell<vm_operations_struct>,
    /// Near the start, see [`rcu::free`].
    rcu: rcu::Head,
    native: *const vm_operations_struct,
    /// Flags of the VMAs that `install` has set, and those that it has taken away.
    added: vm_flags_t,
    merging: vm_flags_t,
    vmas: Refcount,
    /// Never raised. A VMA that comes from another one has its page indexes.
    lowest_zero_page: Atomic<u64>,
    handler: T,
    // Core mm calls into this module for as long as there is such a table.
    _module: ModuleRef,
}

impl<T: FaultHandler> Wrapped<T> {
    /// To be called before the zero page is mapped at a page index, and behind it.
    fn map_zero_pages_from(&self, pgoff: u64) {
        // Relaxed: who relies on it, `WrappedVma::restore`, has waited for this fault by the VMA
        // lock, as has who copies the VMA.
        update(&self.lowest_zero_page, |lowest| lowest.min(pgoff));
    }

    /// The `Wrapped` of a VMA.
    ///
    /// # Safety
    ///
    /// `vma` must be valid and locked, and its `vm_ops` be the table of a `Wrapped<T>`.
    unsafe fn of(vma: *mut vm_area_struct) -> *const Self {
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
        // INVARIANT: Core mm calls this as the `->fault` of a VMA with this table, locked.
        let fault = Fault {
            // SAFETY: Core mm passes a valid pointer.
            vmf: unsafe { NonNull::new_unchecked(vmf) },
            _lifetime: PhantomData,
        };
        T::fault(fault).0
    }

    /// # Safety
    ///
    /// To be called by core mm, as the `->map_pages` of a VMA with this table, under its lock.
    unsafe extern "C" fn map_pages(vmf: *mut vm_fault, first: usize, last: usize) -> vm_fault_t {
        // INVARIANT: Core mm calls this under the lock that it calls `->fault` under, and with the
        // same argument. It is in a `ReadFault` until `map_stand_ins`.
        let read = ReadFault(Fault {
            // SAFETY: Core mm passes a valid pointer.
            vmf: unsafe { NonNull::new_unchecked(vmf) },
            _lifetime: PhantomData,
        });
        // SAFETY: As the caller promises; the VMA keeps the table alive, and so the one of the file
        // system. This does not sleep.
        unsafe {
            match T::may_map_around(&read) {
                MayMap::File if !may_be_huge(read.0.vma()) => {
                    match (*(*Self::of(read.0.vma())).native).map_pages {
                        Some(map_pages) => map_pages(vmf, first, last),
                        None => 0,
                    }
                }
                MayMap::StandIns => Self::map_stand_ins(read.0, first, last),
                // Nothing is mapped: core mm goes on with `->fault`.
                MayMap::File | MayMap::Nothing => 0,
            }
        }
    }

    /// # Safety
    ///
    /// To be called once as part of a `->map_pages` that core mm has called for `fault`.
    // What is inside the file is not to save the registers that this takes.
    #[inline(never)]
    unsafe fn map_stand_ins(fault: Fault<'_, T>, first: usize, last: usize) -> vm_fault_t {
        // SAFETY: Core mm has begun one (`do_fault_around()`), for the sake of what `->map_pages`
        // finds in the page cache, and ends it when this has returned.
        let result = unsafe { rcu::outside(|| T::map_around(&fault, first as u64..=last as u64)) };
        result.map_or(0, |result| result.0)
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
        let fault = Fault {
            // SAFETY: Core mm passes a valid pointer.
            vmf: unsafe { NonNull::new_unchecked(vmf) },
            _lifetime: PhantomData,
        };
        // SAFETY: The VMA has this table, as the caller promises, and keeps it alive; `native` is
        // valid, by the type invariants.
        let native = native(unsafe { &*(*Self::of(fault.vma())).native });
        // INVARIANT: As the caller promises.
        T::mkwrite(Mkwrite { fault, native }).0
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
        ops.map_pages = ops.map_pages.and(Some(Wrapped::<T>::map_pages));
        // Only where there is one: core mm takes a mapping that has them for one whose pages are
        // written back, with consequences from the first write fault to what can be pinned.
        ops.page_mkwrite = ops.page_mkwrite.and(Some(Wrapped::<T>::page_mkwrite));
        ops.pfn_mkwrite = ops.pfn_mkwrite.and(Some(Wrapped::<T>::pfn_mkwrite));

        // INVARIANT: `ops` is as `native` but for these; `vmas` is for the first VMA.
        let wrapped = KBox::new(
            Wrapped {
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

type FaultFn = unsafe extern "C" fn(*mut vm_fault) -> vm_fault_t;

#[kunit_tests(nosigbus_vm_operations)]
mod tests {
    use super::*;
    use crate::abstractions::{
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

        fn may_map_around(_: &ReadFault<'_, Self>) -> MayMap {
            MayMap::File
        }

        fn map_around(_: &Fault<'_, Self>, _: RangeInclusive<u64>) -> Option<FaultResult> {
            None
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
