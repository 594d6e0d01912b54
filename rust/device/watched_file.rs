// SPDX-License-Identifier: GPL-2.0-only

//! Keeps stand-ins and `i_size` consistent: drops zero pages and shadow pages when the file grows
//! over them. This is where a fault and a growth synchronise:
//!
//! ```text
//! fault                                  report of a change of size
//! store lowest                           i_size was stored
//! smp_mb()                               smp_mb()
//! load i_size; past EOF: map             load lowest; below EOF: take `sem` for write, unmap
//! ```
//!
//! At least one of the two sees the other's store. The fault holds `sem` for read from before its
//! store until it has mapped the stand-in. So a report that sees the store waits for the fault, and
//! unmaps what it has mapped.
//!
//! Documentation/growth.rst argues why this is right; tests/model checks it.

use super::{
    errors::Errors,
    mapping_state::MappingState, //
};
use crate::{
    abstractions::{
        atomic::update,
        bindings::nosigbus_status,
        clock,
        file::{
            Inode,
            MappedFile, //
        },
        fsnotify::{
            Listener,
            Watch, //
        },
        rcu,
        rw_semaphore::{
            new_rw_semaphore,
            ReadGuard,
            RwSemaphore,
            WriteGuard, //
        },
        shadow_pages::ShadowPages,
        task::has_signal, //
    },
    policy::{
        fault::first_past_eof,
        growth::{
            ends_past_eof,
            is_overdue,
            next_catch_up,
            Bounds, //
        },
    },
};
use core::ops::{
    Range,
    RangeInclusive, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        barrier::smp_mb,
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        new_mutex,
        Arc,
        Mutex, //
    },
};

/// The module's object for a file that has its fsnotify mark: at least one opted-in mapping of the
/// file has had, or is about to get, a zero page or a shadow page. (It exists a little longer than
/// the mark.)
#[pin_data]
pub(super) struct WatchedFile {
    /// Held for read by a fault while it inserts PTEs of stand-ins, for write by the task that
    /// drops them after a growth.
    #[pin]
    sem: RwSemaphore<State>,
    /// Taken before `sem` for zapping because of errors. That walks all mappings of the file, and
    /// user space can trigger it at will. The mutex makes such tasks queue here, so that a task
    /// that changes `i_size` waits for at most one of them.
    #[pin]
    error_zap_lock: Mutex<()>,
    /// The tasks in [`Self::start_reports`].
    starting: Atomic<u64>,
    /// This and the next four fields are the [`Bounds`] of the stand-ins of this file, over all
    /// mappings. A fault widens them, with the semaphore held for read ([`Inserting`]) or for write
    /// ([`Keeping`]). A [`Dropping`] narrows them, with it held for write. If the file has shrunk,
    /// it first moves stand-ins from `first_failed..end_failed` to `lowest..reach`.
    lowest: Atomic<u64>,
    touched: Atomic<bool>,
    reach: Atomic<u64>,
    first_failed: Atomic<u64>,
    end_failed: Atomic<u64>,
    /// Exclusive upper bound of the pages that a [`Dropping`] is dropping. 0 if there is no
    /// [`Dropping`].
    end_dropping: Atomic<u64>,
    /// The earliest time ([`clock::now`]) at which [`Self::catch_up`] may run again. `u64::MAX`
    /// while it runs.
    next_catch_up: Atomic<u64>,
}

struct State {
    /// The shadow pages of the opted-in mappings, by address (`key()`).
    shadows: RBTree<usize, Arc<ShadowPages>>,
    /// [`Bounds::ahead`].
    ahead: u64,
}

/// Guard: `sem` is held for read, to map stand-ins. Excludes tasks that drop stand-ins.
#[must_use = "the semaphore is released as soon as it is dropped"]
pub(super) struct Inserting<'a> {
    file: &'a WatchedFile,
    _state: ReadGuard<'a, State>,
}

/// Guard: `sem` is held for write, to drop stand-ins. While it exists, no fault maps a zero page or
/// a shadow page, and the report of a truncation below `end_dropping` waits.
#[must_use = "the semaphore is released as soon as it is dropped"]
pub(super) struct Dropping<'a> {
    file: &'a WatchedFile,
    inode: &'a Inode<'a>,
    state: WriteGuard<'a, State>,
    /// Held if the stand-ins are dropped because of errors.
    _zap_lock: Option<Guard<'a, (), MutexBackend>>,
}

/// Guard: `error_zap_lock` and `sem` (for write) are held, to keep a page.
#[must_use = "the semaphore is released as soon as it is dropped"]
pub(super) struct Keeping<'a> {
    file: &'a WatchedFile,
    _state: WriteGuard<'a, State>,
    _zap_lock: Guard<'a, (), MutexBackend>,
}

/// A guard that excludes `NOSIGBUS_CLEAR_ERROR`, because a fault holds a file's semaphore by it:
/// [`Inserting`] for read, [`Keeping`] for write. It does not say of which file.
pub(super) trait ExcludesClear {}

impl ExcludesClear for Inserting<'_> {}
impl ExcludesClear for Keeping<'_> {}

impl WatchedFile {
    /// A file that has no stand-in. Sleeps; fails with `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                sem <- new_rw_semaphore!(State {
                    shadows: RBTree::new(),
                    ahead: Bounds::NONE.ahead,
                }),
                error_zap_lock <- new_mutex!(()),
                starting: Atomic::new(0),
                lowest: Atomic::new(Bounds::NONE.lowest),
                touched: Atomic::new(Bounds::NONE.touched),
                reach: Atomic::new(Bounds::NONE.reach),
                first_failed: Atomic::new(Bounds::NONE.failed.start),
                end_failed: Atomic::new(Bounds::NONE.failed.end),
                end_dropping: Atomic::new(0),
                next_catch_up: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Makes size changes of `file` visible: on return, a change of `i_size` is either reported to
    /// [`Listener::modified`] or seen by a later load of `i_size`. `always_wait` forces a grace
    /// period even if another mapping has already waited for one.
    ///
    /// A task that changes the size stores `i_size` and then looks for marks. We add the mark, wait
    /// for a grace period, and then load `i_size`. One of the two sees the other's store (see
    /// `rcu::synchronize_expedited()`).
    ///
    /// # Context
    ///
    /// With `watch_lock` held, but neither `Group::marks` nor any of the locks 4 and 6 to 8. Takes
    /// `f_lock` and `Group::marks`; waits for an RCU grace period. Sleeps.
    pub(super) fn start_reports(
        &self,
        file: &MappedFile<'_>,
        watch: &Watch<Self>,
        always_wait: bool,
    ) {
        // Another task may have enabled notification just now, and its grace period may still run.
        // Then we see its increment of `starting`, which `f_lock` orders before our load. Wait for
        // a grace period of our own, not for that task: RCU merges concurrent grace periods. Tasks
        // that queue would wait for one each, one after the other.
        self.starting.add(1, Relaxed);
        let enabled_now = file.enable_notification();
        // Pairs with the `fetch_sub()` below: after a load of 1 the other's grace period is over.
        let others_starting = self.starting.load(Acquire) > 1;
        if always_wait || enabled_now || others_starting || !watch.grace_period_over() {
            rcu::synchronize_expedited();
            watch.set_grace_period_over();
        }
        self.starting.fetch_sub(1, Release);
    }

    /// Registers the shadow pages of a mapping, which a growth must drop.
    ///
    /// # Context
    ///
    /// Takes the semaphore for write, and allocates memory before that. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&self, shadows: &Arc<ShadowPages>) -> Result {
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?
            .into_node(key(shadows), shadows.clone());
        self.sem.write().shadows.insert(node);
        Ok(())
    }

    /// Undoes [`Self::add`]. Takes the semaphore for write; sleeps.
    pub(super) fn remove(&self, shadows: &Arc<ShadowPages>) {
        let removed = self.sem.write().shadows.remove(&key(shadows));
        drop(removed);
    }

    /// Implements `NOSIGBUS_CLEAR_ERROR`: drops the stand-ins for errors inside EOF and clears the
    /// recorded error, if `reported` (the status that user space has seen) is still current.
    ///
    /// Returns `false` if another error was recorded since `reported`; then the error and its
    /// stand-ins are unchanged (leftovers of an interrupted clear are dropped).
    ///
    /// # Context
    ///
    /// In the ioctl, without locks. Waits for other clears of the mapping; takes `error_zap_lock`
    /// and the semaphore for write, and releases both after each batch. Takes `i_mmap_rwsem`.
    /// Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR`: a signal between two batches. The error stays recorded.
    pub(super) fn clear_error(
        &self,
        inode: &Inode<'_>,
        (mapping, errors): (&MappingState, &Errors),
        reported: &nosigbus_status,
    ) -> Result<bool> {
        let clearing = errors.clearing(mapping)?;
        let mut dropping = self.lock_to_drop_for_errors(inode);
        // From here on a report waits for us only if it finds stand-ins to drop, or if it is of a
        // truncation (it sees `end_failed` or `end_dropping`). `end` is the first page past the EOF
        // at which `drop_stale` moved error stand-ins to `lowest`. What is past `end` is no error
        // stand-in any more, and stays mapped.
        let mut end = dropping.drop_stale();
        let (mut next, mut has_started, mut is_first) = (0, false, true);
        loop {
            let batch = if has_started {
                clearing.next_batch(&dropping, next)
            } else {
                clearing.leftovers(&dropping, next)
            };
            let Some(batch) = batch else {
                if has_started {
                    break;
                }
                if !clearing.start(&dropping, reported) {
                    return Ok(false);
                }
                (next, has_started) = (0, true);
                continue;
            };
            if !is_first && has_signal() {
                return Err(EINTR);
            }
            is_first = false;
            let inside = batch.start..batch.end.min(end);
            if !inside.is_empty() {
                inode.unmap_pages(inside);
            }
            clearing.free_batch(&dropping, &batch);
            next = batch.end;
            // Release the semaphore between batches, so that waiting tasks get it.
            drop(dropping);
            dropping = self.lock_to_drop_for_errors(inode);
            // Once more: the file may have shrunk without a report so far. Pages past the new EOF
            // must be in `lowest` when we stop tracking them as errors.
            end = dropping.drop_stale();
        }
        let not_needed = clearing.finish(&dropping);
        drop(dropping);
        // Drop these after the semaphore is released: they wake waiting tasks and free memory.
        drop((clearing, not_needed));
        Ok(true)
    }

    /// Drops stand-ins inside EOF of a growth that was not reported (Documentation/growth.rst,
    /// 'What cannot be seen').
    ///
    /// Zapping walks all mappings of the file, and another user can make it necessary at will. So
    /// it is rate-limited to a tenth of the time, one task at a time, and only mappings that have
    /// had zero pages or shadow pages do it. Exception: at an index with a shadow page it is always
    /// done, because other processes may have that page mapped.
    ///
    /// # Context
    ///
    /// As [`Self::lock_to_drop`].
    pub(super) fn catch_up(&self, inode: &Inode<'_>, mapping: &MappingState, pgoff: u64) {
        if !self.is_overdue(inode) || !mapping.has_had_stand_ins() {
            return;
        }
        if mapping.shadow_page(pgoff).is_some() {
            self.drop_if_overdue(inode);
            return;
        }
        let (due, begin) = (self.next_catch_up.load(Relaxed), clock::now());
        if begin < due || self.next_catch_up.cmpxchg(due, u64::MAX, Relaxed).is_err() {
            return;
        }
        self.lock_to_drop(inode).drop_stale();
        self.next_catch_up
            .store(next_catch_up(begin, clock::now()), Relaxed);
    }

    /// Drops what the file has grown over, if no report has done so.
    ///
    /// # Context
    ///
    /// As [`Self::lock_to_drop`].
    pub(super) fn drop_if_overdue(&self, inode: &Inode<'_>) {
        if self.is_overdue(inode) {
            self.lock_to_drop(inode).drop_stale();
        }
    }

    fn is_overdue(&self, inode: &Inode<'_>) -> bool {
        // Relaxed: if this fault misses the update, a later fault will see it.
        is_overdue(inode.i_size(), self.lowest.load(Relaxed))
    }

    /// Takes the semaphore for read. Call [`Inserting::announce`] or [`Inserting::announce_error`],
    /// insert the PTEs if the size that it returns allows that, then drop the guard.
    ///
    /// # Context
    ///
    /// With neither a folio lock nor `Group::marks` held. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed while it waits.
    pub(super) fn lock_to_insert(&self) -> Result<Inserting<'_>> {
        Ok(Inserting {
            file: self,
            _state: self.sem.read_killable()?,
        })
    }

    /// A lower bound of all zero pages and shadow pages of `mapping`, whose file this is.
    ///
    /// # Context
    ///
    /// Takes the semaphore for read. DISABLE calls it with the mmap lock and the VMA lock held for
    /// write. Sleeps.
    pub(super) fn lowest_of(&self, mapping: &MappingState) -> u64 {
        // Held, so that `drop_stale()` does not move error stand-ins to `lowest` between the two
        // loads.
        let _state = self.sem.read();
        // Stand-ins for errors are inside EOF, so `lowest` does not cover them.
        self.lowest.load(Relaxed).min(mapping.first_failed())
    }

    /// Takes `error_zap_lock`, and the semaphore for write. Call [`Keeping::announce`], store the
    /// kept page if it is inside the EOF that this returns, then drop the guard.
    ///
    /// # Context
    ///
    /// With neither a folio lock nor `Group::marks` held. Sleeps.
    pub(super) fn lock_to_keep(&self) -> Keeping<'_> {
        let zap_lock = self.error_zap_lock.lock();
        Keeping {
            file: self,
            _state: self.sem.write(),
            _zap_lock: zap_lock,
        }
    }

    /// As [`Self::lock_to_keep`], but returns `None` instead of waiting. So it may be called with a
    /// folio lock held.
    pub(super) fn try_lock_to_keep(&self) -> Option<Keeping<'_>> {
        let zap_lock = self.error_zap_lock.try_lock()?;
        Some(Keeping {
            file: self,
            _state: self.sem.try_write()?,
            _zap_lock: zap_lock,
        })
    }

    /// Announces a stand-in for an error at `pgoff`. Returns the size of the file, loaded after
    /// that.
    #[must_use = "it decides whether the stand-in may be mapped"]
    fn announce_error(&self, pgoff: u64, inode: &Inode<'_>) -> u64 {
        update(&self.first_failed, |first| first.min(pgoff));
        update(&self.end_failed, |end| end.max(pgoff + 1));
        // Pairs with the barrier in `modified`.
        smp_mb(Full);
        inode.i_size()
    }

    /// Whether a report that has loaded `i_size` has no stand-ins to drop, and no [`Dropping`] to
    /// wait for.
    fn nothing_stale(&self, i_size: u64) -> bool {
        // The order of these loads matters. `dropping_with()` (1) sets `end_dropping` to the
        // maximum. `drop_stale()` (2) lowers `lowest` to the stand-ins that `end_failed` covered,
        // (3) lowers `end_failed`, (4) lowers `end_dropping`. So if the first load sees (3), the
        // later ones see (1) and (2); if the second load sees (4), the third sees (2). Pairs with
        // the releases in `set_bounds()` and `Dropping::drop()`, and with the barrier in
        // `drop_grown_over()`.
        !ends_past_eof(self.end_failed.load(Acquire), i_size)
            // This is what makes the report of a truncation wait: a `Dropping` for an earlier
            // growth may still be dropping pages that are past EOF now. Stores that are made to
            // them after the truncation has returned must not be lost.
            && !ends_past_eof(self.end_dropping.load(Acquire), i_size)
            && !is_overdue(i_size, self.lowest.load(Acquire))
    }

    /// Takes the semaphore for write, to drop stand-ins of `inode`, the file of `self`.
    ///
    /// # Context
    ///
    /// With neither a folio lock nor `Group::marks` held; the inode lock may be. Sleeps.
    fn lock_to_drop<'a>(&'a self, inode: &'a Inode<'a>) -> Dropping<'a> {
        self.dropping_with(inode, self.sem.write(), None)
    }

    /// As [`Self::lock_to_drop`], to drop stand-ins because of errors: takes `error_zap_lock`
    /// first. A report must not call it.
    fn lock_to_drop_for_errors<'a>(&'a self, inode: &'a Inode<'a>) -> Dropping<'a> {
        let zap_lock = self.error_zap_lock.lock();
        self.dropping_with(inode, self.sem.write(), Some(zap_lock))
    }

    fn dropping_with<'a>(
        &'a self,
        inode: &'a Inode<'a>,
        state: WriteGuard<'a, State>,
        zap_lock: Option<Guard<'a, (), MutexBackend>>,
    ) -> Dropping<'a> {
        // The maximum covers every index: before the barrier, no `i_size` can be relied on.
        self.end_dropping.store(u64::MAX, Relaxed);
        // Pairs with the barrier in `modified`. `drop_stale` loads `i_size` after this. So either
        // `modified` loads this `end_dropping`, or we load its `i_size`.
        smp_mb(Full);
        Dropping {
            file: self,
            inode,
            state,
            _zap_lock: zap_lock,
        }
    }
}

impl Dropping<'_> {
    fn bounds(&self) -> Bounds {
        // Relaxed, because the semaphore orders it.
        let file = self.file;
        Bounds {
            lowest: file.lowest.load(Relaxed),
            touched: file.touched.load(Relaxed),
            reach: file.reach.load(Relaxed),
            failed: Range {
                start: file.first_failed.load(Relaxed),
                end: file.end_failed.load(Relaxed),
            },
            ahead: self.state.ahead,
        }
    }

    fn set_bounds(&mut self, bounds: &Bounds) {
        let file = self.file;
        self.state.ahead = bounds.ahead;
        file.touched.store(bounds.touched, Relaxed);
        file.reach.store(bounds.reach, Relaxed);
        file.first_failed.store(bounds.failed.start, Relaxed);
        // Pairs with the acquires in `nothing_stale`: a report that finds nothing to do runs after
        // the unmapping.
        file.lowest.store(bounds.lowest, Release);
        file.end_failed.store(bounds.failed.end, Release);
    }

    /// Drops ordinary stand-ins inside EOF. Before that, turns stand-ins for errors that a
    /// truncation left past EOF into ordinary ones. Returns the index of the first page past the
    /// EOF that this went by, which may be out of date.
    ///
    /// # Context
    ///
    /// Takes `i_mmap_rwsem` for read, page-table locks, and the lock of the xarray. Frees memory,
    /// allocates none. Sleeps.
    fn drop_stale(&mut self) -> u64 {
        let i_size = self.inode.i_size();
        let mut bounds = self.bounds();
        if let Some(end) = bounds.truncate(i_size) {
            self.set_bounds(&bounds);
            for shadows in self.state.shadows.values() {
                shadows.unkeep(end..=u64::MAX);
            }
        }
        self.drop_grown_over();
        first_past_eof(i_size)
    }

    /// Drops what the file has grown over.
    ///
    /// # Context
    ///
    /// As [`Self::drop_stale`].
    fn drop_grown_over(&mut self) {
        // Pairs with the barrier in `modified`: either we load its `i_size` below, or it loads the
        // `lowest` that we have lowered. A report that loads the `end_dropping` stored next also
        // loads that `lowest`.
        smp_mb(Full);
        let i_size = self.inode.i_size();
        self.file
            .end_dropping
            .store(first_past_eof(i_size), Relaxed);
        let mut bounds = self.bounds();
        let Some(growth) = bounds.plan_growth(i_size) else {
            return;
        };
        self.inode.unmap_pages(growth.unmapped.clone());
        // Free the shadow pages after unmapping: page_mkwrite relies on a mapped shadow page being
        // in the xarray.
        let Range { start, end } = growth.grown_over;
        for shadows in self.state.shadows.values() {
            shadows.give_back(start..=end - 1);
        }
        let first_shadow = (self.state.shadows.values())
            .filter_map(|shadows| shadows.first(end..=u64::MAX))
            .min();
        bounds.apply(&growth, first_shadow);
        self.set_bounds(&bounds);
    }
}

impl Drop for Dropping<'_> {
    fn drop(&mut self) {
        // Pairs with the acquire in `nothing_stale`: a report that loads this 0 runs after
        // everything was dropped.
        self.file.end_dropping.store(0, Release);
    }
}

impl Inserting<'_> {
    /// Announces stand-ins at `pages`: widens `lowest..reach`. Returns the size of `inode`, the
    /// file, loaded after that. The caller must map them only if they are past that EOF. From here
    /// on a growth over `pages` waits for this guard.
    #[must_use = "it decides whether the stand-ins may be mapped"]
    pub(super) fn announce(&self, pages: &RangeInclusive<u64>, inode: &Inode<'_>) -> u64 {
        let (file, first) = (self.file, *pages.start());
        if first <= file.lowest.load(Relaxed) {
            file.touched.store(true, Relaxed);
        }
        update(&file.lowest, |lowest| lowest.min(first));
        update(&file.reach, |reach| {
            reach.max(pages.end().saturating_add(1))
        });
        // Pairs with the barrier in `modified`.
        smp_mb(Full);
        inode.i_size()
    }

    /// Announces an error stand-in at `pgoff`: widens `first_failed..end_failed`. Returns the size
    /// of `inode`, the file, loaded after that. The caller must map it only if it is inside that
    /// EOF.
    #[must_use = "it decides whether the stand-in may be mapped"]
    pub(super) fn announce_error(&self, pgoff: u64, inode: &Inode<'_>) -> u64 {
        self.file.announce_error(pgoff, inode)
    }
}

impl Keeping<'_> {
    /// Announces a kept page at `pgoff`: widens `first_failed..end_failed`. Returns the size of
    /// `inode`, the file, loaded after that. The caller must keep the page only if it is inside
    /// that EOF.
    #[must_use = "it decides whether the page may be kept"]
    pub(super) fn announce(&self, pgoff: u64, inode: &Inode<'_>) -> u64 {
        self.file.announce_error(pgoff, inode)
    }
}

impl Listener for WatchedFile {
    fn modified(&self, inode: &Inode<'_>) {
        // Pairs with the barriers in `Inserting::announce()`, `announce_error()`, `dropping_with()`
        // and `drop_grown_over()`. Either the other task loads our `i_size` (or a later one), or we
        // load what it announced.
        smp_mb(Full);
        if !self.nothing_stale(inode.i_size()) {
            self.lock_to_drop(inode).drop_stale();
        }
    }
}

fn key(shadows: &Arc<ShadowPages>) -> usize {
    core::ptr::from_ref::<ShadowPages>(shadows).addr()
}
