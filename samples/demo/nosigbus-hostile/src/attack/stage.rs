// SPDX-License-Identifier: MIT OR Apache-2.0

//! A window that the compositor is known to read, and ways to have it read it again.

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

/// What covers the window is of this colour and size.
const COVER: Color = [0x22, 0x22, 0xcc];
const COVER_SIZE: (i32, i32) = (64, 64);
/// How long a frame is waited for once one has not come.
const SHORT: Duration = Duration::from_millis(200);

/// A subsurface over a part of the window, without which a compositor may give the buffer of a
/// window that fills the screen to the screen as it is.
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
        // What is pointed at is the window.
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
    /// How long a frame is waited for: a compositor may have stopped to show the window.
    grace: Duration,
}

impl Stage {
    /// A window that is shown, and whose pixels the compositor has read.
    pub fn new(session: &mut Session, options: &Options) -> Result<Self> {
        let stage = Self::unseen(session, options, |file, bytes| {
            file.set_len(bytes as u64).context("ftruncate")
        })?;
        stage.show_first(session, options)?;
        Ok(stage)
    }

    /// Has the compositor show the window, and read it: first while it has no pages, which it then
    /// has by being read.
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

    /// A window that shows nothing yet. Its file is made ready for that many bytes.
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

    /// Has the compositor show the buffer again.
    pub fn show(&mut self, session: &mut Session) -> Result<()> {
        self.window.surface.attach(Some(&self.buffer), 0, 0);
        self.refresh(session)
    }

    /// Has the compositor show again what it shows.
    pub fn refresh(&mut self, session: &mut Session) -> Result<()> {
        let frame = self.window.commit(session);
        self.wait_for(session, frame)
    }

    /// The same without a word of what has changed in this window.
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

    /// Shows and damages the window, moves something over it, and opens another window, so that a
    /// compositor that reads pixels only when it has to has to.
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

    /// Moves the subsurface, so that parts of the window are seen that were not.
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

    /// Makes the file as long as it was, and sees whether the compositor still reads it.
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

/// A buffer that is what it should be.
pub fn intact(session: &Session, size: (i32, i32)) -> Result<(Pool, WlBuffer)> {
    let bytes = pool::bytes(size);
    let file = Place::Memory.create()?;
    pool::draw(&file, COVER, bytes, 0)?;
    let pool = Pool::new(session, file, bytes)?;
    let buffer = pool.buffer(session, 0, size);
    Ok((pool, buffer))
}

/// Bytes of a file that there are pages for.
pub fn allocated(file: &File) -> Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// Has the compositor do something until there are more bytes of a memfd than those `written`: it
/// has read, or written, the file through a mapping then, as read(2) makes no pages. Of other files
/// this cannot be known.
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

delegate_noop!(crate::session::Heard: WlRegion);
delegate_noop!(crate::session::Heard: WlSubcompositor);
delegate_noop!(crate::session::Heard: WlSubsurface);
