// SPDX-License-Identifier: MIT OR Apache-2.0

//! wl_compositor: surfaces.

use crate::{
    limits::{self, Kind, Share},
    state::State,
    surface::Surface,
};
use wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle,
    protocol::{
        wl_callback::WlCallback,
        wl_compositor::{self, WlCompositor},
        wl_region::WlRegion,
        wl_surface::{self, WlSurface},
    },
};

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
            wl_surface::Request::Attach { buffer, .. } => surface.attach(buffer),
            wl_surface::Request::Frame { callback } => {
                if let Some(share) = limits::take(client, Kind::Callbacks, 1, resource) {
                    let callback = init.init(callback, Share::nothing());
                    surface.request_frame(callback, share);
                }
            }
            wl_surface::Request::Commit => {
                surface.commit();
                if let Some(window) = state.window_of(resource) {
                    window.configure();
                }
            }
            // The compositor always draws whole frames, so it ignores damage.
            _ => {}
        }
    }
}

offer!(WlCompositor);
ignore_requests!(WlCallback, WlRegion);
