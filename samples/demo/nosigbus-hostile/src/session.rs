// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connection to a compositor: the events received, and how the connection ended.

use crate::heard::{Global, Handle, Heard};
use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::sockopt::socket_peercred,
    process::Pid,
};
use std::{
    error, fmt,
    io::{ErrorKind, Read},
    ops::RangeInclusive,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};
use wayland_client::{
    Connection, Dispatch, DispatchError, EventQueue, Proxy, WEnum,
    backend::WaylandError,
    delegate_noop,
    protocol::{
        wl_buffer::{self, WlBuffer},
        wl_callback::{self, WlCallback},
        wl_compositor::WlCompositor,
        wl_output::{self, WlOutput},
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
    /// Without a protocol error.
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

/// The compositor does not offer what is needed.
#[derive(Debug)]
pub struct NotOffered(pub &'static str);

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not offered: {}", self.0)
    }
}

impl error::Error for NotOffered {}

/// The compositor did not send the expected event in time.
#[derive(Debug)]
pub struct Silent(Duration);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not heard within {:?}", self.0)
    }
}

impl error::Error for Silent {}

/// The purpose and the number of a callback.
enum Callback {
    Sync(u64),
    Frame(u64),
}

pub struct Session {
    connection: Connection,
    queue: EventQueue<Heard>,
    registry: WlRegistry,
    pub handle: Handle,
    pub heard: Heard,
    socket: UnixStream,
    /// How long to wait for the compositor. `None` is for ever.
    patience: Option<Duration>,
    /// How many callbacks were requested.
    callbacks: u64,
    /// Whether the attack has begun.
    pub struck: bool,
}

impl Session {
    pub fn connect(patience: Option<Duration>) -> Result<Self> {
        let connection = Connection::connect_to_env().context(
            "no compositor (give its socket's name in WAYLAND_DISPLAY, and the directory that has \
             it in XDG_RUNTIME_DIR)",
        )?;
        let socket = connection.backend().poll_fd().try_clone_to_owned()?.into();
        let queue = connection.new_event_queue();
        let handle = queue.handle();
        let mut session = Self {
            registry: connection.display().get_registry(&handle, ()),
            connection,
            queue,
            handle,
            heard: Heard::default(),
            socket,
            patience,
            callbacks: 0,
            struck: false,
        };
        session.roundtrip().context("no globals")?;
        Ok(session)
    }

    /// Binds a global that the compositor offers, in the newest of these versions that it supports.
    pub fn bind<I>(&self, versions: RangeInclusive<u32>) -> Result<I>
    where
        I: Proxy + 'static,
        Heard: Dispatch<I, ()>,
    {
        let (first, last) = versions.into_inner();
        let interface = I::interface().name;
        let global = self
            .heard
            .globals
            .iter()
            .find(|global| global.interface == interface && global.version >= first);
        let global = global.ok_or(NotOffered(interface))?;
        let version = global.version.min(last);
        Ok(self.registry.bind(global.name, version, &self.handle, ()))
    }

    /// Returns the process that listens on the compositor's socket.
    pub fn peer(&self) -> Result<Pid> {
        Ok(socket_peercred(&self.socket)?.pid)
    }

    /// Sends all pending requests, and waits until `so` returns `true` for `heard`.
    pub fn wait(&mut self, so: impl Fn(&Heard) -> bool) -> Result<()> {
        let Some(patience) = self.patience else {
            while !so(&self.heard) {
                self.hear(None)?;
            }
            return Ok(());
        };
        let heard = self.wait_at_most(patience, so)?;
        heard.then_some(()).ok_or(Silent(patience).into())
    }

    /// Returns whether `so` returns `true` for `heard` within `time`.
    pub fn wait_at_most(&mut self, time: Duration, so: impl Fn(&Heard) -> bool) -> Result<bool> {
        let end = Instant::now() + time;
        while !so(&self.heard) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.hear(Some(left))?;
        }
        Ok(true)
    }

    /// Waits until the compositor has dealt with all that was sent to it.
    pub fn roundtrip(&mut self) -> Result<()> {
        self.callbacks += 1;
        let number = self.callbacks;
        let display = self.connection.display();
        display.sync(&self.handle, Callback::Sync(number));
        self.wait(|heard| heard.sync >= number)
    }

    /// Requests a frame callback for a surface. Returns the number of the frame.
    pub fn frame(&mut self, surface: &WlSurface) -> u64 {
        self.callbacks += 1;
        surface.frame(&self.handle, Callback::Frame(self.callbacks));
        self.callbacks
    }

    /// Dispatches received events. If there are none, waits for events, at most for `time`.
    fn hear(&mut self, time: Option<Duration>) -> Result<()> {
        let dispatched = self.queue.dispatch_pending(&mut self.heard);
        if dispatched.map_err(|error| self.ended(error))? > 0 {
            return Ok(());
        }
        let mut flags = PollFlags::IN;
        match self.queue.flush() {
            Ok(()) => {}
            Err(error) if would_block(&error) => flags |= PollFlags::OUT,
            Err(error) => return Err(self.ended(error.into())),
        }
        let Some(guard) = self.queue.prepare_read() else {
            return Ok(());
        };
        let time = time.map(Timespec::try_from).transpose()?;
        match poll(&mut [PollFd::new(&self.socket, flags)], time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match guard.read() {
            Ok(_) => Ok(()),
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(self.ended(error.into())),
        }
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

fn would_block(error: &WaylandError) -> bool {
    matches!(error, WaylandError::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Returns the protocol error among the messages that are left in the socket. wayland-client does
/// not read them after a send has failed.
fn last_words(socket: &mut UnixStream) -> Option<Ended> {
    let mut bytes = Vec::new();
    // The read ends when the other end is closed, with or without an error.
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

/// Implements the handling of an interface's events, and of the objects that they create.
macro_rules! on_event {
    (
        $interface:ty,
        $data:ty,
        |$heard:ident, $proxy:ident, $event:ident, $user:ident| $body:expr
        $(, $opcode:pat => $child:ty, $child_data:expr)*
    ) => {
        impl ::wayland_client::Dispatch<$interface, $data> for $crate::heard::Heard {
            fn event(
                $heard: &mut Self,
                $proxy: &$interface,
                $event: <$interface as ::wayland_client::Proxy>::Event,
                $user: &$data,
                _: &::wayland_client::Connection,
                _: &$crate::heard::Handle,
            ) {
                $body
            }

            ::wayland_client::event_created_child!($crate::heard::Heard, $interface, [
                $($opcode => ($child, $child_data)),*
            ]);
        }
    };
}
pub(crate) use on_event;

on_event!(WlRegistry, (), |heard, _proxy, event, _user| match event {
    wl_registry::Event::Global {
        name,
        interface,
        version,
    } => heard.globals.push(Global {
        name,
        interface,
        version,
    }),
    wl_registry::Event::GlobalRemove { name } => {
        heard.globals.retain(|global| global.name != name);
    }
    _ => {}
});

on_event!(WlCallback, Callback, |heard, _proxy, event, callback| {
    if let wl_callback::Event::Done { .. } = event {
        match callback {
            Callback::Sync(number) => heard.sync = *number,
            Callback::Frame(number) => heard.frame = heard.frame.max(*number),
        }
    }
});

on_event!(WlOutput, (), |heard, _proxy, event, _user| {
    if let wl_output::Event::Mode { width, height, .. } = event {
        heard.output = Some((width, height));
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
            format: WEnum::Value(format),
        } => heard.capture_shape = Some((width as i32, height as i32, stride as i32, format)),
        capture::Event::Ready { .. } => heard.captured = Some(true),
        capture::Event::Failed => heard.captured = Some(false),
        _ => {}
    }
});

delegate_noop!(Heard: WlCompositor);
delegate_noop!(Heard: ignore WlShm);
delegate_noop!(Heard: WlShmPool);
delegate_noop!(Heard: ignore WlSurface);
delegate_noop!(Heard: ZwlrScreencopyManagerV1);
