// SPDX-License-Identifier: MIT OR Apache-2.0

//! xdg-shell: windows.

use crate::{
    limits::{self, Kind, Share},
    state::State,
    window::Window,
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
                if state.window_of(surface).is_some() {
                    xdg_surface.post_error(
                        xdg_surface::Error::AlreadyConstructed,
                        "the surface is a window already",
                    );
                    return;
                }
                let window = Window::new(surface.clone(), xdg_surface.clone(), toplevel, place);
                state.windows.push(window);
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
