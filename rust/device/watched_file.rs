// SPDX-License-Identifier: GPL-2.0-only

//! A file that is watched: keeps the stand-ins of its opted-in mappings where it has no pages.
//!
//! Documentation/growth.rst argues why this is right; tests/model checks it.

use super::{
    errors::Errors,
    stand_ins::StandIns, //
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
            Change,
            Listener,
            Watch, //
        },
        rcu,
        rw_semaphore::{
            ReadGuard,
            RwSemaphore,
            WriteGuard, //
        },
        task::has_signal, //
    },
    policy::{
        fault::first_past_eof,
        growth::{
            ends_past_eof,
            is_overdue,
            may_have_shrunk,
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

/// A file that something has stood in for, or is about to, in opted-in mappings.
#[pin_data]
pub(super) struct WatchedFile {
    /// For read while a stand-in is mapped; for write while those are dropped that the file has grown
    /// over.
    #[pin]
    state: RwSemaphore<State>,
    /// Taken before `state` by whoever unmaps pages because of errors, which takes as long as the file has
    /// mappings, and as often as he likes: whoever changes the file waits for one of these at most.
    #[pin]
    turn: Mutex<()>,
    /// Held by whoever has changes reported from now on.
    #[pin]
    starting: Mutex<()>,
    /// Goes up with each modification that may have shrunk the file.
    generation: Atomic<u64>,
    /// The size in bytes as of the last modification.
    last_size: Atomic<u64>,
    /// [`Bounds`], of all mappings. A fault makes them wider, with the semaphore held for read;
    /// [`Dropping`] makes them narrower, with it held for write.
    lowest: Atomic<u64>,
    touched: Atomic<bool>,
    reach: Atomic<u64>,
    first_failed: Atomic<u64>,
    end_failed: Atomic<u64>,
    /// The page index that all stand-ins are below that are being dropped; 0 if none are.
    end_dropping: Atomic<u64>,
    /// The [`clock`]'s time from which on [`Self::catch_up`] may do something.
    next_catch_up: Atomic<u64>,
}

struct State {
    /// The stand-ins of each opted-in mapping that can have shadow pages, by their address.
    mappings: RBTree<usize, Arc<StandIns>>,
    /// [`Bounds::ahead`].
    ahead: u64,
}

/// While it exists, whoever drops stand-ins waits.
pub(super) struct Inserting<'a> {
    file: &'a WatchedFile,
    _state: ReadGuard<'a, State>,
}

/// While it exists, whoever maps a stand-in waits, and so does whoever has cut off what is being
/// dropped.
struct Dropping<'a> {
    file: &'a WatchedFile,
    state: WriteGuard<'a, State>,
    /// If it is because of errors.
    _turn: Option<Guard<'a, (), MutexBackend>>,
}

/// While it exists, whoever drops stand-ins waits, and so does whoever maps one.
pub(super) struct Keeping<'a> {
    file: &'a WatchedFile,
    _state: WriteGuard<'a, State>,
    _turn: Guard<'a, (), MutexBackend>,
}

impl WatchedFile {
    /// A file of `i_size` bytes. Sleeps; fails with `ENOMEM`.
    pub(super) fn new(i_size: u64) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- RwSemaphore::new(State {
                    mappings: RBTree::new(),
                    ahead: Bounds::NONE.ahead,
                }),
                turn <- new_mutex!(()),
                starting <- new_mutex!(()),
                generation: Atomic::new(0),
                last_size: Atomic::new(i_size),
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

    /// Has each change of the size reported that is not seen by who looks at it after this. `watch` is of
    /// `file`, through which it may be changed. `waits`: for a grace period in any case. Sleeps.
    ///
    /// Who changes the size stores it, and then looks whether somebody is to be told: what was there to
    /// be told before the grace period is seen, or the size is, after it.
    pub(super) fn start_reports(&self, file: &MappedFile<'_>, watch: &Watch<Self>, waits: bool) {
        // Nobody finds the file reporting before the grace period for that is over.
        let _starting = self.starting.lock();
        let was_silent = file.enable_notification();
        if waits || was_silent || !watch.is_known() {
            rcu::synchronize_expedited();
            watch.set_known();
        }
    }

    /// Has the shadow pages of a mapping dropped when the file grows over them. Sleeps; fails with
    /// `ENOMEM`.
    pub(super) fn add(&self, stand_ins: &Arc<StandIns>) -> Result {
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?
            .into_node(key(stand_ins), stand_ins.clone());
        self.state.write().mappings.insert(node);
        Ok(())
    }

    /// Undoes [`Self::add`]. Sleeps.
    pub(super) fn remove(&self, stand_ins: &Arc<StandIns>) {
        let removed = self.state.write().mappings.remove(&key(stand_ins));
        drop(removed);
    }

    /// Drops what stands in for pages inside the file because of errors that `told` has told of, and then
    /// forgets them. What is past EOF by now stays, as any other stand-in. Sleeps.
    ///
    /// `false`, and nothing has changed, if there was another one since. Fails with `EINTR`: the error
    /// stays.
    pub(super) fn clear_error(
        &self,
        inode: &Inode<'_>,
        (stand_ins, errors): (&StandIns, &Errors),
        told: &nosigbus_status,
    ) -> Result<bool> {
        let clearing = errors.clearing(stand_ins)?;
        let mut dropping = self.dropping_in_turn();
        // From here on only who cuts the file off has to wait for what follows, by `end_failed`.
        let mut end = dropping.settle(inode);
        let (mut next, mut has_started, mut parts) = (0, false, 0);
        loop {
            let failed = if has_started {
                clearing.next(next)
            } else {
                clearing.left(next)
            };
            let Some(failed) = failed else {
                if has_started {
                    break;
                }
                if !clearing.start(told) {
                    return Ok(false);
                }
                (next, has_started) = (0, true);
                continue;
            };
            if parts > 0 && has_signal() {
                return Err(EINTR);
            }
            parts += 1;
            let inside = failed.start..failed.end.min(end);
            if !inside.is_empty() {
                inode.unmap_pages(inside);
            }
            clearing.unmapped(&failed);
            next = failed.end;
            // Who waits for the file has his turn before the next part of it.
            drop(dropping);
            dropping = self.dropping_in_turn();
            // Perhaps nobody has said yet that the file has shrunk, and then nothing else tells of what
            // stays.
            end = dropping.settle(inode);
        }
        let not_needed = clearing.finish();
        drop(dropping);
        // These wake others, or give memory back.
        drop((clearing, not_needed));
        Ok(true)
    }

    /// Drops what the file has grown over, if nobody has said so: a system call that fails after
    /// it has grown the file does not (Documentation/growth.rst). Sleeps.
    ///
    /// This takes as long as the file has mappings, and who changes the file can make it necessary as
    /// often as he likes. So it is for faults in mappings that have had stand-ins, one at a time, and
    /// they do so for a small part of the time only; but for those at a page (index) that the mapping
    /// has a shadow page for, which its copies may have mapped.
    pub(super) fn catch_up(&self, inode: &Inode<'_>, stand_ins: &StandIns, pgoff: u64) {
        if !self.is_overdue(inode) || !stand_ins.has_had_any() {
            return;
        }
        if stand_ins.shadows.get(pgoff).is_some() {
            self.settle_overdue(inode);
            return;
        }
        let (due, begin) = (self.next_catch_up.load(Relaxed), clock::now());
        if begin < due || self.next_catch_up.cmpxchg(due, u64::MAX, Relaxed).is_err() {
            return;
        }
        self.dropping().settle(inode);
        self.next_catch_up
            .store(next_catch_up(begin, clock::now()), Relaxed);
    }

    /// Drops what the file has grown over, if no report has done so. Sleeps.
    pub(super) fn settle_overdue(&self, inode: &Inode<'_>) {
        if self.is_overdue(inode) {
            self.dropping().settle(inode);
        }
    }

    fn is_overdue(&self, inode: &Inode<'_>) -> bool {
        // Relaxed: a fault that comes too early for one stand-in is followed by others.
        is_overdue(inode.i_size(), self.lowest.load(Relaxed))
    }

    /// To be asked before the file system is, and before i_size is looked at; then
    /// [`Self::may_have_shrunk_since`] says afterwards whether the file may have been shorter
    /// meanwhile.
    pub(super) fn generation(&self) -> u64 {
        // Pairs with the release in `modified`: whoever sees a size that was set after the
        // modification, under the inode lock, sees its generation as well. And i_size is not read
        // before this.
        self.generation.load(Acquire)
    }

    /// Whether the file may have shrunk since `generation`. To be asked after i_size has been
    /// looked at.
    pub(super) fn may_have_shrunk_since(&self, generation: u64) -> bool {
        self.generation() != generation
    }

    /// The page index that no stand-in is below.
    pub(super) fn lowest_stand_in(&self) -> u64 {
        self.lowest.load(Relaxed)
    }

    /// To be held from [`Inserting::stand_ins`] to having mapped them. Sleeps.
    pub(super) fn inserting(&self) -> Inserting<'_> {
        Inserting {
            file: self,
            _state: self.state.read(),
        }
    }

    /// To be held from [`Keeping::page`] to having kept it. Sleeps.
    pub(super) fn keeping(&self) -> Keeping<'_> {
        let turn = self.turn.lock();
        Keeping {
            file: self,
            _state: self.state.write(),
            _turn: turn,
        }
    }

    /// As [`Self::keeping`], or `None` if that would have to wait.
    pub(super) fn try_keeping(&self) -> Option<Keeping<'_>> {
        let turn = self.turn.try_lock()?;
        Some(Keeping {
            file: self,
            _state: self.state.try_write()?,
            _turn: turn,
        })
    }

    /// There is going to be a stand-in for an error at the page index `pgoff`.
    fn fails(&self, pgoff: u64) {
        update(&self.first_failed, |first| first.min(pgoff));
        update(&self.end_failed, |end| end.max(pgoff + 1));
        // Pairs with that in `modified`.
        smp_mb(Full);
    }

    /// Whether there is nothing to do about the stand-ins of a file of `i_size` bytes, nor to wait for.
    fn is_settled(&self, i_size: u64) -> bool {
        // In this order: `settle` sets `end_dropping` before it makes `lowest` of `end_failed`, and to
        // less after that. These pair with the releases in `set_bounds` and in `Dropping::drop`, and
        // with the barrier in `Dropping::grown_over`.
        !ends_past_eof(self.end_failed.load(Acquire), i_size)
            // What was past EOF when the growth was over that it is dropped for, and is again: what
            // is written to it from now on is to stay.
            && !ends_past_eof(self.end_dropping.load(Acquire), i_size)
            && !is_overdue(i_size, self.lowest.load(Acquire))
    }

    /// To be held while stand-ins are dropped, from looking at i_size on. Sleeps.
    fn dropping(&self) -> Dropping<'_> {
        self.dropping_with(self.state.write(), None)
    }

    /// As [`Self::dropping`], because of errors.
    fn dropping_in_turn(&self) -> Dropping<'_> {
        let turn = self.turn.lock();
        self.dropping_with(self.state.write(), Some(turn))
    }

    fn dropping_with<'a>(
        &'a self,
        state: WriteGuard<'a, State>,
        turn: Option<Guard<'a, (), MutexBackend>>,
    ) -> Dropping<'a> {
        // Whatever the size is.
        self.end_dropping.store(u64::MAX, Relaxed);
        // Pairs with that in `modified`: i_size is looked at after this, and that one sees
        // `end_dropping`, or this sees its size.
        smp_mb(Full);
        Dropping {
            file: self,
            state,
            _turn: turn,
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
        // These pair with the acquires in `is_settled`: whoever sees that there is nothing to drop
        // comes after its having been unmapped.
        file.lowest.store(bounds.lowest, Release);
        file.end_failed.store(bounds.failed.end, Release);
    }

    /// Drops what the file has grown over, and takes what stands in for errors, and was cut off, for
    /// stand-ins as any other. Returns the page index that EOF was before. Sleeps.
    fn settle(&mut self, inode: &Inode<'_>) -> u64 {
        let i_size = inode.i_size();
        let mut bounds = self.bounds();
        if let Some(end) = bounds.cut_off(i_size) {
            self.set_bounds(&bounds);
            for stand_ins in self.state.mappings.values() {
                stand_ins.shadows.unkeep(end..=u64::MAX);
            }
        }
        self.grown_over(inode);
        first_past_eof(i_size)
    }

    /// Drops what the file has grown over. Sleeps.
    fn grown_over(&mut self, inode: &Inode<'_>) {
        // Pairs with that in `modified`: this sees the size that was set before, or that one sees that
        // `lowest` has been lowered, and so does whoever sees `end_dropping`.
        smp_mb(Full);
        let i_size = inode.i_size();
        self.file
            .end_dropping
            .store(first_past_eof(i_size), Relaxed);
        let mut bounds = self.bounds();
        let Some(growth) = bounds.grow(i_size) else {
            return;
        };
        inode.unmap_pages(growth.unmapped.clone());
        // After that, so that a page that is mapped is one of the mapping's shadow pages.
        for stand_ins in self.state.mappings.values() {
            stand_ins.give_back(&growth.grown_over);
        }
        let shadows = self.state.mappings.values().map(|held| &held.shadows);
        let first_held = shadows
            .filter_map(|shadows| shadows.first(growth.grown_over.end..=u64::MAX))
            .min();
        bounds.grown(&growth, first_held);
        self.set_bounds(&bounds);
    }
}

impl Drop for Dropping<'_> {
    fn drop(&mut self) {
        // Pairs with the acquire in `is_settled`: whoever sees this comes after all that was dropped.
        self.file.end_dropping.store(0, Release);
    }
}

impl Inserting<'_> {
    /// There are going to be stand-ins at the page indexes `pages`, if the first is past EOF; there
    /// may be pages for them already. EOF is to be looked at after this: the file does not grow over
    /// them unseen from here on.
    pub(super) fn stand_ins(&self, pages: &RangeInclusive<u64>) {
        let (file, first) = (self.file, *pages.start());
        if first <= file.lowest.load(Relaxed) {
            file.touched.store(true, Relaxed);
        }
        update(&file.lowest, |lowest| lowest.min(first));
        update(&file.reach, |reach| {
            reach.max(pages.end().saturating_add(1))
        });
        // Pairs with that in `modified`.
        smp_mb(Full);
    }

    /// There is going to be a stand-in for an error at the page index `pgoff`, if that is inside the
    /// file, which is to be looked at after this.
    pub(super) fn stand_in_for_error(&self, pgoff: u64) {
        self.file.fails(pgoff);
    }
}

impl Keeping<'_> {
    /// There is going to be a page that is kept at the page index `pgoff`, if that is inside the file,
    /// which is to be looked at after this.
    pub(super) fn page(&self, pgoff: u64) {
        self.file.fails(pgoff);
    }
}

impl Listener for WatchedFile {
    fn modified(&self, inode: &Inode<'_>, change: Change) {
        // Pairs with those in `Inserting::stand_ins`, `fails`, `dropping` and `grown_over`: who looks
        // at the size there sees that of now, or a later one, or this sees what was announced before.
        smp_mb(Full);
        let i_size = inode.i_size();
        let last_size = self.last_size.xchg(i_size, Relaxed);
        if may_have_shrunk(change == Change::Attributes, last_size, i_size) {
            // Pairs with the acquire in `generation`.
            self.generation.fetch_add(1, Release);
        }
        if !self.is_settled(i_size) {
            self.dropping().settle(inode);
        }
    }
}

fn key(stand_ins: &Arc<StandIns>) -> usize {
    core::ptr::from_ref::<StandIns>(stand_ins).addr()
}
