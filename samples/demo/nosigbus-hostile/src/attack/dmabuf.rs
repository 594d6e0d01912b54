// SPDX-License-Identifier: MIT OR Apache-2.0

//! A memfd that is said to be a dma-buf.

use super::stage::Stage;
use crate::{
    Options,
    heard::Heard,
    pool::{self, PIXEL},
    session::{Session, on_event},
};
use anyhow::{Context, Result};
use std::os::fd::AsFd;
use wayland_client::{delegate_noop, protocol::wl_buffer::WlBuffer};
use wayland_protocols::wp::linux_dmabuf::zv1::client::{
    zwp_linux_buffer_params_v1::{self, Flags, ZwpLinuxBufferParamsV1},
    zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1,
};

/// DRM_FORMAT_XRGB8888: the characters XR24.
const XRGB8888: u32 = u32::from_le_bytes(*b"XR24");

pub fn memfd(session: &mut Session, options: &Options) -> Result<()> {
    cut_off(session, options, true)
}

/// The file is empty before the compositor accesses it for the first time.
pub fn empty(session: &mut Session, options: &Options) -> Result<()> {
    cut_off(session, options, false)
}

/// Cuts the file of a buffer to nothing, after it was `shown` or before that.
fn cut_off(session: &mut Session, options: &Options, shown: bool) -> Result<()> {
    let dmabuf: ZwpLinuxDmabufV1 = session.bind(1..=3)?;
    let mut stage = Stage::new(session, options)?;
    let (width, height) = stage.window.size;
    let bytes = pool::bytes(stage.window.size);
    let file = options.place.create()?;
    pool::draw(&file, options.color, bytes, 0)?;

    let params = dmabuf.create_params(&session.handle, ());
    // Modifier 0: the pixels are in lines.
    params.add(file.as_fd(), 0, 0, (width * PIXEL) as u32, 0, 0);
    session.struck = true;
    params.create(width, height, XRGB8888, Flags::empty());
    session.wait(|heard| heard.made.is_some())?;
    let Some(buffer) = session.heard.made.take().flatten() else {
        crate::say("refused: the compositor says that it has failed");
        return session.roundtrip();
    };
    crate::say("taken for a dma-buf; now its file is cut off");
    stage.buffer = buffer;
    if shown {
        stage.show(session)?;
    }
    file.set_len(0).context("ftruncate")?;
    stage.provoke(session, options)
}

on_event!(
    ZwpLinuxBufferParamsV1,
    (),
    |heard, _proxy, event, _user| {
        use zwp_linux_buffer_params_v1::Event;
        match event {
            Event::Created { buffer } => heard.made = Some(Some(buffer)),
            Event::Failed => heard.made = Some(None),
            _ => {}
        }
    },
    zwp_linux_buffer_params_v1::EVT_CREATED_OPCODE => WlBuffer, 0
);

delegate_noop!(Heard: ignore ZwpLinuxDmabufV1);
