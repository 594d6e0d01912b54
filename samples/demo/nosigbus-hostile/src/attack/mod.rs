// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attacks on any compositor, and the verdict on whether it survived.

mod copy;
mod decor;
mod dmabuf;
mod icc;
mod keymap;
mod pointer;
mod race;
mod shm;
mod stage;

use crate::{
    Options, say,
    session::{Ended, NotOffered, Session, Silent},
};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;
use std::{
    fmt,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// How long after an attack a compositor is asked again.
const AFTERWARDS: Duration = Duration::from_secs(1);

struct Attack {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Session, &Options) -> Result<()>,
    /// Whether another client repeats the attack when one was disconnected, as long as there is
    /// time.
    again: bool,
}

const fn once(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Session, &Options) -> Result<()>,
) -> Attack {
    Attack {
        name,
        about,
        run,
        again: false,
    }
}

const fn again(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Session, &Options) -> Result<()>,
) -> Attack {
    Attack {
        name,
        about,
        run,
        again: true,
    }
}

const ATTACKS: &[Attack] = &[
    once(
        "shm-shrink",
        "a shown window's file is cut to nothing",
        shm::shrink,
    ),
    once(
        "shm-regrow",
        "it is cut to nothing and made longer again, in turns",
        shm::regrow,
    ),
    once(
        "shm-oversize",
        "a pool is twice as large as its file",
        shm::oversize,
    ),
    once(
        "shm-destroy",
        "buffer and pool are destroyed, then the file is cut",
        shm::destroy,
    ),
    once(
        "shm-ext4",
        "shm-shrink with a file in --dir DIR",
        shm::shrink_in_directory,
    ),
    once(
        "shm-full",
        "a sparse file in --dir DIR, which has no space left",
        shm::full,
    ),
    again(
        "shm-pool-many",
        "a file of eight pools is cut and regrown all the time",
        shm::many,
    ),
    once(
        "pool-resize-shrink",
        "a pool and its file grow, then the file is cut",
        shm::resize_and_shrink,
    ),
    once(
        "pool-resize-oversize",
        "a pool grows, its file does not",
        shm::resize_oversize,
    ),
    once(
        "subsurface-shrink",
        "a file is cut while its buffer waits for a parent's commit",
        shm::subsurface,
    ),
    once(
        "viewport-shrink",
        "a file is cut while a part of its buffer is shown",
        shm::viewport,
    ),
    once(
        "single-pixel",
        "a buffer without a file: nothing is wrong",
        shm::single_pixel,
    ),
    once("cursor-shrink", "a cursor's file is cut", pointer::cursor),
    once(
        "drag-icon-shrink",
        "the file of a drag's icon is cut",
        pointer::drag_icon,
    ),
    once(
        "xdg-toplevel-icon",
        "the file of a window's icon is cut",
        decor::icon,
    ),
    once(
        "kde-shadow-shrink",
        "the file of a window's shadow is cut",
        decor::shadow,
    ),
    again(
        "screencopy-shrink",
        "a capture is written to a file that is cut (wlroots)",
        copy::screencopy,
    ),
    again(
        "image-copy-capture-shrink",
        "a capture is written to a file that is cut (ext)",
        copy::image_copy_capture,
    ),
    once(
        "keymap-empty",
        "a virtual keyboard's keymap is an empty file",
        keymap::empty,
    ),
    once(
        "keymap-short",
        "a keymap's file is shorter than it is said to be",
        keymap::short,
    ),
    again(
        "keymap-race",
        "a keymap's file is cut while it is parsed",
        keymap::race,
    ),
    once(
        "keymap-full",
        "a keymap is a sparse file in --dir DIR, which has no space left",
        keymap::full,
    ),
    once(
        "keymap-after-many",
        "keymap-empty after more pools than half of vm.max_map_count",
        keymap::after_many,
    ),
    once("icc-empty", "an ICC profile is an empty file", icc::empty),
    again(
        "icc-shrink",
        "an ICC profile's file is cut and regrown all the time",
        icc::shrink,
    ),
    once(
        "dmabuf-memfd",
        "a memfd is said to be a dma-buf, and cut to nothing once it is shown",
        dmabuf::memfd,
    ),
    once(
        "dmabuf-empty",
        "the same, and it is cut before it is shown",
        dmabuf::empty,
    ),
];

/// The attacks, and what they do.
pub fn list() {
    for Attack { name, about, .. } in ATTACKS {
        say(&format!("{name}\t{about}"));
    }
}

/// The result of an attack.
enum Verdict {
    Survived,
    Disconnected(Ended),
    Gone,
    NotOffered(&'static str),
}

impl Verdict {
    fn status(&self) -> ExitCode {
        match self {
            Self::Survived | Self::Disconnected(_) => ExitCode::SUCCESS,
            Self::Gone => ExitCode::from(10),
            Self::NotOffered(_) => ExitCode::from(77),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Survived => f.write_str("survived"),
            Self::Disconnected(Ended::Told { code, message }) => {
                write!(f, "survived, client disconnected: error {code}: {message}")
            }
            Self::Disconnected(Ended::HungUp) => {
                f.write_str("survived, client disconnected: without a word")
            }
            Self::Gone => f.write_str("compositor gone"),
            Self::NotOffered(interface) => write!(f, "not offered: {interface}"),
        }
    }
}

/// Runs an attack, and prints the verdict on the compositor.
pub fn run(options: &Options, name: &str) -> Result<ExitCode> {
    let attack = ATTACKS.iter().find(|attack| attack.name == name);
    let attack =
        attack.with_context(|| format!("no such attack: {name}; \"attacks\" lists them"))?;
    let session = Session::connect(Some(options.patience))?;
    let peer = session.peer()?;
    let verdict = match strike(options, attack, session)? {
        verdict @ (Verdict::Survived | Verdict::Disconnected(_)) => match lives_on(options, peer) {
            Ok(()) => verdict,
            Err(error) => {
                eprintln!("nosigbus-hostile: {name}: {error:#}");
                Verdict::Gone
            }
        },
        verdict => verdict,
    };
    say(&format!("{name}: {verdict}"));
    Ok(verdict.status())
}

/// Runs an attack in one client, and in further clients if the attack repeats (`again`).
fn strike(options: &Options, attack: &Attack, mut session: Session) -> Result<Verdict> {
    let mut disconnected = None;
    let mut end = None;
    loop {
        let result = (attack.run)(&mut session, options).and_then(|()| session.roundtrip());
        let Err(mut error) = result else {
            return Ok(disconnected.map_or(Verdict::Survived, Verdict::Disconnected));
        };
        if let Some(NotOffered(interface)) = error.downcast_ref() {
            return Ok(Verdict::NotOffered(interface));
        }
        if error.is::<Silent>() {
            // Finds out whether the compositor is silent only here, or does not answer at all.
            match session.roundtrip() {
                Ok(()) => return Err(error),
                Err(silent) if silent.is::<Silent>() => {
                    eprintln!("nosigbus-hostile: no answer: {silent}");
                    return Ok(Verdict::Gone);
                }
                Err(other) => error = other,
            }
        }
        let ended: Ended = error.downcast()?;
        options.tell(&ended.to_string());
        let next = match Session::connect(Some(options.patience)) {
            Ok(next) => next,
            Err(error) => {
                eprintln!("nosigbus-hostile: {error:#}");
                return Ok(Verdict::Gone);
            }
        };
        ensure!(session.struck, "before it was attacked: {ended}");
        disconnected = Some(ended);
        let end = *end.get_or_insert_with(|| Instant::now() + options.seconds);
        if !attack.again || Instant::now() >= end {
            return Ok(disconnected.map_or(Verdict::Survived, Verdict::Disconnected));
        }
        session = next;
    }
}

/// Returns an error unless the same compositor process still answers. Another client asks it, after
/// waiting a while.
fn lives_on(options: &Options, peer: Pid) -> Result<()> {
    let mut session = Session::connect(Some(options.patience))?;
    thread::sleep(AFTERWARDS);
    session.roundtrip()?;
    if session.peer()? != peer {
        bail!("another process listens in its place");
    }
    Ok(())
}
