// SPDX-License-Identifier: MIT OR Apache-2.0

//! Surfaces, and what is attached to them.

use crate::{limits::Share, pool::Buffer};
use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard},
};
use wayland_server::{
    Resource,
    protocol::{wl_buffer::WlBuffer, wl_callback::WlCallback, wl_surface::WlSurface},
};

/// An attached buffer. It stays readable after the client has destroyed the wl_buffer.
struct Attached {
    resource: WlBuffer,
    buffer: Arc<Buffer>,
}

#[derive(Default)]
struct Content {
    /// Attached since the last commit: a buffer, or none.
    attached: Option<Option<Attached>>,
    shown: Option<Attached>,
    requested: Vec<(WlCallback, Share)>,
    /// To be done with the next frame.
    callbacks: Vec<(WlCallback, Share)>,
}

pub struct Surface {
    content: Mutex<Content>,
    _share: Share,
}

impl Surface {
    pub fn new(share: Share) -> Self {
        Self {
            content: Mutex::default(),
            _share: share,
        }
    }

    pub fn of(resource: &WlSurface) -> &Self {
        resource.data().expect("every wl_surface has it")
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("a panic ends the compositor")
    }

    /// Attaches a buffer, or none, for the next commit.
    pub fn attach(&self, resource: Option<WlBuffer>) {
        let attached = resource.map(|resource| Attached {
            buffer: Arc::clone(Buffer::of(&resource)),
            resource,
        });
        self.content().attached = Some(attached);
    }

    /// Has the callback done with the frame that shows the next commit.
    pub fn request_frame(&self, callback: WlCallback, share: Share) {
        self.content().requested.push((callback, share));
    }

    pub fn commit(&self) {
        let mut content = self.content();
        let requested = mem::take(&mut content.requested);
        content.callbacks.extend(requested);
        let Some(attached) = content.attached.take() else {
            return;
        };
        let previous = mem::replace(&mut content.shown, attached);
        // A buffer is read as long as it is shown, so it is released to the client only now.
        if let Some(previous) = previous {
            let again = content.shown.as_ref();
            if again.is_none_or(|shown| shown.resource != previous.resource) {
                previous.resource.release();
            }
        }
    }

    /// What is shown, if anything is.
    pub fn buffer(&self) -> Option<Arc<Buffer>> {
        let content = self.content();
        content.shown.as_ref().map(|shown| shown.buffer.clone())
    }

    /// Tells the client that its commits are in the frame of this time.
    pub fn frame_done(&self, milliseconds: u32) {
        for (callback, _) in self.content().callbacks.drain(..) {
            callback.done(milliseconds);
        }
    }
}
