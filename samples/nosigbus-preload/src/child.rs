// SPDX-License-Identifier: MIT OR Apache-2.0

//! Calls a function that other processes can keep waiting, and waits for it for a limited time.
//!
//! The function runs in a child process, which is killed after the limit. Like a thread, the child
//! shares the memory and the file descriptors of the program: starting it copies no page table, and
//! a file that the program closes is closed. Unlike a thread, it can be killed alone. If the kernel
//! keeps even a killed process waiting, the program goes on without it.

use crate::kernel::{Mmap, munmap, replace_signal_mask, sleep};
use libc::{
    __WCLONE, CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_UNTRACED, CLONE_VM, MAP_ANONYMOUS,
    MAP_PRIVATE, PROT_READ, PROT_WRITE, c_int, c_void,
};
use rustix::{
    fs::stat,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, kill_process, set_parent_process_death_signal, waitid,
    },
};
use std::{
    ptr,
    sync::atomic::{AtomicU32, Ordering::Acquire},
    time::Duration,
};

/// Hides the child from tracers of the program. The program gets no signal when the child ends, and
/// finds it only if it waits with `__WCLONE` or `__WALL`.
const FLAGS: c_int = CLONE_VM | CLONE_FILES | CLONE_UNTRACED | CLONE_CHILD_CLEARTID;
/// How long the function may take.
const LIMIT: Duration = Duration::from_millis(250);
/// How long the child may take to end when it is killed. It takes that long only if the kernel keeps
/// it waiting.
const GRACE: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(1);
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
/// can be no child. Returns `None` if the kernel keeps the killed child waiting.
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
    // SAFETY: The child has a stack of its own, and accesses only what `call` points to. The kernel
    // writes to `running`, which is there until the child has ended.
    let child = unsafe {
        let stack = (addr + MEMORY) as *mut c_void;
        let (no_id, no_tls) = (ptr::null_mut::<c_void>(), ptr::null_mut::<c_void>());
        let id = running.as_ptr();
        libc::clone(start::<T>, stack, FLAGS, call.cast(), no_id, no_tls, id)
    };
    let has_ended = Pid::from_raw(child.max(0)).is_none_or(|child| ends(child, running));
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

/// Waits for the end of a child, and kills it after the limit. Returns whether it does not use its
/// memory any more.
///
/// `running` alone says so. A file descriptor of the child would not: another thread of the program may
/// close it, and another file may get its number.
fn ends(child: Pid, running: &AtomicU32) -> bool {
    let has_ended = || running.load(Acquire) == 0;
    if !is_so_within(LIMIT, has_ended) {
        // The ID is the child's: a wait of the program cannot find it before `running` is 0.
        let _ = kill_process(child, Signal::KILL);
        if !is_so_within(GRACE, has_ended) {
            return false;
        }
    }
    // A wait of the program may have found it before, and a debugger may have it.
    let options = WaitIdOptions::from_bits_retain(__WCLONE as u32);
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    is_so_within(GRACE, || {
        !matches!(waitid(WaitId::Pid(child), options), Ok(None))
    });
    true
}

/// Waits until something is so, for a limited time. Returns whether it is.
fn is_so_within(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let naps = limit.as_millis() / NAP.as_millis();
    let nap = |_| {
        sleep(NAP);
        is_so()
    };
    is_so() || (0..naps).any(nap)
}
