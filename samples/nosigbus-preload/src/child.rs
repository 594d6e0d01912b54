// SPDX-License-Identifier: MIT OR Apache-2.0

//! Calls a function that other processes can keep waiting, and waits for it for a limited time.
//!
//! The function runs in a child process, which is killed after the limit. Like a thread, the child
//! shares the memory and the file descriptors of the program: starting it copies no page table, and
//! a file that the program closes is closed. Unlike a thread, it can be killed alone. If the kernel
//! keeps even a killed process waiting, the program goes on without it.

use crate::kernel::{Mmap, munmap, replace_signal_mask};
use libc::{
    __WCLONE, CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_PIDFD, CLONE_UNTRACED, CLONE_VM,
    MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, c_int, c_void,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd, BorrowedFd},
    fs::stat,
    process::{
        Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, waitid,
    },
};
use std::{
    ptr,
    sync::atomic::{AtomicU32, Ordering::Acquire},
};

/// Hides the child from tracers of the program. The program gets no signal when the child ends, and
/// finds it only if it waits with `__WCLONE` or `__WALL`.
const FLAGS: c_int = CLONE_VM | CLONE_FILES | CLONE_PIDFD | CLONE_UNTRACED | CLONE_CHILD_CLEARTID;
/// How long the function may take.
const LIMIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};
/// How long the child may take to end when it is killed. It takes that long only if the kernel keeps
/// it waiting.
const GRACE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// The call is at its start; the stack of the child grows down from its end.
const MEMORY: usize = 64 << 10;

struct Call<T> {
    /// The kernel sets it to 0 when the child does not use the memory any more.
    running: AtomicU32,
    function: fn(&mut T),
    value: T,
}

extern "C" fn start<T>(call: *mut c_void) -> c_int {
    // The thread that kills this process may end before that, with the whole program.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let call = call.cast::<Call<T>>();
    // SAFETY: Written by `run`, which does not access these two before this process has ended.
    unsafe { ((*call).function)(&mut (*call).value) };
    0
}

/// Calls `function` with `value`, and returns `value` as `function` has left it, or as it was if there
/// can be no child. Returns `None` if the kernel keeps the killed child waiting, or if the program has
/// closed the child's file descriptor.
///
/// # Safety
///
/// `value` must be valid at each moment of `function`, which may be killed. `function` must use no
/// thread-local data, because the child has that of this thread.
pub unsafe fn run<T>(function: fn(&mut T), value: T) -> Option<T> {
    const { assert!(size_of::<Call<T>>() < MEMORY / 4) };
    if may_begin_namespace() {
        return Some(value);
    }
    let memory = Mmap {
        addr: 0,
        len: MEMORY,
        prot: PROT_READ | PROT_WRITE,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
        fd: -1,
        offset: 0,
    };
    // SAFETY: A new mapping.
    let Ok(addr) = (unsafe { memory.call() }) else {
        return Some(value);
    };
    let call = addr as *mut Call<T>;
    // SAFETY: Inside the mapping, at the start of a page.
    let running = unsafe {
        call.write(Call {
            running: AtomicU32::new(1),
            function,
            value,
        });
        &(*call).running
    };

    // SAFETY: This thread's own.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    // The child must not run the program's signal handlers.
    let signals = replace_signal_mask(u64::MAX);
    let mut pidfd = -1;
    // SAFETY: The child has a stack of its own, and accesses only what `call` points to. The kernel
    // writes to `running`, which is there until the child has ended.
    let child = unsafe {
        let stack = (addr + MEMORY) as *mut c_void;
        let (no_tls, id) = (ptr::null_mut::<c_void>(), running.as_ptr());
        libc::clone(
            start::<T>,
            stack,
            FLAGS,
            call.cast(),
            &raw mut pidfd,
            no_tls,
            id,
        )
    };
    let has_ended = child < 0 || {
        // SAFETY: Used at once, and only by the kernel.
        let has_ended = ends(unsafe { BorrowedFd::borrow_raw(pidfd) }, running);
        if has_ended {
            // SAFETY: Made for the child. If it does not tell the end, it may be another file's.
            unsafe { rustix::io::close(pidfd) };
        }
        has_ended
    };
    replace_signal_mask(signals);
    *errno = before;
    if !has_ended {
        return None;
    }
    // SAFETY: No other process or thread accesses it any more.
    let call = unsafe { call.read() };
    // SAFETY: Made above.
    let _ = unsafe { munmap(addr, MEMORY) };
    Some(call.value)
}

/// Returns whether a child might be the first process of a PID namespace. The program has created
/// that namespace for another child, and it would end with this one.
fn may_begin_namespace() -> bool {
    let id = |path| stat(path).ok().map(|stat| stat.st_ino);
    let own = id(c"/proc/thread-self/ns/pid");
    own.is_none() || own != id(c"/proc/thread-self/ns/pid_for_children")
}

/// Waits for the end of a child, and kills it after the limit. Returns whether it has ended.
///
/// Another thread of the program may close the file descriptor, and another file may get its number.
/// What poll returns for these says nothing of the child, which may still be using its memory.
fn ends(child: BorrowedFd<'_>, running: &AtomicU32) -> bool {
    let ends_within = |time| {
        let polled = poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(time));
        polled == Ok(1) && running.load(Acquire) == 0
    };
    let has_ended = ends_within(&LIMIT) || {
        let _ = pidfd_send_signal(child, Signal::KILL);
        ends_within(&GRACE)
    };
    if has_ended {
        // Does not wait: a wait of the program may have found it before, and a debugger may have it.
        let options = WaitIdOptions::from_bits_retain(__WCLONE as u32);
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::PidFd(child.as_fd()), options);
    }
    has_ended
}
