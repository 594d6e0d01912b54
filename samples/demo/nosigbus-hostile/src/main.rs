// SPDX-License-Identifier: MIT OR Apache-2.0

//! Wayland clients. One keeps to the rules. The others change their files in ways that kill a
//! compositor that reads them.

mod attack;
mod capture;
mod fds;
mod heard;
mod invalid;
mod picture;
mod pool;
mod session;
mod tricks;
mod window;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use pool::{Color, Place};
use session::{Ended, Session};
use std::{
    ffi::OsString,
    io::{Write, stdout},
    process::ExitCode,
    time::Duration,
};

const USAGE: &str = "\
usage: nosigbus-hostile [OPTION...] MODE [ARGUMENT...]

A client of the Wayland compositor that WAYLAND_DISPLAY names. It prints \"shown\"
when its window is shown, and at the end what the compositor has told it.

It keeps to the rules:
  paint              shows a window of one colour, and goes on drawing for ever
  capture FILE       has the compositor write what it shows to FILE, as PNG
                     (wlr-screencopy)
  bystander          draws frames of a surface that is no window
  churn              makes pools, and destroys them, again and again
It does not:
  shrink             shrinks its file to nothing while it is shown
  regrow             shrinks it and makes it longer again, all the time
  while COMMAND...   does what regrow does, also while COMMAND runs
  oversize           has a pool that is larger than its file
  sparse             has a file without pages (in a --directory that is full, the
                     compositor cannot read it)
  destroy            destroys buffer and pool while it is shown, then shrinks
  capture-shrinking  shrinks the file that a capture is written to, and makes it
                     longer again, all the time
  file FILE          has a pool of that file
  flood WHAT         asks without end for pools, bytes, resized, buffers, callbacks
                     or objects
  invalid CASE       makes a request that is wrong; \"invalid list\" lists them
It attacks any compositor, and finds out whether the compositor still answers:
  attack NAME        ends with 0 if it answers this client or another one, with 10
                     if it is gone, with 77 if it does not offer what the attack
                     needs, and with 1 after any other failure
  attacks            lists the names of the attacks
  fds                lists what the compositor offers, with each request that takes
                     a file descriptor
It is no client:
  pixels FILE...     prints how many pixels of each PNG have the colour

  --color RRGGBB     what it draws (cc2222; paint: 22aa44)
  --size WxH         of the window (240x200), if the compositor wants no other
  --directory DIR, --dir DIR
                     it uses ordinary files in DIR instead of memfds
  --hold N           how many frames it shows before it breaks the rules (0)
  --frames N         how many frames it shows after that (100)
For attacks, also after their names:
  --patience SECONDS how long the compositor may take to answer (30)
  --seconds SECONDS  how long it changes a file all the time (5)
  --verbose          prints each step that was reached";

pub struct Options {
    color: Color,
    size: (i32, i32),
    place: Place,
    hold: u32,
    frames: u32,
    patience: Duration,
    seconds: Duration,
    verbose: bool,
}

impl Options {
    /// Prints the progress of an attack, if verbose.
    fn tell(&self, what: &str) {
        if self.verbose {
            eprintln!("nosigbus-hostile: {what}");
        }
    }
}

fn parse_color(text: &str) -> Result<Color> {
    let number = u32::from_str_radix(text, 16)
        .ok()
        .filter(|_| text.len() == 6);
    let [_, red, green, blue] = number
        .with_context(|| format!("{text} is no colour: it must be six hexadecimal digits"))?
        .to_be_bytes();
    Ok([red, green, blue])
}

fn parse_size(text: &str) -> Result<(i32, i32)> {
    let size = text
        .split_once('x')
        .context("a size must be WIDTHxHEIGHT")?;
    let (width, height) = (size.0.parse()?, size.1.parse()?);
    ensure!(
        (1..=8192).contains(&width) && (1..=8192).contains(&height),
        "a size must be 1x1 to 8192x8192"
    );
    Ok((width, height))
}

struct Args {
    options: Options,
    mode: String,
    arguments: Vec<OsString>,
}

fn parse_args() -> Result<Args> {
    let (mut color, mut size, mut place) = (None, (240, 200), Place::Memory);
    let (mut hold, mut frames) = (0, 100);
    let (mut patience, mut seconds, mut verbose) = (30, 5, false);
    let mut mode = None;
    let mut arguments = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("color") => color = Some(parse_color(&parser.value()?.string()?)?),
            Long("size") => size = parse_size(&parser.value()?.string()?)?,
            Long("directory" | "dir") => place = Place::Directory(parser.value()?.into()),
            Long("hold") => hold = parser.value()?.parse()?,
            Long("frames") => frames = parser.value()?.parse()?,
            Long("patience") => patience = parser.value()?.parse()?,
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("verbose") => verbose = true,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            Value(value) if mode.is_none() => {
                let value = value.string()?;
                let only_arguments = !matches!(value.as_str(), "attack" | "attacks" | "fds");
                mode = Some(value);
                if only_arguments {
                    arguments.extend(parser.raw_args()?);
                    break;
                }
            }
            Value(value) => arguments.push(value),
            arg => return Err(arg.unexpected().into()),
        }
    }
    let mode = mode.context("a mode is missing")?;
    let fallback = if mode == "paint" {
        [0x22, 0xaa, 0x44]
    } else {
        [0xcc, 0x22, 0x22]
    };
    Ok(Args {
        options: Options {
            color: color.unwrap_or(fallback),
            size,
            place,
            hold,
            frames,
            patience: Duration::from_secs(patience),
            seconds: Duration::from_secs(seconds),
            verbose,
        },
        mode,
        arguments,
    })
}

/// Prints a line on stdout at once, for scripts that wait for it.
fn say(what: &str) {
    println!("{what}");
    // Flushes also if stdout is a pipe or a file. An error is ignored: then nothing reads the
    // output.
    let _ = stdout().flush();
}

fn client(mode: &str, options: &Options, arguments: &[OsString]) -> Result<()> {
    let mut session = Session::connect(None)?;
    let session = &mut session;
    match (mode, arguments) {
        ("paint", []) => window::paint(session, &options.place, options.color, options.size),
        ("capture", [path]) => capture::capture(session, options, path.as_ref()),
        ("shrink", []) => tricks::shrink(session, options),
        ("regrow", []) => tricks::regrow(session, options),
        ("while", command) => tricks::regrow_while(session, options, command),
        ("oversize", []) => tricks::oversize(session, options),
        ("sparse", []) => tricks::sparse(session, options),
        ("destroy", []) => tricks::destroy(session, options),
        ("file", [path]) => tricks::of_file(session, options, path.as_ref()),
        ("flood", [what]) => tricks::flood(session, options, &what.to_string_lossy()),
        ("bystander", []) => tricks::bystander(session, options),
        ("churn", []) => tricks::churn(session, options),
        ("capture-shrinking", []) => capture::capture_shrinking(session, options),
        ("invalid", [case]) => invalid::run(session, options, &case.to_string_lossy()),
        _ => bail!("{mode} is no mode, or takes other arguments\n{USAGE}"),
    }
}

fn run() -> Result<ExitCode> {
    let Args {
        options,
        mode,
        arguments,
    } = parse_args().context(USAGE)?;
    match (mode.as_str(), arguments.as_slice()) {
        ("pixels", files) => {
            for path in files {
                say(&picture::count(path.as_ref(), options.color)?.to_string());
            }
        }
        ("invalid", [list]) if list == "list" => invalid::cases().for_each(say),
        ("attacks", []) => attack::list(),
        ("attack", [name]) => return attack::run(&options, &name.to_string_lossy()),
        ("fds", []) => fds::list(&Session::connect(Some(options.patience))?),
        _ => end(&mode, client(&mode, &options, &arguments))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints how a client has ended.
fn end(mode: &str, result: Result<()>) -> Result<()> {
    let rules = matches!(mode, "paint" | "capture" | "bystander" | "churn");
    match result {
        Ok(()) if rules => Ok(()),
        Ok(()) => {
            say("the compositor has nothing to say");
            Ok(())
        }
        // A client that breaks the rules expects to be disconnected.
        Err(error) if !rules && error.is::<Ended>() => {
            say(&error.to_string());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("nosigbus-hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}
