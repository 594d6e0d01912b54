// SPDX-License-Identifier: GPL-2.0-only

//! Safe types over the kernel's C interfaces, one kernel concept per file.
//!
//! # Lock order
//!
//! The only statement of it; everything in this module keeps to it.
//!
//! 1. `mmap_lock` of an mm: for write while mappings are opted in ([`mm`]), for read (or 2 alone)
//!    during a fault.
//! 2. The VMA lock: for write around a change of a VMA ([`vma`]), for read during a fault.
//! 3. What the file system's fault handler takes (invalidate lock, folio locks).
//! 4. `i_mmap_rwsem` of the file's address space, for read, taken by core mm inside
//!    `LockedVma::zap_file_pages`.
//! 5. The page-table lock, taken by core mm inside the functions of [`page_insertion`].
//!
//! The lock of a shadow page is taken below 2 and released by core mm, with only 5 inside. The
//! lock inside [`shadow_pages`] is taken below 2, with nothing inside.

pub(crate) mod bindings;
pub(crate) mod device_node;
pub(crate) mod errno;
pub(crate) mod file;
pub(crate) mod mm;
pub(crate) mod module;
pub(crate) mod page_insertion;
mod page_table;
pub(crate) mod shadow_pages;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod user_memory;
pub(crate) mod vm_operations;
pub(crate) mod vma;
