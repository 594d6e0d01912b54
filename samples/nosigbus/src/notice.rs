// SPDX-License-Identifier: MIT OR Apache-2.0

//! Notices: the device reports stand-ins of mappings that have a cookie.

use crate::{Device, Error, Result, uapi};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
};

const SIZE: usize = size_of::<uapi::nosigbus_event>();
/// How many notices one read(2) gets.
const BATCH: usize = 32;

/// A notice that [`Device::notices`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// A mapping has a stand-in: its first, or the first after a
    /// [`status`](crate::Mapping::status).
    StandIn(StandIn),
    /// This many notices are lost here, because too many waited to be read. Ask each mapping for
    /// its status instead.
    Lost(u64),
}

/// The stand-in that a [`Notice`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StandIn {
    /// The cookie of the mapping: see [`MapOptions::cookie`](crate::MapOptions::cookie).
    pub cookie: u64,
    /// Where in the file, in bytes: the start of the page.
    pub offset: u64,
    /// What stands in.
    pub kind: StandInKind,
    /// Whether the cause is an error of the file system inside the file. The status has that error.
    pub error: bool,
}

/// What stands in for a page of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StandInKind {
    /// The shared zero page.
    Zero,
    /// A page of the process's own, of a private mapping.
    Private,
    /// A page of the mapping's own, of a writable shared one.
    Shadow,
    /// A kind that only a newer module has.
    Other(u32),
}

impl Notice {
    /// Decodes an event that the module has written.
    fn of(event: &[u8; SIZE]) -> Self {
        let word = |at: usize| {
            let bytes = event.get(at..).and_then(|rest| rest.first_chunk());
            u64::from_ne_bytes(*bytes.unwrap_or(&[0; 8]))
        };
        let half = |at: usize| {
            let bytes = event.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_ne_bytes(*bytes.unwrap_or(&[0; 4]))
        };
        let (cookie, offset, kind, flags) = (word(0), word(8), half(16), half(20));
        let kind = match kind {
            uapi::NOSIGBUS_EVENT_OVERFLOW => return Self::Lost(offset),
            uapi::NOSIGBUS_EVENT_ZERO_PAGE => StandInKind::Zero,
            uapi::NOSIGBUS_EVENT_PRIVATE_PAGE => StandInKind::Private,
            uapi::NOSIGBUS_EVENT_SHADOW_PAGE => StandInKind::Shadow,
            other => StandInKind::Other(other),
        };
        Self::StandIn(StandIn {
            cookie,
            offset,
            kind,
            error: flags & uapi::NOSIGBUS_EVENT_ERROR != 0,
        })
    }
}

impl Device {
    /// Returns the notices of mappings that were opted in with a cookie through this device, the
    /// oldest first. Returns none if no page was missing so far. Does not wait: the device is a
    /// file descriptor that becomes readable, for poll, epoll, calloop (`Generic`), mio
    /// (`SourceFd`) and the like. Only one thread may call it at a time.
    ///
    /// A notice has the cookie of its mapping, so the cost does not depend on how many mappings
    /// there are. Take the notices first, and *then* ask each mapping that they name for its
    /// [`status`](crate::Mapping::status). Only after that can the mapping cause another notice.
    ///
    /// ```no_run
    /// use nosigbus::{Device, MapOptions, Notice};
    ///
    /// # fn f(pool: std::fs::File, len: usize) -> std::io::Result<()> {
    /// let device = Device::open()?;
    /// let mapping = MapOptions::new(len).cookie(4711).map(&device, &pool)?;
    /// // When the device is readable:
    /// for notice in device.notices()? {
    ///     if let Notice::StandIn(stand_in) = notice {
    ///         println!("the file of {} has no byte {}", stand_in.cookie, stand_in.offset);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn notices(&self) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        let mut buffer = [0; BATCH * SIZE];
        loop {
            let mut fds = [PollFd::new(self, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(0) => return Ok(notices),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::other("poll of /dev/nosigbus", errno)),
            }
            match read(self, &mut buffer) {
                Ok(len) => {
                    let events = buffer.get(..len).unwrap_or_default().chunks_exact(SIZE);
                    notices.extend(
                        events
                            .filter_map(|event| event.first_chunk())
                            .map(Notice::of),
                    );
                }
                Err(Errno::AGAIN) => return Ok(notices),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::other("reading /dev/nosigbus", errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_say_what_the_module_has_written() {
        let event = |cookie: u64, offset: u64, kind: u32, flags: u32| {
            let mut bytes = [0xa5; SIZE];
            bytes[..8].copy_from_slice(&cookie.to_ne_bytes());
            bytes[8..16].copy_from_slice(&offset.to_ne_bytes());
            bytes[16..20].copy_from_slice(&kind.to_ne_bytes());
            bytes[20..24].copy_from_slice(&flags.to_ne_bytes());
            Notice::of(&bytes)
        };
        let stand_in = |kind, error| {
            Notice::StandIn(StandIn {
                cookie: u64::MAX,
                offset: 1 << 40,
                kind,
                error,
            })
        };
        for (kind, number) in [
            (StandInKind::Zero, uapi::NOSIGBUS_EVENT_ZERO_PAGE),
            (StandInKind::Private, uapi::NOSIGBUS_EVENT_PRIVATE_PAGE),
            (StandInKind::Shadow, uapi::NOSIGBUS_EVENT_SHADOW_PAGE),
            (StandInKind::Other(99), 99),
        ] {
            for (error, flags) in [(false, 0), (true, uapi::NOSIGBUS_EVENT_ERROR), (false, 2)] {
                assert_eq!(
                    event(u64::MAX, 1 << 40, number, flags),
                    stand_in(kind, error)
                );
            }
        }
        let lost = event(0, 7, uapi::NOSIGBUS_EVENT_OVERFLOW, 0);
        assert_eq!(lost, Notice::Lost(7));
    }
}
