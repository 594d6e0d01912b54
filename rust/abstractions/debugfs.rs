// SPDX-License-Identifier: GPL-2.0-only

//! A file in debugfs that shows a list.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)
//!
//! `kernel::debugfs` sets no owner, so that a file that is open at rmmod would be closed by
//! operations that are gone.

use super::bindings;
use core::{
    marker::PhantomPinned,
    ptr::NonNull, //
};
use kernel::{
    bindings::{
        dentry,
        file,
        file_operations,
        inode,
        loff_t,
        seq_file,
        seq_operations, //
    },
    error::from_err_ptr,
    prelude::*,
    seq_file::SeqFile,
    types::Opaque, //
};

/// Wraps `seq_has_overflowed()`. seq_file then retries with a larger buffer.
pub(crate) fn has_overflowed(seq: &SeqFile) -> bool {
    // SAFETY: A `SeqFile` is a valid `seq_file`.
    unsafe { bindings::nosigbus_seq_has_overflowed(core::ptr::from_ref(seq).cast_mut().cast()) }
}

/// A list whose entries have numbers, and come and go.
pub(crate) trait Show: Send + Sync + 'static {
    /// The number of the first entry whose number is at least `number`.
    fn first(&self, number: u64) -> Option<u64>;

    /// Prints entry `number`, if it still exists. Called again with a larger buffer if
    /// it did not fit. May sleep.
    fn show(&self, number: u64, seq: &SeqFile);
}

/// A directory in debugfs with one file in it, which only root may read.
///
/// # Invariants
///
/// `directory` is a debugfs dentry that this value owns, or `None` if its creation failed. From the
/// end of its initialisation until it is dropped its file refers to `fops` and `value`.
#[pin_data(PinnedDrop)]
pub(crate) struct DebugFile<S: Show> {
    value: S,
    #[pin]
    fops: Opaque<file_operations>,
    directory: Option<NonNull<dentry>>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The file may be removed by any thread, and `S` is `Send`.
unsafe impl<S: Show> Send for DebugFile<S> {}
// SAFETY: Shared access reaches only `value`, which is `Sync`.
unsafe impl<S: Show> Sync for DebugFile<S> {}

impl<S: Show> DebugFile<S> {
    /// Makes the file `name` in the directory `directory`. Sleeps.
    pub(crate) fn new(
        directory: &'static CStr,
        name: &'static CStr,
        value: S,
    ) -> impl PinInit<Self> {
        let fops = file_operations {
            // Keeps the module loaded while the file is open.
            // SAFETY: Has no precondition.
            owner: unsafe { bindings::nosigbus_this_module() },
            open: Some(Self::open),
            read: Some(kernel::bindings::seq_read),
            llseek: Some(kernel::bindings::seq_lseek),
            release: Some(kernel::bindings::seq_release),
            ..pin_init::zeroed()
        };
        pin_init!(&this in Self {
            value,
            fops: Opaque::new(fops),
            directory: {
                // SAFETY: The names are C strings; `this` is being initialised, pinned, with
                // `value` and `fops` set, and removes the directory before they go.
                unsafe {
                    let parent = core::ptr::null_mut();
                    let made = bindings::nosigbus_debugfs_create_dir(directory.as_char_ptr(), parent);
                    let directory = from_err_ptr(made).ok().and_then(NonNull::new);
                    if let Some(directory) = directory {
                        bindings::nosigbus_debugfs_create_file(
                            name.as_char_ptr(),
                            kernel::bindings::S_IRUSR as u16,
                            directory.as_ptr(),
                            this.as_ptr().cast(),
                            (&raw const (*this.as_ptr()).fops).cast(),
                        );
                    }
                    directory
                }
            },
            _pin: PhantomPinned,
        })
    }

    const LIST: &'static seq_operations = &seq_operations {
        start: Some(Self::start),
        next: Some(Self::next),
        show: Some(Self::show),
        stop: Some(Self::stop),
    };

    /// # Safety
    ///
    /// To be called by debugfs, as the operation of a file of this type.
    unsafe extern "C" fn open(inode: *mut inode, file: *mut file) -> c_int {
        // SAFETY: As the caller promises; `i_private` is what the file was made with, and
        // `seq_open()` makes a `struct seq_file` of the private data.
        unsafe {
            let failed = kernel::bindings::seq_open(file, Self::LIST);
            if failed == 0 {
                (*(*file).private_data.cast::<seq_file>()).private = (*inode).i_private;
            }
            failed
        }
    }

    /// # Safety
    ///
    /// `seq` must come from a file that `open` has opened, and be in use by the caller only. The
    /// result is valid until the caller returns.
    unsafe fn of<'a>(seq: *mut seq_file) -> &'a Self {
        // SAFETY: `open` has set `private` to the `DebugFile` of the file. By its type invariants
        // the file is removed before it is dropped, and debugfs waits for reads before it removes a
        // file.
        unsafe { &*(*seq).private.cast::<Self>() }
    }

    /// # Safety
    ///
    /// To be called by `seq_read()`, for a file that `open` has opened.
    unsafe extern "C" fn start(seq: *mut seq_file, pos: *mut loff_t) -> *mut c_void {
        // SAFETY: `seq` and `pos` are valid, as the caller promises. The position is the number of
        // an entry, and never negative.
        unsafe {
            match Self::of(seq).value.first(*pos as u64) {
                Some(number) => {
                    *pos = number as loff_t;
                    pos.cast()
                }
                None => core::ptr::null_mut(),
            }
        }
    }

    /// # Safety
    ///
    /// To be called by `seq_read()`, for a file that `open` has opened.
    unsafe extern "C" fn next(
        seq: *mut seq_file,
        _entry: *mut c_void,
        pos: *mut loff_t,
    ) -> *mut c_void {
        // SAFETY: `pos` is valid, as the caller promises; the rest is as for `start`.
        unsafe {
            *pos += 1;
            Self::start(seq, pos)
        }
    }

    /// # Safety
    ///
    /// To be called by `seq_read()`, for a file that `open` has opened. `entry` must be what
    /// `start` or `next` has returned.
    unsafe extern "C" fn show(seq: *mut seq_file, entry: *mut c_void) -> c_int {
        // SAFETY: As the caller promises: `entry` is the position.
        let (this, number) = unsafe { (Self::of(seq), *entry.cast::<loff_t>() as u64) };
        // SAFETY: `seq` is valid, and in use by the caller only, as the caller promises.
        this.value.show(number, unsafe { SeqFile::from_raw(seq) });
        0
    }

    /// # Safety
    ///
    /// To be called by `seq_read()`, for a file that `open` has opened.
    unsafe extern "C" fn stop(_seq: *mut seq_file, _entry: *mut c_void) {}
}

#[pinned_drop]
impl<S: Show> PinnedDrop for DebugFile<S> {
    fn drop(self: Pin<&mut Self>) {
        if let Some(directory) = self.directory {
            // SAFETY: By the type invariants this value owns `directory`, and nobody else removes
            // it.
            unsafe { bindings::nosigbus_debugfs_remove(directory.as_ptr()) };
        }
    }
}
