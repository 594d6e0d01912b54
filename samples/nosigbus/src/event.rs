// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a program learns of stand-ins without asking.

use crate::{Error, Result};
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    io::{Errno, read},
};

/// An eventfd, which is signalled at the first stand-in of a mapping, and at the first one after
/// each [`status`](crate::Mapping::status). One can serve any number of mappings; it does not tell
/// which of them it was.
///
/// It is a file descriptor that becomes readable, for poll, epoll, calloop (`Generic`), mio
/// (`SourceFd`) and the like. When it is: [`take`](Self::take) it, and *then* ask for the status. A
/// stand-in between the two is in the numbers, and one after them signals the event again.
///
/// ```no_run
/// use nosigbus::{Device, Event, MapOptions};
/// use rustix::{buffer::spare_capacity, event::epoll};
///
/// # fn f(pool: std::fs::File, len: usize) -> std::io::Result<()> {
/// let event = Event::new()?;
/// let mapping = MapOptions::new(len).event(&event).map(&Device::open()?, &pool)?;
///
/// let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
/// let data = epoll::EventData::new_u64(0);
/// epoll::add(&epoll, &event, data, epoll::EventFlags::IN)?;
///
/// let mut ready = Vec::with_capacity(16);
/// loop {
///     epoll::wait(&epoll, spare_capacity(&mut ready), None)?;
///     for _ in ready.drain(..) {
///         if event.take()? && mapping.status()?.stand_ins() > 0 {
///             println!("this client has cut its pool off");
///         }
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// A new one. It does not block, and is closed on exec.
    pub fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(|errno| Error::other("eventfd", errno))
    }

    /// Whether it was signalled since the last time. It is not any more.
    pub fn take(&self) -> Result<bool> {
        match read(&self.0, &mut [0; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(Error::other("reading an eventfd", errno)),
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Event> for OwnedFd {
    fn from(event: Event) -> Self {
        event.0
    }
}
