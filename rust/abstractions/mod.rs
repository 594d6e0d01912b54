// SPDX-License-Identifier: GPL-2.0-only

//! Safe types over the kernel's C interfaces, one kernel concept per file.
//!
//! # Lock order
//!
//! The lock order of the module. Other documents refer to this list.
//!
//! 1. The inode lock. The task that changes `i_size` holds it; this module never takes it. fsnotify
//!    calls [`fsnotify::Listener`] with or without it (see [`fsnotify::Change`]).
//! 2. `mmap_lock` of an mm: for write while mappings are opted in and out ([`mm`]), for read during
//!    a fault that does not use the VMA lock.
//! 3. The VMA lock: for write from the first change of a VMA until mmap_lock is released
//!    ([`vma`]); for read during a fault.
//! 4. What the file system's fault handler takes (invalidate lock, folio locks).
//!    `MappedFile::read_page_uncollapsed` and `MappedFile::ask_shmem` take the same. Only the folio
//!    lock ([`file::CachedPage`]) nests outside 5 to 8. Rules: do not wait for a folio lock while
//!    holding 6. Do not allocate memory while holding a folio lock.
//! 5. Locks for starting to watch a file (`Mapping::watch()`). `StandIns::watching` (a mutex, one
//!    per mapping) comes first. Inside it, one after the other: 6, and `WatchedFile::starting` (a
//!    mutex), whose holder waits for an RCU grace period and takes `f_lock`, a leaf. Inside each of
//!    these two mutexes, and in `->close` of the last VMA: `Group::marks` (a mutex), with
//!    fsnotify's own locks inside. All mappings in the system share that one, so allocations under
//!    it use [`memalloc::NoReclaim`].
//! 6. The [`rw_semaphore`] of a watched file: for read while a stand-in is mapped, for write while
//!    stand-ins are dropped and while mappings come and go. Not taken with the lock of the marks
//!    held. `WatchedFile::turn` is taken before `state` by tasks that zap because of errors. Do not
//!    wait for `turn` or `state` while holding a folio lock. `NOSIGBUS_CLEAR_ERROR` holds
//!    `Errors::clearing` outside `turn`. While holding `state`: allocate only under
//!    [`memalloc::NoReclaim`], and wake nobody. Otherwise a task that changes `i_size` waits for
//!    memory or for a wait queue. `Errors::zero_pages` is a leaf inside `state`.
//! 7. `i_mmap_rwsem`, for read, taken by `unmap_mapping_pages()` (`Inode::unmap_pages`).
//! 8. Page-table locks: taken by core mm in [`page_insertion`] and when it unmaps (7), and by
//!    [`page_table`] (PMD lock).
//!
//! Other locks:
//!
//! - Page lock of a shadow page: taken inside 3; core mm releases it. Only 8 nests inside.
//! - Page lock of a CoW source page ([`page_insertion::ZeroPages`]): trylock only.
//! - Wait-queue locks of an eventfd and of an open device file: never taken while holding any of 4
//!   to 8.
//! - The locks inside [`shadow_pages`] and [`holders`]: leaves.
//! - The lock of a list of mappings: a leaf, taken below 2 and never in a fault.
//! - The lock of a queue of events: only the lock of its wait queue nests inside. A reader takes
//!   that one before it sleeps.

pub(crate) mod atomic;
pub(crate) mod bindings;
pub(crate) mod clock;
pub(crate) mod debugfs;
pub(crate) mod device_node;
pub(crate) mod errno;
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
