// SPDX-License-Identifier: GPL-2.0-only

//! A VMA under the mmap lock, held for write.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! The kernel crate's `VmaRef` can change neither the flags of a VMA nor its `vm_ops`. Its `VmaNew`
//! is for `->mmap()`.

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

/// A VMA, with the mmap lock of its mm held for write.
///
/// # Invariants
///
/// `vma` is valid and its mm's mmap lock is held for write for all of `'g`. There is at most one
/// value of this type for a VMA.
pub(crate) struct LockedVma<'g> {
    vma: NonNull<vm_area_struct>,
    _guard: PhantomData<&'g vm_area_struct>,
}

impl LockedVma<'_> {
    /// # Safety
    ///
    /// `vma` must be valid, and its mm's mmap lock held for write, for all of `'g`. No other value
    /// of this type may exist for it.
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
        // SAFETY: By the type invariants the VMA is valid, and the mmap lock keeps its range from
        // changing.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.__bindgen_anon_1.vm_start }
    }

    /// Address after the last byte.
    pub(crate) fn end(&self) -> usize {
        // SAFETY: By the type invariants the VMA is valid, and the mmap lock keeps its range from
        // changing.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.__bindgen_anon_1.vm_end }
    }

    /// Returns `vm_pgoff`. Do not convert it to bytes without a check: mremap() can move a VMA
    /// beyond `MAX_LFS_FILESIZE`.
    pub(crate) fn pgoff(&self) -> u64 {
        // SAFETY: By the type invariants the VMA is valid, and the mmap lock keeps its offset from
        // changing.
        unsafe { (*self.as_ptr()).vm_pgoff as u64 }
    }

    fn flags(&self) -> vm_flags_t {
        // SAFETY: By the type invariants the VMA is valid, and the mmap lock keeps its flags from
        // changing.
        unsafe { (*self.as_ptr()).__bindgen_anon_2.vm_flags }
    }

    /// The mapped file; `None` for anonymous memory.
    pub(crate) fn file(&self) -> Option<MappedFile<'_>> {
        // SAFETY: By the type invariants the VMA is valid; its file does not change.
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

    /// Whether the VMA has a `VM_SPECIAL` flag (device memory, pages inserted by a driver), or is
    /// hugetlb.
    pub(crate) fn is_special(&self) -> bool {
        // SAFETY: By the type invariants the VMA is valid and the mmap lock is held.
        let special = unsafe { bindings::nosigbus_vma_is_special(self.as_ptr()) };
        special || self.flags() & flags::HUGETLB != 0
    }

    /// Whether mlock(2) or mlockall(2) applies to the mapping.
    pub(crate) fn is_locked_in_memory(&self) -> bool {
        self.flags() & bindings::VM_LOCKED_MASK != 0
    }

    /// Whether the mapping is registered with a userfaultfd.
    pub(crate) fn has_userfaultfd(&self) -> bool {
        // SAFETY: By the type invariants the VMA is valid and the mmap lock is held.
        unsafe { bindings::nosigbus_userfaultfd_armed(self.as_ptr()) }
    }

    /// Unmerges all KSM pages of this VMA (`MADV_UNMERGEABLE`), including PTEs that KSM pointed at
    /// the zero page (`use_zero_pages`). Stops at a page that raises SIGBUS: pages behind it may
    /// stay merged. Returns whether the VMA had `VM_MERGEABLE`. KSM does not merge again while the
    /// mmap lock is held for write.
    ///
    /// # Context
    ///
    /// Sleeps, and allocates memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `ERESTARTSYS` on a signal. Pages that were unmerged until then stay unmerged.
    pub(super) fn break_ksm(&self) -> Result<bool> {
        Ok(self.flags() & !self.advise_ksm(bindings::MADV_UNMERGEABLE)? != 0)
    }

    /// Sets `VM_MERGEABLE` again if `had_mergeable`. Best effort: `ksm_madvise()` may fail with
    /// `ENOMEM`. Sleeps.
    pub(super) fn restore_mergeable(&self, had_mergeable: bool) {
        if !had_mergeable {
            return;
        }
        if let Ok(flags) = self.advise_ksm(bindings::MADV_MERGEABLE) {
            // SAFETY: By the type invariants the mmap lock is held for write; the function takes
            // the VMA lock. `ksm_madvise()` has returned these flags for this VMA.
            unsafe {
                bindings::nosigbus_vm_flags_mod(self.as_ptr(), flags & !self.flags(), 0);
            }
        }
    }

    /// Calls `ksm_madvise()` with `advice` (`MADV_*`) for the whole VMA. Returns the flags that the
    /// VMA should have then; does not set them. Sleeps.
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

    /// `vma_start_write()`: no fault runs in this VMA until the mmap lock is released.
    ///
    /// # Context
    ///
    /// Waits for the faults that hold the VMA lock. The caller must hold no lock that such a fault
    /// may wait for.
    pub(super) fn start_write(&self) {
        // SAFETY: By the type invariants the mmap lock is held for write.
        unsafe { bindings::nosigbus_vma_start_write(self.as_ptr()) };
    }

    /// Sets the VMA flags that stand-ins need. Returns those that were not already set, for
    /// [`Self::clear_stand_in_flags`].
    ///
    /// - `VM_MIXEDMAP`: core mm asks for it before it lets a fault handler insert pages, and never
    ///   merges such a VMA.
    /// - `VM_MAYBE_GUARD`: khugepaged, or madvise(2) of some other process, collapses pages of the
    ///   file into a huge one. It has unmapped these pages before, and so takes the page tables of
    ///   that range for empty, in all mappings of the file. It frees them as they are
    ///   (`retract_page_tables()`). But stand-ins are there, at holes and past EOF. It spares VMAs
    ///   that may hold guard regions.
    /// - `VM_NOHUGEPAGE`: in a `VM_MIXEDMAP` VMA core mm takes a file PMD for a driver's
    ///   (`vma_is_special_huge()`). `__split_huge_pmd_locked()` then zaps it without dropping rmap
    ///   and RSS. So existing file PMDs are zapped before the flags are set, and none may be mapped
    ///   afterwards.
    ///
    /// `had_mergeable` is the result of [`Self::break_ksm`]. If set, this clears `VM_MERGEABLE`: a
    /// zero-page PTE made by KSM would look like a stand-in.
    ///
    /// # Context
    ///
    /// Calls [`Self::start_write`]. Takes page-table locks; sleeps.
    pub(super) fn set_stand_in_flags(&self, had_mergeable: bool) -> vm_flags_t {
        let taken = if had_mergeable {
            bindings::VM_MERGEABLE
        } else {
            0
        };
        self.start_write();
        // SAFETY: By the type invariants the VMA is valid and the mmap lock is held for write;
        // `part` is inside the VMA. Only DAX maps files by leaves above the PMD level, and
        // `Prepared::new` has refused DAX. A PMD leaf of a file covers no anonymous
        // pages, so none are zapped.
        unsafe {
            let mm = (*self.as_ptr()).vm_mm;
            for_each_huge_page(mm, self.start()..self.end(), |part| {
                kernel::bindings::zap_vma_range(self.as_ptr(), part.start, part.len());
            });
        }

        let marks = flags::MIXEDMAP | flags::NOHUGEPAGE | bindings::VM_MAYBE_GUARD;
        let flags_added = marks & !self.flags();
        // SAFETY: By the type invariants the mmap lock is held for write; the function takes the
        // VMA lock.
        // - VM_MIXEDMAP may be set on any VMA without VM_PFNMAP. The only caller is
        //   `Prepared::install`, and `Prepared::new` refuses VMAs with a VM_SPECIAL flag.
        // - VM_MAYBE_GUARD may be set on any VMA: it says that guard regions are possible.
        // - VM_NOHUGEPAGE may be set on any VMA, as madvise(2) does.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), flags_added, taken) };
        flags_added
    }

    /// Clears `flags_added`, the flags that [`Self::set_stand_in_flags`] has returned.
    pub(super) fn clear_stand_in_flags(&self, flags_added: vm_flags_t) {
        // SAFETY: By the type invariants the mmap lock is held for write; the function takes the
        // VMA lock. No PTE needs the flags any more: the only user, `WrappedVma::restore`, has
        // called `zap_stand_ins` under the same VMA lock. A page that this had missed would be
        // counted and referenced, or be the zero page in a private VMA; core mm handles both in any
        // VMA.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), 0, flags_added) };
    }

    /// Zaps all zero pages and shadow pages at page index `lowest` and above. There must be none
    /// below. The VMA must be wrapped: without VM_MIXEDMAP, this zaps nothing. In a shared VMA, it
    /// also zaps pages of the file. In a private VMA, it zaps only zero-page PTEs, so anonymous
    /// pages stay.
    ///
    /// # Context
    ///
    /// Call [`Self::start_write`] first: otherwise a fault may map the next stand-in meanwhile.
    /// Takes page-table locks; sleeps.
    pub(super) fn zap_stand_ins(&self, lowest: u64) {
        let first = self.pgoff();
        let end = first + ((self.end() - self.start()) / PAGE_SIZE) as u64;
        let lowest = first.max(lowest);
        if lowest >= end {
            return;
        }
        let start = self.start() + (lowest - first) as usize * PAGE_SIZE;
        let zap = |part: Range<usize>| {
            // SAFETY: By the type invariants the VMA is valid and the mmap lock is held. `part` is
            // in the VMA, which still has VM_MIXEDMAP, as `zap_special_vma_range()` requires.
            unsafe {
                kernel::bindings::zap_special_vma_range(self.as_ptr(), part.start, part.len())
            };
        };
        if self.is_shared() {
            // Pages of the file will fault in again.
            zap(start..self.end());
        } else {
            // Walk the page tables and zap only zero-page PTEs: anonymous copies lie between them.
            // `unmap_mapping_range()` is no alternative: it would also zap zero-page PTEs of other
            // VMAs of the file, which may be KSM's or userfaultfd's.
            // SAFETY: By the type invariants the mmap lock is held for write. `restore`, the only
            // user, has a wrapped VMA, for which DAX was refused (see `Prepared::new`). So no entry
            // above the PMD level is a leaf.
            unsafe { for_each_zero_page((*self.as_ptr()).vm_mm, start..self.end(), zap) };
        }
    }

    /// Clears `VM_MAYWRITE` if the mapping is shared and not writable. mprotect(PROT_WRITE) then
    /// returns EACCES, as for a file opened read-only. Returns whether the flag was set.
    ///
    /// Core mm maps the zero page only in VMAs that cannot become writable
    /// (`vm_mixed_zeropage_allowed()`).
    pub(super) fn clear_maywrite(&self) -> bool {
        let may_become_writable =
            self.flags() & (flags::WRITE | flags::MAYWRITE) == flags::MAYWRITE;
        if !self.is_shared() || !may_become_writable {
            return false;
        }

        // i_mmap_writable counts VMAs with `VM_SHARED` and `VM_MAYWRITE`; at unmap, core mm
        // decrements it only for VMAs that have both flags then (`vma_is_shared_maywrite()`).
        if let Some(file) = self.file().filter(|_| self.flags() & flags::SHARED != 0) {
            // SAFETY: The VMA has VM_SHARED and VM_MAYWRITE, so it is counted in `i_mmap_writable`
            // of its file's address space.
            unsafe { bindings::nosigbus_mapping_unmap_writable(file.address_space()) };
        }

        // SAFETY: By the type invariants the mmap lock is held for write; the function takes the
        // VMA lock. Clearing VM_MAYWRITE is fine where VM_WRITE is clear.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), 0, flags::MAYWRITE) };
        true
    }

    /// Undoes a [`Self::clear_maywrite`] that returned `true`. Leaves `VM_MAYWRITE` clear if the
    /// file was sealed with `F_SEAL_WRITE` meanwhile, like a new mmap().
    ///
    /// No zero page may be mapped:
    /// [`WrappedVma::restore`](super::vm_operations::WrappedVma::restore), the only user, has
    /// called `zap_stand_ins`.
    pub(super) fn restore_maywrite(&self) {
        if let Some(file) = self.file().filter(|_| self.flags() & flags::SHARED != 0) {
            // SAFETY: The VMA's file keeps its address space valid. On success the VMA is counted
            // in `i_mmap_writable`, and below it gets VM_MAYWRITE, so that core mm uncounts it.
            let counted = unsafe { bindings::nosigbus_mapping_map_writable(file.address_space()) };
            if counted != 0_i32 {
                return;
            }
        }

        // SAFETY: By the type invariants the mmap lock is held for write; the function takes the
        // VMA lock. The VMA had the flag before `clear_maywrite`. If it has VM_SHARED, it was
        // counted for the flag above. Nothing is mapped that may not be written to: `restore` has
        // called `zap_stand_ins`.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), flags::MAYWRITE, 0) };
    }
}
