// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decides which mappings are opted in, and opts mappings in and out.

use crate::{
    device, event, fdinfo, handlers,
    kernel::{Result, close, disable, enable, madvise, pid, status},
    lock::Lock,
    lost, notice, options,
    text::number,
    vmas::Vmas,
};
use libc::{
    E2BIG, EACCES, EBADF, EINVAL, ENODEV, ENOSYS, ENOTTY, EPERM, MADV_NORMAL, MADV_RANDOM,
    MAP_SHARED, MAP_TYPE, PROT_WRITE,
};
use nosigbus::uapi::{NOSIGBUS_RECORD_ERRORS, nosigbus_status};
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

/// The number of mappings is checked once per this many attempts to opt in.
const INTERVAL: u32 = 1024;

/// The errno of [`opt_in`] if there are too many mappings. The module does not return it.
pub const TOO_MANY: i32 = E2BIG;

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
/// Whether the program has so many opted-in mappings that it could reach `vm.max_map_count`. The
/// kernel does not merge opted-in mappings.
static FULL: AtomicBool = AtomicBool::new(false);
/// [`ATTEMPTS`] when [`make_room`] last looked at all mappings. Only the holder of `LOCK` writes it.
static LOOKED: AtomicU32 = AtomicU32::new(0);
static LOCK: Lock = Lock::new();

/// Returns whether to opt in a file mapping that mmap creates with these arguments.
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
        return Err(TOO_MANY);
    }
    opt_in_again(range).inspect(|()| lost::opted_in())
}

/// Opts in a mapping that replaces an opted-in one. It is not counted again.
pub fn opt_in_again(range: &Range<usize>) -> Result<()> {
    let result = device::get().ok_or(ENODEV).and_then(|device| {
        let event = event::get();
        match enable(device, range, flags(), event) {
            // Either the program has closed the eventfd, or the range is invalid.
            Err(EBADF | EINVAL) if event.is_some() => {
                enable(device, range, flags(), None).inspect(|()| event::is_lost())
            }
            result => result,
        }
    });
    // The module does not return these errnos. A seccomp filter can return any errno.
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
        // If all listed mappings are of this process, the others count as its mappings too.
        let more = more.filter(|_| own == all).unwrap_or(0);
        FULL.store(own + more > max_map_count() / 2, Relaxed);
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

/// Opts out the opted-in mappings of a range, VMA by VMA. Returns whether it opted any out.
///
/// # Safety
///
/// No code may rely on the stand-ins in the range, or on not getting SIGBUS there.
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

/// Opts out all mappings that have other flags than new ones and no stand-ins, and opts them in
/// again, unless they are no longer to be opted in.
pub fn renew() {
    let (Some(vmas), Some(device)) = (Vmas::open(), device::get()) else {
        return;
    };
    // Programs change their handler often, and mappings can be many.
    let is_other = |status: nosigbus_status| {
        (handlers::have_all() || status.flags & NOSIGBUS_RECORD_ERRORS != flags())
            && !has_stand_ins(&status)
    };
    for vma in vmas.of_files(0..usize::MAX) {
        if !status(device, vma.range.start).is_ok_and(is_other) {
            continue;
        }
        // SAFETY: The program has installed a handler for the SIGBUS that it may get from here on.
        let out = unsafe { disable(device, &vma.range) };
        if out.is_ok() && !handlers::have_all() {
            let _ = opt_in_again(&vma.range);
        }
    }
}

pub fn has_stand_ins(status: &nosigbus_status) -> bool {
    status.zero_pages | status.private_pages | status.shadow_pages != 0
}

/// Makes the kernel merge a VMA with its neighbours, if it can: it tries when the VMA changes.
fn touch(range: &Range<usize>) {
    for advice in [MADV_RANDOM, MADV_NORMAL] {
        let _ = madvise(range, advice);
    }
}

/// Reduces the number of VMAs after mmap has returned ENOMEM, if it is above half of
/// `vm.max_map_count`. Opts out those that continue another and have no stand-ins, and makes the
/// kernel merge them. Had they not been opted in, it would have done so before. Returns whether to
/// call mmap again.
///
/// All others stay opted in: a client must not get a server's mapping of its file opted out because
/// it has made many.
pub fn make_room() -> bool {
    if ATTEMPTS.load(Relaxed) < INTERVAL {
        return false;
    }
    // Whoever does not give it back in time is making room.
    let Some(_held) = LOCK.get() else {
        return true;
    };
    let attempts = ATTEMPTS.load(Relaxed);
    // To look at all mappings takes long. Another thread may have just made room, or there is none.
    if attempts.wrapping_sub(LOOKED.load(Relaxed)) < INTERVAL {
        return true;
    }
    LOOKED.store(attempts, Relaxed);
    let (Some(vmas), Some(device)) = (Vmas::open(), device::get()) else {
        return false;
    };
    let all = || vmas.of_files(0..usize::MAX);
    if all().count() as u64 <= max_map_count() / 2 {
        return false;
    }
    for vma in all() {
        let is_intact = status(device, vma.range.start).is_ok_and(|status| !has_stand_ins(&status));
        // SAFETY: There are no stand-ins. A program that has no memory for its mappings does not live
        // long, so it may get SIGBUS there.
        let out = || unsafe { disable(device, &vma.range) };
        if is_intact && vmas.continues(&vma.range) && out().is_ok() {
            notice::too_many();
            touch(&vma.range);
        }
    }
    true
}

/// Reduces the number of VMAs, if it is above half of `vm.max_map_count`. Opts out all VMAs of the
/// file that is mapped at the start of `range`, and makes the kernel merge those that it can merge.
/// Returns whether it opted any out.
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
        for vma in parts() {
            touch(&vma.range);
        }
    }
    any
}
