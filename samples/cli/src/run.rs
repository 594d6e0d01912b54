// SPDX-License-Identifier: GPL-2.0-only

//! `nosigbus run`.

use crate::elf;
use std::{
    convert::Infallible,
    env,
    ffi::{CString, OsStr, OsString, c_char, c_int},
    fs::OpenOptions,
    io::{self, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
    ptr,
};

const DEVICE: &str = "/dev/nosigbus";
const LIBRARY: &str = "libnosigbus_preload.so";
/// The library reads it.
const VARIABLE: &str = "NOSIGBUS_RUN";
const PRELOAD: &str = "LD_PRELOAD";

/// As execvp has it where there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

// As shells and env(1) have them.
const NOT_FOUND: c_int = 127;
const NOT_EXECUTABLE: c_int = 126;

#[derive(Default)]
pub struct Options {
    pub record_errors: bool,
    pub stats: bool,
    pub if_available: bool,
    pub program: OsString,
    pub args: Vec<OsString>,
}

pub struct Error {
    pub what: String,
    pub status: c_int,
}

impl Error {
    fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            status: crate::FAILED,
        }
    }
}

/// Becomes the program.
pub fn run(options: &Options) -> Result<Infallible, Error> {
    let path = find(&options.program)?;
    match protection(&path) {
        Ok(library) => set_up(options, &library)?,
        Err(why) if options.if_available => {
            let _ = writeln!(io::stderr(), "nosigbus: not protected: {why}");
        }
        Err(why) => {
            return Err(Error::new(format!(
                "{why} (--if-available runs it unprotected)"
            )));
        }
    }
    Err(execute(&path, options))
}

fn execute(path: &Path, options: &Options) -> Error {
    let failed = |error: io::Error| Error {
        what: format!("{}: {error}", path.display()),
        status: match error.raw_os_error() {
            Some(libc::ENOENT) => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        },
    };
    let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
    let strings = || -> io::Result<_> {
        let args = [&options.program].into_iter().chain(&options.args);
        Ok((
            c_string(path.as_os_str())?,
            args.map(|arg| c_string(arg))
                .collect::<io::Result<Vec<_>>>()?,
        ))
    };
    let (file, args) = match strings() {
        Ok(strings) => strings,
        Err(error) => return failed(error),
    };
    let mut argv: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(ptr::null());
    // SAFETY: Strings, and a list of strings with a null pointer at its end.
    unsafe { libc::execvp(file.as_ptr(), argv.as_ptr()) };
    failed(io::Error::last_os_error())
}

/// The file that execvp would run.
fn find(program: &OsStr) -> Result<PathBuf, Error> {
    let name = program.to_string_lossy();
    if program.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(program));
    }
    let list = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut denied = false;
    for directory in env::split_paths(&list) {
        let path = Path::new(".").join(directory).join(program);
        if program.is_empty() || !path.is_file() {
            continue;
        }
        if is_executable(&path) {
            return Ok(path);
        }
        denied = true;
    }
    Err(if denied {
        Error {
            what: format!("{name}: not executable"),
            status: NOT_EXECUTABLE,
        }
    } else {
        Error {
            what: format!("{name}: not found in PATH"),
            status: NOT_FOUND,
        }
    })
}

fn is_executable(path: &Path) -> bool {
    CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| {
        // SAFETY: A string.
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
    })
}

/// The preload library, or what is in the way of protecting that program.
fn protection(program: &Path) -> Result<PathBuf, String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        return Err(match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => format!(
                "{DEVICE}: {error}: the nosigbus module is not loaded; as root: insmod nosigbus.ko"
            ),
            _ => format!("{DEVICE}: {error}"),
        });
    }
    let library = library()?;
    // What cannot be read cannot be looked at, but perhaps run. What is not there is told of later.
    if let Ok(image) = elf::look_at(program) {
        let obstacle = image.obstacle.or_else(|| gains_privileges(&image.path));
        if let Some(obstacle) = obstacle {
            return Err(format!("{}: {obstacle}", image.path.display()));
        }
    }
    Ok(library)
}

/// For such a program the dynamic linker ignores preload libraries.
fn gains_privileges(program: &Path) -> Option<&'static str> {
    let meta = program.metadata().ok()?;
    // SAFETY: They only tell.
    let (uid, gid, euid) = unsafe { (libc::getuid(), libc::getgid(), libc::geteuid()) };
    if meta.mode() & libc::S_ISUID != 0 && meta.uid() != uid {
        return Some("it is a setuid program, which loads no preload library");
    }
    let setgid = libc::S_ISGID | libc::S_IXGRP;
    if meta.mode() & setgid == setgid && meta.gid() != gid {
        return Some("it is a setgid program, which loads no preload library");
    }
    let path = CString::new(program.as_os_str().as_bytes()).ok()?;
    // SAFETY: Two strings; asks for the length only.
    let has_capabilities = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            ptr::null_mut(),
            0,
        ) > 0
    };
    (has_capabilities && euid != 0)
        .then_some("it has file capabilities, and loads no preload library")
}

/// The library: next to this program, or where a package puts it.
fn library() -> Result<PathBuf, String> {
    let this = env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?;
    let directory = this.parent().unwrap_or(Path::new("/"));
    let candidates = [
        directory.join(LIBRARY),
        directory.join("../lib").join(LIBRARY),
    ];
    let Some(library) = candidates.iter().find_map(|path| path.canonicalize().ok()) else {
        return Err(format!(
            "{LIBRARY} is not in {0}, nor in {0}/../lib: install it there",
            directory.display()
        ));
    };
    // What the dynamic linker takes for the end of a name, or for a variable.
    let bytes = library.as_os_str().as_bytes();
    if bytes.iter().any(|byte| b": \t\n$".contains(byte)) {
        return Err(format!(
            "{}: LD_PRELOAD cannot have a path with a space, a colon or a dollar sign: install it elsewhere",
            library.display()
        ));
    }
    Ok(library)
}

/// Sets the environment of the program.
fn set_up(options: &Options, library: &Path) -> Result<(), Error> {
    let mut preload = env::var_os(PRELOAD).unwrap_or_default().into_vec();
    let is_there = preload
        .split(|byte| b": ".contains(byte))
        .any(|name| name == library.as_os_str().as_bytes());
    if !is_there {
        if !preload.is_empty() {
            preload.push(b':');
        }
        preload.extend(library.as_os_str().as_bytes());
    }
    let words = [
        (options.record_errors, "record-errors"),
        (options.stats, "stats"),
    ];
    let words: Vec<_> = words
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, word)| *word)
        .collect();
    // SAFETY: This program has one thread.
    unsafe {
        env::set_var(PRELOAD, OsString::from_vec(preload));
        env::set_var(VARIABLE, words.join(" "));
    }
    Ok(())
}
