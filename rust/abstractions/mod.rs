// SPDX-License-Identifier: GPL-2.0-only

//! Safe types over the kernel's C interfaces, one kernel concept per file.
//!
//! # Lock order
//!
//! The only statement of it; everything in this module keeps to it.
//!
//! 1. The inode lock, held by whoever changes the size of a file; not taken here. With it or not,
//!    modifications are reported to [`fsnotify`].
//! 2. `mmap_lock` of an mm: for write while mappings are opted in and out ([`mm`]), for read (or 3
//!    alone) during a fault.
//! 3. The VMA lock: for write around a change of a VMA ([`vma`]), for read during a fault.
//! 4. What the file system's fault handler takes (invalidate lock, folio locks).
//!    `MappedFile::read_page_uncollapsed` and `MappedFile::ask_shmem` take the same. Of these only
//!    the lock of a page in the page cache ([`file::CachedPage`]) is held while what follows is
//!    taken, and nobody waits for one with 6 held, nor for memory with a page locked.
//! 5. In a fault, before the first stand-in of a mapping: a mutex of the mapping; inside that, one after the
//!    other, 6, and a mutex of the file, with which a grace period of RCU is waited for, and `f_lock` is
//!    taken, with nothing inside. Inside each, and when the last VMA goes, the lock of the marks of a
//!    [`fsnotify::Group`], with fsnotify's own locks inside. That is everybody's: so nobody waits for
//!    memory with it held ([`memalloc::NoReclaim`]).
//! 6. The [`rw_semaphore`] of a watched file: for read while a stand-in is mapped, for write while
//!    stand-ins are dropped and while mappings come and go. Not taken with the lock of the marks held.
//!    Whoever unmaps pages because of errors takes a mutex before it, and waits for neither with a page locked. Who
//!    does so to clear an error has waited before that for all others who clear the mapping's.
//!    With it held, nothing is allocated that could wait for memory ([`memalloc::NoReclaim`]), and
//!    nobody is woken: others wait for it. Inside it is the lock of a mapping's failed pages, which has
//!    nothing inside.
//! 7. `i_mmap_rwsem` of the file's address space, for read, taken by core mm inside
//!    `Inode::unmap_pages` and `LockedVma::zap_stand_ins`.
//! 8. The page-table lock, taken by core mm inside the functions of [`page_insertion`].
//!
//! The lock of a shadow page is taken below 3 and released by core mm, with only 8 inside. That of a
//! page of zeros which core mm copies is never waited for. Inside the lock of an eventfd, and that of
//! the wait queue of an open device, are those of whoever waits there; they are taken with none of 4 to
//! 8 held. The locks inside [`shadow_pages`] and [`holders`] have nothing inside, and neither has that
//! of the list of mappings, which is taken below 2 and never in a fault. Inside the lock of a queue of
//! events is only the lock of its wait queue: a reader takes that one before he sleeps.

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
