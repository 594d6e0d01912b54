// SPDX-License-Identifier: GPL-2.0-only

//! Lists of opted-in mappings, for those who look for one.

use super::stand_ins::StandIns;
use crate::abstractions::debugfs::{
    has_overflowed,
    Show, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        new_mutex,
        Arc,
        Mutex, //
    },
};

/// Mappings by their numbers, and so in the order in which they have opted in.
#[pin_data]
pub(crate) struct List {
    #[pin]
    mappings: Mutex<RBTree<u64, Arc<StandIns>>>,
}

impl List {
    /// None yet. Sleeps; fails with `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                mappings <- new_mutex!(RBTree::new()),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Prints all of them, as /proc/PID/fdinfo does.
    pub(super) fn show_fdinfo(&self, seq: &SeqFile) {
        for stand_ins in self.mappings.lock().values() {
            // It is asked again, with more room for all of them.
            if has_overflowed(seq) {
                break;
            }
            seq_print!(seq, "nosigbus:\t{}\n", stand_ins.for_fdinfo());
        }
    }

    fn remove(&self, number: u64) {
        let removed = self.mappings.lock().remove(&number);
        drop(removed);
    }
}

impl Show for Arc<List> {
    fn first(&self, number: u64) -> Option<u64> {
        let mappings = self.mappings.lock();
        mappings
            .cursor_lower_bound(&number)
            .map(|cursor| *cursor.current().0)
    }

    fn show(&self, number: u64, seq: &SeqFile) {
        let stand_ins = self.mappings.lock().get(&number).cloned();
        if let Some(stand_ins) = stand_ins {
            seq_print!(seq, "{}\n", stand_ins.for_debugfs());
        }
    }
}

/// All opted-in mappings.
pub(super) struct Registry {
    all: Arc<List>,
    next: Atomic<u64>,
}

/// A mapping that is listed, for as long as this exists.
pub(super) struct Listed {
    number: u64,
    all: Arc<List>,
    /// Those that were opted in by the same open file of the device.
    opened: Arc<List>,
    stand_ins: Arc<StandIns>,
}

impl Registry {
    /// None yet. Sleeps; fails with `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            all: List::new()?,
            next: Atomic::new(0),
        })
    }

    /// All of them.
    pub(super) fn all(&self) -> &Arc<List> {
        &self.all
    }

    /// Lists a mapping. Sleeps; fails with `ENOMEM`.
    pub(super) fn list(&self, opened: &Arc<List>, stand_ins: Arc<StandIns>) -> Result<Listed> {
        let number = self.next.fetch_add(1, Relaxed);
        let node = |stand_ins| {
            Ok::<_, Error>(
                RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?.into_node(number, stand_ins),
            )
        };
        let (in_all, in_opened) = (node(stand_ins.clone())?, node(stand_ins.clone())?);
        self.all.mappings.lock().insert(in_all);
        opened.mappings.lock().insert(in_opened);
        Ok(Listed {
            number,
            all: self.all.clone(),
            opened: opened.clone(),
            stand_ins,
        })
    }
}

impl core::ops::Deref for Listed {
    type Target = Arc<StandIns>;

    fn deref(&self) -> &Arc<StandIns> {
        &self.stand_ins
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.remove(self.number);
        self.opened.remove(self.number);
    }
}
