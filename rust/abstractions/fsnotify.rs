// SPDX-License-Identifier: GPL-2.0-only

//! fsnotify marks: the kernel calls this module when a file is modified.
//!
//! C header: [`include/linux/fsnotify_backend.h`](srctree/include/linux/fsnotify_backend.h)
//!
//! A [`Group`] puts one mark on each watched inode. [`Watch`]es of the same inode share the mark.
//! inotify and fanotify do not see it.
//!
//! A file on overlayfs has two inodes: overlayfs's own, and the real one, whose pages are mapped.
//! Most changes are reported for both. splice(2) and asynchronous direct writes are reported for
//! overlayfs's inode only. So both have marks; the mark of overlayfs's inode calls the listener of
//! the real one.
//!
//! fsnotify removes marks when the last dentry of an unlinked inode goes (`inode_notify_dead()`). A
//! mapped file pins its dentry, so our marks stay.

use super::{
    bindings,
    file::{
        Inode,
        MappedFile, //
    },
    memalloc::NoReclaim, //
};
use core::ptr::NonNull;
use kernel::{
    bindings::inode,
    error::{
        from_err_ptr,
        to_result, //
    },
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
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        new_mutex,
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};

/// Receives `FS_MODIFY` events.
pub(crate) trait Listener: Send + Sync + 'static {
    /// The file was modified.
    ///
    /// # Context
    ///
    /// The modifying task runs this function, in an SRCU read-side critical section. May sleep.
    /// `notify_change()` (truncation, or a change of mtime alone) calls it with the inode lock
    /// held; write(2), splice(2), fallocate(2) etc. without it. Several tasks may call it at once.
    fn modified(&self, inode: &Inode<'_>);
}

/// An fsnotify mark with its group and listener.
///
/// # Invariants
///
/// - `mark` is initialised, and sits in a `KBox` that `free_mark` takes back.
/// - `group` comes from an `Arc`, and is valid: it is not dropped before all its marks are freed.
#[repr(C)]
struct Mark<L: Listener> {
    mark: Opaque<bindings::fsnotify_mark>,
    group: *const Group<L>,
    /// `None`: forwards to the mark of the real inode.
    listener: Option<Arc<L>>,
}

/// A watched inode.
struct Entry<L: Listener> {
    users: usize,
    /// Whether an RCU grace period has passed since the mark was added. See
    /// [`Watch::grace_period_over`].
    grace_period_over: bool,
    mark: NonNull<Mark<L>>,
    /// The listener of the real inode. (For overlayfs's inode, the mark has none of its own.)
    listener: Arc<L>,
}

// SAFETY: Any task may use a mark and put the reference on it that the entry owns. `L` is `Send`
// and `Sync`.
unsafe impl<L: Listener> Send for Entry<L> {}

/// By the address of the inode.
type Marks<L> = RBTree<usize, Entry<L>>;

/// The marks of one kind of listener.
///
/// # Invariants
///
/// - `group` is a group with the operations [`Self::OPS`].
/// - Each entry of `marks` is keyed by the address of its inode, which its users keep alive, and
///   owns a reference on its mark.
/// - `live` is the number of marks that have not been freed.
#[pin_data(PinnedDrop)]
pub(crate) struct Group<L: Listener> {
    group: NonNull<bindings::fsnotify_group>,
    #[pin]
    marks: Mutex<Marks<L>>,
    live: Atomic<i32>,
}

// SAFETY: A group may be used by any task.
unsafe impl<L: Listener> Send for Group<L> {}
// SAFETY: `marks` has a lock, `group` has its own.
unsafe impl<L: Listener> Sync for Group<L> {}

/// `Group::marks`, locked, with `PF_MEMALLOC` set. All mappings share this lock, so it must not be
/// held across reclaim. `fsnotify_add_mark()` allocates a connector under it. There is at most one
/// for each watched inode, and it is smaller than an inode. So it cannot use up the reserves.
struct MarksGuard<'a, L: Listener> {
    marks: Guard<'a, Marks<L>, MutexBackend>,
    _noreclaim: NoReclaim,
}

impl<L: Listener> Group<L> {
    const OPS: &'static bindings::fsnotify_ops = &bindings::fsnotify_ops {
        handle_event: Some(Self::handle_event),
        handle_inode_event: None,
        free_group_priv: None,
        freeing_mark: None,
        free_event: None,
        free_mark: Some(Self::free_mark),
    };

    /// A group without marks. Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        // SAFETY: The operations are static.
        let group = from_err_ptr(unsafe { bindings::fsnotify_alloc_group(Self::OPS, 0) })?;
        let group = NonNull::new(group).ok_or(ENOMEM)?;
        let init = try_pin_init!(Self {
            // INVARIANT: Allocated with them just now.
            group,
            // INVARIANT: No entry.
            marks <- new_mutex!(RBTree::new()),
            // INVARIANT: None yet.
            live: Atomic::new(0_i32),
        });
        Arc::pin_init(init, GFP_KERNEL).inspect_err(|_| {
            // SAFETY: Gives back the reference that has come with the group.
            unsafe { bindings::fsnotify_put_group(group.as_ptr()) }
        })
    }

    fn lock(&self) -> MarksGuard<'_, L> {
        let noreclaim = NoReclaim::new();
        MarksGuard {
            marks: self.marks.lock(),
            _noreclaim: noreclaim,
        }
    }

    /// Watches a file. If its inode has a mark already, drops `listener` and shares the listener of
    /// that mark.
    ///
    /// # Context
    ///
    /// Takes `Group::marks`; allocates memory before that. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. `EINVAL` if the file system forbids marks (`FS_DISALLOW_NOTIFY`; in Linux 7.3 only
    /// nullfs, which has no regular files).
    pub(crate) fn watch(
        self: &Arc<Self>,
        file: &MappedFile<'_>,
        listener: Arc<L>,
    ) -> Result<Watch<L>> {
        let real = file.inode().as_ptr();
        let user = file.overlay_inode().map(|inode| inode.as_ptr());
        // Allocate before the mutex is taken: a user at its memcg limit must not block others.
        let for_real = Unattached::new(self, real, listener.clone(), false)?;
        let for_user = user
            .map(|user| Unattached::new(self, user, listener.clone(), true))
            .transpose()?;

        let mut guard = self.lock();
        let marks = &mut *guard.marks;
        // SAFETY: `file` is open and pins both inodes during this call. From then on the marks pin
        // them, and the owner of the `Watch` keeps the file open, and so the mount. (An unmount
        // would take the marks away, and then another inode could get this one's address.)
        let listener = unsafe { self.attach(marks, for_real, listener)? };
        if let Some(for_user) = for_user {
            // SAFETY: As for the first: `file` pins this inode too.
            if let Err(error) = unsafe { self.attach(marks, for_user, listener.clone()) } {
                self.detach(marks, real as usize);
                return Err(error);
            }
        }
        drop(guard);

        Ok(Watch {
            group: self.clone(),
            real: real as usize,
            user: user.map(|user| user as usize),
            listener,
        })
    }

    /// Puts a mark on an inode and returns `listener`. If the inode has a mark already, counts one
    /// more user of it and returns the listener of that mark.
    ///
    /// # Safety
    ///
    /// The inode must be valid during this call. From then on the mark pins it.
    unsafe fn attach(
        &self,
        marks: &mut Marks<L>,
        unattached: Unattached<L>,
        listener: Arc<L>,
    ) -> Result<Arc<L>> {
        let inode = unattached.inode as usize;
        if let Some(entry) = marks.get_mut(&inode) {
            entry.users += 1;
            return Ok(entry.listener.clone());
        }

        // SAFETY: The inode is valid, as the caller promises.
        let mark = unsafe { self.mark(unattached.mark, unattached.inode)? };
        // INVARIANT: The reference that the mark came with is the entry's.
        marks.insert(unattached.node.into_node(
            inode,
            Entry {
                users: 1,
                grace_period_over: false,
                mark,
                listener: listener.clone(),
            },
        ));
        Ok(listener)
    }

    /// Puts a mark on its inode, and returns it with a reference.
    ///
    /// # Safety
    ///
    /// The inode must be valid.
    unsafe fn mark(&self, mark: KBox<Mark<L>>, inode: *mut inode) -> Result<NonNull<Mark<L>>> {
        // INVARIANT: `free_mark` takes it back; initialised below, and counted.
        let mark = NonNull::from(KBox::leak(mark));
        self.live.fetch_add(1_i32, Relaxed);
        // SAFETY: `fsnotify_init_mark()` requires a zeroed mark, which this is, and a valid group,
        // which `self.group` is by the type invariants.
        let raw = unsafe {
            let raw = (*mark.as_ptr()).mark.get();
            bindings::fsnotify_init_mark(raw, self.group.as_ptr());
            (*raw).mask = bindings::FS_MODIFY;
            raw
        };
        // SAFETY: The mark was initialised just now. The inode is valid, as the caller promises.
        let added = to_result(unsafe { bindings::nosigbus_fsnotify_add_inode_mark(raw, inode) });
        if let Err(error) = added {
            // SAFETY: Gives back the reference that the mark came with.
            unsafe { bindings::fsnotify_put_mark(raw) };
            return Err(error);
        }
        Ok(mark)
    }

    /// Uncounts one user of an inode's mark. With the last user, removes the mark.
    fn detach(&self, marks: &mut Marks<L>, inode: usize) {
        let Some(entry) = marks.get_mut(&inode) else {
            return;
        };
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        let mark = entry.mark;
        marks.remove(&inode);
        // SAFETY: The entry owned a reference on the mark, by the type invariants, which is given
        // back here. Events that are being delivered keep the mark, by SRCU.
        unsafe {
            let raw = (*mark.as_ptr()).mark.get();
            bindings::fsnotify_destroy_mark(raw, self.group.as_ptr());
            bindings::fsnotify_put_mark(raw);
        }
    }

    /// # Safety
    ///
    /// To be called by fsnotify, as the operation of a group of this type.
    unsafe extern "C" fn handle_event(
        group: *mut bindings::fsnotify_group,
        _mask: u32,
        data: *const c_void,
        data_type: c_int,
        _dir: *mut inode,
        _file_name: *const kernel::bindings::qstr,
        _cookie: u32,
        iter: *mut bindings::fsnotify_iter_info,
    ) -> c_int {
        // SAFETY: `iter` is valid, as the caller promises.
        let raw = unsafe { bindings::nosigbus_fsnotify_iter_inode_mark(iter) };
        if raw.is_null() {
            return 0;
        }
        // SAFETY: Only `Group::mark()` adds marks to the group. Each is the first field of a
        // `Mark<L>` (`repr(C)`), so the cast is right. fsnotify calls this in an SRCU read-side
        // critical section, so this one is not freed.
        let mark = unsafe { &*raw.cast::<Mark<L>>() };
        // SAFETY: As the caller promises, fsnotify passes `data` of the type `data_type`.
        let dentry = unsafe { bindings::nosigbus_fsnotify_data_dentry(data, data_type) };
        // Every content event carries a dentry. Events without one are not about file content.
        let Some(dentry) = NonNull::new(dentry) else {
            return 0;
        };
        // SAFETY: The dentry is valid and positive for as long as the event is being delivered.
        let real = unsafe { bindings::nosigbus_d_real_inode(dentry.as_ptr()) };
        // SAFETY: As above: the dentry keeps its inode.
        let inode = unsafe { Inode::from_raw(real) };

        if let Some(listener) = &mark.listener {
            listener.modified(&inode);
            return 0;
        }
        // SAFETY: The dentry keeps the inode valid, as above. fsnotify passes the group of the mark
        // that it calls this for, which is valid.
        let found = unsafe { bindings::nosigbus_fsnotify_find_inode_mark(real, group) };
        if let Some(raw) = NonNull::new(found) {
            // SAFETY: A mark of this group is the first field of a `Mark<L>`, as above. The lookup
            // returned it with a reference.
            if let Some(listener) = unsafe { &(*raw.cast::<Mark<L>>().as_ptr()).listener } {
                listener.modified(&inode);
            }
            // SAFETY: Puts the reference that the lookup returned.
            unsafe { bindings::fsnotify_put_mark(raw.as_ptr()) };
        }
        0
    }

    /// # Safety
    ///
    /// To be called by fsnotify, as the operation of a group of this type, after the last use of
    /// the mark.
    unsafe extern "C" fn free_mark(mark: *mut bindings::fsnotify_mark) {
        // SAFETY: `Group::mark()` has leaked the box, whose first field `mark` is (`repr(C)`).
        let mark = unsafe { KBox::from_raw(mark.cast::<Mark<L>>()) };
        let group = mark.group;
        drop(mark);
        // SAFETY: By the invariants of `Mark` the group is valid: its drop waits until `live` is 0.
        unsafe { &*group }.live.fetch_sub(1_i32, Release);
    }
}

/// A mark, and the tree node for it, before they are attached to an inode.
struct Unattached<L: Listener> {
    mark: KBox<Mark<L>>,
    inode: *mut inode,
    node: RBTreeNodeReservation<usize, Entry<L>>,
}

impl<L: Listener> Unattached<L> {
    fn new(
        group: &Arc<Group<L>>,
        inode: *mut inode,
        listener: Arc<L>,
        forwards: bool,
    ) -> Result<Self> {
        Ok(Self {
            mark: KBox::new(
                Mark {
                    mark: Opaque::zeroed(),
                    group: Arc::as_ptr(group),
                    listener: (!forwards).then_some(listener),
                },
                GFP_KERNEL_ACCOUNT,
            )?,
            inode,
            node: RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?,
        })
    }
}

#[pinned_drop]
impl<L: Listener> PinnedDrop for Group<L> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Puts the reference that came with the group. Marks that are left hold one each.
        unsafe { bindings::fsnotify_put_group(self.group.as_ptr()) };
        // fsnotify calls `free_mark()` from a work item, possibly after the flush below if another
        // task still holds a mark reference. Wait until all are freed, because `free_mark()` is in
        // this module.
        loop {
            // SAFETY: May be called wherever sleeping is allowed, as in a module's exit function.
            unsafe { bindings::fsnotify_wait_marks_destroyed() };
            // Pairs with the release in `free_mark`, which does nothing more with the group.
            if self.live.load(Acquire) == 0_i32 {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
    }
}

/// Keeps a file watched. Its owner keeps the file open, as a mapping does by its VMAs.
///
/// # Invariants
///
/// `real`, and `user` if set, are keys of entries in `group.marks`, each with one user counted for
/// this value.
pub(crate) struct Watch<L: Listener> {
    group: Arc<Group<L>>,
    real: usize,
    user: Option<usize>,
    listener: Arc<L>,
}

impl<L: Listener> Watch<L> {
    /// The listener; all watches of one file share it.
    pub(crate) fn listener(&self) -> &Arc<L> {
        &self.listener
    }

    /// Whether an RCU grace period has passed since the marks were added. Then every task that
    /// changes `i_size` either sees the mark or has finished. Set by
    /// [`Self::set_grace_period_over`].
    ///
    /// # Context
    ///
    /// Takes `Group::marks`; sleeps.
    pub(crate) fn grace_period_over(&self) -> bool {
        let guard = self.group.lock();
        self.inodes().all(|inode| {
            guard
                .marks
                .get(&inode)
                .is_some_and(|entry| entry.grace_period_over)
        })
    }

    /// Records that an RCU grace period has passed since the marks were added.
    ///
    /// # Context
    ///
    /// Takes `Group::marks`; sleeps.
    pub(crate) fn set_grace_period_over(&self) {
        let mut guard = self.group.lock();
        for inode in self.inodes() {
            if let Some(entry) = guard.marks.get_mut(&inode) {
                entry.grace_period_over = true;
            }
        }
    }

    /// The addresses of the inodes that have marks.
    fn inodes(&self) -> impl Iterator<Item = usize> {
        [Some(self.real), self.user].into_iter().flatten()
    }
}

impl<L: Listener> Drop for Watch<L> {
    // In `->close` of the last VMA: takes `Group::marks`, and sleeps.
    fn drop(&mut self) {
        let mut guard = self.group.lock();
        for inode in self.inodes() {
            self.group.detach(&mut guard.marks, inode);
        }
    }
}

#[kunit_tests(nosigbus_fsnotify)]
mod tests {
    use super::*;
    use crate::abstractions::{
        mm::MmapWriteGuard,
        user_memory::{
            unmap,
            Access,
            Sharing,
            ShmemFile, //
        },
    };
    use kernel::page::PAGE_SIZE;

    /// Counts events and stores i_size.
    struct Probe {
        events: Atomic<i32>,
        size: Atomic<u64>,
    }

    impl Listener for Probe {
        fn modified(&self, inode: &Inode<'_>) {
            self.events.add(1, Relaxed);
            self.size.store(inode.i_size(), Relaxed);
        }
    }

    fn watch(group: &Arc<Group<Probe>>, addr: usize) -> Result<Watch<Probe>> {
        let task = current!();
        let mut guard = MmapWriteGuard::lock_killable(task.mm().ok_or(EINVAL)?)?;
        let vma = guard.vmas_from(addr).next().ok_or(EINVAL)?;
        let probe = Probe {
            events: Atomic::new(0),
            size: Atomic::new(0),
        };
        let probe = Arc::new(probe, GFP_KERNEL)?;
        group.watch(&vma.file().ok_or(EINVAL)?, probe)
    }

    fn live(group: &Group<Probe>) -> i32 {
        group.live.load(Relaxed)
    }

    #[test]
    fn one_mark_for_each_file() -> Result {
        let group = Group::new()?;
        let files = [ShmemFile::new(PAGE_SIZE)?, ShmemFile::new(PAGE_SIZE)?];
        let [first, second] = &files;
        let addr = first.map(PAGE_SIZE, Sharing::Shared, Access::Read)?;
        let other = second.map(PAGE_SIZE, Sharing::Shared, Access::Read)?;

        let a = watch(&group, addr)?;
        let b = watch(&group, addr)?;
        assert!(Arc::ptr_eq(a.listener(), b.listener()));
        assert_eq!(live(&group), 1);
        let c = watch(&group, other)?;
        assert!(!Arc::ptr_eq(a.listener(), c.listener()));
        assert_eq!(live(&group), 2);

        first.truncate(3)?;
        assert_eq!(a.listener().events.load(Relaxed), 1);
        assert_eq!(a.listener().size.load(Relaxed), 3);
        assert_eq!(c.listener().events.load(Relaxed), 0);

        drop(a);
        first.truncate(0)?;
        assert_eq!(b.listener().events.load(Relaxed), 2);
        let listener = b.listener.clone();
        drop(b);
        first.truncate(7)?;
        assert_eq!(listener.events.load(Relaxed), 2);

        // And again: a new one.
        let d = watch(&group, addr)?;
        assert!(!Arc::ptr_eq(d.listener(), &listener));
        unmap(addr, PAGE_SIZE)?;
        unmap(other, PAGE_SIZE)
    }
}
