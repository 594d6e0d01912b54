// SPDX-License-Identifier: GPL-2.0-only

//! Safe types over the kernel's C interfaces, one kernel concept per file.
//! Documentation/rust-abstractions.rst says what would retire each of them.
//!
//! # Lock order
//!
//! The lock order of the module. Other documents refer to this list.
//!
//! 1. The inode lock. The task that changes `i_size` holds it; this module never takes it. fsnotify
//!    calls [`fsnotify::Listener`] with or without it.
//! 2. `mmap_lock` of an mm: for write while mappings are opted in and out ([`mm`]), for read during
//!    a fault that does not use the VMA lock.
//! 3. The VMA lock: for write from the first change of a VMA until mmap_lock is released
//!    ([`vma`]); for read during a fault.
//! 4. The locks that the file system's fault handler takes: the invalidate lock and folio locks.
//!    `MappedFile::read_page_invalidate_locked` and `MappedFile::read_page_shmem` take the same
//!    ones. Of these, this module holds only folio locks while it takes locks further down: that of
//!    a [`file::CachedPage`] while it takes 6 (by trylock), 7 and 8; that of a
//!    [`fault::FilePage`] while it takes 8 and looks into [`shadow_pages`]. Rules: whoever holds a
//!    folio lock, or 6, takes the other one by trylock only. While holding a folio lock, allocate
//!    only under [`memalloc::NoReclaim`].
//! 5. The mutexes of `Mapping::ensure_watched()`, which starts to watch a file:
//!    - `MappingState::watch_lock`, one per mapping, is the outermost. Its holder takes 6 and
//!      releases it, and then takes `f_lock`, a leaf, and waits for an RCU grace period. It may
//!      also wait for memory. Only tasks that share the mapping wait for it: threads of the
//!      process, and children after fork(2).
//!    - `Group::marks` is taken inside it, and in `->close` of the last VMA.
//!      fsnotify's own locks nest inside. All mappings in the system share this mutex, so
//!      allocations under it use [`memalloc::NoReclaim`].
//! 6. `WatchedFile::sem`, the [`rw_semaphore`] of a watched file. A fault holds it for read while
//!    it maps a stand-in. A task holds it for write while it drops stand-ins, keeps a page, or adds
//!    or removes a mapping.
//!    - `WatchedFile::error_zap_lock` is taken before `sem` by tasks that zap because of errors.
//!    - `NOSIGBUS_CLEAR_ERROR` waits for other clears of the mapping (`Errors::clearing()`) before
//!      it takes `error_zap_lock`.
//!    - `error_zap_lock` follows the rule for folio locks in 4, too. Do not take `sem` while
//!      holding `Group::marks`.
//!    - While holding `sem`, allocate only under [`memalloc::NoReclaim`], and do not wake tasks: a
//!      task that changes `i_size` may be waiting for `sem`.
//!    - `Errors::zero_pages` is a leaf inside `sem`.
//! 7. `i_mmap_rwsem`, for read, taken by `unmap_mapping_pages()` (`Inode::unmap_pages`).
//! 8. Page-table locks: taken by core mm in [`page_insertion`] and when it unmaps (7), and by
//!    [`page_table`] (PMD lock).
//!
//! Other locks:
//!
//! - Page lock of a shadow page: taken inside 3; core mm releases it. Only 8 nests inside.
//! - Page lock of a CoW source page ([`page_insertion::CowSources`]): trylock only, or the page is
//!   newly allocated and not shared yet.
//! - Wait-queue locks of an eventfd and of an open device file: never taken while holding any of 4
//!   to 8.
//! - The locks inside [`shadow_pages`] and [`holders`]: leaves.
//! - The lock of a list of mappings (`registry::List`): a leaf. ENABLE and `->close` take it inside
//!   2, readers of fdinfo and debugfs without 2. No fault takes it.
//! - The lock of a queue of events (`events::Queue`): only the lock of its wait queue nests inside;
//!   a reader takes that before it sleeps.

pub(crate) mod atomic;
pub(crate) mod bindings;
pub(crate) mod clock;
pub(crate) mod debugfs;
pub(crate) mod device_node;
pub(crate) mod eventfd;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod fsnotify;
pub(crate) mod holders;
mod image;
pub(crate) mod memalloc;
pub(crate) mod mm;
pub(crate) mod module;
pub(crate) mod page_insertion;
pub(crate) mod page_mkwrite;
mod page_table;
pub(crate) mod rcu;
pub(crate) mod rw_semaphore;
pub(crate) mod shadow_pages;
pub(crate) mod task;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod user_memory;
pub(crate) mod vm_operations;
pub(crate) mod vma;
