// SPDX-License-Identifier: MIT OR Apache-2.0

//! wlr-screencopy: makes the compositor write what it shows into a file.

use crate::{
    Options, picture,
    pool::{PIXEL, Pool},
    session::Session,
};
use anyhow::{Context, Result, ensure};
use std::{fs::File, os::unix::fs::FileExt, path::Path};
use wayland_client::protocol::{wl_buffer::WlBuffer, wl_output::WlOutput, wl_shm::Format};
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;

/// A file that a capture fits into.
pub struct Target {
    output: WlOutput,
    manager: ZwlrScreencopyManagerV1,
    pub pool: Pool,
    buffer: WlBuffer,
    width: i32,
    height: i32,
    format: Format,
}

impl Target {
    pub fn new(session: &mut Session, options: &Options) -> Result<Self> {
        let handle = session.handle.clone();
        let output = session.bind(1..=1)?;
        let manager: ZwlrScreencopyManagerV1 = session.bind(1..=1)?;
        let frame = manager.capture_output(0, &output, &handle, ());
        session.wait(|heard| heard.capture_shape.is_some())?;
        frame.destroy();
        let (width, height, stride, format) = session
            .heard
            .capture_shape
            .context("the compositor does not say what it captures")?;
        ensure!(
            stride == width * PIXEL,
            "the compositor asks for lines of {stride} bytes, which have padding"
        );

        let file = options.place.create()?;
        file.set_len((height * stride) as u64)
            .context("ftruncate")?;
        let pool = Pool::new(session, file, height * stride)?;
        let buffer = pool
            .proxy
            .create_buffer(0, width, height, stride, format, &handle, 0);
        Ok(Self {
            output,
            manager,
            pool,
            buffer,
            width,
            height,
            format,
        })
    }

    /// Captures once. Returns whether the compositor says that it has written the file.
    pub fn capture(&self, session: &mut Session) -> Result<bool> {
        let frame = self
            .manager
            .capture_output(0, &self.output, &session.handle, ());
        frame.copy(&self.buffer);
        session.heard.captured = None;
        session.wait(|heard| heard.captured.is_some())?;
        frame.destroy();
        Ok(session.heard.captured == Some(true))
    }
}

/// Writes what is shown to a PNG file.
pub fn capture(session: &mut Session, options: &Options, path: &Path) -> Result<()> {
    let target = Target::new(session, options)?;
    ensure!(
        matches!(target.format, Format::Xrgb8888 | Format::Argb8888),
        "the compositor captures pixels in the format {:?}, which no PNG is written from",
        target.format
    );
    ensure!(target.capture(session)?, "the compositor could not capture");
    let mut bgrx = vec![0; (target.width * target.height * PIXEL) as usize];
    let file: &File = &target.pool.file;
    file.read_exact_at(&mut bgrx, 0).context("pread")?;
    picture::write(path, &bgrx, target.width, target.height)
}

/// Shrinks the file and makes it longer again, all the time that the compositor writes to it.
pub fn capture_shrinking(session: &mut Session, options: &Options) -> Result<()> {
    let target = Target::new(session, options)?;
    target.pool.shrink_and_regrow()?;
    for _ in 0..options.frames {
        target.capture(session)?;
    }
    Ok(())
}
