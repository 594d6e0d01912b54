// SPDX-License-Identifier: GPL-2.0-only

//! The file behind a mapping.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings,
    shadow_pages::PageRef, //
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    mm::virt::VmaRef,
    prelude::*, //
};

/// An inode.
///
/// # Invariants
///
/// `inode` is valid for `'a`.
pub(crate) struct Inode<'a> {
    inode: *mut kernel::bindings::inode,
    _holder: PhantomData<&'a kernel::bindings::inode>,
}

impl Inode<'_> {
    /// # Safety
    ///
    /// `inode` must be valid for `'a`.
    pub(super) unsafe fn from_raw(inode: *mut kernel::bindings::inode) -> Self {
        // INVARIANT: As the caller promises.
        Self {
            inode,
            _holder: PhantomData,
        }
    }

    pub(super) fn as_ptr(&self) -> *mut kernel::bindings::inode {
        self.inode
    }

    /// The size of the file in bytes, as of now: without the inode lock it may change at any
    /// time.
    pub(crate) fn i_size(&self) -> u64 {
        // SAFETY: By the type invariants the inode is valid.
        let size = unsafe { bindings::nosigbus_i_size_read(self.inode) };
        // `i_size` is never negative. If it were, treat the file as empty.
        u64::try_from(size).unwrap_or(0)
    }

    /// Unmaps the page indexes `pages` of the file from all VMAs: pages of the file, zero pages and
    /// shadow pages. Private (anonymous) copies stay.
    ///
    /// # Context
    ///
    /// Takes `i_mmap_rwsem` for read, and page-table locks. The time that this takes grows with the
    /// number of VMAs of the file. Allocates no memory. Sleeps.
    pub(crate) fn unmap_pages(&self, pages: Range<u64>) {
        let Ok(first) = usize::try_from(pages.start) else {
            return;
        };
        if pages.is_empty() {
            return;
        }
        // 0: to the end of the file. It may have more pages than there are indexes, on 32 bits.
        let count = usize::try_from(pages.end - pages.start).unwrap_or(0);
        // SAFETY: By the type invariants the inode is valid, and so is its address space.
        unsafe {
            kernel::bindings::unmap_mapping_pages((*self.inode).i_mapping, first, count, false)
        };
    }
}

/// What the page cache has at an index, as of a moment ago.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheState {
    /// Nothing. Then no page table maps a page of the file there: a folio is unmapped before it
    /// leaves the page cache.
    Nothing,
    /// A folio that has been read.
    UpToDate,
    /// A folio that has not been read, or has lost its content.
    Stale { may_be_mapped: bool },
}

/// A page in the page cache, locked.
///
/// # Invariants
///
/// Owns the lock of `folio` and a reference on it. `folio` contains the page at index `pgoff`.
pub(crate) struct CachedPage<'a> {
    folio: *mut kernel::bindings::folio,
    pgoff: u64,
    _file: PhantomData<&'a kernel::bindings::file>,
}

impl CachedPage<'_> {
    /// Copies the page. `EIO` if its memory is broken.
    pub(crate) fn copy_to(&self, page: &PageRef) -> Result {
        // SAFETY: By the type invariants the folio is locked, referenced, and contains the page at
        // `pgoff`. `page` owns a reference on its page.
        unsafe {
            let from = bindings::nosigbus_folio_file_page(self.folio, self.pgoff as usize);
            if bindings::nosigbus_is_page_hwpoison(from)
                || bindings::nosigbus_copy_mc_highpage(page.as_ptr(), from) != 0_i32
            {
                return Err(EIO);
            }
        }
        Ok(())
    }
}

impl Drop for CachedPage<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the folio is locked and has a reference, both of which
        // this value owns.
        unsafe {
            kernel::bindings::folio_unlock(self.folio);
            bindings::nosigbus_folio_put(self.folio);
        }
    }
}

/// A file that stays open, whatever becomes of the mapping.
///
/// # Invariants
///
/// Owns a reference on the file.
pub(crate) struct PinnedFile(NonNull<kernel::bindings::file>);

impl PinnedFile {
    /// The file.
    pub(crate) fn file(&self) -> MappedFile<'_> {
        // SAFETY: By the type invariants the file is valid, and this value holds a reference on it.
        unsafe { MappedFile::from_raw(self.0) }
    }
}

impl Drop for PinnedFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { kernel::bindings::fput(self.0.as_ptr()) };
    }
}

/// The file of a mapping (`vma->vm_file`).
///
/// # Invariants
///
/// `file` is valid for `'a`: its VMA, which holds a reference on it, is locked for as long, or a
/// [`PinnedFile`] holds one. So for `'a` these are valid, too: `f_mapping`, its host (an inode) and
/// the superblock of that; the inode that the user has opened; its dentry and mount.
pub(crate) struct MappedFile<'a> {
    file: NonNull<kernel::bindings::file>,
    _holder: PhantomData<&'a kernel::bindings::file>,
}

impl<'a> MappedFile<'a> {
    /// The file of a VMA; `None` for anonymous memory.
    pub(crate) fn of(vma: &'a VmaRef) -> Option<Self> {
        // SAFETY: The VMA is valid, and locked for as long as there is a `VmaRef`.
        let file = NonNull::new(unsafe { (*vma.as_ptr()).vm_file })?;
        // SAFETY: The VMA holds a reference on its file, and cannot go while it is borrowed.
        Some(unsafe { Self::from_raw(file) })
    }
}

impl MappedFile<'_> {
    /// # Safety
    ///
    /// `file` must be valid for `'a`.
    pub(super) unsafe fn from_raw(file: NonNull<kernel::bindings::file>) -> Self {
        // INVARIANT: As the caller promises.
        Self {
            file,
            _holder: PhantomData,
        }
    }

    /// The page cache of the file, which is what the file system's fault handler looks at.
    pub(super) fn address_space(&self) -> *mut kernel::bindings::address_space {
        // SAFETY: By the type invariants the file is valid. `f_mapping` does not change after open.
        unsafe { (*self.file.as_ptr()).f_mapping }
    }

    fn operations(&self) -> &kernel::bindings::address_space_operations {
        // SAFETY: By the type invariants the address space is valid, and so are its operations.
        // They may be switched while the file is open, but always for another static table.
        unsafe { &*core::ptr::read_volatile(&raw const (*self.address_space()).a_ops) }
    }

    /// The inode whose pages are mapped.
    pub(crate) fn inode(&self) -> Inode<'_> {
        // SAFETY: By the type invariants the address space is valid for `'a`, and so is its host.
        unsafe { Inode::from_raw((*self.address_space()).host) }
    }

    /// `file_user_inode()`. On overlayfs it is overlayfs's inode, and [`Self::inode`] the real one.
    pub(super) fn user_inode(&self) -> Inode<'_> {
        // SAFETY: By the type invariants the file is valid for `'a`, and so is this inode.
        unsafe {
            Inode::from_raw(bindings::nosigbus_file_user_inode(self.file.as_ptr()).cast_mut())
        }
    }

    /// overlayfs's inode, if its data is in [`Self::inode`]; otherwise `None`. Sleeps.
    pub(super) fn overlay_inode(&self) -> Option<Inode<'_>> {
        let (real, user) = (self.inode().as_ptr(), self.user_inode());
        // SAFETY: By the type invariants the file is valid, and so is its dentry. The dentry of an
        // open file is positive.
        let content = unsafe {
            let dentry = bindings::nosigbus_file_user_dentry(self.file.as_ptr());
            bindings::nosigbus_d_real_inode(dentry)
        };
        (user.as_ptr() != real && content == real).then_some(user)
    }

    /// The size of the file in bytes, as of now: without the inode lock it may change at any
    /// time.
    pub(crate) fn i_size(&self) -> u64 {
        self.inode().i_size()
    }

    /// Records a writeback error in the file's `errseq_t`, so that the next fsync(2) or msync(2)
    /// through each open file returns `errno` once. Does not set the superblock's `s_wb_err`.
    pub(crate) fn report_to_fsync(&self, errno: u32) {
        // SAFETY: By the type invariants the address space is valid. An errno fits in an int.
        unsafe { bindings::__filemap_set_wb_err(self.address_space(), -(errno as i32)) };
    }

    /// Clears `FMODE_NONOTIFY` of a file on an internal mount (memfd_create(2)), so that fsnotify
    /// reports writes through it. Leaves other files alone, e.g. those that fanotify opens. Returns
    /// whether this changed `f_mode`. Takes `f_lock`; does not sleep.
    pub(crate) fn enable_notification(&self) -> bool {
        let file = self.file.as_ptr();
        // SAFETY: The file is valid, by the type invariants, and so is its mount. `f_mode` is
        // written with `f_lock` held, which is taken and released here.
        unsafe {
            let mount = (*file).__bindgen_anon_1.f_path.mnt;
            // Other flags may change at any time.
            let flags = core::ptr::read_volatile(&raw const (*mount).mnt_flags);
            if flags as u32 & kernel::bindings::mount_flags_MNT_INTERNAL == 0 {
                return false;
            }
            // `f_mode` is changed under this lock.
            kernel::bindings::spin_lock(&raw mut (*file).f_lock);
            let had_none = bindings::nosigbus_fmode_fsnotify_none(file);
            if had_none {
                bindings::nosigbus_file_enable_notification(file);
            }
            kernel::bindings::spin_unlock(&raw mut (*file).f_lock);
            had_none
        }
    }

    /// Returns whether a file system with its own `->fault` is known to take only page-cache locks
    /// in it. Of the file systems with `FALLOC_FL_COLLAPSE_RANGE` these are XFS and F2FS
    /// (`xfs_filemap_fault()`, `f2fs_filemap_fault()`). Others (gfs2, ocfs2, ceph, orangefs) take
    /// cluster locks, without which a page must not be read.
    pub(super) fn fault_takes_only_page_cache_locks(&self) -> bool {
        // SAFETY: By the type invariants the inode and its superblock are valid. The magic number
        // of a superblock does not change.
        let magic = unsafe { (*(*self.inode().as_ptr()).i_sb).s_magic };
        [bindings::XFS_SUPER_MAGIC, bindings::F2FS_SUPER_MAGIC].contains(&magic)
    }

    /// Reads page `pgoff` into the page cache with the invalidate lock held for read, which
    /// excludes `FALLOC_FL_COLLAPSE_RANGE`. `past_eof(i_size)` tells whether `pgoff` is past EOF.
    ///
    /// Returns the file system's error. `Ok` if the page was read, or is past EOF. `None` if the
    /// file has no `->read_folio`.
    ///
    /// # Context
    ///
    /// Takes the invalidate lock and folio locks, and sleeps. So call it only where `->fault` may
    /// be called, and only for file systems whose `->fault` takes no other locks than these:
    /// [`Fault::takes_only_page_cache_locks`](super::fault::Fault::takes_only_page_cache_locks).
    pub(crate) fn read_page_invalidate_locked(
        &self,
        pgoff: u64,
        past_eof: impl FnOnce(u64) -> bool,
    ) -> Option<Result> {
        let mapping = self.address_space();
        let file = self.file.as_ptr();
        self.operations().read_folio?;

        // SAFETY: By the type invariants the file is valid, and keeps its address space. No lock
        // that comes after the invalidate lock is held (see the lock order).
        unsafe { bindings::nosigbus_filemap_invalidate_lock_shared(mapping) };
        let mut read = Ok(());
        if !past_eof(self.i_size()) {
            // If another task is reading the page, wait for it here. `read_cache_folio()` would
            // wait uninterruptibly. (If a task begins to read between the two, it does.)
            read = self.wait_until_read(pgoff).and_then(|()| {
                // SAFETY: By the type invariants the address space and the file are valid. The
                // operations have a `read_folio`.
                let folio = from_err_ptr(unsafe {
                    kernel::bindings::read_cache_folio(mapping, pgoff as usize, None, file)
                })?;
                // SAFETY: Puts the reference that `read_cache_folio()` has returned.
                unsafe { bindings::nosigbus_folio_put(folio) };
                Ok(())
            });
        }
        // SAFETY: Releases the lock that was taken above.
        unsafe { bindings::nosigbus_filemap_invalidate_unlock_shared(mapping) };
        Some(read)
    }

    /// Calls `shmem_read_folio()`. May allocate the page, like shmem's `->fault`.
    ///
    /// Returns shmem's error. `Ok` if there is a page, or the page is past EOF. `None` if the file
    /// is not on shmem.
    ///
    /// # Context
    ///
    /// Takes folio locks, allocates memory, and sleeps. Call it only where `->fault` may be called.
    pub(crate) fn read_page_shmem(&self, pgoff: u64) -> Option<Result> {
        let mapping = self.address_space();
        // SAFETY: By the type invariants the address space is valid.
        let folio = unsafe {
            if !bindings::nosigbus_shmem_mapping(mapping) {
                return None;
            }
            from_err_ptr(bindings::nosigbus_shmem_read_folio(mapping, pgoff as usize))
        };
        Some(match folio {
            Ok(folio) => {
                // SAFETY: Puts the reference that `shmem_read_folio()` has returned.
                unsafe { bindings::nosigbus_folio_put(folio) };
                Ok(())
            }
            // `shmem_get_folio_gfp()` returns EINVAL for a page past EOF.
            Err(error) if error == EINVAL => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Waits until no task is reading the page at index `pgoff` into the page cache. Sleeps; fails
    /// with `EINTR` if this task is being killed.
    fn wait_until_read(&self, pgoff: u64) -> Result {
        if self.cached(pgoff) != CacheState::UpToDate {
            self.lock_cached_page(pgoff)?;
        }
        Ok(())
    }

    /// Locks the up-to-date folio at `pgoff`, if there is one. While it is locked, `->fault` cannot
    /// map it (`->map_pages` only trylocks, and skips it).
    ///
    /// Sleeps; fails with `EINTR` if the task is being killed.
    pub(crate) fn lock_cached_page(&self, pgoff: u64) -> Result<Option<CachedPage<'_>>> {
        let mapping = self.address_space();
        loop {
            // SAFETY: By the type invariants the address space is valid.
            let folio = from_err_ptr(unsafe {
                bindings::nosigbus_filemap_get_folio(mapping, pgoff as usize)
            });
            let Ok(folio) = folio else {
                return Ok(None);
            };
            // SAFETY: `filemap_get_folio()` has returned the folio with a reference. If locking
            // fails, we put the reference. Otherwise `cached_page` takes over the reference and the
            // lock. While the folio is locked, its `mapping` does not change. If the folio is not
            // there any more, what `cached_page` returns is dropped at once.
            unsafe {
                if let Err(killed) = to_result(bindings::nosigbus_folio_lock_killable(folio)) {
                    bindings::nosigbus_folio_put(folio);
                    return Err(killed);
                }
                // Otherwise the folio was truncated before it was locked: look again.
                let is_there = bindings::nosigbus_folio_raw_mapping(folio) == mapping;
                let page = self.cached_page(folio, pgoff);
                if is_there {
                    return Ok(page);
                }
            }
        }
    }

    /// As [`Self::lock_cached_page`], but also returns `None` if another task has the folio locked.
    /// Does not sleep.
    pub(crate) fn try_lock_cached_page(&self, pgoff: u64) -> Option<CachedPage<'_>> {
        // SAFETY: By the type invariants the address space is valid. `cached_page` takes over the
        // lock and the reference that `filemap_trylock_folio()` returns.
        unsafe {
            let folio =
                bindings::nosigbus_filemap_trylock_folio(self.address_space(), pgoff as usize);
            self.cached_page(folio, pgoff)
        }
    }

    /// Returns the page at index `pgoff`, if `folio` is up to date. Otherwise unlocks and puts the
    /// folio. Returns `None` for an error pointer.
    ///
    /// # Safety
    ///
    /// `folio` must be an error pointer, or a locked folio. This takes over its lock and one
    /// reference on it. The folio must contain that page, unless the result is dropped at once.
    unsafe fn cached_page(
        &self,
        folio: *mut kernel::bindings::folio,
        pgoff: u64,
    ) -> Option<CachedPage<'_>> {
        // INVARIANT: Locked, with a reference.
        let page = CachedPage {
            folio: from_err_ptr(folio).ok()?,
            pgoff,
            _file: PhantomData,
        };
        // SAFETY: By the type invariants of `CachedPage` the folio is valid: it has a reference.
        unsafe { bindings::nosigbus_folio_test_uptodate(page.folio) }.then_some(page)
    }

    /// What the page cache has at page index `pgoff`. Does not sleep.
    pub(crate) fn cached(&self, pgoff: u64) -> CacheState {
        // SAFETY: By the type invariants the address space is valid.
        let folio = from_err_ptr(unsafe {
            bindings::nosigbus_filemap_get_folio(self.address_space(), pgoff as usize)
        });
        let Ok(folio) = folio else {
            return CacheState::Nothing;
        };
        // SAFETY: `filemap_get_folio()` has returned the folio with a reference, which is put here.
        // If it is locked here, it is unlocked here.
        unsafe {
            let cached = if bindings::nosigbus_folio_test_uptodate(folio) {
                CacheState::UpToDate
            } else if bindings::nosigbus_folio_trylock(folio) {
                // The lock keeps faults and migration from mapping it meanwhile.
                let may_be_mapped = bindings::nosigbus_folio_mapped(folio);
                kernel::bindings::folio_unlock(folio);
                CacheState::Stale { may_be_mapped }
            } else {
                CacheState::Stale {
                    may_be_mapped: true,
                }
            };
            bindings::nosigbus_folio_put(folio);
            cached
        }
    }

    /// Keeps the file open.
    pub(crate) fn pin(&self) -> PinnedFile {
        // INVARIANT: Taken just now.
        // SAFETY: The file is valid, by the type invariants.
        unsafe { kernel::bindings::get_file(self.file.as_ptr()) };
        PinnedFile(self.file)
    }

    /// How much space the file system has left for users, in bytes. Sleeps; calls the file system
    /// (`->statfs`).
    pub(crate) fn free_space(&self) -> Result<u64> {
        // SAFETY: Zeros are a valid value of it: it is integers.
        let mut statfs: bindings::kstatfs = unsafe { core::mem::zeroed() };
        // SAFETY: The file is valid, by the type invariants, and so is its path.
        to_result(unsafe {
            let path = &raw const (*self.file.as_ptr()).__bindgen_anon_1.f_path;
            bindings::vfs_statfs(path, &mut statfs)
        })?;
        let block_size = u64::try_from(statfs.f_frsize)?;
        Ok(statfs.f_bavail.saturating_mul(block_size))
    }

    /// The device of the file system, its major and minor number, as in /proc/PID/maps.
    pub(crate) fn device(&self) -> (u32, u32) {
        // SAFETY: By the type invariants the inode that the user has opened is valid, and so is its
        // superblock.
        unsafe {
            let device = (*(*self.user_inode().as_ptr()).i_sb).s_dev;
            (
                bindings::nosigbus_major(device),
                bindings::nosigbus_minor(device),
            )
        }
    }

    /// The number of the inode, as in /proc/PID/maps.
    pub(crate) fn inode_number(&self) -> u64 {
        // SAFETY: By the type invariants the inode that the user has opened is valid.
        unsafe { (*self.user_inode().as_ptr()).i_ino }
    }

    /// Returns whether `object` lies in the module of the file system or of `f_op`. The open file
    /// pins both.
    pub(super) fn module_contains(&self, object: *const c_void) -> bool {
        let inode = self.inode().as_ptr();
        // SAFETY: The file is valid, by the type invariants, and so are its operations and its
        // superblock's type.
        unsafe {
            let file_systems = (*(*(*inode).i_sb).s_type).owner;
            let operations = (*(*self.file.as_ptr()).f_op).owner;
            [file_systems, operations]
                .into_iter()
                .filter(|module| !module.is_null())
                .any(|module| bindings::nosigbus_within_module(object, module))
        }
    }

    /// Whether it is a regular file (`S_ISREG`).
    pub(crate) fn is_regular(&self) -> bool {
        // SAFETY: By the type invariants the inode is valid. Its type never changes.
        let mode = u32::from(unsafe { (*self.inode().as_ptr()).i_mode });
        mode & kernel::bindings::S_IFMT == kernel::bindings::S_IFREG
    }

    /// Whether it belongs to the kernel rather than to a file system that users see: the
    /// pseudo file of secretmem or guest_memfd (`S_ANON_INODE`), the shmem file behind
    /// `MAP_SHARED | MAP_ANONYMOUS` or System V shared memory (`S_PRIVATE`), or an attribute in
    /// sysfs, whose size says nothing about what can be mapped.
    ///
    /// Looks at the inode, because the `vm_ops` of these files are not exported.
    pub(crate) fn is_kernel_internal(&self) -> bool {
        let inode = self.inode().as_ptr();
        // SAFETY: By the type invariants the inode is valid. These flags never change.
        let own = unsafe {
            bindings::nosigbus_is_anon_file(inode) || bindings::nosigbus_is_private(inode)
        };
        // SAFETY: By the type invariants the inode and its superblock are valid. The magic number
        // of a superblock does not change.
        own || unsafe { (*(*inode).i_sb).s_magic } == bindings::SYSFS_MAGIC
    }

    /// Whether its pages are mapped from persistent memory directly, without a page cache.
    pub(crate) fn is_dax(&self) -> bool {
        // SAFETY: By the type invariants the inode is valid.
        unsafe { bindings::nosigbus_is_dax(self.inode().as_ptr()) }
    }

    /// Whether its address space is a page cache that fills itself from the file: files of
    /// procfs, debugfs and the like are regular but have none.
    pub(crate) fn has_page_cache(&self) -> bool {
        let ops = self.operations();
        // shmem has no `read_folio`.
        ops.read_folio.is_some() || ops.write_begin.is_some()
    }
}
