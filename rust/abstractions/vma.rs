// SPDX-License-Identifier: GPL-2.0-only

//! A VMA under the mmap lock, held for write.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! The kernel crate's `VmaRef` is for the read lock only, and its `VmaNew` for `->mmap()`.

use super::{
    bindings,
    file::MappedFile, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings::vm_area_struct,
    mm::virt::{
        flags,
        vm_flags_t, //
    },
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

    /// Keeps faults of this mapping out until the mmap lock is released.
    pub(super) fn start_write(&self) {
        // SAFETY: By the type invariants the mmap lock is held for write.
        unsafe { bindings::nosigbus_vma_start_write(self.as_ptr()) };
    }

    /// Sets `VM_MIXEDMAP`, which core mm asks for before it lets a fault handler insert pages,
    /// and which forbids merging with another VMA.
    pub(crate) fn set_mixedmap(&self) {
        // SAFETY: By the type invariants the mmap lock is held for write; the function takes the
        // VMA lock. VM_MIXEDMAP may be set on any VMA without VM_PFNMAP, and `Prepared`, whose
        // installation is the only user, is made of VMAs without VM_SPECIAL.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), flags::MIXEDMAP, 0) };
    }

    /// Makes a mapping that is not writable stay so: mprotect(2) with `PROT_WRITE` will fail with
    /// `EACCES`, as it does where the file was opened read-only.
    ///
    /// Does nothing where that is the case already, or where the mapping is writable.
    pub(crate) fn clear_maywrite(&self) {
        let flags = self.flags();
        if flags & flags::WRITE != 0 || flags & flags::MAYWRITE == 0 {
            return;
        }

        // The file counts the VMAs that may write to it (`i_mmap_writable`), and core mm takes
        // this one off the count when it goes only if it still has both flags
        // (`vma_is_shared_maywrite()`).
        if let Some(file) = self.file().filter(|_| flags & flags::SHARED != 0) {
            // SAFETY: The VMA has been on the count of its file's address space, by both flags.
            unsafe { bindings::nosigbus_mapping_unmap_writable(file.address_space()) };
        }

        // SAFETY: As in `set_mixedmap`; clearing VM_MAYWRITE is fine where VM_WRITE is clear.
        unsafe { bindings::nosigbus_vm_flags_mod(self.as_ptr(), 0, flags::MAYWRITE) };
    }
}
