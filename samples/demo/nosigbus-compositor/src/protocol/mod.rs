// SPDX-License-Identifier: MIT OR Apache-2.0

//! What clients can request, a file for each protocol. wayland-server requires two traits for each
//! interface: `Dispatch` handles its requests, and `GlobalDispatch` gives a client an object of it.

use crate::state::State;
use wayland_protocols::xdg::shell::server::xdg_wm_base::XdgWmBase;
use wayland_protocols_wlr::screencopy::v1::server::zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;
use wayland_server::{
    DisplayHandle,
    protocol::{wl_compositor::WlCompositor, wl_output::WlOutput, wl_shm::WlShm},
};

/// Implements interfaces whose requests this compositor ignores, or that have no requests.
macro_rules! ignore_requests {
    ($($interface:ty),* $(,)?) => {$(
        impl wayland_server::Dispatch<$interface, $crate::limits::Share> for $crate::state::State {
            fn request(
                _: &mut Self,
                _: &wayland_server::Client,
                _: &$interface,
                _: <$interface as wayland_server::Resource>::Request,
                _: &$crate::limits::Share,
                _: &wayland_server::DisplayHandle,
                _: &mut wayland_server::DataInit<'_, Self>,
            ) {
            }
        }
    )*};
}

/// Implements globals whose objects need no data except their share.
macro_rules! offer {
    ($($interface:ty),* $(,)?) => {$(
        impl wayland_server::GlobalDispatch<$interface, ()> for $crate::state::State {
            fn bind(
                _: &mut Self,
                _: &wayland_server::DisplayHandle,
                client: &wayland_server::Client,
                resource: wayland_server::New<$interface>,
                (): &(),
                init: &mut wayland_server::DataInit<'_, Self>,
            ) {
                $crate::limits::bind(client, resource, init);
            }
        }
    )*};
}

// After the macros, which they use.
mod capture;
mod compositor;
mod output;
mod shell;
mod shm;

/// Offers the globals to clients.
pub fn offer_globals(display: &DisplayHandle) {
    display.create_global::<State, WlCompositor, _>(4, ());
    // Not version 2: with that a client could destroy the object that errors are posted on.
    display.create_global::<State, WlShm, _>(1, ());
    display.create_global::<State, WlOutput, _>(2, ());
    display.create_global::<State, XdgWmBase, _>(1, ());
    display.create_global::<State, ZwlrScreencopyManagerV1, _>(1, ());
}
