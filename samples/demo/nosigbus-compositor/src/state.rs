// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of the compositor: pools, windows, and the screen that shows them.

use crate::{
    files::Files,
    pool::Pool,
    screen::{Pictures, Screen},
    shell::Window,
    surface::Surface,
};
use nosigbus::Notice;
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};
use wayland_protocols::xdg::shell::server::xdg_wm_base::XdgWmBase;
use wayland_protocols_wlr::screencopy::v1::server::zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;
use wayland_server::{
    DisplayHandle, Resource,
    backend::ClientId,
    protocol::{
        wl_compositor::WlCompositor, wl_output::WlOutput, wl_shm::WlShm, wl_surface::WlSurface,
    },
};

pub struct State {
    pub files: Arc<Files>,
    /// By their cookies.
    pub pools: HashMap<u64, Weak<Pool>>,
    /// Windows or not.
    pub surfaces: Vec<WlSurface>,
    pub windows: Vec<Window>,
    pub screen: Screen,
    pictures: Option<Pictures>,
}

impl State {
    pub fn new(display: &DisplayHandle, files: Arc<Files>, pictures: Option<Pictures>) -> Self {
        display.create_global::<Self, WlCompositor, _>(4, ());
        // Not version 2: with that a client could destroy the object that errors are posted on.
        display.create_global::<Self, WlShm, _>(1, ());
        display.create_global::<Self, WlOutput, _>(2, ());
        display.create_global::<Self, XdgWmBase, _>(1, ());
        display.create_global::<Self, ZwlrScreencopyManagerV1, _>(1, ());
        Self {
            files,
            pools: HashMap::new(),
            surfaces: Vec::new(),
            windows: Vec::new(),
            screen: Screen::new(),
            pictures,
        }
    }

    /// Draws and shows a frame.
    pub fn show_frame(&mut self) {
        self.forget_what_is_gone();
        self.screen.draw(&self.windows);
        if let Some(pictures) = &mut self.pictures {
            pictures.add(&self.screen);
        }
        let time = clock_gettime(ClockId::Monotonic);
        let milliseconds = time.tv_sec * 1000 + time.tv_nsec / 1_000_000;
        for surface in &self.surfaces {
            Surface::of(surface).frame_done(milliseconds as u32);
        }
    }

    /// Drops objects that clients have destroyed. Otherwise they would take memory for ever.
    fn forget_what_is_gone(&mut self) {
        self.windows.retain(Window::is_alive);
        self.surfaces.retain(Resource::is_alive);
        self.pools.retain(|_, pool| pool.strong_count() > 0);
    }

    /// Posts an error to each client whose file an access found too short. Returns these clients.
    pub fn tell_offenders(&mut self, notices: &[Notice]) -> Vec<ClientId> {
        let mut pools: Vec<&Weak<Pool>> = Vec::new();
        for notice in notices {
            match notice {
                Notice::StandIn(stand_in) => pools.extend(self.pools.get(&stand_in.cookie)),
                // Notices were lost, so any pool may be concerned.
                _ => pools.extend(self.pools.values()),
            }
        }
        let pools = pools.into_iter().filter_map(Weak::upgrade);
        pools.filter_map(|pool| pool.tell()).collect()
    }
}
