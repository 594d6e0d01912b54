// SPDX-License-Identifier: GPL-2.0-only

//! The current task: its process, its name, and its pending signals.
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings;
use kernel::{
    bindings::{
        get_task_pid,
        pid,
        pid_type_PIDTYPE_TGID,
        TASK_COMM_LEN, //
    },
    prelude::*, //
};

/// Whether the current task has a pending signal.
pub(crate) fn has_signal() -> bool {
    current!().signal_pending()
}

/// Whether the current task has a pending fatal signal.
pub(crate) fn is_being_killed() -> bool {
    // SAFETY: Has no precondition.
    unsafe { bindings::nosigbus_fatal_signal_pending() }
}

/// Whether the current task is writing a core dump (`PF_DUMPCORE`).
pub(crate) fn is_dumping_core() -> bool {
    // SAFETY: Has no precondition.
    unsafe { bindings::nosigbus_is_dumping_core() }
}

/// Identifies the process that opted a mapping in, for debugging output: its `struct pid` and the
/// `comm` of the calling task. Remains valid after the process exits.
///
/// # Invariants
///
/// Owns a reference on `pid`.
pub(crate) struct Identity {
    pid: *mut pid,
    /// The name of the task, with zeros behind it.
    comm: [u8; TASK_COMM_LEN as usize],
}

// SAFETY: Any thread may use and put a reference on a `struct pid`. `comm` is plain data.
unsafe impl Send for Identity {}
// SAFETY: Through `&Identity`, `pid` and `comm` are only read, and neither changes.
unsafe impl Sync for Identity {}

impl Identity {
    /// Identifies the current process.
    pub(crate) fn current() -> Self {
        let mut comm = [0; TASK_COMM_LEN as usize];
        // SAFETY: The buffer is as long as the function asks for.
        unsafe { bindings::nosigbus_current_comm(comm.as_mut_ptr()) };
        Self {
            // INVARIANT: With a reference.
            // SAFETY: The current task is valid.
            pid: unsafe { get_task_pid(current!().as_ptr(), pid_type_PIDTYPE_TGID) },
            comm,
        }
    }

    /// Its number (tgid) as the calling process sees it; 0 if it does not, because its PID
    /// namespace is another one.
    pub(crate) fn tgid(&self) -> i32 {
        // SAFETY: By the type invariants this value owns a reference on `pid`.
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
