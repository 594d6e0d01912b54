// SPDX-License-Identifier: MIT OR Apache-2.0

//! wl_compositor: surfaces, and what is attached to them.

use crate::{
    boilerplate::{ignore_requests, offer},
    limits::{self, Kind, Share},
    pool::Buffer,
    state::State,
};
use std::{
    mem,
    sync::{Arc, Mutex},
};
use wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, Resource,
    protocol::{
        wl_buffer::WlBuffer,
        wl_callback::WlCallback,
        wl_compositor::{self, WlCompositor},
        wl_region::WlRegion,
        wl_surface::{self, WlSurface},
    },
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
    fn new(share: Share) -> Self {
        Self {
            content: Mutex::default(),
            _share: share,
        }
    }

    pub fn of(resource: &WlSurface) -> &Self {
        resource.data().expect("all surfaces are made here")
    }

    fn commit(&self) {
        let mut content = self.content.lock().unwrap();
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
        let content = self.content.lock().unwrap();
        content.shown.as_ref().map(|shown| shown.buffer.clone())
    }

    /// Tells the client that its commits are in the frame of this time.
    pub fn frame_done(&self, milliseconds: u32) {
        for (callback, _) in self.content.lock().unwrap().callbacks.drain(..) {
            callback.done(milliseconds);
        }
    }
}

impl Dispatch<WlCompositor, Share> for State {
    fn request(
        state: &mut Self,
        client: &Client,
        resource: &WlCompositor,
        request: wl_compositor::Request,
        _: &Share,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let Some(share) = limits::take(client, Kind::Objects, 1, resource) else {
            return;
        };
        match request {
            wl_compositor::Request::CreateSurface { id } => {
                state.surfaces.push(init.init(id, Surface::new(share)));
            }
            wl_compositor::Request::CreateRegion { id } => {
                init.init(id, share);
            }
            _ => {}
        }
    }
}

impl Dispatch<WlSurface, Surface> for State {
    fn request(
        state: &mut Self,
        client: &Client,
        resource: &WlSurface,
        request: wl_surface::Request,
        surface: &Surface,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            wl_surface::Request::Attach { buffer, .. } => {
                let attached = buffer.map(|resource| Attached {
                    buffer: Arc::clone(resource.data().expect("all buffers are made here")),
                    resource,
                });
                surface.content.lock().unwrap().attached = Some(attached);
            }
            wl_surface::Request::Frame { callback } => {
                if let Some(share) = limits::take(client, Kind::Callbacks, 1, resource) {
                    let callback = (init.init(callback, Share::nothing()), share);
                    surface.content.lock().unwrap().requested.push(callback);
                }
            }
            wl_surface::Request::Commit => {
                surface.commit();
                state.configure(resource);
            }
            // The compositor always draws whole frames, so it ignores damage.
            _ => {}
        }
    }
}

offer!(WlCompositor);
ignore_requests!(WlCallback, WlRegion);
