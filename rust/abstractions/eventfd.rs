// SPDX-License-Identifier: GPL-2.0-only

//! An eventfd that user space has passed.
//!
//! C header: [`include/linux/eventfd.h`](srctree/include/linux/eventfd.h)

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    bindings::eventfd_ctx,
    error::from_err_ptr,
    prelude::*, //
};

/// An eventfd. It can be signalled even after all its file descriptors are closed.
///
/// # Invariants
///
/// Owns a reference on the context.
pub(crate) struct EventFd(NonNull<eventfd_ctx>);

// SAFETY: The context belongs to no thread.
unsafe impl Send for EventFd {}
// SAFETY: The context has a lock of its own.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// The eventfd of a file descriptor of the calling process. `EBADF` if that is not open,
    /// `EINVAL` if it is something else.
    pub(crate) fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: Takes any number.
        let ctx = from_err_ptr(unsafe { bindings::nosigbus_eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The reference that has come with it.
        NonNull::new(ctx).map(Self).ok_or(EINVAL)
    }

    /// Adds 1 to its counter, unless that is full. Does not sleep.
    pub(crate) fn signal(&self) {
        // SAFETY: By the type invariants this value owns a reference on the eventfd.
        unsafe { bindings::nosigbus_eventfd_signal(self.0.as_ptr()) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { bindings::nosigbus_eventfd_ctx_put(self.0.as_ptr()) };
    }
}
