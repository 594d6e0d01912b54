// SPDX-License-Identifier: MIT OR Apache-2.0

//! Interposes msync, fsync and fdatasync, and makes them fail for a file that has had errors
//! recorded: data that was written to its mapping is not in the file. Most file systems return the
//! error themselves; tmpfs and memfds do not. As in the kernel, each error is returned once, but
//! once per process, not once per open file.

use crate::{
    fdinfo::{self, FileId},
    kernel::pages,
    lock::{Lock, Locked},
    next::{Next, find, next},
    options,
    vmas::Vmas,
};
use libc::{c_int, c_void, size_t};
use rustix::{
    fd::BorrowedFd,
    fs::{fstat, major, minor},
};

/// For how many files it is remembered which errors were returned.
const FILES: usize = 64;

#[derive(Clone, Copy)]
struct Returned {
    file: FileId,
    /// How many errors; 0 if the slot is free.
    errors: u64,
}

static LOCK: Lock = Lock::new();
static RETURNED: Locked<[Returned; FILES]> = Locked::new(
    [Returned {
        file: (0, 0, 0),
        errors: 0,
    }; FILES],
);

static MSYNC: Next = Next::new(c"msync");
static FSYNC: Next = Next::new(c"fsync");
static FDATASYNC: Next = Next::new(c"fdatasync");

pub fn start() {
    find([&MSYNC, &FSYNC, &FDATASYNC]);
}

/// Returns the errno of the file's first error if the file has new errors, which no call has
/// returned yet. With `is_returned` it returns `None`: the file system returns an error itself just
/// now, and that stands for all of them.
fn new_error(file: FileId, is_returned: bool) -> Option<i32> {
    let (mut errors, mut first) = (0, 0);
    fdinfo::for_each(|entry| {
        if entry.identity.file == file && entry.identity.is_shared_write() && entry.errors != 0 {
            errors += entry.errors;
            first = if first == 0 { entry.error } else { first };
        }
    });
    if errors == 0 {
        return None;
    }
    let held = LOCK.get()?;
    // SAFETY: Of this lock, and got once.
    let known = unsafe { RETURNED.get(&held) };
    let slot = known
        .iter_mut()
        .find(|known| known.file == file || known.errors == 0);
    if let Some(slot) = slot {
        // A smaller number means that a mapping was unmapped. The remaining errors count as new.
        if slot.file == file && slot.errors == errors {
            return None;
        }
        *slot = Returned { file, errors };
    }
    (!is_returned && first != 0).then_some(first as i32)
}

fn checked(files: impl Iterator<Item = FileId>, result: c_int) -> c_int {
    let mut failed = None;
    for file in files {
        failed = new_error(file, result != 0).or(failed);
    }
    match failed {
        Some(errno) => {
            // SAFETY: This thread's own.
            unsafe { *libc::__errno_location() = errno };
            -1
        }
        None => result,
    }
}

fn checked_file(fd: c_int, result: c_int) -> c_int {
    if !options::records_errors() || fd < 0 {
        return result;
    }
    // SAFETY: Used at once, and only by the kernel. -1 alone is not allowed.
    let stat = fstat(unsafe { BorrowedFd::borrow_raw(fd) });
    let file = stat.map(|stat| (major(stat.st_dev), minor(stat.st_dev), stat.st_ino));
    checked(file.into_iter(), result)
}

/// # Safety
///
/// That of msync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msync(addr: *mut c_void, len: size_t, flags: c_int) -> c_int {
    let next = next!(MSYNC: *mut c_void, size_t, c_int);
    // SAFETY: The caller's.
    let result = unsafe { next(addr, len, flags) };
    if !options::records_errors() {
        return result;
    }
    match Vmas::open() {
        Some(vmas) => {
            let vmas = vmas.of_files(pages(addr as usize, len));
            checked(vmas.map(|vma| vma.file), result)
        }
        None => result,
    }
}

/// # Safety
///
/// That of fsync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let next = next!(FSYNC: c_int);
    // SAFETY: The caller's.
    checked_file(fd, unsafe { next(fd) })
}

/// # Safety
///
/// That of fdatasync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    let next = next!(FDATASYNC: c_int);
    // SAFETY: The caller's.
    checked_file(fd, unsafe { next(fd) })
}
