// SPDX-License-Identifier: MIT OR Apache-2.0

//! System calls without libc. They do not change errno, cannot cancel a thread, and do not call the
//! functions that this library interposes.

use libc::{
    MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE, SIG_SETMASK,
};
use nosigbus::uapi::{self, NOSIGBUS_EVENTFD, nosigbus_disable, nosigbus_enable, nosigbus_status};
use rustix::{
    fd::{BorrowedFd, IntoRawFd, OwnedFd},
    io::Errno,
    ioctl::{Opcode, Updater, ioctl, opcode},
    process::getpid,
};
use std::{ops::Range, time::Duration};
use syscalls::{Sysno, syscall};

/// `struct procmap_query` of linux/fs.h.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Default)]
pub struct procmap_query {
    pub size: u64,
    pub query_flags: u64,
    pub query_addr: u64,
    pub vma_start: u64,
    pub vma_end: u64,
    pub vma_flags: u64,
    pub vma_page_size: u64,
    pub vma_offset: u64,
    pub inode: u64,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub vma_name_size: u32,
    pub build_id_size: u32,
    pub vma_name_addr: u64,
    pub build_id_addr: u64,
}
const _: () = assert!(size_of::<procmap_query>() == 104);

pub const PROCMAP_QUERY_COVERING_OR_NEXT_VMA: u32 = 0x10;
pub const PROCMAP_QUERY_FILE_BACKED_VMA: u32 = 0x20;
const PROCMAP_QUERY: Opcode = opcode::read_write::<procmap_query>(b'f', 17);

/// An address, or an errno.
pub type Result<T = usize> = std::result::Result<T, i32>;

fn result(result: std::result::Result<usize, syscalls::Errno>) -> Result {
    result.map_err(|errno| errno.into_raw())
}

/// The arguments of mmap.
#[derive(Clone, Copy)]
pub struct Mmap {
    pub addr: usize,
    pub len: usize,
    pub prot: i32,
    pub flags: i32,
    pub fd: i32,
    pub offset: i64,
}

impl Mmap {
    /// # Safety
    ///
    /// That of mmap.
    pub unsafe fn call(&self) -> Result {
        let Self {
            addr,
            len,
            prot,
            flags,
            fd,
            offset,
        } = *self;
        // SAFETY: The caller's.
        result(unsafe { syscall!(Sysno::mmap, addr, len, prot, flags, fd, offset) })
    }
}

/// The arguments of mremap.
#[derive(Clone, Copy)]
pub struct Mremap {
    pub old: usize,
    pub old_len: usize,
    pub len: usize,
    pub flags: i32,
    pub addr: usize,
}

impl Mremap {
    /// # Safety
    ///
    /// That of mremap.
    pub unsafe fn call(&self) -> Result {
        let Self {
            old,
            old_len,
            len,
            flags,
            addr,
        } = *self;
        // SAFETY: The caller's.
        result(unsafe { syscall!(Sysno::mremap, old, old_len, len, flags, addr) })
    }
}

/// # Safety
///
/// That of munmap.
pub unsafe fn munmap(addr: usize, len: usize) -> Result {
    // SAFETY: The caller's.
    result(unsafe { syscall!(Sysno::munmap, addr, len) })
}

/// # Safety
///
/// That of mprotect.
pub unsafe fn mprotect(addr: usize, len: usize, prot: i32) -> Result {
    // SAFETY: The caller's.
    result(unsafe { syscall!(Sysno::mprotect, addr, len, prot) })
}

/// # Safety
///
/// That of pkey_mprotect.
pub unsafe fn pkey_mprotect(addr: usize, len: usize, prot: i32, key: i32) -> Result {
    // SAFETY: The caller's.
    result(unsafe { syscall!(Sysno::pkey_mprotect, addr, len, prot, key) })
}

/// Calls madvise. `advice` must be a hint that does not change the content of memory.
pub fn madvise(range: &Range<usize>, advice: i32) -> Result {
    // SAFETY: Changes nothing but what the kernel reads ahead.
    result(unsafe { syscall!(Sysno::madvise, range.start, range.len(), advice) })
}

impl Mmap {
    /// # Safety
    ///
    /// That of madvise, for the mapping that was made at `addr` by this.
    pub unsafe fn advise(&self, addr: usize, advice: i32) -> Result {
        // SAFETY: The caller's.
        result(unsafe { syscall!(Sysno::madvise, addr, self.len, advice) })
    }
}

/// Maps an inaccessible area at an unused address, so that nothing else can be mapped there.
pub fn block(addr: usize, len: usize) -> Result {
    let block = Mmap {
        addr,
        len,
        prot: PROT_NONE,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
        fd: -1,
        offset: 0,
    };
    // SAFETY: A new mapping, which replaces none.
    unsafe { block.call() }
}

pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: Ends the process.
        let _ = unsafe { syscall!(Sysno::exit_group, status) };
    }
}

/// Closes a file descriptor without libc's close(), which is a cancellation point.
pub fn close(fd: OwnedFd) {
    // SAFETY: It was owned, and is not any more.
    unsafe { rustix::io::close(fd.into_raw_fd()) };
}

/// Sets which signals are blocked. Returns which were.
pub fn replace_signal_mask(signals: u64) -> u64 {
    let mut old = 0_u64;
    // SAFETY: Reads the one and writes the other.
    let _ = unsafe {
        syscall!(
            Sysno::rt_sigprocmask,
            SIG_SETMASK,
            &raw const signals,
            &raw mut old,
            size_of::<u64>()
        )
    };
    old
}

pub fn pid() -> u32 {
    getpid().as_raw_nonzero().get() as u32
}

pub fn gettid() -> usize {
    // SAFETY: Has no arguments.
    unsafe { syscall!(Sysno::gettid) }.unwrap_or_default()
}

pub fn sleep(time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    // SAFETY: Reads the time.
    let _ = unsafe { syscall!(Sysno::nanosleep, &raw const time, 0) };
}

pub fn page_size() -> usize {
    // SAFETY: Reads what the kernel has passed to the program.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

/// Whether this program has gained privileges when it was executed, as setuid programs do.
pub fn is_privileged() -> bool {
    // SAFETY: Has no precondition.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// From `addr` on, `len` bytes rounded up to whole pages, as mmap does it.
pub fn pages(addr: usize, len: usize) -> Range<usize> {
    let mask = page_size() - 1;
    addr..addr.saturating_add(len.saturating_add(mask) & !mask)
}

/// Opts a range in. The first stand-in signals the eventfd, if there is one.
pub fn enable(
    device: BorrowedFd<'_>,
    range: &Range<usize>,
    flags: u32,
    event: Option<i32>,
) -> Result<()> {
    let request = nosigbus_enable {
        addr: range.start as u64,
        len: (range.end - range.start) as u64,
        flags: flags | if event.is_some() { NOSIGBUS_EVENTFD } else { 0 },
        eventfd: event.unwrap_or(0),
        ..Default::default()
    };
    // SAFETY: Whoever runs the program has asked for NOSIGBUS_RECORD_ERRORS.
    unsafe { uapi::enable(device, request) }.map_err(Errno::raw_os_error)
}

/// # Safety
///
/// Nothing may rely on what stands in for pages in the range.
pub unsafe fn disable(device: BorrowedFd<'_>, range: &Range<usize>) -> Result<()> {
    let request = nosigbus_disable {
        addr: range.start as u64,
        len: (range.end - range.start) as u64,
        ..Default::default()
    };
    // SAFETY: The caller's.
    unsafe { uapi::disable(device, request) }.map_err(Errno::raw_os_error)
}

/// Returns the status of the mapping that contains an address.
pub fn status(device: BorrowedFd<'_>, addr: usize) -> Result<nosigbus_status> {
    let mut status = nosigbus_status {
        addr: addr as u64,
        ..Default::default()
    };
    // SAFETY: Without NOSIGBUS_CLEAR_ERROR it only fills in the status.
    unsafe { uapi::status(device, &mut status) }.map_err(Errno::raw_os_error)?;
    Ok(status)
}

/// # Safety
///
/// The address and size of the name buffer in the query must be those of a writable buffer, or 0.
pub unsafe fn query_map(maps: BorrowedFd<'_>, query: &mut procmap_query) -> Result<()> {
    query.size = size_of::<procmap_query>() as u64;
    // SAFETY: PROCMAP_QUERY reads and fills in a `struct procmap_query` of that size.
    unsafe { ioctl(maps, Updater::<PROCMAP_QUERY, _>::new(query)) }.map_err(Errno::raw_os_error)
}
