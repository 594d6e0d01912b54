// SPDX-License-Identifier: GPL-2.0-only

//! A VMA under the mmap lock, held for write.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! The kernel crate's `VmaRef` is for the read lock only, and its `VmaNew` for `->mmap()`.

use super::{
    bindings,
    file::MappedFile,
    page_table::{
        for_each_huge_page,
        for_each_zero_page, //
    },
};
use core::{
    marker::PhantomData,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings::vm_area_struct,
    error::to_result,
    mm::virt::{
        flags,
        vm_flags_t, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

/// A VMA that the mmap lock, held for write, keeps from changing.
///
/// # Invariants
///
/// `vma` is valid and its mm's mmap lock is held for write for all of `'g`.
pub(crate) struct LockedVma<'g> {
    vma: NonNull<vm_area_struct>,
    _guard: PhantomData<&'g vm_area_struct>,
}

impl LockedVma<'_> {
    /// # Safety
    ///
    /// `vma` must be valid, and its mm's mmap lock held for write, for all of `'g`.
    pub(super) unsafe fn from_raw(vma: NonNull<vm_area_struct>) -> Self {
        // INVARIANT: As the caller promises.
        Self {
            vma,
            _guard: PhantomData,
        }
    }

    pub(super) fn as_ptr(&self) -> *mut vm_area_struct {
        self.vma.as_ptr()
    }

    /// Address of the first byte.
    pub(crate) fn start(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.__bindgen_anon_1.vm_start }
    }

    /// Address after the last byte.
    pub(crate) fn end(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.__bindgen_anon_1.vm_end }
    }

    /// The page index in the file that it begins at. It may be too large to be an offset in bytes: a
    /// mapping may grow beyond what a file can have (`check_prep_vma()`).
    pub(crate) fn pgoff(&self) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_ptr()).vm_pgoff as u64 }
    }

    fn flags(&self) -> vm_flags_t {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_ptr()).__bindgen_anon_2.vm_flags }
    }

    /// The mapped file; `None` for anonymous memory.
    pub(crate) fn file(&self) -> Option<MappedFile<'_>> {
        // SAFETY: By the type invariants.
        let file = unsafe { (*self.as_ptr()).vm_file };
        // SAFETY: The VMA holds a reference on its file, and cannot go while it is borrowed.
        NonNull::new(file).map(|file| unsafe { MappedFile::from_raw(file) })
    }

    /// Whether the mapping was made with `MAP_SHARED`.
    pub(crate) fn is_shared(&self) -> bool {
        // Not VM_SHARED: that is clear in a shared mapping of a file not open for writing.
        self.flags() & bindings::VM_MAYSHARE != 0
    }

    /// Whether the mapping is writable now (`PROT_WRITE`).
    pub(crate) fn is_writable(&self) -> bool {
        self.flags() & flags::WRITE != 0
    }

    /// Whether the mapping is one that core mm neither merges nor treats as plain file memory
    /// (`VM_SPECIAL`: device memory, pages inserted by a driver), or hugetlb.
    pub(crate) fn is_special(&self) -> bool {
        // SAFETY: By the type invariants.
        let special = unsafe { bindings::nosigbus_vma_is_special(self.as_ptr()) };
        special || self.flags() & flags::HUGETLB != 0
    }

    /// Whether mlock(2) or mlockall(2) applies to the mapping.
    pub(crate) fn is_locked_in_memory(&self) -> bool {
        self.flags() & bindings::VM_LOCKED_MASK != 0
    }

    /// Whether the mapping is registered with a userfaultfd.
    pub(crate) fn has_userfaultfd(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::nosigbus_userfaultfd_armed(self.as_ptr()) }
    }

    /// Breaks the pages that KSM has merged, so that copies of this mapping's own take the place of
    /// those, and of the zero page, which a page of zeros has been merged with
    /// (/sys/kernel/mm/ksm/use_zero_pages). Returns whether it merges pages here; it does not while the
    /// mmap lock is held for write.
    ///
    /// Sleeps. Fails with `ENOMEM`, or with `ERESTARTSYS` if there is a signal; what was broken stays so.
    pub(super) fn break_ksm(&self) -> Result<bool> {
        Ok(self.flags() & !self.advise_ksm(bindings::MADV_UNMERGEABLE)? != 0)
    }

    /// Has KSM merge pages again, if `merging`. If there is no memory for that it does not.
    pub(super) fn merge_again(&self, merging: bool) {
        if !merging {
            return;
        }
        if let Ok(flags) = self.advise_ksm(bindings::MADV_MERGEABLE) {
            // SAFETY: By the type invariants the mmap lock is held for write; the function takes the VMA
            // lock. The flags are what KSM has said.
            unsafe {
                bindings::nosigbus_vm_flags_mod(self.as_ptr(), flags & !self.flags(), 0);
            }
        }
    }

    /// Gives KSM advice (`MADV_*`) about all of the mapping. Returns what its flags are to be then.
    /// Sleeps.
    fn advise_ksm(&self, advice: u32) -> Result<vm_flags_t> {
        let mut flags = self.flags();
        // SAFETY: By the type invariants the mmap lock is held for write; the range is the VMA.
        to_result(unsafe {
            bindings::nosigbus_ksm_madvise(
                self.as_ptr(),
                self.start(),
                self.end(),
                advice as i32,
                &mut flags,
            )
        })?;
        Ok(flags)
    }

    /// Keeps faults of this mapping out until the mmap lock is released.
    pub(super) fn start_write(&self) {
        // SAFETY: By the type invariants the mmap lock is held for write.
        unsafe { bindings::nosigbus_vma_start_write(self.as_ptr()) };
    }

    /// Marks the mapping as one whose page tables can hold what is neither the file's nor a
    /// private copy. Returns the flags that this takes and that were not set yet.
    ///
    /// - `VM_MIXEDMAP`: core mm asks for it before it lets a fault handler insert pages, and never
    ///   merges such a VMA.
    /// - `VM_MAYBE_GUARD`: when pages of the file are collapsed into a huge one, khugepaged (or
    ///   madvise(2) of some other process) frees the page tables of all mappings of that range as
    ///   they are, holes and pages past EOF included, because it takes them for empty
    ///   (`retract_page_tables()`). It spares those that may hold guard regions.
    /// - `VM_NOHUGEPAGE`: with `VM_MIXEDMAP`, core mm takes a huge page of a file for one that is
    ///   not counted (`vma_is_special_huge()`): when it splits the entry, it unmaps the page without
    ///   taking it off its counts (`__split_huge_pmd_locked()`). There must be none, so those that
    ///   there are go before the flags are set.
    ///
    /// If `merging`, what [`Self::break_ksm`] has returned, the flag is taken away that KSM goes by: a page
    /// of zeros that it merges looks like a stand-in.
    pub(super) fn mark_mixed(&self, merging: bool) -> vm_flags_t {
        let taken = if merging { bindings::VM_MERGEABLE } else { 0 };
        self.start_write();
        // SAFETY: By the type invariants the mmap lock is held for write, and the VMA is valid. What
        // is mapped by a huge page of a file has no private copies.
        unsafe {
            let mm = (*self.as_ptr()).vm_mm;
            for_each_huge_page(mm, self.start()..self.end(), |part| {
                kernel::bindings::zap_vma_range(self.as_ptr(), part.start, part.len());
            });
        }

        let marks = flags::MIXEDMAP | flags::NOHUGEPAGE | bindings::VM_MAYBE_GUARD;
        let added = marks & !self.flags();
        // SAFETY: By the type invariants the mmap lock is held for write; the function takes the
        // VMA lock. VM_MIXEDMAP may be set on any VMA without VM_PFNMAP, and `Prepared`, whose
        // installation is the only user, is made of VMAs without VM_SPECIAL. VM_MAYBE_GUARD may be
        // set on any VMA: it says what may be, not what is; and VM_NOHUGEPAGE, by madvise(2).
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), added, taken) };
        added
    }

    /// Takes back what [`Self::mark_mixed`] has returned.
    pub(super) fn unmark_mixed(&self, added: vm_flags_t) {
        // SAFETY: As in `mark_mixed`. What needs the flags is not mapped any more: the only user
        // is `WrappedVma::restore`, which has called `zap_stand_ins`. A page that it missed would
        // be one with a reference and counted, or the zero page in a private VMA, and core mm
        // handles both in any VMA.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), 0, added) };
    }

    /// Unmaps what stands in for pages of the file, of which there is nothing below the page index
    /// `lowest`. Private copies stay, and so does what is below.
    pub(super) fn zap_stand_ins(&self, lowest: u64) {
        let first = self.pgoff();
        let end = first + ((self.end() - self.start()) / PAGE_SIZE) as u64;
        let lowest = first.max(lowest);
        if lowest >= end {
            return;
        }
        let start = self.start() + (lowest - first) as usize * PAGE_SIZE;
        let zap = |part: Range<usize>| {
            // SAFETY: By the type invariants; the range is in the VMA, which has VM_MIXEDMAP still.
            unsafe {
                kernel::bindings::zap_special_vma_range(self.as_ptr(), part.start, part.len())
            };
        };
        if self.is_shared() {
            // Pages of the file will fault in again.
            zap(start..self.end());
        } else {
            // Private copies are between them. Other mappings of the file are none of this one's
            // business: unmapping a part of the file would take the zero page from those, too, and
            // that may be somebody's private page of zeros (KSM, userfaultfd).
            // SAFETY: By the type invariants; `mark_mixed` has set VM_MAYBE_GUARD, and `restore`, the
            // only user, has the VMA locked for write.
            unsafe { for_each_zero_page((*self.as_ptr()).vm_mm, start..self.end(), zap) };
        }
    }

    /// Whether the mapping is not writable, but mprotect(2) could make it so.
    pub(crate) fn may_become_writable(&self) -> bool {
        self.flags() & (flags::WRITE | flags::MAYWRITE) == flags::MAYWRITE
    }

    /// Makes a mapping that is not writable stay so: mprotect(2) with `PROT_WRITE` will fail with
    /// `EACCES`, as it does where the file was opened read-only.
    ///
    /// Does nothing unless [`Self::may_become_writable`].
    pub(crate) fn clear_maywrite(&self) {
        if !self.may_become_writable() {
            return;
        }

        // The file counts the VMAs that may write to it (`i_mmap_writable`), and core mm takes
        // this one off the count when it goes only if it still has both flags
        // (`vma_is_shared_maywrite()`).
        if let Some(file) = self.file().filter(|_| self.flags() & flags::SHARED != 0) {
            // SAFETY: The VMA has been on the count of its file's address space, by both flags.
            unsafe { bindings::nosigbus_mapping_unmap_writable(file.address_space()) };
        }

        // SAFETY: By the type invariants the mmap lock is held for write; the function takes the
        // VMA lock. Clearing VM_MAYWRITE is fine where VM_WRITE is clear.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), 0, flags::MAYWRITE) };
    }

    /// Undoes [`Self::clear_maywrite`]. Does nothing if the file refuses to be mapped so by now,
    /// because it has been sealed (`F_SEAL_WRITE`): a new mapping would be unwritable as well.
    ///
    /// No zero page may be mapped: [`WrappedVma::restore`](super::vm_operations::WrappedVma::restore),
    /// the only user, has called `zap_stand_ins`.
    pub(super) fn restore_maywrite(&self) {
        if let Some(file) = self.file().filter(|_| self.flags() & flags::SHARED != 0) {
            // SAFETY: The address space is valid. On success the VMA is on its count.
            let counted = unsafe { bindings::nosigbus_mapping_map_writable(file.address_space()) };
            if counted != 0 {
                return;
            }
        }

        // SAFETY: As in `clear_maywrite`. The VMA had the flag before, and is counted for it.
        // Nothing is mapped that may not be written to.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), flags::MAYWRITE, 0) };
    }
}
