// SPDX-License-Identifier: GPL-2.0-only

//! I/O errors of a mapping that opted in with `NOSIGBUS_RECORD_ERRORS`: the first error, a count,
//! and the pages that have stand-ins because of errors.
//!
//! Counts are atomic, and so is the first error as a whole.

use super::{
    mapping_state::MappingState,
    watched_file::{
        Dropping,
        ExcludesClear,
        Inserting,
        WatchedFile, //
    }, //
};
use crate::{
    abstractions::{
        bindings::nosigbus_status,
        file::Inode, //
    },
    policy::{
        errors::{
            FileError,
            FirstError,
            PageSet,
            Room, //
        }, //
    },
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        new_condvar,
        new_mutex,
        rcu::synchronize_rcu,
        Arc,
        CondVar,
        Mutex,
        SetOnce, //
    },
};

/// Pages in a batch: so many are dropped, at most, before a clear releases the semaphore.
const CLEAR_BATCH: u64 = 512;

/// The errors of a mapping that records them.
#[pin_data]
pub(super) struct Errors {
    count: Atomic<u64>,
    /// The file, once it is watched, and so before there is an error.
    file: SetOnce<Arc<WatchedFile>>,
    /// [`FirstError::encode`], or 0.
    first: Atomic<u64>,
    /// The first error recorded since a clear began. Becomes `first` when the clear ends.
    first_since: Atomic<u64>,
    /// Whether a task is clearing the errors of this mapping. (Not held as a mutex during the
    /// clear: others wait for it interruptibly.)
    #[pin]
    clearing: Mutex<bool>,
    #[pin]
    cleared: CondVar,
    /// Set before the first kept page is installed, and never cleared.
    keeping: Atomic<bool>,
    /// Set once an RCU grace period has passed since `keeping` was set: from then on no
    /// `->map_pages` runs that saw it clear.
    map_pages_stopped: Atomic<bool>,
    /// Pages at which the zero page is mapped because of an error. (For shared writable mappings,
    /// ShadowPages has this information.)
    #[pin]
    zero_pages: Mutex<PageSet>,
}

impl Errors {
    /// No error recorded. Sleeps; fails with `ENOMEM`.
    pub(super) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                count: Atomic::new(0),
                file: SetOnce::new(),
                first: Atomic::new(0),
                first_since: Atomic::new(0),
                clearing <- new_mutex!(false),
                cleared <- new_condvar!(),
                keeping: Atomic::new(false),
                map_pages_stopped: Atomic::new(false),
                zero_pages <- new_mutex!(PageSet::new()),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Sets the watched file.
    pub(super) fn set_file(&self, file: &Arc<WatchedFile>) {
        self.file.populate(file.clone());
    }

    /// Drops all error stand-ins inside EOF and resets the error, if it is still the one in
    /// `reported`. Returns `false` if another error was recorded.
    ///
    /// # Context
    ///
    /// As [`WatchedFile::clear_error`].
    ///
    /// # Errors
    ///
    /// `EINTR`: a signal between two batches. The error stays recorded.
    pub(super) fn clear(
        &self,
        inode: &Inode<'_>,
        mapping: &MappingState,
        reported: &nosigbus_status,
    ) -> Result<bool> {
        match self.file.as_ref() {
            // Return early if there is no error, without taking any lock.
            Some(file) if reported.error != 0 => file.clear_error(inode, (mapping, self), reported),
            _ => Ok(true),
        }
    }

    /// Records an error at a page (index), before anything stands in for that page.
    ///
    /// # Context
    ///
    /// With the semaphore held, which excludes a clear.
    pub(super) fn record(&self, pgoff: u64, error: FileError) {
        let first = FirstError { pgoff, error }.encode();
        // cmpxchg: keep the first error. Full ordering: a task that sees the stand-in sees the
        // error; a task that sees the error sees `file`.
        let _ = self.first_since.cmpxchg(0, first, Full);
        let _ = self.first.cmpxchg(0, first, Full);
    }

    /// The first error, if there is one.
    pub(super) fn first(&self) -> Option<FirstError> {
        // Pairs with the cmpxchg in `record`: `file` is visible after this load.
        FirstError::decode(self.first.load(Acquire))
    }

    /// The errno of the first error; `EIO` if it was cleared just now.
    pub(super) fn first_errno(&self) -> u32 {
        self.first()
            .map_or(EIO.to_errno().unsigned_abs(), |first| first.error.errno)
    }

    /// Counts an error whose page now has a stand-in. The semaphore excludes a clear.
    pub(super) fn count_one(&self, _: &impl ExcludesClear) {
        self.count.add(1, Relaxed);
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Records that the zero page is about to be mapped at page index `pgoff` because of an error.
    /// Sleeps. Map it before the guard is dropped.
    pub(super) fn record_zero_page(&self, _: &Inserting<'_>, pgoff: u64, room: Room) {
        let unused = self.zero_pages.lock().add(pgoff, room);
        // Not with the lock held.
        drop(unused);
    }

    /// The lowest index with a zero page for an error; u64::MAX if none. Sleeps.
    pub(super) fn first_zero_page(&self) -> u64 {
        self.zero_pages.lock().first().unwrap_or(u64::MAX)
    }

    /// Whether `->map_pages` must map nothing because kept pages may exist.
    pub(super) fn are_keeping(&self) -> bool {
        self.keeping.load(Relaxed)
    }

    /// Disables `->map_pages` for this mapping, and waits until running calls have ended.
    ///
    /// # Context
    ///
    /// With none of the locks 4 to 8 held. The first call waits for an RCU grace period. Sleeps.
    pub(super) fn start_keeping(&self) {
        // Pairs with the release below: what the caller does next comes after the grace period,
        // even if another thread has waited for it.
        if self.map_pages_stopped.load(Acquire) {
            return;
        }
        self.keeping.store(true, Relaxed);
        // Wait for every `->map_pages` that saw `keeping == false`.
        synchronize_rcu();
        self.map_pages_stopped.store(true, Release);
    }

    /// Waits until no other task clears these errors. `mapping` is their owner.
    ///
    /// # Context
    ///
    /// With neither `error_zap_lock` nor the semaphore held. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR`: a signal.
    pub(super) fn clearing<'a>(&'a self, mapping: &'a MappingState) -> Result<Clearing<'a>> {
        let mut clearing = self.clearing.lock();
        while *clearing {
            if self.cleared.wait_interruptible(&mut clearing) {
                return Err(EINTR);
            }
        }
        *clearing = true;
        Ok(Clearing {
            errors: self,
            mapping,
        })
    }
}

/// Guard: no other task clears the errors of this mapping.
#[must_use = "others clear the errors as soon as it is dropped"]
pub(super) struct Clearing<'a> {
    errors: &'a Errors,
    mapping: &'a MappingState,
}

impl Clearing<'_> {
    /// Returns the next range at or after `pgoff` that an earlier, interrupted clear left behind,
    /// at most `CLEAR_BATCH` pages. Call [`Self::free_batch`] before the guard is dropped.
    pub(super) fn leftovers(&self, _: &Dropping<'_>, pgoff: u64) -> Option<Range<u64>> {
        let shadows = self.mapping.shadows.as_ref()?;
        shadows.next_to_clear(pgoff, CLEAR_BATCH)
    }

    /// Starts clearing: selects all current stand-ins for errors for [`Self::next_batch`]. Returns
    /// `false`, and changes nothing, if an error was recorded that `reported` does not report. Call
    /// it only after [`Self::leftovers`] returned `None`.
    pub(super) fn start(&self, _: &Dropping<'_>, reported: &nosigbus_status) -> bool {
        let errors = |status: &nosigbus_status| {
            let first = (status.error, status.error_offset, status.error_flags);
            (status.errors, first)
        };
        let may = errors(&self.mapping.status()) == errors(reported);
        if may {
            self.errors.first_since.store(0, Relaxed);
            if let Some(shadows) = &self.mapping.shadows {
                shadows.begin_clear();
            }
        }
        may
    }

    /// The next batch of error stand-ins to drop, at or after `pgoff`. Sleeps. Call
    /// [`Self::free_batch`] before the guard is dropped.
    pub(super) fn next_batch(&self, _: &Dropping<'_>, pgoff: u64) -> Option<Range<u64>> {
        let pages = match &self.mapping.shadows {
            Some(shadows) => shadows.next_to_clear(pgoff, CLEAR_BATCH),
            None => self.errors.zero_pages.lock().next(pgoff),
        }?;
        let end = pages.end.min(pages.start.saturating_add(CLEAR_BATCH));
        (pages.start < end).then_some(pages.start..end)
    }

    /// Frees the kept pages in `pages`. The caller must have unmapped those that are inside EOF.
    pub(super) fn free_batch(&self, _: &Dropping<'_>, pages: &Range<u64>) {
        if let Some(shadows) = &self.mapping.shadows {
            shadows.remove_to_clear(pages.start..=pages.end - 1);
        }
    }

    /// Ends the clear: the first error recorded since it began (if any) becomes the current one.
    /// Returns the old page set, to be dropped after the semaphore is released.
    pub(super) fn finish(&self, _: &Dropping<'_>) -> Option<PageSet> {
        let since = self.errors.first_since.load(Relaxed);
        self.errors.first.store(since, Relaxed);
        // Errors that were recorded during the clear are in the same set. Keep it then; it may name
        // pages that have no stand-in any more.
        (since == 0)
            .then(|| core::mem::replace(&mut *self.errors.zero_pages.lock(), PageSet::new()))
    }
}

impl Drop for Clearing<'_> {
    fn drop(&mut self) {
        *self.errors.clearing.lock() = false;
        self.errors.cleared.notify_all();
    }
}
