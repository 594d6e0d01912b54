// SPDX-License-Identifier: GPL-2.0-only

//! The file behind a mapping.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// The file of a mapping (`vma->vm_file`).
///
/// # Invariants
///
/// `file` is valid for `'a`: its VMA, which holds a reference on it, is locked for as long.
pub(crate) struct MappedFile<'a> {
    file: NonNull<kernel::bindings::file>,
    _vma: PhantomData<&'a kernel::bindings::file>,
}

impl MappedFile<'_> {
    /// # Safety
    ///
    /// `file` must be valid for `'a`.
    pub(super) unsafe fn from_raw(file: NonNull<kernel::bindings::file>) -> Self {
        // INVARIANT: As the caller promises.
        Self {
            file,
            _vma: PhantomData,
        }
    }

    /// The page cache of the file, which is what the file system's fault handler looks at.
    pub(super) fn address_space(&self) -> *mut kernel::bindings::address_space {
        // SAFETY: By the type invariants; `f_mapping` does not change after open.
        unsafe { (*self.file.as_ptr()).f_mapping }
    }

    fn inode(&self) -> *mut kernel::bindings::inode {
        // SAFETY: An open file's address space is valid, and so is its host.
        unsafe { (*self.address_space()).host }
    }

    /// The size of the file in bytes, as of now: without the inode lock it may change at any
    /// time.
    pub(crate) fn i_size(&self) -> u64 {
        // SAFETY: The inode is valid.
        let size = unsafe { bindings::nosigbus_i_size_read(self.inode()) };
        // A size is never negative; were one so, all of the file would be past EOF.
        u64::try_from(size).unwrap_or(0)
    }

    /// Whether it is a regular file (`S_ISREG`).
    pub(crate) fn is_regular(&self) -> bool {
        // SAFETY: The inode is valid; its type never changes.
        let mode = u32::from(unsafe { (*self.inode()).i_mode });
        mode & kernel::bindings::S_IFMT == kernel::bindings::S_IFREG
    }

    /// Whether it belongs to the kernel rather than to a file system that users see: the
    /// pseudo file of secretmem or guest_memfd (`S_ANON_INODE`), the shmem file behind
    /// `MAP_SHARED | MAP_ANONYMOUS` or System V shared memory (`S_PRIVATE`), or an attribute in
    /// sysfs, whose size says nothing about what can be mapped.
    ///
    /// Told by the inode, not by `vm_ops`: those are no longer comparable once replaced.
    pub(crate) fn is_kernel_internal(&self) -> bool {
        let inode = self.inode();
        // SAFETY: The inode is valid; these flags never change.
        let own = unsafe {
            bindings::nosigbus_is_anon_file(inode) || bindings::nosigbus_is_private(inode)
        };
        // SAFETY: The inode is valid, and so is its superblock, whose type never changes.
        own || unsafe { (*(*inode).i_sb).s_magic } == bindings::SYSFS_MAGIC
    }

    /// Whether its pages are mapped from persistent memory directly, without a page cache.
    pub(crate) fn is_dax(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::nosigbus_is_dax(self.inode()) }
    }

    /// Whether its address space is a page cache that fills itself from the file: files of
    /// procfs, debugfs and the like are regular but have none.
    pub(crate) fn has_page_cache(&self) -> bool {
        // SAFETY: The address space of an open file is valid, and so are its operations. They may
        // be switched while the file is open, but always for another static table.
        let ops = unsafe { &*core::ptr::read_volatile(&raw const (*self.address_space()).a_ops) };
        // shmem has no `read_folio`: it makes pages up.
        ops.read_folio.is_some() || ops.write_begin.is_some()
    }
}
