// SPDX-License-Identifier: GPL-2.0-only

//! Lists of opted-in mappings, for debugfs and fdinfo.

use super::{
    mapping_state::MappingState,
    Shared, //
};
use crate::abstractions::debugfs::{
    has_overflowed,
    Show, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode,
        RBTreeNodeReservation, //
    },
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        new_spinlock,
        Arc,
        SpinLock, //
    },
};

/// Maximum number of mappings printed in fdinfo. seq_file buffers the whole output, charged to the
/// reader, who may be another user.
const MAX_FDINFO_LINES: usize = 4096;

/// Mappings, in the order of ENABLE.
#[pin_data]
pub(crate) struct List {
    /// A spinlock: `Registry::all` is shared by all users, so its holder must not be preempted. (On
    /// PREEMPT_RT: priority inheritance.)
    #[pin]
    mappings: SpinLock<Numbered>,
}

struct Numbered {
    by_number: RBTree<u64, Arc<MappingState>>,
    count: usize,
}

impl List {
    /// An empty list. Sleeps; fails with `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                mappings <- new_spinlock!(Numbered {
                    by_number: RBTree::new(),
                    count: 0,
                }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Prints the list for /proc/PID/fdinfo: the first [`MAX_FDINFO_LINES`] mappings, and how many
    /// more there are.
    pub(super) fn show_fdinfo(&self, seq: &SeqFile) {
        let mut next = 0;
        for _ in 0..MAX_FDINFO_LINES {
            let Some((number, state)) = self.at_or_after(next) else {
                return;
            };
            seq_print!(seq, "nosigbus:\t{}\n", state.for_fdinfo());
            // seq_file calls this again with a larger buffer.
            if has_overflowed(seq) {
                return;
            }
            next = number + 1;
        }
        let count = self.mappings.lock().count;
        if count > MAX_FDINFO_LINES {
            seq_print!(seq, "nosigbus_more:\t{}\n", count - MAX_FDINFO_LINES);
        }
    }

    fn at_or_after(&self, number: u64) -> Option<(u64, Arc<MappingState>)> {
        let mappings = self.mappings.lock();
        let cursor = mappings.by_number.cursor_lower_bound(&number)?;
        let (&number, state) = cursor.current();
        Some((number, state.clone()))
    }

    fn insert(&self, node: RBTreeNode<u64, Arc<MappingState>>) {
        let mut mappings = self.mappings.lock();
        mappings.by_number.insert(node);
        mappings.count += 1;
    }

    fn remove(&self, number: u64) {
        let mut mappings = self.mappings.lock();
        let removed = mappings.by_number.remove_node(&number);
        mappings.count -= 1;
        drop(mappings);
        drop(removed);
    }
}

impl Show for Arc<List> {
    fn first(&self, number: u64) -> Option<u64> {
        self.at_or_after(number).map(|(number, _)| number)
    }

    fn show(&self, number: u64, seq: &SeqFile) {
        let state = self.mappings.lock().by_number.get(&number).cloned();
        if let Some(state) = state {
            seq_print!(seq, "{}\n", state.for_debugfs());
        }
    }
}

/// All opted-in mappings.
pub(super) struct Registry {
    all: Arc<List>,
    next: Atomic<u64>,
}

/// Keeps a mapping in both lists while it exists. Owns the mapping's state, and a reference on what
/// all mappings share.
pub(super) struct Listed {
    number: u64,
    shared: Arc<Shared>,
    /// The list of the open file of the device that opted the mapping in.
    opened: Arc<List>,
    state: Arc<MappingState>,
}

impl Registry {
    /// A registry without mappings. Sleeps; fails with `ENOMEM`.
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
}

impl Listed {
    /// Lists a mapping. Sleeps; fails with `ENOMEM`.
    pub(super) fn new(
        shared: &Arc<Shared>,
        opened: &Arc<List>,
        state: Arc<MappingState>,
    ) -> Result<Self> {
        let registry = &shared.registry;
        let number = registry.next.fetch_add(1, Relaxed);
        let node = |state| {
            Ok::<_, Error>(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?.into_node(number, state))
        };
        let (in_all, in_opened) = (node(state.clone())?, node(state.clone())?);
        registry.all.insert(in_all);
        opened.insert(in_opened);
        Ok(Self {
            number,
            shared: shared.clone(),
            opened: opened.clone(),
            state,
        })
    }

    /// What all mappings share: a fault needs the fsnotify group and the CoW sources.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl core::ops::Deref for Listed {
    type Target = Arc<MappingState>;

    fn deref(&self) -> &Arc<MappingState> {
        &self.state
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.registry.all.remove(self.number);
        self.opened.remove(self.number);
    }
}
