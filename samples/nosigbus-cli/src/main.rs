// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command `nosigbus`. It runs a program and opts in every file mapping that the program
//! creates. It also shows the opted-in mappings of a process.

// Before Rust's own main, the runtime ignores SIGPIPE and opens those of the first three file
// descriptors that are closed. Neither can be undone, and the program to run must inherit both
// unchanged.
#![cfg_attr(not(test), no_main)]

mod run;
mod status;
mod text;

use lexopt::prelude::*;
use std::{
    ffi::{OsString, c_char, c_int},
    io::Write,
};

const USAGE: &str = "\
usage: nosigbus run [OPTION...] [--] PROGRAM [ARGUMENT...]
       nosigbus status [--json] [PID]

run: runs PROGRAM, and opts in every mapping of a file that PROGRAM makes. So an
access past end-of-file does not kill PROGRAM by SIGBUS. The same holds for the
programs that PROGRAM runs. A message on stderr names each file that was cut off.
A program that would end with 0 ends with 65 if what it read was cut off, or with
74 if what it wrote is lost.
  --record-errors     I/O errors inside files do not raise SIGBUS either, unless
                      the program has a handler of SIGBUS
  --force             with --record-errors: even if it has a handler of SIGBUS
  --stats             prints at exit how many pages each file had lost
  --quiet             prints nothing except what --stats asks for
  --log FILE          appends messages to FILE instead of printing them on stderr
  --keep-status       does not change the exit status
  --handlers=keep     a program's own handler of SIGBUS is called as before
  --shared=read-only  does not opt in writable shared mappings
  --if-available      runs PROGRAM all the same if it cannot be protected

status: shows the opted-in mappings of a process, or of all.
  --json              for programs";

/// The exit status if this command itself fails: it cannot run the program, or its arguments are
/// wrong. env(1) and timeout(1) use the same, so that it is not mistaken for the program's status.
const FAILED: c_int = 125;
/// The exit status if `nosigbus status` fails.
const NO_STATUS: c_int = 1;

enum Command {
    Run(run::Options),
    Status { pid: Option<u32>, json: bool },
    Print(String),
}

fn parse_args() -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    match parser.next()? {
        Some(Value(name)) if name == "run" => parse_run(parser),
        Some(Value(name)) if name == "status" => parse_status(parser),
        Some(Long("help") | Short('h')) => Ok(Command::Print(USAGE.into())),
        Some(Long("version") | Short('V')) => Ok(Command::Print(format!(
            "nosigbus {}",
            env!("CARGO_PKG_VERSION")
        ))),
        Some(arg) => Err(arg.unexpected()),
        None => Err("a command is missing".into()),
    }
}

/// Returns whether the value of an option is the second of its two choices.
fn choice(parser: &mut lexopt::Parser, choices: [&str; 2]) -> Result<bool, lexopt::Error> {
    let value = parser.value()?;
    let chosen = choices.iter().position(|choice| value == *choice);
    let chosen =
        chosen.ok_or_else(|| format!("{value:?} is neither of {}", choices.join(" and ")))?;
    Ok(chosen == 1)
}

fn parse_run(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut options = run::Options::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("record-errors") => options.record_errors = true,
            Long("stats") => options.stats = true,
            Long("quiet") => options.quiet = true,
            Long("log") => options.log = Some(parser.value()?.into()),
            Long("keep-status") => options.keep_status = true,
            Long("force") => options.force = true,
            Long("handlers") => options.keep_handlers = choice(&mut parser, ["replace", "keep"])?,
            Long("shared") => options.shared_read_only = choice(&mut parser, ["all", "read-only"])?,
            Long("if-available") => options.if_available = true,
            Long("help") | Short('h') => return Ok(Command::Print(USAGE.into())),
            // All further arguments are those of the program.
            Value(program) => {
                options.program = program;
                options.args = parser.raw_args()?.collect::<Vec<OsString>>();
                return Ok(Command::Run(options));
            }
            _ => return Err(arg.unexpected()),
        }
    }
    Err("run: a PROGRAM is missing".into())
}

fn parse_status(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut pid, mut json) = (None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("json") => json = true,
            Long("help") | Short('h') => return Ok(Command::Print(USAGE.into())),
            Value(value) if pid.is_none() => pid = Some(value.parse()?),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Status { pid, json })
}

fn status(pid: Option<u32>, json: bool) -> anyhow::Result<String> {
    let mappings = match pid {
        Some(pid) => status::of_process(pid)?,
        None => {
            let (mappings, denied) = status::of_all()?;
            if denied > 0 {
                let _ = writeln!(
                    std::io::stderr(),
                    "nosigbus: {denied} processes are other users', or protect themselves: ask as root"
                );
            }
            mappings
        }
    };
    Ok(if json {
        let mappings: Vec<_> = mappings.iter().map(status::Mapping::to_json).collect();
        serde_json::to_string_pretty(&mappings)? + "\n"
    } else {
        status::table(&mappings, pid.is_none())
    })
}

#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    let failed = |error: &dyn std::fmt::Display| {
        let _ = writeln!(std::io::stderr(), "nosigbus: {error}");
        FAILED
    };
    let printed = |text: &str| match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => failed(&error),
    };
    match parse_args() {
        Ok(Command::Run(options)) => match run::run(&options) {
            Ok(never) => match never {},
            Err(run::Error { what, status }) => {
                failed(&what);
                status
            }
        },
        Ok(Command::Status { pid, json }) => match status(pid, json) {
            Ok(text) => printed(&text),
            Err(error) => {
                failed(&format!("{error:#}"));
                NO_STATUS
            }
        },
        Ok(Command::Print(text)) => printed(&format!("{text}\n")),
        Err(error) => failed(&format!("{error}\n{USAGE}")),
    }
}
