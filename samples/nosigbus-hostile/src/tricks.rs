// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a hostile client does to a compositor that reads its file.

use crate::{
    Options,
    pool::{self, Pool},
    session::Session,
    window::Window,
};
use anyhow::{Context, Result};
use std::{ffi::OsString, process::Command};
use wayland_client::protocol::wl_buffer::WlBuffer;

/// A window that is shown as it was drawn.
struct Shown {
    window: Window,
    pool: Pool,
    buffer: WlBuffer,
}

impl Shown {
    fn new(session: &mut Session, options: &Options) -> Result<Self> {
        let window = Window::open(session, "hostile", options.size)?;
        let file = window.draw(&options.place, options.color, 1)?;
        let pool = Pool::new(session, file, pool::bytes(window.size))?;
        let buffer = pool.buffer(session, 0, window.size);
        window.show(session, &buffer)?;
        crate::say("shown");
        let shown = Self {
            window,
            pool,
            buffer,
        };
        shown.go_on(session, options.hold)?;
        Ok(shown)
    }

    /// Goes on as if nothing had happened.
    fn go_on(&self, session: &mut Session, frames: u32) -> Result<()> {
        for _ in 0..frames {
            self.window.show(session, &self.buffer)?;
        }
        Ok(())
    }
}

/// The file loses all of its pages.
pub fn shrink(session: &mut Session, options: &Options) -> Result<()> {
    let shown = Shown::new(session, options)?;
    shown.pool.shrink()?;
    shown.go_on(session, options.frames)
}

/// The file loses all of its pages, and grows again, all the time.
pub fn regrow(session: &mut Session, options: &Options) -> Result<()> {
    let shown = Shown::new(session, options)?;
    shown.pool.shrink_and_regrow()?;
    shown.go_on(session, options.frames)
}

/// The same, first of all while a command runs, say one that takes a picture of the screen.
pub fn regrow_while(session: &mut Session, options: &Options, command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("a command is missing")?;
    let name = program.to_string_lossy();
    let shown = Shown::new(session, options)?;
    shown.pool.shrink_and_regrow()?;
    let child = Command::new(program).args(arguments).spawn();
    let mut child = child.with_context(|| name.clone().into_owned())?;
    let mut result = Ok(());
    while result.is_ok() && child.try_wait()?.is_none() {
        result = shown.window.show(session, &shown.buffer);
    }
    crate::say(&format!("{name}: {}", child.wait()?));
    result?;
    shown.go_on(session, options.frames)
}

/// The file never had the pages: it is half as long as the pool.
pub fn oversize(session: &mut Session, options: &Options) -> Result<()> {
    let window = Window::open(session, "hostile", options.size)?;
    let file = options.place.create()?;
    let bytes = pool::bytes(window.size);
    pool::draw(&file, options.color, bytes / 2, 0)?;
    show(session, options, window, Pool::new(session, file, bytes)?)
}

/// The file is as long as the pool, but has no pages: somebody has to make room for them.
pub fn sparse(session: &mut Session, options: &Options) -> Result<()> {
    let window = Window::open(session, "hostile", options.size)?;
    let file = options.place.create()?;
    let bytes = pool::bytes(window.size);
    file.set_len(bytes as u64).context("ftruncate")?;
    show(session, options, window, Pool::new(session, file, bytes)?)
}

fn show(session: &mut Session, options: &Options, window: Window, pool: Pool) -> Result<()> {
    let buffer = pool.buffer(session, 0, window.size);
    let shown = Shown {
        window,
        pool,
        buffer,
    };
    shown.go_on(session, options.frames)
}

/// All that the client had of the file is destroyed, while it is shown, before it is shrunk.
pub fn destroy(session: &mut Session, options: &Options) -> Result<()> {
    let shown = Shown::new(session, options)?;
    shown.buffer.destroy();
    shown.pool.proxy.destroy();
    session.roundtrip()?;
    shown.pool.shrink()?;
    for _ in 0..options.frames {
        shown.window.refresh(session)?;
    }
    Ok(())
}
