// SPDX-License-Identifier: MIT OR Apache-2.0

//! Notification of stand-ins by an eventfd.

use crate::{Error, Result};
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    io::{Errno, read},
};

/// An eventfd. The module signals it at the first stand-in of a mapping, and at the first one after
/// each [`status`](crate::Mapping::status). One event can serve any number of mappings. It does not
/// tell which mapping has signalled it.
///
/// It is a file descriptor that becomes readable, for poll, epoll, calloop (`Generic`), mio
/// (`SourceFd`) and the like. When it is readable, call [`take`](Self::take), and *then* ask for
/// the status. The status includes a stand-in between the two calls. A stand-in after both signals
/// the event again.
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
    /// Creates an eventfd. It is nonblocking, and closed on exec.
    pub fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(|errno| Error::other("eventfd", errno))
    }

    /// Returns whether it was signalled since the last call, and resets it.
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
