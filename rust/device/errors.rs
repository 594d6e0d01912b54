// SPDX-License-Identifier: GPL-2.0-only

//! The errors of the file system that a mapping records, and what stands in because of them.
//!
//! Counts are atomic, and so is the first error as a whole.

use super::{
    stand_ins::StandIns,
    watched_file::WatchedFile, //
};
use crate::{
    abstractions::{
        bindings::nosigbus_status,
        file::Inode,
        rcu, //
    },
    policy::{
        errors::{
            FileError,
            FirstError,
            PageSet,
            Room, //
        },
        Class, //
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
        Arc,
        CondVar,
        Mutex,
        SetOnce, //
    },
};

/// How many pages are dropped in one go when an error is cleared, which others wait for.
const PART: u64 = 512;

/// The errors of a mapping that records them.
#[pin_data]
pub(super) struct Errors {
    count: Atomic<u64>,
    /// The file, once it is watched, and so before there is an error.
    file: SetOnce<Arc<WatchedFile>>,
    /// [`FirstError::encode`], or 0.
    first: Atomic<u64>,
    /// The same, since an error has begun to be cleared.
    first_since: Atomic<u64>,
    /// Whether somebody clears the error.
    #[pin]
    clearing: Mutex<bool>,
    #[pin]
    cleared: CondVar,
    /// Whether there may be shadow pages that are kept; for good, once there are.
    keeping: Atomic<bool>,
    /// Whether everybody knows.
    keeping_is_known: Atomic<bool>,
    /// What has the zero page because of errors. (Shadow pages are kept for them, which says it.)
    #[pin]
    zero_pages: Mutex<PageSet>,
}

impl Errors {
    /// None yet. Sleeps; fails with `ENOMEM`.
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
                keeping_is_known: Atomic::new(false),
                zero_pages <- new_mutex!(PageSet::new()),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The mapping's file is watched from now on, as `file`. If that holds the mapping's stand-ins, and so
    /// these errors, [`WatchedFile::remove`] has to end the circle.
    pub(super) fn set_file(&self, file: &Arc<WatchedFile>) {
        self.file.populate(file.clone());
    }

    /// Drops what stands in for pages of `inode` because of errors that `told` has told of, and forgets
    /// them. `false`, and nothing has changed, if there was another one since. Sleeps; fails with `EINTR`.
    pub(super) fn clear(
        &self,
        inode: &Inode<'_>,
        stand_ins: &StandIns,
        told: &nosigbus_status,
    ) -> Result<bool> {
        match self.file.as_ref() {
            // Nobody is to wait for who has nothing to clear.
            Some(file) if told.error != 0 => file.clear_error(inode, (stand_ins, self), told),
            _ => Ok(true),
        }
    }

    /// Records an error, before anything stands in for the page (index).
    pub(super) fn record(&self, pgoff: u64, error: FileError) {
        let first = FirstError { pgoff, error }.encode();
        // These fail if there is one already. Full: whoever sees what stands in sees this, and whoever
        // sees this sees `file`.
        let _ = self.first_since.cmpxchg(0, first, Full);
        let _ = self.first.cmpxchg(0, first, Full);
    }

    /// The first error, if there is one.
    pub(super) fn first(&self) -> Option<FirstError> {
        // Pairs with that in `record`: `file` is seen after this.
        FirstError::decode(self.first.load(Acquire))
    }

    /// The errno of the first error; `EIO` if it was cleared just now.
    pub(super) fn first_errno(&self) -> u32 {
        self.first()
            .map_or(EIO.to_errno().unsigned_abs(), |first| first.error.errno)
    }

    /// Counts an error, when something stands in for the page.
    ///
    /// The file's semaphore has to be held, as against [`Clearing`].
    pub(super) fn count_one(&self) {
        self.count.add(1, Relaxed);
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The zero page is going to stand in for a page (index) because of an error. Sleeps.
    ///
    /// The file's semaphore has to be held from here on until it is mapped.
    pub(super) fn zero_page(&self, pgoff: u64, room: Room) {
        let unused = self.zero_pages.lock().add(pgoff, room);
        // Not with the lock held.
        drop(unused);
    }

    /// The page index that no zero page stands in for an error below. Sleeps.
    pub(super) fn first_zero_page(&self) -> u64 {
        self.zero_pages.lock().first().unwrap_or(u64::MAX)
    }

    /// Whether there may be kept pages, so that core mm is not to map pages of the file unasked.
    pub(super) fn are_keeping(&self) -> bool {
        self.keeping.load(Relaxed)
    }

    /// Has core mm map no page of the file unasked from now on. Sleeps.
    pub(super) fn start_keeping(&self) {
        // Pairs with the release below: what follows comes after that grace period as well.
        if self.keeping_is_known.load(Acquire) {
            return;
        }
        self.keeping.store(true, Relaxed);
        // Who has asked before has mapped what there was.
        rcu::synchronize();
        self.keeping_is_known.store(true, Release);
    }

    /// Waits until nobody else clears the errors of `stand_ins`, which these are of. Sleeps; fails with
    /// `EINTR`.
    pub(super) fn clearing<'a>(&'a self, stand_ins: &'a StandIns) -> Result<Clearing<'a>> {
        let mut clearing = self.clearing.lock();
        while *clearing {
            if self.cleared.wait_interruptible(&mut clearing) {
                return Err(EINTR);
            }
        }
        *clearing = true;
        Ok(Clearing {
            errors: self,
            stand_ins,
        })
    }
}

/// While it exists, nobody else clears the error.
pub(super) struct Clearing<'a> {
    errors: &'a Errors,
    stand_ins: &'a StandIns,
}

impl Clearing<'_> {
    /// The next pages (indexes), from `pgoff` on, that are kept still although they were told of: a signal
    /// has ended an earlier clear. As many as are to be dropped in one go. Sleeps.
    ///
    /// The file's semaphore has to be held for write, until [`Self::unmapped`].
    pub(super) fn left(&self, pgoff: u64) -> Option<Range<u64>> {
        self.stand_ins.shadows.next_doomed(pgoff, PART)
    }

    /// Has [`Self::next`] find what stands in for pages because of errors, if there was none since `told`
    /// has told of them; `false` if there was. To be called when nothing is [`Self::left`]. Sleeps.
    ///
    /// The file's semaphore has to be held for write.
    pub(super) fn start(&self, told: &nosigbus_status) -> bool {
        let errors = |status: &nosigbus_status| {
            let first = (status.error, status.error_offset, status.error_flags);
            (status.errors, first)
        };
        let may = errors(&self.stand_ins.status()) == errors(told);
        if may {
            self.errors.first_since.store(0, Relaxed);
            self.stand_ins.shadows.doom_kept();
        }
        may
    }

    /// The next pages (indexes), from `pgoff` on, that have stand-ins for errors which are to be cleared, as
    /// many as are to be dropped in one go. Sleeps.
    ///
    /// The file's semaphore has to be held for write, until [`Self::unmapped`].
    pub(super) fn next(&self, pgoff: u64) -> Option<Range<u64>> {
        let stand_ins = self.stand_ins;
        let pages = match stand_ins.class {
            Class::SharedWrite => stand_ins.shadows.next_doomed(pgoff, PART),
            Class::Private | Class::SharedRead => self.errors.zero_pages.lock().next(pgoff),
        }?;
        let end = pages.end.min(pages.start.saturating_add(PART));
        (pages.start < end).then_some(pages.start..end)
    }

    /// Nobody has these pages (indexes) mapped any more, or they are past EOF. Sleeps.
    pub(super) fn unmapped(&self, pages: &Range<u64>) {
        self.stand_ins
            .shadows
            .remove_doomed(pages.start..=pages.end - 1);
    }

    /// Forgets the error: nothing stands in any more for what was told of. What there was since then is
    /// told of next. Returns what is not needed any more.
    ///
    /// The file's semaphore has to be held for write.
    pub(super) fn finish(&self) -> Option<PageSet> {
        let since = self.errors.first_since.load(Relaxed);
        self.errors.first.store(since, Relaxed);
        // Otherwise it has pages that are still mapped.
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
