// SPDX-License-Identifier: MIT OR Apache-2.0

//! Windows, of whatever size their clients choose.

use crate::{pool::Buffer, surface::Surface};
use std::sync::Arc;
use wayland_protocols::xdg::shell::server::{xdg_surface::XdgSurface, xdg_toplevel::XdgToplevel};
use wayland_server::{Resource, protocol::wl_surface::WlSurface};

pub struct Window {
    surface: WlSurface,
    xdg_surface: XdgSurface,
    toplevel: XdgToplevel,
    /// Where on the screen it is, if there was a place left.
    pub place: Option<usize>,
    configured: bool,
}

impl Window {
    pub fn new(
        surface: WlSurface,
        xdg_surface: XdgSurface,
        toplevel: XdgToplevel,
        place: Option<usize>,
    ) -> Self {
        Self {
            surface,
            xdg_surface,
            toplevel,
            place,
            configured: false,
        }
    }

    pub fn is_alive(&self) -> bool {
        self.surface.is_alive() && self.toplevel.is_alive()
    }

    pub fn is_of(&self, surface: &WlSurface) -> bool {
        self.surface == *surface
    }

    /// Answers the first commit, after which the window may have a buffer.
    pub fn configure(&mut self) {
        if self.configured {
            return;
        }
        self.configured = true;
        // Of a size that the client chooses, in no particular state.
        self.toplevel.configure(0, 0, Vec::new());
        self.xdg_surface.configure(1);
    }

    /// Returns what it shows, and where on the screen.
    pub fn shown(&self) -> Option<(usize, Arc<Buffer>)> {
        self.place.zip(Surface::of(&self.surface).buffer())
    }
}
