// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which mappings are opted in, and which are left, or made, plain mappings.

use crate::{
    device, event, fdinfo, handlers,
    kernel::{Result, close, disable, enable, madvise, nosigbus_status, pid, status},
    lost, notice, options,
    text::number,
    vmas::Vmas,
};
use libc::{
    EACCES, EBADF, EINVAL, ENODEV, ENOMEM, ENOSYS, ENOTTY, EPERM, MADV_NORMAL, MADV_RANDOM,
    MAP_SHARED, MAP_TYPE, PROT_WRITE,
};
use rustix::{
    fs::{Mode, OFlags, open},
    io::read,
};
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

const MAX_MAP_COUNT: &std::ffi::CStr = c"/proc/sys/vm/max_map_count";
const DEFAULT_MAX_MAP_COUNT: u64 = 65530;

/// After how many mappings it is looked how many there are.
const INTERVAL: u32 = 1024;

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
/// Whether there are so many opted-in mappings, which the kernel makes none of with another, that the
/// program could run out of them.
static FULL: AtomicBool = AtomicBool::new(false);

/// Whether a mapping of a file that is made with these arguments of mmap is to be opted in.
pub fn is_wanted(prot: i32, flags: i32) -> bool {
    let is_shared = flags & MAP_TYPE & MAP_SHARED != 0;
    let excepted = options::shared_read_only() && is_shared && prot & PROT_WRITE != 0;
    !excepted && !handlers::have_all()
}

/// The flags of NOSIGBUS_ENABLE.
fn flags() -> u32 {
    if handlers::have_errors() {
        0
    } else {
        options::record_errors_flag()
    }
}

/// Opts a new mapping in.
pub fn opt_in(range: &Range<usize>) -> Result<()> {
    if is_full() {
        return Err(ENOMEM);
    }
    opt_in_again(range).inspect(|()| lost::opted_in())
}

/// Opts in what takes the place of an opted-in mapping.
pub fn opt_in_again(range: &Range<usize>) -> Result<()> {
    let result = device::get().ok_or(ENODEV).and_then(|device| {
        let event = event::get();
        match enable(device, range, flags(), event) {
            // The program has closed the eventfd, or it is about the range.
            Err(EBADF | EINVAL) if event.is_some() => {
                enable(device, range, flags(), None).inspect(|()| event::is_lost())
            }
            result => result,
        }
    });
    // Filters of seccomp answer with whatever they like. The module has other answers.
    if let Err(errno @ (ENODEV | ENOSYS | EPERM | EACCES | ENOTTY)) = result {
        notice::unreachable(errno);
    }
    result
}

fn is_full() -> bool {
    if ATTEMPTS.fetch_add(1, Relaxed) % INTERVAL == INTERVAL - 1 {
        let (pid, mut all, mut own) = (u64::from(pid()), 0, 0);
        let more = fdinfo::for_each(|entry| {
            all += 1;
            own += u64::from(entry.identity.pid == pid);
        });
        // Those that are not listed are of this process, if all others are.
        let more = more.filter(|_| own == all).unwrap_or(0);
        let is_full = own + more > max_map_count() / 2;
        if is_full && !FULL.load(Relaxed) {
            notice::too_many();
        }
        FULL.store(is_full, Relaxed);
    }
    FULL.load(Relaxed)
}

fn max_map_count() -> u64 {
    let read = || {
        let file = open(
            MAX_MAP_COUNT,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let mut text = [0; 32];
        let len = read(&file, &mut text);
        close(file);
        number(text.get(..len.ok()?)?.trim_ascii(), 10)
    };
    read().unwrap_or(DEFAULT_MAX_MAP_COUNT)
}

/// Opts out what is opted in of a range, VMA by VMA. Returns whether anything was.
///
/// # Safety
///
/// Nothing may rely on what stands in for pages there, nor on there being no SIGBUS.
pub unsafe fn opt_out(range: Range<usize>) -> bool {
    let (Some(vmas), Some(device)) = (Vmas::open(), device::get()) else {
        return false;
    };
    let mut any = false;
    for vma in vmas.of_files(range) {
        if status(device, vma.range.start).is_ok() {
            // SAFETY: The caller's.
            let out = || unsafe { disable(device, &vma.range) };
            any |= lost::unmapping(&vma.range, out).is_ok();
        }
    }
    any
}

/// Opts in anew, as it is wanted by now, what is opted in and has no stand-ins.
pub fn renew() {
    let (Some(vmas), Some(device)) = (Vmas::open(), device::get()) else {
        return;
    };
    let has_none = |status: nosigbus_status| {
        status.zero_pages | status.private_pages | status.shadow_pages == 0
    };
    for vma in vmas.of_files(0..usize::MAX) {
        if !status(device, vma.range.start).is_ok_and(has_none) {
            continue;
        }
        // SAFETY: The program has a handler for what it is told of from here on.
        let out = unsafe { disable(device, &vma.range) };
        if out.is_ok() && !handlers::have_all() {
            let _ = opt_in_again(&vma.range);
        }
    }
}

/// Makes plain mappings of all parts of a file's mapping that has the byte at `range`, if there are so many
/// that the program has no more, and has the kernel make one of those that can be one.
///
/// # Safety
///
/// As for [`opt_out`].
pub unsafe fn merge(range: &Range<usize>) -> bool {
    let Some(vmas) = Vmas::open() else {
        return false;
    };
    let Some(file) = vmas.at(range.start).map(|vma| vma.file) else {
        return false;
    };
    let all = || vmas.of_files(0..usize::MAX);
    if all().count() as u64 <= max_map_count() / 2 {
        return false;
    }
    let parts = || all().filter(|vma| vma.file == file);
    let mut any = false;
    for vma in parts() {
        // SAFETY: The caller's.
        any |= unsafe { opt_out(vma.range) };
    }
    if any {
        notice::too_many();
        // What changes a VMA has it merged with its neighbours. This changes each.
        for advice in [MADV_RANDOM, MADV_NORMAL] {
            for vma in parts() {
                let _ = madvise(&vma.range, advice);
            }
        }
    }
    any
}
