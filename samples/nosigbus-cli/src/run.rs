// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nosigbus run`.

use nosigbus::{Device, ErrorKind};
use nosigbus_common::{
    options::{Choice, LOG_VARIABLE, VARIABLE},
    reach,
};
use std::{
    convert::Infallible,
    env,
    ffi::{CString, OsStr, OsString, c_char, c_int},
    fs::OpenOptions,
    io::{self, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    ptr,
};

const LIBRARY: &str = "libnosigbus_preload.so";
const PRELOAD: &str = "LD_PRELOAD";

/// The directories that execvp searches if PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

// The exit statuses that shells and env(1) use.
const NOT_FOUND: c_int = 127;
const NOT_EXECUTABLE: c_int = 126;

#[derive(Default)]
pub struct Options {
    pub record_errors: bool,
    pub stats: bool,
    pub quiet: bool,
    pub log: Option<PathBuf>,
    pub keep_status: bool,
    pub force: bool,
    pub keep_handlers: bool,
    pub shared_read_only: bool,
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

/// Replaces this process by the program.
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

/// Finds the file that execvp would run.
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

/// Returns the path of the preload library, or the reason why the program cannot be protected.
fn protection(program: &Path) -> Result<PathBuf, String> {
    if let Err(error) = Device::open() {
        return Err(match error.kind() {
            ErrorKind::NotLoaded => {
                let how = "modprobe nosigbus, or insmod nosigbus.ko";
                format!("{error}: the nosigbus module is not loaded; as root: {how}")
            }
            _ => error.to_string(),
        });
    }
    let library = library()?;
    // A program that is not readable cannot be checked, but may be executable. If it does not
    // exist, `execute` reports that later.
    let path = CString::new(program.as_os_str().as_bytes()).unwrap_or_default();
    let Ok(image) = reach::look_at(&path) else {
        return Ok(library);
    };
    let path = match image.interpreter() {
        [] => program,
        interpreter => Path::new(OsStr::from_bytes(interpreter)),
    };
    match image.obstacle {
        Some(obstacle) => Err(format!("{}: {obstacle}", path.display())),
        None => Ok(library),
    }
}

/// Finds the library: in the directory of this program, or in ../lib, where a package installs it.
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
    // The dynamic linker ends a name at these characters, or starts a variable at them.
    let bytes = library.as_os_str().as_bytes();
    if bytes.iter().any(|byte| b": \t\n$".contains(byte)) {
        return Err(format!(
            "{}: LD_PRELOAD cannot have a path with a space, a colon or a dollar sign: install it elsewhere",
            library.display()
        ));
    }
    Ok(library)
}

/// Creates the log file. Returns its absolute path, because the program may change its directory.
fn log(path: &Path) -> Result<PathBuf, Error> {
    let failed = |error: io::Error| Error::new(format!("{}: {error}", path.display()));
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(failed)?;
    path.canonicalize().map_err(failed)
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
        (options.record_errors, Choice::RecordErrors),
        (options.stats, Choice::Stats),
        (options.quiet, Choice::Quiet),
        (options.keep_status, Choice::KeepStatus),
        (options.force, Choice::Force),
        (options.keep_handlers, Choice::KeepHandlers),
        (options.shared_read_only, Choice::SharedReadOnly),
    ];
    let words: Vec<_> = words
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, choice)| choice.word())
        .collect();
    let log = match &options.log {
        Some(path) => Some(log(path)?),
        None => None,
    };
    // SAFETY: This program has one thread.
    unsafe {
        env::set_var(PRELOAD, OsString::from_vec(preload));
        env::set_var(VARIABLE, words.join(" "));
        match log {
            Some(path) => env::set_var(LOG_VARIABLE, path),
            None => env::remove_var(LOG_VARIABLE),
        }
    }
    Ok(())
}
