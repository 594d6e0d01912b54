// SPDX-License-Identifier: MIT OR Apache-2.0

//! xdg-shell: windows, of whatever size their clients choose.

use crate::{
    boilerplate::{ignore_requests, offer},
    limits::{self, Kind, Share},
    screen::PLACES,
    state::State,
};
use wayland_protocols::xdg::shell::server::{
    xdg_popup::XdgPopup,
    xdg_positioner::XdgPositioner,
    xdg_surface::{self, XdgSurface},
    xdg_toplevel::XdgToplevel,
    xdg_wm_base::{self, XdgWmBase},
};
use wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, Resource, protocol::wl_surface::WlSurface,
};

pub struct Window {
    pub surface: WlSurface,
    xdg_surface: XdgSurface,
    toplevel: XdgToplevel,
    /// Where on the screen it is, if there was a place left.
    pub place: Option<usize>,
    configured: bool,
}

impl Window {
    pub fn is_alive(&self) -> bool {
        self.surface.is_alive() && self.toplevel.is_alive()
    }
}

impl State {
    /// Answers the first commit of a window, after which it may have a buffer.
    pub fn configure(&mut self, surface: &WlSurface) {
        let window = self
            .windows
            .iter_mut()
            .find(|window| window.surface == *surface && window.is_alive());
        if let Some(window) = window.filter(|window| !window.configured) {
            window.configured = true;
            // Of a size that the client chooses, in no particular state.
            window.toplevel.configure(0, 0, Vec::new());
            window.xdg_surface.configure(1);
        }
    }

    fn free_place(&self) -> Option<usize> {
        let windows = self.windows.iter().filter(|window| window.is_alive());
        (0..PLACES).find(|place| windows.clone().all(|window| window.place != Some(*place)))
    }
}

/// The surface of an xdg_surface.
pub struct Role {
    surface: WlSurface,
    _share: Share,
}

impl Dispatch<XdgWmBase, Share> for State {
    fn request(
        _: &mut Self,
        client: &Client,
        resource: &XdgWmBase,
        request: xdg_wm_base::Request,
        _: &Share,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            xdg_wm_base::Request::CreatePositioner { id } => {
                if let Some(share) = limits::take(client, Kind::Objects, 1, resource) {
                    init.init(id, share);
                }
            }
            xdg_wm_base::Request::GetXdgSurface { id, surface } => {
                if let Some(share) = limits::take(client, Kind::Objects, 1, resource) {
                    let role = Role {
                        surface,
                        _share: share,
                    };
                    init.init(id, role);
                }
            }
            _ => {}
        }
    }
}

impl Dispatch<XdgSurface, Role> for State {
    fn request(
        state: &mut Self,
        client: &Client,
        xdg_surface: &XdgSurface,
        request: xdg_surface::Request,
        Role { surface, .. }: &Role,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            xdg_surface::Request::GetToplevel { id } => {
                let Some(share) = limits::take(client, Kind::Objects, 1, xdg_surface) else {
                    return;
                };
                let toplevel = init.init(id, share);
                let place = state.free_place();
                if state
                    .windows
                    .iter()
                    .any(|window| window.surface == *surface && window.is_alive())
                {
                    xdg_surface.post_error(
                        xdg_surface::Error::AlreadyConstructed,
                        "the surface is a window already",
                    );
                    return;
                }
                state.windows.push(Window {
                    surface: surface.clone(),
                    xdg_surface: xdg_surface.clone(),
                    toplevel,
                    place,
                    configured: false,
                });
            }
            xdg_surface::Request::GetPopup { id, .. } => {
                // Popups are not shown, so the popup is dismissed at once.
                if let Some(share) = limits::take(client, Kind::Objects, 1, xdg_surface) {
                    init.init(id, share).popup_done();
                }
            }
            _ => {}
        }
    }
}

offer!(XdgWmBase);
ignore_requests!(XdgToplevel, XdgPopup, XdgPositioner);
