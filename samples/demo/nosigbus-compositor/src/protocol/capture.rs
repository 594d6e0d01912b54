// SPDX-License-Identifier: MIT OR Apache-2.0

//! wlr-screencopy: writes the screen into buffers of clients.

use crate::{
    limits::{self, Kind, Share},
    log,
    pool::{Buffer, Shape},
    screen::{HEIGHT, STRIDE, WIDTH},
    state::State,
};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, Ordering};
use wayland_protocols_wlr::screencopy::v1::server::{
    zwlr_screencopy_frame_v1::{self as frame, ZwlrScreencopyFrameV1},
    zwlr_screencopy_manager_v1::{self as manager, ZwlrScreencopyManagerV1},
};
use wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, Resource, protocol::wl_shm::Format,
};

const SHAPE: Shape = Shape {
    width: WIDTH,
    height: HEIGHT,
    stride: STRIDE,
    format: Format::Xrgb8888,
};

pub struct Frame {
    used: AtomicBool,
    _share: Share,
}

offer!(ZwlrScreencopyManagerV1);

impl Dispatch<ZwlrScreencopyManagerV1, Share> for State {
    fn request(
        _: &mut Self,
        client: &Client,
        resource: &ZwlrScreencopyManagerV1,
        request: manager::Request,
        _: &Share,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let (frame, all) = match request {
            manager::Request::CaptureOutput { frame, .. } => (frame, true),
            manager::Request::CaptureOutputRegion { frame, .. } => (frame, false),
            _ => return,
        };
        let Some(share) = limits::take(client, Kind::Objects, 1, resource) else {
            return;
        };
        let frame = init.init(
            frame,
            Frame {
                used: AtomicBool::new(false),
                _share: share,
            },
        );
        // All of the screen or nothing.
        if all {
            frame.buffer(SHAPE.format, WIDTH as u32, HEIGHT as u32, STRIDE as u32);
        } else {
            frame.failed();
        }
    }
}

impl Dispatch<ZwlrScreencopyFrameV1, Frame> for State {
    fn request(
        state: &mut Self,
        _: &Client,
        resource: &ZwlrScreencopyFrameV1,
        request: frame::Request,
        frame: &Frame,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        let frame::Request::Copy { buffer } = request else {
            return;
        };
        if frame.used.swap(true, Ordering::Relaxed) {
            resource.post_error(frame::Error::AlreadyUsed, "one copy of a frame");
            return;
        }
        let buffer = Buffer::of(&buffer);
        if buffer.shape != SHAPE {
            resource.post_error(
                frame::Error::InvalidBuffer,
                "not as the buffer event has it",
            );
            return;
        }
        match buffer.write(state.screen.lines()) {
            Ok(true) => {
                let time = clock_gettime(ClockId::Monotonic);
                let seconds = time.tv_sec as u64;
                resource.flags(frame::Flags::empty());
                resource.ready((seconds >> 32) as u32, seconds as u32, time.tv_nsec as u32);
            }
            Ok(false) => resource.failed(),
            Err(error) => {
                log::complain(format_args!("no capture: {error}"));
                resource.failed();
            }
        }
    }
}
