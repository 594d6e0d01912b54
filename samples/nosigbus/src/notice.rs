// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the device tells of mappings that have a cookie.

use crate::{Device, Error, Result, uapi};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
};

const SIZE: usize = size_of::<uapi::nosigbus_event>();
/// How many are read at a time.
const BATCH: usize = 32;

/// What [`Device::notices`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// A mapping has a stand-in: its first, or the first after a [`status`](crate::Mapping::status).
    StandIn(StandIn),
    /// So many notices are lost here, because too many waited to be read. Only the status of each
    /// mapping tells now.
    Lost(u64),
}

/// A stand-in that a [`Notice`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StandIn {
    /// That of the mapping: see [`MapOptions::cookie`](crate::MapOptions::cookie).
    pub cookie: u64,
    /// Where in the file, in bytes: the start of the page.
    pub offset: u64,
    /// What stands in.
    pub kind: StandInKind,
    /// Whether it is because of an error of the file system, which the status tells, inside the file.
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
    /// What only a newer module knows.
    Other(u32),
}

impl Notice {
    /// What the module has written.
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
    /// What there is to tell of mappings that were opted in with a cookie through this device, the
    /// oldest first; nothing, if nothing was missing so far. Does not wait: the device is a file
    /// descriptor that becomes readable, for poll, epoll, calloop (`Generic`), mio (`SourceFd`) and
    /// the like. To be called by one thread at a time.
    ///
    /// A notice tells which mapping it was, so that it costs the same however many there are. First
    /// take the notices, and *then* ask a mapping that they name for its
    /// [`status`](crate::Mapping::status): only then is it told of again.
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
