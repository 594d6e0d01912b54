// SPDX-License-Identifier: GPL-2.0-only

//! A client draws into a memfd that a compositor has mapped, and keeps shrinking it. Run twice:
//! without nosigbus the compositor is killed by SIGBUS, with it the compositor goes on.

mod channel;
mod client;
mod compositor;
mod picture;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use rustix::stdio::stdin;
use std::{
    env,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

const FRAMES: u64 = 120;
const SIGBUS: i32 = rustix::process::Signal::BUS.as_raw();

const USAGE: &str = "\
usage: nosigbus-demo [--png FILE]

Shows a compositor that a client kills by shrinking a file, and one that
survives it. Needs the nosigbus module. Writes the last frame to FILE.";

/// What this process is.
enum Role {
    /// Starts the others.
    Demo,
    /// Talks to a compositor over stdin.
    Client,
    /// Talks to a client over stdin.
    Compositor { opt_in: bool },
}

fn parse_args() -> Result<(Role, Option<PathBuf>)> {
    let (mut role, mut png) = (Role::Demo, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("png") => png = Some(parser.value()?.into()),
            Long("help") | Short('h') => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            Value(name) if name == "client" => role = Role::Client,
            Value(name) if name == "compositor" => role = Role::Compositor { opt_in: false },
            Value(name) if name == "opted-in-compositor" => {
                role = Role::Compositor { opt_in: true };
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok((role, png))
}

/// Runs a client and a compositor; returns how the compositor ended.
fn run_pair(compositor: &str, png: Option<&PathBuf>) -> Result<ExitStatus> {
    let (client_end, compositor_end) = channel::pair()?;
    let this = env::current_exe()?;
    let mut client = Command::new(&this)
        .arg("client")
        .stdin(Stdio::from(client_end))
        .spawn()?;
    let mut command = Command::new(&this);
    command.arg(compositor).stdin(Stdio::from(compositor_end));
    if let Some(png) = png {
        command.arg("--png").arg(png);
    }
    let status = command.status()?;
    // The last of the compositor's ends: the client sees it go.
    drop(command);
    ensure!(client.wait()?.success(), "the client failed");
    Ok(status)
}

fn demo(png: Option<&PathBuf>) -> Result<()> {
    println!("A client draws {FRAMES} frames into a memfd, a compositor maps it and reads them.");
    println!("In three of four frames the client cuts off half of the file, or all of it.");
    println!();

    println!("1. A plain compositor:");
    let plain = run_pair("compositor", None)?;
    match plain.signal() {
        Some(SIGBUS) => println!("   compositor: killed by signal {SIGBUS} (SIGBUS)"),
        _ => bail!("the plain compositor should have died of SIGBUS; it ended with {plain}"),
    }
    println!();

    println!("2. The same compositor, with its mapping opted in (one ioctl):");
    let opted_in = run_pair("opted-in-compositor", png)?;
    ensure!(
        opted_in.success(),
        "the opted-in compositor should have survived; it ended with {opted_in}"
    );
    println!();

    println!("So: the client can kill the plain compositor, and all that it shows, by shrinking");
    println!("one file. The opted-in one lost nothing but the pixels that the client took away,");
    println!("and showed each frame that was left whole just as the client had drawn it.");
    if let Some(png) = png {
        println!("Its last frame: {}", png.display());
    }
    Ok(())
}

fn run() -> Result<()> {
    let (role, png) = parse_args().context(USAGE)?;
    match role {
        Role::Demo => demo(png.as_ref()),
        Role::Client => client::run(stdin(), FRAMES),
        Role::Compositor { opt_in } => compositor::run(stdin(), opt_in, png.as_deref()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nosigbus-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
