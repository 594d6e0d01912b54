// SPDX-License-Identifier: GPL-2.0-only

//! The records that read(2) of the device returns: one for the first stand-in of each mapping, and
//! another whenever `NOSIGBUS_STATUS` has armed the mapping again.
//!
//! ENABLE allocates the record, so a fault needs no memory to send an event. If the queue is full,
//! the event is counted as lost.

use super::mapping_state::{
    Kind,
    StandIn, //
};
use crate::abstractions::bindings::{
    nosigbus_event,
    NOSIGBUS_EVENT_ERROR,
    NOSIGBUS_EVENT_OVERFLOW,
    NOSIGBUS_EVENT_PRIVATE_PAGE,
    NOSIGBUS_EVENT_SHADOW_PAGE,
    NOSIGBUS_EVENT_ZERO_PAGE, //
};
use kernel::{
    fs::File,
    list::{
        impl_list_arc_safe,
        impl_list_item,
        AtomicTracker,
        List,
        ListArc,
        ListLinks,
        TryNewListArc, //
    },
    page::PAGE_SIZE,
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        new_spinlock,
        poll::{
            PollCondVarBox,
            PollTable, //
        },
        Arc,
        SpinLock, //
    },
    uaccess::UserSliceWriter, //
};

/// Limit of unread records. Beyond it events are counted as lost. (Records of unmapped mappings
/// stay queued, so the number of mappings is no limit.)
const MAX_PENDING: usize = 1 << 14;

/// The record of a mapping.
#[pin_data]
struct Record {
    cookie: u64,
    /// This and the next two are written only with `Queue::pending` locked, and while the record is
    /// not queued.
    offset: Atomic<u64>,
    kind: Atomic<u32>,
    flags: Atomic<u32>,
    #[pin]
    links: ListLinks,
    #[pin]
    tracker: AtomicTracker,
}

impl_list_arc_safe! {
    impl ListArcSafe<0> for Record { tracked_by tracker: AtomicTracker; }
}
impl_list_item! {
    impl ListItem<0> for Record { using ListLinks { self.links }; }
}

impl Record {
    fn event(&self) -> nosigbus_event {
        nosigbus_event {
            cookie: self.cookie,
            offset: self.offset.load(Relaxed),
            kind: self.kind.load(Relaxed),
            flags: self.flags.load(Relaxed),
            ..Default::default()
        }
    }
}

/// The records that wait to be read.
struct Pending {
    records: List<Record>,
    count: usize,
    max: usize,
    /// Number of events lost after the last queued record.
    lost: u64,
    /// As `lost`, but older than the first record: a read took this count out, failed, and put it
    /// back ([`Self::put_back`]).
    lost_before: u64,
    /// The device file has been closed, so no task can read any more.
    closed: bool,
}

/// A record, or a count of lost events, that was taken out of a queue.
enum Taken {
    Record(Arc<Record>, nosigbus_event),
    Lost(u64),
}

impl Taken {
    fn event(&self) -> nosigbus_event {
        match self {
            Self::Record(_, event) => *event,
            Self::Lost(lost) => nosigbus_event {
                kind: NOSIGBUS_EVENT_OVERFLOW,
                offset: *lost,
                ..Default::default()
            },
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.lost == 0 && self.lost_before == 0
    }

    /// Appends `record`, filled in from `stand_in`. Does nothing if it is queued already.
    fn push(&mut self, record: &Arc<Record>, stand_in: &StandIn) {
        if self.closed {
            return;
        }
        let Some(item) = ListArc::try_from_arc_or_drop(record.clone()) else {
            return;
        };
        // Once an event is lost, later ones are lost, too, until a reader has got the count: a
        // record must not come before the count of events that are older.
        if self.count >= self.max || self.lost > 0 {
            self.lost += 1;
            return;
        }
        let kind = match stand_in.kind {
            Kind::Zero => NOSIGBUS_EVENT_ZERO_PAGE,
            Kind::Private => NOSIGBUS_EVENT_PRIVATE_PAGE,
            Kind::Shadow => NOSIGBUS_EVENT_SHADOW_PAGE,
        };
        let flags = if stand_in.for_error {
            NOSIGBUS_EVENT_ERROR
        } else {
            0
        };
        let offset = stand_in.pgoff.saturating_mul(PAGE_SIZE as u64);
        item.kind.store(kind, Relaxed);
        item.flags.store(flags, Relaxed);
        item.offset.store(offset, Relaxed);
        self.records.push_back(item);
        self.count += 1;
    }

    /// Takes out what a reader gets next.
    fn take(&mut self) -> Option<Taken> {
        if self.lost_before > 0 {
            return Some(Taken::Lost(core::mem::take(&mut self.lost_before)));
        }
        match self.records.pop_front() {
            Some(item) => {
                self.count -= 1;
                let event = item.event();
                Some(Taken::Record(item.into_arc(), event))
            }
            None if self.lost > 0 => Some(Taken::Lost(core::mem::take(&mut self.lost))),
            None => None,
        }
    }

    /// Puts `taken` back at the front, because it could not be copied to user space.
    fn put_back(&mut self, taken: &Taken) {
        match taken {
            Taken::Record(record, _) if !self.closed => {
                // If the record was queued again meanwhile, leave it there.
                if let Some(item) = ListArc::try_from_arc_or_drop(record.clone()) {
                    self.records.push_front(item);
                    self.count += 1;
                }
            }
            Taken::Record(..) => {}
            Taken::Lost(lost) if !self.closed => self.lost_before += lost,
            Taken::Lost(_) => {}
        }
    }
}

/// The records of the mappings that were opted in by one open file of the device.
#[pin_data]
pub(super) struct Queue {
    /// A spinlock, so that a fault is not preempted while holding it.
    #[pin]
    pending: SpinLock<Pending>,
    waiting: PollCondVarBox,
}

impl Queue {
    /// An empty queue. Sleeps; fails with `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Self::of_at_most(MAX_PENDING)
    }

    fn of_at_most(max: usize) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                pending <- new_spinlock!(Pending {
                    records: List::new(),
                    count: 0,
                    max,
                    lost: 0,
                    lost_before: 0,
                    closed: false,
                }),
                waiting: PollCondVarBox::new(c"nosigbus_events", static_lock_class!())?,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Copies as many whole records as are queued and fit; returns the number of bytes. Blocks for
    /// the first record unless `nonblocking`.
    ///
    /// # Errors
    ///
    /// `EINVAL`: not even one fits. `EAGAIN`: there is none, and `nonblocking`. `EFAULT`: bad
    /// pointer; nothing is lost. `ERESTARTSYS`: a signal.
    pub(super) fn read(&self, mut writer: UserSliceWriter, nonblocking: bool) -> Result<usize> {
        let size = size_of::<nosigbus_event>();
        if writer.len() < size {
            return Err(EINVAL);
        }
        let mut written = 0;
        while writer.len() >= size {
            let taken = if written > 0 {
                self.pending.lock().take()
            } else {
                Some(self.wait(nonblocking)?)
            };
            let Some(taken) = taken else {
                break;
            };
            if let Err(error) = writer.write(&taken.event()) {
                self.pending.lock().put_back(&taken);
                self.waiting.notify_all();
                return if written > 0 { Ok(written) } else { Err(error) };
            }
            written += size;
        }
        Ok(written)
    }

    fn wait(&self, nonblocking: bool) -> Result<Taken> {
        let mut pending = self.pending.lock();
        loop {
            if let Some(taken) = pending.take() {
                return Ok(taken);
            }
            if nonblocking {
                return Err(EAGAIN);
            }
            if self.waiting.wait_interruptible(&mut pending) {
                return Err(ERESTARTSYS);
            }
        }
    }

    /// Returns whether a record is queued. Registers the wait queue with `table`.
    pub(super) fn poll(&self, file: &File, table: &PollTable<'_>) -> bool {
        table.register_wait(file, &self.waiting);
        !self.pending.lock().is_empty()
    }

    /// Drops all records, queued or still to come: the device file has been closed.
    pub(super) fn close(&self) {
        let mut pending = self.pending.lock();
        pending.closed = true;
        pending.count = 0;
        pending.lost = 0;
        pending.lost_before = 0;
        let records = core::mem::replace(&mut pending.records, List::new());
        drop(pending);
        // Drop the records without the lock held: there can be many.
        drop(records);
    }
}

/// The record of a mapping, and the queue that it is sent to.
pub(super) struct Source {
    queue: Arc<Queue>,
    record: Arc<Record>,
}

impl Source {
    /// Allocates the record of a mapping that user space knows by `cookie`. Sleeps; fails with
    /// `ENOMEM`.
    pub(super) fn new(queue: Arc<Queue>, cookie: u64) -> Result<Self> {
        let record = Arc::pin_init(
            pin_init!(Record {
                cookie,
                offset: Atomic::new(0),
                kind: Atomic::new(0),
                flags: Atomic::new(0),
                links <- ListLinks::new(),
                tracker <- AtomicTracker::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Self { queue, record })
    }

    /// Queues the record of the mapping, unless it is queued already.
    ///
    /// # Context
    ///
    /// Without the semaphore: it wakes all waiters, in time proportional to their number. Does not
    /// sleep.
    pub(super) fn send(&self, stand_in: &StandIn) {
        self.queue.pending.lock().push(&self.record, stand_in);
        self.queue.waiting.notify_all();
    }
}

#[kunit_tests(nosigbus_events)]
mod tests {
    use super::*;

    const PAST_EOF: StandIn = StandIn {
        kind: Kind::Zero,
        pgoff: 3,
        for_error: false,
    };

    /// Takes one out: its cookie, kind, flags and offset.
    fn take(queue: &Queue) -> Option<(u64, u32, u32, u64)> {
        let taken = queue.pending.lock().take()?;
        let event = taken.event();
        Some((event.cookie, event.kind, event.flags, event.offset))
    }

    const fn zero_page(cookie: u64) -> Option<(u64, u32, u32, u64)> {
        Some((cookie, NOSIGBUS_EVENT_ZERO_PAGE, 0, 3 * PAGE_SIZE as u64))
    }

    #[test]
    fn records_are_in_order_and_one_for_each_mapping() -> Result {
        let queue = Queue::new()?;
        let sources = [
            Source::new(queue.clone(), 7)?,
            Source::new(queue.clone(), 7)?,
            Source::new(queue.clone(), 5)?,
        ];
        for source in &sources {
            source.send(&PAST_EOF);
            source.send(&StandIn {
                pgoff: 9,
                ..PAST_EOF
            });
        }
        assert_eq!(take(&queue), zero_page(7));
        assert_eq!(take(&queue), zero_page(7));
        sources[0].send(&StandIn {
            kind: Kind::Shadow,
            pgoff: u64::MAX,
            for_error: true,
        });
        assert_eq!(take(&queue), zero_page(5));
        assert_eq!(
            take(&queue),
            Some((
                7,
                NOSIGBUS_EVENT_SHADOW_PAGE,
                NOSIGBUS_EVENT_ERROR,
                u64::MAX
            ))
        );
        assert_eq!(take(&queue), None);
        Ok(())
    }

    #[test]
    fn what_was_taken_out_goes_back_to_its_place() -> Result {
        let queue = Queue::new()?;
        let (first, second) = (
            Source::new(queue.clone(), 1)?,
            Source::new(queue.clone(), 2)?,
        );
        first.send(&PAST_EOF);
        second.send(&PAST_EOF);
        let taken = queue.pending.lock().take().ok_or(EINVAL)?;
        queue.pending.lock().put_back(&taken);
        assert_eq!(take(&queue), zero_page(1));
        // The record was queued again before `put_back()`.
        first.send(&PAST_EOF);
        queue.pending.lock().put_back(&taken);
        assert_eq!(take(&queue), zero_page(2));
        assert_eq!(take(&queue), zero_page(1));
        assert_eq!(take(&queue), None);
        Ok(())
    }

    #[test]
    fn the_queue_is_bounded_and_says_what_is_lost() -> Result {
        let queue = Queue::of_at_most(2)?;
        // The mappings are gone, their records are not.
        for cookie in 1..=5 {
            Source::new(queue.clone(), cookie)?.send(&PAST_EOF);
        }
        assert_eq!(take(&queue), zero_page(1));
        // None overtakes those that were lost.
        Source::new(queue.clone(), 6)?.send(&PAST_EOF);
        assert_eq!(take(&queue), zero_page(2));
        let overflow = queue.pending.lock().take().ok_or(EINVAL)?;
        Source::new(queue.clone(), 7)?.send(&PAST_EOF);
        queue.pending.lock().put_back(&overflow);
        assert_eq!(take(&queue), Some((0, NOSIGBUS_EVENT_OVERFLOW, 0, 4)));
        assert_eq!(take(&queue), zero_page(7));
        assert_eq!(take(&queue), None);
        Ok(())
    }

    #[test]
    fn nothing_waits_for_nobody() -> Result {
        let queue = Queue::of_at_most(2)?;
        let source = Source::new(queue.clone(), 1)?;
        source.send(&PAST_EOF);
        let taken = queue.pending.lock().take().ok_or(EINVAL)?;
        queue.close();
        queue.pending.lock().put_back(&taken);
        source.send(&PAST_EOF);
        assert_eq!(take(&queue), None);
        Ok(())
    }
}
