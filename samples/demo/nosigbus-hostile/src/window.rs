// SPDX-License-Identifier: MIT OR Apache-2.0

//! A window of one colour, or what a hostile client makes of it.

use crate::{
    pool::{self, Color, Place, Pool},
    session::Session,
};
use anyhow::Result;
use std::fs::File;
use wayland_client::protocol::{
    wl_buffer::WlBuffer, wl_compositor::WlCompositor, wl_surface::WlSurface,
};
use wayland_protocols::xdg::shell::client::{
    xdg_surface::XdgSurface, xdg_toplevel::XdgToplevel, xdg_wm_base::XdgWmBase,
};

pub struct Window {
    pub surface: WlSurface,
    role: XdgSurface,
    pub toplevel: XdgToplevel,
    /// The size that the compositor asks for, or else the one passed to `open`.
    pub size: (i32, i32),
}

impl Window {
    pub fn open(session: &mut Session, title: &str, size: (i32, i32)) -> Result<Self> {
        let compositor: WlCompositor = session.bind(1..=4)?;
        let base: XdgWmBase = session.bind(1..=1)?;
        let handle = &session.handle;
        let surface = compositor.create_surface(handle, ());
        let role = base.get_xdg_surface(&surface, handle, ());
        let toplevel = role.get_toplevel(handle, ());
        toplevel.set_title(title.into());
        // Weston's kiosk shell chooses the output by the app_id.
        toplevel.set_app_id(title.into());
        surface.commit();
        session.heard.configured = false;
        session.wait(|heard| heard.configured)?;
        Ok(Self {
            surface,
            role,
            toplevel,
            size: session.heard.size.unwrap_or(size),
        })
    }

    /// Creates a file with room for `buffers` buffers, and draws the window's picture
    /// into each.
    pub fn draw(&self, place: &Place, color: Color, buffers: i32) -> Result<File> {
        let file = place.create()?;
        let bytes = pool::bytes(self.size);
        for number in 0..buffers {
            pool::draw(&file, color, bytes, number * bytes)?;
        }
        Ok(file)
    }

    /// Makes the compositor show a buffer, and waits for its frame callback.
    pub fn show(&self, session: &mut Session, buffer: &WlBuffer) -> Result<()> {
        self.surface.attach(Some(buffer), 0, 0);
        self.refresh(session)
    }

    /// Makes the compositor draw again what it shows.
    pub fn refresh(&self, session: &mut Session) -> Result<()> {
        let frame = self.commit(session);
        session.wait(|heard| heard.frame >= frame)
    }

    /// Marks the whole surface as changed and commits it. Returns the number of the frame that will
    /// show it.
    pub fn commit(&self, session: &mut Session) -> u64 {
        let (width, height) = self.size;
        self.surface.damage(0, 0, width, height);
        let frame = session.frame(&self.surface);
        self.surface.commit();
        frame
    }

    pub fn close(self) {
        self.toplevel.destroy();
        self.role.destroy();
        self.surface.destroy();
    }
}

/// Keeps to the rules: draws two buffers, and shows them in turn, for ever. Resizes the pool before
/// it draws the second.
pub fn paint(session: &mut Session, place: &Place, color: Color, size: (i32, i32)) -> Result<()> {
    let window = Window::open(session, "paint", size)?;
    let bytes = pool::bytes(window.size);
    let pool = Pool::new(session, window.draw(place, color, 1)?, bytes)?;
    let first = pool.buffer(session, 0, window.size);
    window.show(session, &first)?;

    pool::draw(&pool.file, color, bytes, bytes)?;
    pool.proxy.resize(2 * bytes);
    let second = pool.buffer(session, 1, window.size);
    crate::say("shown");
    session.heard.busy[0] = true;
    for (number, buffer) in [&second, &first].into_iter().enumerate().cycle() {
        let number = 1 - number;
        session.wait(|heard| !heard.busy[number])?;
        session.heard.busy[number] = true;
        window.show(session, buffer)?;
    }
    Ok(())
}
