// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state of the compositor: pools, windows, and the screen that shows them.

use crate::{
    files::Files,
    pool::Pool,
    screen::{PLACES, Pictures, Screen},
    surface::Surface,
    window::Window,
};
use nosigbus::Notice;
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};
use wayland_server::{Resource, backend::ClientId, protocol::wl_surface::WlSurface};

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
    pub fn new(files: Arc<Files>, pictures: Option<Pictures>) -> Self {
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
        let shown = self.windows.iter().filter_map(Window::shown);
        self.screen.draw(shown);
        if let Some(pictures) = &mut self.pictures {
            pictures.add(&self.screen);
        }
        let time = clock_gettime(ClockId::Monotonic);
        let milliseconds = time.tv_sec * 1000 + time.tv_nsec / 1_000_000;
        for surface in &self.surfaces {
            Surface::of(surface).frame_done(milliseconds as u32);
        }
    }

    /// Returns the window of a surface, if the surface is a window.
    pub fn window_of(&mut self, surface: &WlSurface) -> Option<&mut Window> {
        let mut windows = self.windows.iter_mut();
        windows.find(|window| window.is_of(surface) && window.is_alive())
    }

    /// Returns a place on the screen that no window has.
    pub fn free_place(&self) -> Option<usize> {
        let windows = self.windows.iter().filter(|window| window.is_alive());
        (0..PLACES).find(|place| windows.clone().all(|window| window.place != Some(*place)))
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
