// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attacks of a hostile client on a compositor that reads its file.

use crate::{
    Options,
    pool::{self, Pool},
    session::Session,
    window::Window,
};
use anyhow::{Context, Result, bail};
use std::{ffi::OsString, fs::File, os::fd::AsFd, path::Path, process::Command};
use wayland_client::protocol::{
    wl_buffer::WlBuffer,
    wl_compositor::WlCompositor,
    wl_shm::{Format, WlShm},
};

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

/// Does the same as [`regrow`], first while a command runs, such as one that takes a picture of the
/// screen.
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

/// The file is as long as the pool, but has no pages. An access must allocate them.
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

/// The client destroys its buffer and pool while they are shown, and then shrinks the file.
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

/// Shows a file that another process or a server provides (`path`).
pub fn of_file(session: &mut Session, options: &Options, path: &Path) -> Result<()> {
    let window = Window::open(session, "hostile", options.size)?;
    let file = File::options().read(true).write(true).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let bytes = pool::bytes(window.size);
    show(session, options, window, Pool::new(session, file, bytes)?)
}

/// More than any client takes, and more than a compositor should give.
const MANY: usize = 20_000;
/// How many requests are sent at a time.
const AT_A_TIME: usize = 50;
const SMALL: i32 = 1 << 12;

/// More and more of one thing.
pub fn flood(session: &mut Session, options: &Options, what: &str) -> Result<()> {
    let handle = session.handle.clone();
    let shm: WlShm = session.bind(1..=1)?;
    let compositor: WlCompositor = session.bind(1..=4)?;
    let surface = compositor.create_surface(&handle, ());
    let file = options.place.create()?;
    file.set_len(SMALL as u64).context("ftruncate")?;
    let pool = shm.create_pool(file.as_fd(), SMALL, &handle, ());
    for number in 0..MANY {
        match what {
            "pools" => drop(shm.create_pool(file.as_fd(), SMALL, &handle, ())),
            "bytes" => drop(shm.create_pool(file.as_fd(), i32::MAX, &handle, ())),
            "resized" => pool.resize(i32::MAX),
            "buffers" => {
                pool.create_buffer(0, 1, 1, pool::PIXEL, Format::Xrgb8888, &handle, 0);
            }
            "callbacks" => drop(session.frame(&surface)),
            "objects" => drop(compositor.create_region(&handle, ())),
            _ => bail!("there is no flood of {what}; --help lists what there is"),
        }
        if number % AT_A_TIME == 0 {
            session.roundtrip()?;
        }
    }
    session.roundtrip()
}

/// Requests frame callbacks of a surface that is not a window.
pub fn bystander(session: &mut Session, options: &Options) -> Result<()> {
    let handle = session.handle.clone();
    let compositor: WlCompositor = session.bind(1..=4)?;
    let surface = compositor.create_surface(&handle, ());
    for _ in 0..options.frames {
        let frame = session.frame(&surface);
        surface.commit();
        session.wait(|heard| heard.frame >= frame)?;
    }
    Ok(())
}

/// Creates and destroys pools, one after the other.
pub fn churn(session: &mut Session, options: &Options) -> Result<()> {
    let handle = session.handle.clone();
    let shm: WlShm = session.bind(1..=1)?;
    let file = options.place.create()?;
    file.set_len(SMALL as u64).context("ftruncate")?;
    for number in 0..MANY {
        shm.create_pool(file.as_fd(), SMALL, &handle, ()).destroy();
        if number % AT_A_TIME == 0 {
            session.roundtrip()?;
        }
    }
    session.roundtrip()
}
