// SPDX-License-Identifier: MIT OR Apache-2.0

//! Two programs that write files through mappings, on a file system that may be full. A store
//! raises SIGBUS if there is no space. With errors recorded it does not, and NOSIGBUS_STATUS
//! returns the error.

mod client;
mod image;
mod mapping;
mod temporary;
mod writer;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::prelude::*;
use nosigbus::{Device, ErrorKind};
use std::{path::PathBuf, process::ExitCode};
use writer::How;

const USAGE: &str = "\
usage: nosigbus-writer [--how HOW] [--size BYTES] [--seed N] FILE
       nosigbus-writer client [--recorded] [--frames N] DIRECTORY

Writes FILE as a linker does; its content follows from BYTES (4 MiB) and N.
HOW it is written:
  write     by pwrite
  plain     through a mapping: killed by SIGBUS if there is no space
  recorded  through a mapping with errors recorded (needs the nosigbus module)

client: draws N frames (4) into a sparse file in DIRECTORY, as a Wayland client
does, through such a mapping, and hands over those that are complete.";

enum Command {
    Write {
        how: How,
        size: usize,
        seed: u64,
        path: PathBuf,
    },
    Client {
        recorded: bool,
        frames: usize,
        directory: PathBuf,
    },
}

fn parse_args() -> Result<Command> {
    let (mut how, mut size, mut seed) = (How::Recorded, 4 << 20, 1);
    let (mut client, mut recorded, mut frames) = (false, false, 4);
    let mut path = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("how") if !client => {
                how = match parser.value()?.string()?.as_str() {
                    "write" => How::Write,
                    "plain" => How::Plain,
                    "recorded" => How::Recorded,
                    other => bail!("--how {other}: must be write, plain or recorded"),
                }
            }
            Long("size") if !client => size = parser.value()?.parse()?,
            Long("seed") if !client => seed = parser.value()?.parse()?,
            Long("recorded") if client => recorded = true,
            Long("frames") if client => frames = parser.value()?.parse()?,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            Value(name) if name == "client" && !client && path.is_none() => client = true,
            Value(value) if path.is_none() => path = Some(PathBuf::from(value)),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let path = path.context("a path is missing")?;
    Ok(if client {
        Command::Client {
            recorded,
            frames,
            directory: path,
        }
    } else {
        Command::Write {
            how,
            size,
            seed,
            path,
        }
    })
}

fn open_device() -> Result<Device> {
    Device::open().map_err(|error| match error.kind() {
        ErrorKind::NotLoaded => {
            anyhow!("{error}: the nosigbus module is not loaded: insmod nosigbus.ko (as root)")
        }
        _ => error.into(),
    })
}

fn run() -> Result<()> {
    match parse_args().context(USAGE)? {
        Command::Write {
            how,
            size,
            seed,
            path,
        } => writer::run(how, size, seed, &path)
            .with_context(|| format!("{} is not written", path.display())),
        Command::Client {
            recorded,
            frames,
            directory,
        } => client::run(recorded, frames, &directory),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nosigbus-writer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
