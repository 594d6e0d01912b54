// SPDX-License-Identifier: MIT OR Apache-2.0

//! Windows whose file differs from what the client told the compositor, or changes later.

use super::{
    race::Race,
    stage::{self, Stage},
};
use crate::{
    Options,
    heard::Heard,
    pool::{self, Pool},
    session::Session,
};
use anyhow::{Context, Result, ensure};
use std::time::Instant;
use wayland_client::{
    delegate_noop,
    protocol::{wl_compositor::WlCompositor, wl_subcompositor::WlSubcompositor},
};
use wayland_protocols::wp::{
    single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1::WpSinglePixelBufferManagerV1,
    viewporter::client::{wp_viewport::WpViewport, wp_viewporter::WpViewporter},
};

/// How many pools of one file are used in turn.
const POOLS: usize = 8;

/// Shrinks the file and makes the compositor read it. Then grows the file and makes it read again.
fn shrink_shown(session: &mut Session, options: &Options, stage: &mut Stage) -> Result<()> {
    session.struck = true;
    stage.pool.shrink()?;
    options.tell("the file has no pages any more");
    stage.provoke(session, options)?;
    stage.look_again(session, options)
}

pub fn shrink(session: &mut Session, options: &Options) -> Result<()> {
    let mut stage = Stage::new(session, options)?;
    shrink_shown(session, options, &mut stage)
}

pub fn shrink_in_directory(session: &mut Session, options: &Options) -> Result<()> {
    ensure!(!options.place.is_memory(), "this takes a --dir DIR");
    shrink(session, options)
}

pub fn regrow(session: &mut Session, options: &Options) -> Result<()> {
    let mut stage = Stage::new(session, options)?;
    let bytes = pool::bytes(stage.window.size) as u64;
    session.struck = true;
    for _ in 0..20 {
        stage.pool.shrink()?;
        stage.show(session)?;
        stage.pool.file.set_len(bytes).context("ftruncate")?;
        stage.show(session)?;
    }
    stage.provoke(session, options)
}

/// The file has half of the bytes that the pool has.
pub fn oversize(session: &mut Session, options: &Options) -> Result<()> {
    let mut stage = Stage::unseen(session, options, |file, bytes| {
        pool::draw(file, options.color, bytes / 2, 0)
    })?;
    session.struck = true;
    stage.provoke(session, options)
}

/// The file has no page, and cannot have one, if the directory is full.
pub fn full(session: &mut Session, options: &Options) -> Result<()> {
    ensure!(!options.place.is_memory(), "this takes a --dir DIR");
    let mut stage = Stage::unseen(session, options, |file, bytes| {
        file.set_len(bytes as u64).context("ftruncate")
    })?;
    session.struck = true;
    stage.provoke(session, options)
}

/// The buffer and the pool are destroyed while they are shown.
pub fn destroy(session: &mut Session, options: &Options) -> Result<()> {
    let mut stage = Stage::new(session, options)?;
    stage.buffer.destroy();
    stage.pool.proxy.destroy();
    session.roundtrip()?;
    session.struck = true;
    stage.pool.shrink()?;
    options.tell("buffer and pool are destroyed, and the file has no pages any more");
    stage.provoke_without_buffer(session, options)
}

/// Resizes a pool, and makes the compositor show its second half.
fn resized(session: &mut Session, options: &Options, grow_file: bool) -> Result<Stage> {
    let mut stage = Stage::new(session, options)?;
    let bytes = pool::bytes(stage.window.size);
    if grow_file {
        pool::draw(&stage.pool.file, options.color, bytes, bytes)?;
    }
    stage.pool.proxy.resize(2 * bytes);
    stage.buffer = stage.pool.buffer(session, 1, stage.window.size);
    session.struck = !grow_file;
    stage.show(session)?;
    options.tell("the pool is resized, and its second half shown");
    Ok(stage)
}

pub fn resize_and_shrink(session: &mut Session, options: &Options) -> Result<()> {
    let mut stage = resized(session, options, true)?;
    let bytes = pool::bytes(stage.window.size) as u64;
    session.struck = true;
    stage.pool.file.set_len(bytes).context("ftruncate")?;
    options.tell("the file has no second half any more");
    stage.provoke(session, options)?;
    shrink_shown(session, options, &mut stage)
}

pub fn resize_oversize(session: &mut Session, options: &Options) -> Result<()> {
    resized(session, options, false)?.provoke(session, options)
}

/// Shows a part of the buffer, larger than it is.
pub fn viewport(session: &mut Session, options: &Options) -> Result<()> {
    let viewporter: WpViewporter = session.bind(1..=1)?;
    let mut stage = Stage::new(session, options)?;
    let viewport = viewporter.get_viewport(&stage.window.surface, &session.handle, ());
    let (width, height) = stage.window.size;
    viewport.set_source(
        1.0,
        f64::from(height / 2),
        f64::from(width / 2),
        f64::from(height / 4),
    );
    viewport.set_destination(width, height);
    stage.show(session)?;
    options.tell("a part of the buffer is shown");
    shrink_shown(session, options, &mut stage)
}

/// A buffer without a file. Nothing is wrong with it.
pub fn single_pixel(session: &mut Session, options: &Options) -> Result<()> {
    let manager: WpSinglePixelBufferManagerV1 = session.bind(1..=1)?;
    let viewporter: WpViewporter = session.bind(1..=1)?;
    let mut stage = Stage::new(session, options)?;
    let viewport = viewporter.get_viewport(&stage.window.surface, &session.handle, ());
    viewport.set_destination(stage.window.size.0, stage.window.size.1);
    let handle = session.handle.clone();
    stage.buffer = manager.create_u32_rgba_buffer(u32::MAX, 0, 0, u32::MAX, &handle, 0);
    stage.provoke(session, options)
}

/// The buffer waits in a synchronized subsurface until its parent is committed.
pub fn subsurface(session: &mut Session, options: &Options) -> Result<()> {
    let compositor: WlCompositor = session.bind(1..=4)?;
    let subcompositor: WlSubcompositor = session.bind(1..=1)?;
    let mut stage = Stage::new(session, options)?;
    let handle = session.handle.clone();
    let surface = compositor.create_surface(&handle, ());
    subcompositor.get_subsurface(&surface, &stage.window.surface, &handle, ());
    let size = (64, 64);
    let (pool, buffer) = stage::intact(session, size)?;
    surface.attach(Some(&buffer), 0, 0);
    surface.damage(0, 0, size.0, size.1);
    surface.commit();
    session.roundtrip()?;
    session.struck = true;
    pool.shrink()?;
    options.tell("the subsurface's file has no pages any more; now it is shown");
    for _ in 0..5 {
        stage.show(session)?;
        surface.damage(0, 0, size.0, size.1);
        surface.commit();
    }
    stage.provoke(session, options)
}

/// Many pools of one file, which is shrunk and grows all the time.
pub fn many(session: &mut Session, options: &Options) -> Result<()> {
    let mut stage = Stage::new(session, options)?;
    let size = stage.window.size;
    let bytes = pool::bytes(size);
    let mut shown = Vec::new();
    for _ in 0..POOLS {
        let pool = Pool::new(session, stage.pool.file.try_clone()?, bytes)?;
        shown.push((pool.buffer(session, 0, size), pool));
    }
    session.struck = true;
    let race = Race::cut_and_regrow(&stage.pool.file)?;
    let end = Instant::now() + options.seconds;
    let mut commits = 0;
    while Instant::now() < end {
        for (buffer, _) in &shown {
            stage.window.surface.attach(Some(buffer), 0, 0);
            stage.window.commit(session);
            commits += 1;
        }
        stage.show(session)?;
    }
    options.tell(&format!(
        "{commits} commits while the file was cut and regrown"
    ));
    race.finish()
}

delegate_noop!(Heard: WpSinglePixelBufferManagerV1);
delegate_noop!(Heard: WpViewport);
delegate_noop!(Heard: WpViewporter);
