// SPDX-License-Identifier: MIT OR Apache-2.0

//! A Wayland compositor that shows windows in a picture in memory. It reads its clients' files
//! through mappings, and writes screen captures to them through mappings. It has no SIGBUS
//! handler. Without options a client kills it by shrinking a file. With --protect the compositor
//! survives, and disconnects the client.
//!
//! Each module uses only modules that are named before it:
//!
//! * `log`: messages;
//! * `limits` and `files`: how much a client may have, and how its files are mapped and opted in;
//! * `pool`: the mapping of a client's file, and the buffers in it;
//! * `surface`, `window` and `screen`: what shows these buffers;
//! * `state`: all of that together;
//! * `protocol`: the requests of clients, which change the state.

#![forbid(unsafe_code)]

mod files;
mod limits;
mod log;
mod pool;
mod protocol;
mod screen;
mod state;
mod surface;
mod window;

use anyhow::{Context, Result};
use files::Files;
use lexopt::prelude::*;
use limits::Limits;
use log::complain;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
};
use screen::Pictures;
use state::State;
use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use wayland_server::{Display, ListeningSocket};

/// From one frame to the next.
const INTERVAL: Duration = Duration::from_millis(40);

const USAGE: &str = "\
usage: nosigbus-compositor [--protect] [--any-file-system] [--socket NAME]
                           [--pictures DIRECTORY]

Runs until it is killed. Clients connect to the socket NAME (nosigbus-0) in
XDG_RUNTIME_DIR: run them with WAYLAND_DISPLAY=NAME.
  --protect   opts the mappings of clients' files in (needs the nosigbus
              module); without it, a client that shrinks its file kills the
              compositor
  --any-file-system
              also maps files that are neither memfds nor on a tmpfs; if the
              server of such a file does not answer (FUSE), the compositor hangs
  --pictures  writes every fifth frame to DIRECTORY, as 000005.png and so on";

struct Args {
    protect: bool,
    tmpfs_only: bool,
    socket: String,
    pictures: Option<Pictures>,
}

fn parse_args() -> Result<Args> {
    let mut args = Args {
        protect: false,
        tmpfs_only: true,
        socket: "nosigbus-0".into(),
        pictures: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("protect") => args.protect = true,
            Long("any-file-system") => args.tmpfs_only = false,
            Long("socket") => args.socket = parser.value()?.parse()?,
            Long("pictures") => args.pictures = Some(Pictures::new(parser.value()?.into())),
            Long("help") | Short('h') => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(args)
}

struct Compositor {
    display: Display<State>,
    listener: ListeningSocket,
    /// Readable when a client has something to say.
    clients: OwnedFd,
    files: Arc<Files>,
    state: State,
}

impl Compositor {
    fn new(args: Args) -> Result<Self> {
        let files = Arc::new(Files::new(args.protect, args.tmpfs_only)?);
        let mut display = Display::new()?;
        let clients = display.backend().poll_fd().try_clone_to_owned()?;
        let listener = ListeningSocket::bind(&args.socket)
            .with_context(|| format!("no socket {} in XDG_RUNTIME_DIR", args.socket))?;
        protocol::offer_globals(&display.handle());
        let state = State::new(files.clone(), args.pictures);
        Ok(Self {
            display,
            listener,
            clients,
            files,
            state,
        })
    }

    /// Waits until there is something to do, or `timeout` is over.
    fn wait(&mut self, timeout: Duration) -> Result<()> {
        let mut fds = vec![PollFd::new(&self.clients, PollFlags::IN)];
        if let Some(event) = self.files.event() {
            fds.push(PollFd::from_borrowed_fd(event, PollFlags::IN));
        }
        match poll(&mut fds, Some(&Timespec::try_from(timeout)?)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("poll"),
        }
    }

    /// Accepts new clients. Too many clients do not end the compositor.
    fn accept(&mut self) -> Result<()> {
        while let Some(stream) = self.listener.accept().context("a new client")? {
            self.display
                .handle()
                .insert_client(stream, Arc::new(Limits::default()))
                .context("a new client")?;
        }
        Ok(())
    }

    /// Disconnects the clients whose files were shorter than they had said.
    fn disconnect_offenders(&mut self) -> Result<()> {
        let notices = self.files.notices()?;
        for offender in self.state.tell_offenders(&notices) {
            // Closes the connection. Its last message is the posted error.
            let _ = self
                .display
                .backend()
                .dispatch_single_client(&mut self.state, offender);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let mut next_frame = Instant::now();
        loop {
            self.wait(next_frame.saturating_duration_since(Instant::now()))?;
            self.display.dispatch_clients(&mut self.state)?;
            if Instant::now() >= next_frame {
                self.accept().unwrap_or_else(complain);
                self.state.show_frame();
                next_frame = Instant::now() + INTERVAL;
            }
            self.disconnect_offenders()?;
            self.display.flush_clients()?;
        }
    }
}

fn run() -> Result<()> {
    let args = parse_args().context(USAGE)?;
    Compositor::new(args)?.run()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}
