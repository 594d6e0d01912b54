// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the compositor has sent.

use wayland_client::{
    QueueHandle,
    protocol::{wl_buffer::WlBuffer, wl_shm::Format},
};

/// A global that the compositor offers.
pub struct Global {
    pub name: u32,
    pub interface: String,
    pub version: u32,
}

/// The capture's width, height, bytes of a line, and format that the compositor asks for.
pub type CaptureShape = (i32, i32, i32, Format);

/// The state from the events that the compositor has sent.
#[derive(Default)]
pub struct Heard {
    pub globals: Vec<Global>,
    /// The number of the last callback that is done, for roundtrips and for frames.
    pub sync: u64,
    pub frame: u64,
    pub configured: bool,
    /// The size that the compositor wants the window to have, if any.
    pub size: Option<(i32, i32)>,
    /// Which of two buffers the compositor has not released.
    pub busy: [bool; 2],
    pub capture_shape: Option<CaptureShape>,
    pub captured: Option<bool>,
    /// The size of the output that has sent its size last.
    pub output: Option<(i32, i32)>,
    pub seat: Seat,
    pub wanted: Wanted,
    pub colors: Colors,
    pub made: Made,
}

pub type Handle = QueueHandle<Heard>;

/// What the compositor has sent about the seat.
#[derive(Default)]
pub struct Seat {
    pub has_pointer: bool,
    /// The serial of the last event, while the pointer is over the window.
    pub entered: Option<u32>,
    pub pressed: Option<u32>,
}

/// What an ext-image-copy-capture session asks of a buffer.
#[derive(Default)]
pub struct Wanted {
    pub size: Option<(i32, i32)>,
    pub formats: Vec<Format>,
    pub known: bool,
}

/// What the compositor has sent about color management.
#[derive(Default)]
pub struct Colors {
    pub icc: bool,
    pub known: bool,
    /// Whether the compositor has accepted the profile.
    pub taken: Option<bool>,
}

/// The reply to the last request for a buffer; the inner `None` means that it was refused.
pub type Made = Option<Option<WlBuffer>>;
