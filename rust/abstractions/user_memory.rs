// SPDX-License-Identifier: GPL-2.0-only

//! User memory for KUnit tests: files, and mappings of them in a real address space.
//!
//! C headers: [`include/kunit/test.h`](srctree/include/kunit/test.h),
//! [`include/linux/shmem_fs.h`](srctree/include/linux/shmem_fs.h)

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    uaccess::UserSlice, //
};

/// Whether a mapping is made with `MAP_SHARED` or `MAP_PRIVATE`.
#[derive(Clone, Copy)]
pub(crate) enum Sharing {
    Shared,
    Private,
}

/// Whether a mapping is made with `PROT_WRITE`.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// A file as memfd_create(2) makes it.
///
/// # Invariants
///
/// Owns a reference on the file.
pub(crate) struct ShmemFile(NonNull<kernel::bindings::file>);

impl ShmemFile {
    /// Makes a file of `size` bytes, a hole.
    pub(crate) fn new(size: usize) -> Result<Self> {
        let flags = kernel::bindings::vma_flags_t::default();
        // SAFETY: The name is a C string. The result is a file or an error.
        let file = from_err_ptr(unsafe {
            bindings::shmem_file_setup(c"kunit".as_char_ptr(), size as _, flags)
        })?;
        // INVARIANT: `shmem_file_setup()` returns a new reference.
        NonNull::new(file).map(Self).ok_or(EINVAL)
    }

    /// Maps `len` bytes from its start into the address space of the current test, which gets one
    /// if it has none.
    pub(crate) fn map(&self, len: usize, sharing: Sharing, access: Access) -> Result<usize> {
        let flags = match sharing {
            Sharing::Shared => bindings::MAP_SHARED,
            Sharing::Private => bindings::MAP_PRIVATE,
        };
        let prot = match access {
            Access::Read => bindings::PROT_READ,
            Access::ReadWrite => bindings::PROT_READ | bindings::PROT_WRITE,
        };
        // SAFETY: Called from a KUnit test, as all of this file.
        let addr = unsafe {
            kernel::bindings::kunit_vm_mmap(
                kernel::bindings::kunit_get_current_test(),
                self.0.as_ptr(),
                0,
                len,
                prot as usize,
                flags as usize,
                0,
            )
        };
        // KUnit turns an error into 0.
        if addr == 0 {
            return Err(ENOMEM);
        }
        Ok(addr)
    }

    /// Changes its size as ftruncate(2) does.
    pub(crate) fn truncate(&self, size: usize) -> Result {
        // SAFETY: The file is valid, by the type invariants, and so is its path.
        to_result(unsafe {
            let path = &raw const (*self.0.as_ptr()).__bindgen_anon_1.f_path;
            kernel::bindings::vfs_truncate(path, size as _)
        })
    }

    /// How many VMAs may write to the file (`i_mmap_writable`).
    pub(crate) fn writable_mappings(&self) -> i32 {
        // SAFETY: The file is valid, by the type invariants, and so is its address space. Only
        // this test changes the count.
        unsafe { (*(*self.0.as_ptr()).f_mapping).i_mmap_writable.counter }
    }
}

impl Drop for ShmemFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this value owns a reference on the file.
        unsafe { kernel::bindings::fput(self.0.as_ptr()) };
    }
}

/// Unmaps part of the current test's address space.
pub(crate) fn unmap(addr: usize, len: usize) -> Result {
    // SAFETY: The test has an address space, and nothing of the kernel's refers to it.
    to_result(unsafe { kernel::bindings::vm_munmap(addr, len) })
}

/// Reads a byte of the current test's address space. `EFAULT` where user space would get SIGBUS.
pub(crate) fn read_byte(addr: usize) -> Result<u8> {
    let mut byte = [0xa5];
    UserSlice::new(UserPtr::from_addr(addr), 1)
        .reader()
        .read_slice(&mut byte)?;
    Ok(byte[0])
}

/// Writes a byte of the current test's address space. `EFAULT` where user space would get SIGBUS.
pub(crate) fn write_byte(addr: usize, byte: u8) -> Result {
    UserSlice::new(UserPtr::from_addr(addr), 1)
        .writer()
        .write_slice(&[byte])
}
