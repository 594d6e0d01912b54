// SPDX-License-Identifier: GPL-2.0-only

//! A file that has opted-in mappings: keeps its stand-ins where it has no pages.
//!
//! Documentation/growth.rst argues why this is right; tests/model checks it.

use super::stand_ins::StandIns;
use crate::{
    abstractions::{
        atomic::update,
        bindings::nosigbus_status,
        file::Inode,
        fsnotify::{
            Change,
            Listener, //
        },
        rw_semaphore::{
            ReadGuard,
            RwSemaphore,
            WriteGuard, //
        },
    },
    policy::{
        fault::first_past_eof,
        growth::{
            is_overdue,
            modified,
            Modified, //
        }, //
    },
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
            Relaxed,
            Release, //
        },
        Arc,
    },
};

/// No stand-in.
const NONE: u64 = u64::MAX;

/// A file that has opted-in mappings.
#[pin_data]
pub(super) struct WatchedFile {
    /// For read from looking at i_size to having mapped a stand-in; for write while those are
    /// dropped that the file has grown over.
    #[pin]
    state: RwSemaphore<State>,
    /// Goes up with each modification that may have shrunk the file.
    generation: Atomic<u64>,
    /// Whether modifications may go unnoticed.
    blind: Atomic<bool>,
    /// The page index that no stand-in past EOF of any mapping is below.
    lowest: Atomic<u64>,
    /// The page index that no stand-in for an error of any mapping is below.
    first_failed: Atomic<u64>,
}

struct State {
    /// The stand-ins of each opted-in mapping that can have shadow pages, by their address.
    mappings: RBTree<usize, Arc<StandIns>>,
    /// The size in bytes as of the last modification.
    last_size: u64,
}

/// While it exists, a growth of the file that has not been seen yet waits.
pub(super) struct Inserting<'a> {
    file: &'a WatchedFile,
    _state: ReadGuard<'a, State>,
}

/// While it exists, a growth of the file that has not been seen yet waits, and so does whoever maps
/// a stand-in.
pub(super) struct Keeping<'a> {
    file: &'a WatchedFile,
    _state: WriteGuard<'a, State>,
}

impl WatchedFile {
    /// A file of `i_size` bytes. Sleeps; fails with `ENOMEM`.
    pub(super) fn new(i_size: u64) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- RwSemaphore::new(State {
                    mappings: RBTree::new(),
                    last_size: i_size,
                }),
                generation: Atomic::new(0),
                blind: Atomic::new(false),
                lowest: Atomic::new(NONE),
                first_failed: Atomic::new(NONE),
            }),
            GFP_KERNEL_ACCOUNT,
        )
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

    /// Clears the error of a mapping, if there was none since `told` has told of them, and drops
    /// what stands in for pages inside the file because of errors. What is past EOF by now stays, as
    /// any other stand-in. Sleeps.
    pub(super) fn clear_error(
        &self,
        inode: &Inode<'_>,
        stand_ins: &StandIns,
        told: &nosigbus_status,
    ) -> bool {
        let _state = self.state.write();
        let Some(failed) = stand_ins.clear_error(told) else {
            return false;
        };
        let end = first_past_eof(inode.i_size());
        if failed.end > end {
            // Perhaps nobody has said yet that the file has shrunk, and then nothing else tells of
            // what stays.
            update(&self.lowest, |lowest| lowest.min(failed.start.max(end)));
        }
        let inside = failed.start..failed.end.min(end);
        if !inside.is_empty() {
            inode.unmap_pages(inside.clone());
            stand_ins.shadows.remove_kept(inside.start..=inside.end - 1);
        }
        true
    }

    /// Drops what the file has grown over, if nobody has said so: a system call that fails after
    /// it has grown the file does not (Documentation/growth.rst). Sleeps.
    pub(super) fn catch_up(&self, inode: &Inode<'_>) {
        if self.is_overdue(inode) {
            self.modified(inode, Change::Contents);
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
        // Pairs with the releases in `lost` and `modified`.
        self.blind.load(Acquire) || self.generation() != generation
    }

    /// The page index that no stand-in is below.
    pub(super) fn lowest_stand_in(&self) -> u64 {
        self.lowest.load(Relaxed)
    }

    /// To be held from looking at i_size to having mapped a stand-in. Sleeps.
    pub(super) fn inserting(&self) -> Inserting<'_> {
        Inserting {
            file: self,
            _state: self.state.read(),
        }
    }

    /// To be held while a page is kept, from looking at i_size on. Sleeps.
    pub(super) fn keeping(&self) -> Keeping<'_> {
        Keeping {
            file: self,
            _state: self.state.write(),
        }
    }

    /// As [`Self::keeping`], or `None` if that would have to wait.
    pub(super) fn try_keeping(&self) -> Option<Keeping<'_>> {
        self.state.try_write().map(|state| Keeping {
            file: self,
            _state: state,
        })
    }

    /// There is a stand-in for an error at the page index `pgoff`, or is going to be one.
    fn has_failed(&self, pgoff: u64) {
        // Relaxed, because the semaphore orders it.
        update(&self.first_failed, |first| first.min(pgoff));
    }
}

impl Inserting<'_> {
    /// There is going to be a stand-in at the page index `pgoff`, or a page for one already.
    pub(super) fn stand_in(&self, pgoff: u64) {
        // Relaxed, because the semaphore orders it: `modified` comes before or after all of this.
        update(&self.file.lowest, |lowest| lowest.min(pgoff));
    }

    /// There is going to be a stand-in for an error at the page index `pgoff`, inside the file.
    pub(super) fn stand_in_for_error(&self, pgoff: u64) {
        self.file.has_failed(pgoff);
    }
}

impl Keeping<'_> {
    /// Whether the file has grown over stand-ins that have not been dropped yet: a page that is kept
    /// among them would be dropped with them.
    pub(super) fn is_overdue(&self, inode: &Inode<'_>) -> bool {
        self.file.is_overdue(inode)
    }

    /// A page is kept at the page index `pgoff`.
    pub(super) fn kept(&self, pgoff: u64) {
        self.file.has_failed(pgoff);
    }
}

impl Listener for WatchedFile {
    fn modified(&self, inode: &Inode<'_>, change: Change) {
        // Whoever is mapping a stand-in on the strength of an older size has done so when this
        // returns; whoever comes later sees the size of now, or a later one.
        let mut state = self.state.write();
        let i_size = inode.i_size();
        let Modified {
            shrunk,
            grown_over,
            lowest,
        } = modified(
            change == Change::Attributes,
            state.last_size,
            i_size,
            self.lowest.load(Relaxed),
            self.first_failed.load(Relaxed),
        );

        state.last_size = i_size;
        if shrunk {
            let generation = self.generation.load(Relaxed);
            // Pairs with the acquire in `generation`. Nobody else stores to it: this is inside the
            // write side of the semaphore.
            self.generation.store(generation.wrapping_add(1), Release);
        }
        if !grown_over.is_empty() {
            inode.unmap_pages(grown_over.clone());
            // After that, so that a page that is mapped is one of the mapping's shadow pages.
            for stand_ins in state.mappings.values() {
                stand_ins.give_back(&grown_over);
            }
        }
        self.lowest.store(lowest, Relaxed);
    }

    fn lost(&self) {
        // Before events cease to arrive, and so before what they would tell.
        self.blind.store(true, Release);
    }

    fn found(&self, inode: &Inode<'_>) {
        // Whatever has happened meanwhile, a truncation or a growth.
        self.modified(inode, Change::Attributes);
        // After the generation: whoever is not told that this was blind is told that it is another.
        self.blind.store(false, Release);
    }
}

fn key(stand_ins: &Arc<StandIns>) -> usize {
    core::ptr::from_ref::<StandIns>(stand_ins).addr()
}
