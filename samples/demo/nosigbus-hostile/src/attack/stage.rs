// SPDX-License-Identifier: MIT OR Apache-2.0

//! A window that the compositor is known to read, and ways to make the compositor read it again.

use crate::{
    Options,
    pool::{self, Color, Place, Pool},
    session::Session,
    window::Window,
};
use anyhow::{Context, Result, bail};
use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};
use wayland_client::{
    delegate_noop,
    protocol::{
        wl_buffer::WlBuffer, wl_compositor::WlCompositor, wl_region::WlRegion,
        wl_subcompositor::WlSubcompositor, wl_subsurface::WlSubsurface, wl_surface::WlSurface,
    },
};

/// The colour of the subsurface that covers a part of the window, and its size.
const COVER: Color = [0x22, 0x22, 0xcc];
const COVER_SIZE: (i32, i32) = (64, 64);
/// How long to wait for a frame after one has not come.
const SHORT: Duration = Duration::from_millis(200);

/// A subsurface over a part of the window. Without it, a compositor may pass the buffer of a window
/// that fills the screen to the hardware, and not read it.
struct Cover {
    _surface: WlSurface,
    subsurface: WlSubsurface,
}

impl Cover {
    fn new(session: &Session, window: &Window) -> Result<Self> {
        let compositor: WlCompositor = session.bind(1..=4)?;
        let subcompositor: WlSubcompositor = session.bind(1..=1)?;
        let handle = &session.handle;
        let surface = compositor.create_surface(handle, ());
        let subsurface = subcompositor.get_subsurface(&surface, &window.surface, handle, ());
        subsurface.set_desync();
        // The pointer must enter the window, not the subsurface.
        let nothing = compositor.create_region(handle, ());
        surface.set_input_region(Some(&nothing));
        let (_pool, buffer) = intact(session, COVER_SIZE)?;
        surface.attach(Some(&buffer), 0, 0);
        surface.damage(0, 0, COVER_SIZE.0, COVER_SIZE.1);
        surface.commit();
        Ok(Self {
            _surface: surface,
            subsurface,
        })
    }
}

pub struct Stage {
    pub window: Window,
    pub pool: Pool,
    pub buffer: WlBuffer,
    cover: Cover,
    /// How long to wait for a frame. A compositor may have stopped showing the window.
    grace: Duration,
}

impl Stage {
    /// Opens a window, and waits until the compositor has shown it and read its pixels.
    pub fn new(session: &mut Session, options: &Options) -> Result<Self> {
        let stage = Self::unseen(session, options, |file, bytes| {
            file.set_len(bytes as u64).context("ftruncate")
        })?;
        stage.show_first(session, options)?;
        Ok(stage)
    }

    /// Makes the compositor show the window, and waits until it has read the file. The file has no
    /// pages at first; reading it through a mapping allocates them.
    pub fn show_first(&self, session: &mut Session, options: &Options) -> Result<()> {
        self.window
            .show(session, &self.buffer)
            .context("the window's first frame")?;
        options.tell("the window is shown");
        touched(options, session, &self.pool.file, 0, |session| {
            self.window.show(session, &self.buffer)
        })?;
        let bytes = pool::bytes(self.window.size);
        pool::draw(&self.pool.file, options.color, bytes, 0)?;
        self.window.show(session, &self.buffer)
    }

    /// Opens a window that shows nothing yet. `make_ready` gets its file, and the length to give
    /// it.
    pub fn unseen(
        session: &mut Session,
        options: &Options,
        make_ready: impl FnOnce(&File, i32) -> Result<()>,
    ) -> Result<Self> {
        let window = Window::open(session, "hostile", options.size)?;
        let bytes = pool::bytes(window.size);
        let file = options.place.create()?;
        make_ready(&file, bytes)?;
        let pool = Pool::new(session, file, bytes)?;
        Ok(Self {
            buffer: pool.buffer(session, 0, window.size),
            cover: Cover::new(session, &window)?,
            window,
            pool,
            grace: options.patience / 3,
        })
    }

    /// Makes the compositor show the buffer again.
    pub fn show(&mut self, session: &mut Session) -> Result<()> {
        self.window.surface.attach(Some(&self.buffer), 0, 0);
        self.refresh(session)
    }

    /// Makes the compositor draw again what it shows.
    pub fn refresh(&mut self, session: &mut Session) -> Result<()> {
        let frame = self.window.commit(session);
        self.wait_for(session, frame)
    }

    /// Commits without marking anything in this window as changed.
    fn commit_only(&mut self, session: &mut Session) -> Result<()> {
        let frame = session.frame(&self.window.surface);
        self.window.surface.commit();
        self.wait_for(session, frame)
    }

    fn wait_for(&mut self, session: &mut Session, frame: u64) -> Result<()> {
        if !session.wait_at_most(self.grace, |heard| heard.frame >= frame)? {
            self.grace = SHORT;
        }
        Ok(())
    }

    /// Shows and damages the window, moves something over it, and opens another window. Some
    /// compositors read the pixels only then.
    pub fn provoke(&mut self, session: &mut Session, options: &Options) -> Result<()> {
        for _ in 0..5 {
            self.show(session)?;
        }
        self.provoke_without_buffer(session, options)
    }

    pub fn provoke_without_buffer(
        &mut self,
        session: &mut Session,
        options: &Options,
    ) -> Result<()> {
        for _ in 0..5 {
            self.refresh(session)?;
        }
        self.move_cover(session)?;
        self.open_another(session, options)?;
        options.tell(if self.grace == SHORT {
            "asked for it to be painted again; a frame has not come"
        } else {
            "it was painted again"
        });
        Ok(())
    }

    /// Moves the subsurface, so that it uncovers parts of the window.
    fn move_cover(&mut self, session: &mut Session) -> Result<()> {
        for step in [1, 2, 3, 4, 0] {
            self.cover.subsurface.set_position(step * 16, step * 16);
            self.commit_only(session)?;
        }
        Ok(())
    }

    /// Opens a window, over or beside this one, and closes it.
    fn open_another(&mut self, session: &mut Session, options: &Options) -> Result<()> {
        let other = Window::open(session, "other", options.size)?;
        let (_pool, buffer) = intact(session, other.size)?;
        other.surface.attach(Some(&buffer), 0, 0);
        let frame = other.commit(session);
        self.wait_for(session, frame)?;
        other.close();
        self.commit_only(session)
    }

    /// Makes the file as long as it was, and prints whether the compositor still reads it.
    pub fn look_again(&mut self, session: &mut Session, options: &Options) -> Result<()> {
        let bytes = pool::bytes(self.window.size);
        self.pool.file.set_len(bytes as u64).context("ftruncate")?;
        let before = allocated(&self.pool.file)?;
        self.show(session)?;
        let after = allocated(&self.pool.file)?;
        if after > before {
            options.tell("it has gone on reading the file");
        }
        Ok(())
    }
}

/// Creates a buffer of a file that is as long as the client says.
pub fn intact(session: &Session, size: (i32, i32)) -> Result<(Pool, WlBuffer)> {
    let bytes = pool::bytes(size);
    let file = Place::Memory.create()?;
    pool::draw(&file, COVER, bytes, 0)?;
    let pool = Pool::new(session, file, bytes)?;
    let buffer = pool.buffer(session, 0, size);
    Ok((pool, buffer))
}

/// Returns how many bytes of a file have pages.
pub fn allocated(file: &File) -> Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// Calls `act` until the compositor has accessed the file through a mapping. That allocates pages
/// of a memfd, while read(2) does not: so a memfd then has more bytes than those `written`. For
/// other files this cannot be found out.
pub fn touched(
    options: &Options,
    session: &mut Session,
    file: &File,
    written: u64,
    mut act: impl FnMut(&mut Session) -> Result<()>,
) -> Result<()> {
    if !options.place.is_memory() {
        options.tell("no memfd: whether it is read cannot be known");
        return act(session);
    }
    let end = Instant::now() + options.patience;
    while allocated(file)? <= written {
        if Instant::now() > end {
            bail!("the compositor does not access the file through a mapping");
        }
        act(session)?;
        session.wait_at_most(Duration::from_millis(20), |_| false)?;
    }
    options.tell("the compositor accesses the file through a mapping");
    Ok(())
}

delegate_noop!(crate::heard::Heard: WlRegion);
delegate_noop!(crate::heard::Heard: WlSubcompositor);
delegate_noop!(crate::heard::Heard: WlSubsurface);
