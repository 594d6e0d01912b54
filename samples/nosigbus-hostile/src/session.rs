// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connection to a compositor: what was heard of it, and how it ended.

use anyhow::{Context, Result};
use std::{error, fmt, io::Read, os::unix::net::UnixStream};
use wayland_client::{
    Connection, Dispatch, DispatchError, EventQueue, Proxy, QueueHandle,
    backend::WaylandError,
    delegate_noop,
    globals::{GlobalList, GlobalListContents, registry_queue_init},
    protocol::{
        wl_buffer::{self, WlBuffer},
        wl_callback::{self, WlCallback},
        wl_compositor::WlCompositor,
        wl_output::WlOutput,
        wl_region::WlRegion,
        wl_registry::{self, WlRegistry},
        wl_shm::WlShm,
        wl_shm_pool::WlShmPool,
        wl_surface::WlSurface,
    },
};
use wayland_protocols::xdg::shell::client::{
    xdg_surface::{self, XdgSurface},
    xdg_toplevel::{self, XdgToplevel},
    xdg_wm_base::{self, XdgWmBase},
};
use wayland_protocols_wlr::screencopy::v1::client::{
    zwlr_screencopy_frame_v1::{self as capture, ZwlrScreencopyFrameV1},
    zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1,
};

/// How a compositor has ended the connection.
#[derive(Debug)]
pub enum Ended {
    /// With a protocol error.
    Told { code: u32, message: String },
    /// Without a word.
    HungUp,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { code, message } => write!(f, "told: error {code}: {message}"),
            Self::HungUp => f.write_str("the compositor hung up"),
        }
    }
}

impl error::Error for Ended {}

/// What the compositor asks a capture to be like: width, height and bytes of a line.
pub type CaptureShape = (i32, i32, i32);

/// What was heard of the compositor.
#[derive(Default)]
pub struct Heard {
    pub configured: bool,
    /// The size that it wants the window to have, if it does.
    pub size: Option<(i32, i32)>,
    pub frames: u64,
    /// Which of two buffers it has not released.
    pub busy: [bool; 2],
    pub capture_shape: Option<CaptureShape>,
    pub captured: Option<bool>,
}

pub type Handle = QueueHandle<Heard>;

pub struct Session {
    queue: EventQueue<Heard>,
    pub globals: GlobalList,
    pub handle: Handle,
    pub heard: Heard,
    socket: UnixStream,
}

impl Session {
    pub fn connect() -> Result<Self> {
        let connection = Connection::connect_to_env().context(
            "no compositor (give its socket's name in WAYLAND_DISPLAY, and the directory that has \
             it in XDG_RUNTIME_DIR)",
        )?;
        let socket = connection.backend().poll_fd().try_clone_to_owned()?.into();
        let (globals, queue) = registry_queue_init(&connection).context("no globals")?;
        Ok(Self {
            handle: queue.handle(),
            queue,
            globals,
            heard: Heard::default(),
            socket,
        })
    }

    /// Sends what there is to send, and waits until `heard` is so.
    pub fn wait(&mut self, so: impl Fn(&Heard) -> bool) -> Result<()> {
        while !so(&self.heard) {
            let result = self.queue.blocking_dispatch(&mut self.heard);
            result.map_err(|error| self.ended(error))?;
        }
        Ok(())
    }

    /// Waits until the compositor has dealt with all that was sent to it.
    pub fn roundtrip(&mut self) -> Result<()> {
        let result = self.queue.roundtrip(&mut self.heard);
        result.map_err(|error| self.ended(error))?;
        Ok(())
    }

    fn ended(&mut self, error: DispatchError) -> anyhow::Error {
        match error {
            DispatchError::Backend(WaylandError::Protocol(error)) => Ended::Told {
                code: error.code,
                message: error.message,
            }
            .into(),
            DispatchError::Backend(WaylandError::Io(_)) => {
                last_words(&mut self.socket).unwrap_or(Ended::HungUp).into()
            }
            error => error.into(),
        }
    }
}

/// The protocol error among the messages that are left in the socket. wayland-client does not read
/// them once it has failed to send something.
fn last_words(socket: &mut UnixStream) -> Option<Ended> {
    let mut bytes = Vec::new();
    // What ends this is that the other end is closed, however that is reported.
    let _ = socket.read_to_end(&mut bytes);
    let mut words = bytes.chunks_exact(4).map(|word| {
        let word = word.try_into().expect("four bytes");
        u32::from_ne_bytes(word)
    });
    loop {
        let (object, header) = (words.next()?, words.next()?);
        let mut arguments = words
            .by_ref()
            .take(((header >> 16) as usize / 4).checked_sub(2)?);
        // wl_display.error: an object, a code, and a text with its length and a zero at its end.
        if (object, header & 0xffff) == (1, 0) {
            let (_, code, len) = (arguments.next()?, arguments.next()?, arguments.next()?);
            let text: Vec<u8> = arguments.flat_map(u32::to_ne_bytes).collect();
            let text = text.get(..(len as usize).checked_sub(1)?)?;
            return Some(Ended::Told {
                code,
                message: String::from_utf8_lossy(text).into_owned(),
            });
        }
        arguments.for_each(drop);
    }
}

/// Implements what is done with the events of an interface.
macro_rules! on_event {
    ($interface:ty, $data:ty, |$heard:ident, $proxy:ident, $event:ident, $user:ident| $body:expr) => {
        impl Dispatch<$interface, $data> for Heard {
            fn event(
                $heard: &mut Self,
                $proxy: &$interface,
                $event: <$interface as Proxy>::Event,
                $user: &$data,
                _: &Connection,
                _: &Handle,
            ) {
                $body
            }
        }
    };
}

on_event!(WlCallback, (), |heard, _proxy, event, _user| {
    if let wl_callback::Event::Done { .. } = event {
        heard.frames += 1;
    }
});

on_event!(WlBuffer, usize, |heard, _proxy, event, number| {
    if let wl_buffer::Event::Release = event {
        heard.busy[*number] = false;
    }
});

on_event!(XdgWmBase, (), |_heard, base, event, _user| {
    if let xdg_wm_base::Event::Ping { serial } = event {
        base.pong(serial);
    }
});

on_event!(XdgSurface, (), |heard, surface, event, _user| {
    if let xdg_surface::Event::Configure { serial } = event {
        surface.ack_configure(serial);
        heard.configured = true;
    }
});

on_event!(XdgToplevel, (), |heard, _proxy, event, _user| {
    if let xdg_toplevel::Event::Configure { width, height, .. } = event {
        heard.size = (width > 0 && height > 0).then_some((width, height));
    }
});

on_event!(ZwlrScreencopyFrameV1, (), |heard, _proxy, event, _user| {
    match event {
        capture::Event::Buffer {
            width,
            height,
            stride,
            ..
        } => heard.capture_shape = Some((width as i32, height as i32, stride as i32)),
        capture::Event::Ready { .. } => heard.captured = Some(true),
        capture::Event::Failed => heard.captured = Some(false),
        _ => {}
    }
});

on_event!(
    WlRegistry,
    GlobalListContents,
    |_heard, _proxy, event, _user| {
        let _: wl_registry::Event = event;
    }
);

delegate_noop!(Heard: WlCompositor);
delegate_noop!(Heard: ignore WlOutput);
delegate_noop!(Heard: ignore WlShm);
delegate_noop!(Heard: WlRegion);
delegate_noop!(Heard: WlShmPool);
delegate_noop!(Heard: ignore WlSurface);
delegate_noop!(Heard: ZwlrScreencopyManagerV1);
