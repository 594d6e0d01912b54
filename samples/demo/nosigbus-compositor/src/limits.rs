// SPDX-License-Identifier: MIT OR Apache-2.0

//! Limits for each client. Without them a client could make the compositor use up its memory, file
//! descriptors or mappings.

use crate::log;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use wayland_server::{Client, DataInit, Dispatch, New, Resource, backend::ClientData};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each pool takes a mapping and a file descriptor, even when only its buffers are left.
    Pools,
    /// The mapped bytes of the pools.
    Bytes,
    Buffers,
    /// Frame callbacks that are not answered yet.
    Callbacks,
    /// All else that a client can create.
    Objects,
}

const KINDS: usize = 5;

impl Kind {
    pub const fn limit(self) -> usize {
        match self {
            Self::Pools => 128,
            Self::Bytes => 256 << 20,
            Self::Buffers => 1024,
            Self::Callbacks => 1024,
            Self::Objects => 4096,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Pools => "pools",
            Self::Bytes => "bytes of pools",
            Self::Buffers => "buffers",
            Self::Callbacks => "frame callbacks",
            Self::Objects => "objects",
        }
    }
}

/// How much of each kind a client has.
#[derive(Default)]
pub struct Limits(Arc<[AtomicUsize; KINDS]>);

impl ClientData for Limits {}

impl Limits {
    fn take(&self, kind: Kind, amount: usize) -> Result<Share, Exceeded> {
        let mut share = Share {
            counts: Some(self.0.clone()),
            kind,
            amount: 0,
        };
        share.extend(amount)?;
        Ok(share)
    }
}

/// A part of a client's limit. Dropping it gives the part back.
pub struct Share {
    counts: Option<Arc<[AtomicUsize; KINDS]>>,
    kind: Kind,
    amount: usize,
}

impl Share {
    /// Creates an empty share, for a client that is being disconnected.
    pub const fn nothing() -> Self {
        Self {
            counts: None,
            kind: Kind::Objects,
            amount: 0,
        }
    }

    /// Makes it larger.
    pub fn extend(&mut self, more: usize) -> Result<(), Exceeded> {
        let Some(counts) = &self.counts else {
            return Ok(());
        };
        let add = |count: usize| {
            count
                .checked_add(more)
                .filter(|sum| *sum <= self.kind.limit())
        };
        match counts[self.kind as usize].fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => {
                self.amount += more;
                Ok(())
            }
            Err(_) => Err(Exceeded(self.kind)),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(counts) = &self.counts {
            counts[self.kind as usize].fetch_sub(self.amount, Relaxed);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded(Kind);

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} {}", self.0.limit(), self.0.name())
    }
}

/// The error code no_memory of wl_display. wayland-server does not give access to the wl_display
/// object, so the error is posted on other objects; on wl_shm the same code means invalid_fd.
const NO_MEMORY: u32 = 2;

/// Posts the error of a client that wants too much.
pub fn refuse(resource: &impl Resource, exceeded: Exceeded) {
    log::disconnected(exceeded);
    resource.post_error(NO_MEMORY, exceeded.to_string());
}

/// Takes a share for the client. If the limit is reached, posts an error on `resource` and returns
/// `None`.
pub fn take(client: &Client, kind: Kind, amount: usize, resource: &impl Resource) -> Option<Share> {
    let limits: &Limits = client.get_data().expect("all clients are let in with them");
    limits
        .take(kind, amount)
        .map_err(|exceeded| refuse(resource, exceeded))
        .ok()
}

/// Gives a client an object of a global. `S` is the type that handles the object's requests.
pub fn bind<R, S>(client: &Client, new: New<R>, init: &mut DataInit<'_, S>) -> R
where
    R: Resource + 'static,
    S: Dispatch<R, Share> + 'static,
{
    let limits: &Limits = client.get_data().expect("all clients are let in with them");
    // The object is created in any case, because the error must be posted on it.
    let (share, exceeded) = match limits.take(Kind::Objects, 1) {
        Ok(share) => (share, None),
        Err(exceeded) => (Share::nothing(), Some(exceeded)),
    };
    let resource = init.init(new, share);
    if let Some(exceeded) = exceeded {
        refuse(&resource, exceeded);
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit() {
        let limits = Limits::default();
        let shares: Vec<_> = (0..Kind::Pools.limit())
            .map(|_| limits.take(Kind::Pools, 1).unwrap())
            .collect();
        let exceeded = limits.take(Kind::Pools, 1).err();
        assert_eq!(exceeded, Some(Exceeded(Kind::Pools)));
        assert_eq!(exceeded.unwrap().to_string(), "more than 128 pools");
        // Other kinds, and other clients, are not concerned.
        limits.take(Kind::Buffers, 1).unwrap();
        Limits::default().take(Kind::Pools, 1).unwrap();
        // What it has given back it may have again.
        drop(shares);
        let all = limits.take(Kind::Pools, Kind::Pools.limit());
        assert!(all.is_ok());
    }

    #[test]
    fn a_share_that_cannot_grow_stays_as_it_is() {
        let limits = Limits::default();
        let limit = Kind::Bytes.limit();
        let mut share = limits.take(Kind::Bytes, limit - 10).unwrap();
        assert_eq!(share.extend(11), Err(Exceeded(Kind::Bytes)));
        assert_eq!(share.extend(usize::MAX), Err(Exceeded(Kind::Bytes)));
        share.extend(10).unwrap();
        drop(share);
        let all = limits.take(Kind::Bytes, limit);
        assert!(all.is_ok());
    }

    #[test]
    fn a_share_outlives_its_client() {
        let limits = Limits::default();
        let share = limits.take(Kind::Objects, 3).unwrap();
        drop(limits);
        drop(share);
        Share::nothing().extend(1).unwrap();
    }
}
