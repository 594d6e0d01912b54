// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files that the compositor writes captures to.

use super::{
    race::Race,
    stage::{self, Stage},
};
use crate::{
    Options,
    capture::Target,
    heard::Heard,
    pool::{self, Pool},
    session::{Session, on_event},
};
use anyhow::{Context, Result, ensure};
use std::time::Instant;
use wayland_client::{WEnum, delegate_noop, protocol::wl_output::WlOutput};
use wayland_protocols::ext::{
    image_capture_source::v1::client::{
        ext_image_capture_source_v1::ExtImageCaptureSourceV1,
        ext_output_image_capture_source_manager_v1::ExtOutputImageCaptureSourceManagerV1,
    },
    image_copy_capture::v1::client::{
        ext_image_copy_capture_frame_v1::{self, ExtImageCopyCaptureFrameV1},
        ext_image_copy_capture_manager_v1::{self, ExtImageCopyCaptureManagerV1},
        ext_image_copy_capture_session_v1::{self, ExtImageCopyCaptureSessionV1},
    },
};

/// Makes the compositor write captures to a file, then while the file shrinks and grows all the
/// time, and then when the file has no pages.
fn write_into_nothing(
    session: &mut Session,
    options: &Options,
    pool: &Pool,
    mut capture: impl FnMut(&mut Session) -> Result<bool>,
) -> Result<()> {
    stage::touched(options, session, &pool.file, 0, |session| {
        ensure!(capture(session)?, "the compositor could not capture");
        Ok(())
    })?;
    options.tell("a capture is written");
    session.struck = true;
    let race = Race::cut_and_regrow(&pool.file)?;
    let end = Instant::now() + options.seconds;
    let (mut written, mut failed) = (0, 0);
    while Instant::now() < end {
        match capture(session)? {
            true => written += 1,
            false => failed += 1,
        }
    }
    options.tell(&format!(
        "while the file was cut and regrown: {written} captures, and {failed} failed"
    ));
    race.finish()?;
    pool.shrink()?;
    options.tell("the file has no pages any more");
    let written = capture(session)?;
    options.tell(&format!("a capture is written: {written}"));
    Ok(())
}

pub fn screencopy(session: &mut Session, options: &Options) -> Result<()> {
    let target = Target::new(session, options)?;
    write_into_nothing(session, options, &target.pool, |session| {
        target.capture(session)
    })
}

pub fn image_copy_capture(session: &mut Session, options: &Options) -> Result<()> {
    let manager: ExtImageCopyCaptureManagerV1 = session.bind(1..=1)?;
    let sources: ExtOutputImageCaptureSourceManagerV1 = session.bind(1..=1)?;
    let output: WlOutput = session.bind(1..=1)?;
    let handle = session.handle.clone();
    let source = sources.create_source(&output, &handle, ());
    let none = ext_image_copy_capture_manager_v1::Options::empty();
    let capturing = manager.create_session(&source, none, &handle, ());
    session.wait(|heard| heard.wanted.known)?;
    let wanted = &session.heard.wanted;
    let size = wanted.size.context("no size of a buffer")?;
    let format = *wanted.formats.first().context("no format of shm buffers")?;
    options.tell(&format!("a buffer of {size:?} in {format:?}"));

    // Wide enough for any format of 32 bits.
    let file = options.place.create()?;
    let bytes = pool::bytes(size);
    file.set_len(bytes as u64).context("ftruncate")?;
    let pool = Pool::new(session, file, bytes)?;
    let stride = size.0 * pool::PIXEL;
    // A compositor may wait for something to change.
    let mut stage = Stage::new(session, options)?;
    let buffer = pool
        .proxy
        .create_buffer(0, size.0, size.1, stride, format, &handle, 0);
    write_into_nothing(session, options, &pool, |session| {
        let frame = capturing.create_frame(&handle, ());
        frame.attach_buffer(&buffer);
        frame.damage_buffer(0, 0, size.0, size.1);
        frame.capture();
        session.heard.captured = None;
        let end = Instant::now() + options.patience;
        while session.heard.captured.is_none() {
            ensure!(Instant::now() < end, "the compositor does not capture");
            stage.show(session)?;
        }
        frame.destroy();
        Ok(session.heard.captured == Some(true))
    })
}

on_event!(
    ExtImageCopyCaptureSessionV1,
    (),
    |heard, _proxy, event, _user| {
        use ext_image_copy_capture_session_v1::Event;
        match event {
            Event::BufferSize { width, height } => {
                heard.wanted.size = Some((width as i32, height as i32));
            }
            Event::ShmFormat {
                format: WEnum::Value(format),
            } => heard.wanted.formats.push(format),
            Event::Done => heard.wanted.known = true,
            _ => {}
        }
    }
);

on_event!(
    ExtImageCopyCaptureFrameV1,
    (),
    |heard, _proxy, event, _user| {
        use ext_image_copy_capture_frame_v1::Event;
        match event {
            Event::Ready => heard.captured = Some(true),
            Event::Failed { .. } => heard.captured = Some(false),
            _ => {}
        }
    }
);

delegate_noop!(Heard: ExtImageCopyCaptureManagerV1);
delegate_noop!(Heard: ExtOutputImageCaptureSourceManagerV1);
delegate_noop!(Heard: ExtImageCaptureSourceV1);
