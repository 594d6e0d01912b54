// SPDX-License-Identifier: MIT OR Apache-2.0

//! Macros for the traits that wayland-server requires for each interface.

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

pub(crate) use {ignore_requests, offer};
