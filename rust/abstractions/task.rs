// SPDX-License-Identifier: GPL-2.0-only

//! The calling task: who it is, and its sleep.
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings;
use kernel::{
    bindings::{
        pid,
        TASK_COMM_LEN, //
    },
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// Whether a signal waits for the task that asks.
pub(crate) fn has_signal() -> bool {
    current!().signal_pending()
}

/// Whether the task that asks is being killed.
pub(crate) fn is_being_killed() -> bool {
    // SAFETY: Has no precondition.
    unsafe { bindings::nosigbus_is_being_killed() }
}

/// Sleeps for a short time, a millisecond or so. Fails with `EINTR` if the task is being killed.
pub(super) fn sleep_killable(time: Delta) -> Result {
    fsleep(time);
    if is_being_killed() {
        return Err(EINTR);
    }
    Ok(())
}

/// What a process is called, whether it exists still or not.
///
/// # Invariants
///
/// Owns a reference on `pid`.
pub(crate) struct Identity {
    pid: *mut pid,
    /// The name of the task, with zeros behind it.
    comm: [u8; TASK_COMM_LEN as usize],
}

// SAFETY: Neither belongs to a thread.
unsafe impl Send for Identity {}
// SAFETY: Neither changes.
unsafe impl Sync for Identity {}

impl Identity {
    /// Of the calling process.
    pub(crate) fn current() -> Self {
        let mut comm = [0; TASK_COMM_LEN as usize];
        // SAFETY: The buffer is as long as the function asks for.
        unsafe { bindings::nosigbus_current_comm(comm.as_mut_ptr()) };
        Self {
            // INVARIANT: With a reference.
            // SAFETY: Has no precondition.
            pid: unsafe { bindings::nosigbus_current_tgid() },
            comm,
        }
    }

    /// Its number (tgid) as the calling process sees it; 0 if it does not, because its PID namespace
    /// is another one.
    pub(crate) fn tgid(&self) -> i32 {
        // SAFETY: By the type invariants.
        unsafe { kernel::bindings::pid_vnr(self.pid) }
    }

    /// The name of the task.
    pub(crate) fn comm(&self) -> &[u8] {
        self.comm.split(|&byte| byte == 0).next().unwrap_or(&[])
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { kernel::bindings::put_pid(self.pid) };
    }
}

#[kunit_tests(nosigbus_task)]
mod tests {
    use super::*;

    #[test]
    fn who_is_killed_sleeps_no_more() {
        assert_eq!(sleep_killable(Delta::from_millis(1)), Ok(()));
        // SAFETY: The test has a task of its own, a kernel thread, which ignores signals before this
        // and after it.
        unsafe { bindings::nosigbus_kill_current() };
        assert_eq!(sleep_killable(Delta::from_millis(1)), Err(EINTR));
        // SAFETY: As above.
        unsafe { bindings::nosigbus_unkill_current() };
        assert_eq!(sleep_killable(Delta::from_millis(1)), Ok(()));
    }
}
