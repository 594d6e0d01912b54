// SPDX-License-Identifier: MIT OR Apache-2.0

//! exec and posix_spawn. Before exec replaces the program, this module prints what is still to
//! be reported, and passes the exit status on to the new program. It also checks whether this
//! library will be loaded into the new program.

use crate::{
    kernel::{Mmap, munmap},
    next::{Next, find, next},
    notice,
    options::{self, Strings, environ},
    outcome, stats,
    text::Text,
};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, c_char, c_int, c_void, pid_t};
use nosigbus_common::reach;
use rustix::fs::{Access, access};
use std::{ffi::CStr, mem::transmute};

static EXECVE: Next = Next::new(c"execve");
static EXECVPE: Next = Next::new(c"execvpe");
static FEXECVE: Next = Next::new(c"fexecve");
static SPAWN: Next = Next::new(c"posix_spawn");
static SPAWNP: Next = Next::new(c"posix_spawnp");

pub fn start() {
    find([&EXECVE, &EXECVPE, &FEXECVE, &SPAWN, &SPAWNP]);
}

/// Part of this library's path.
const LIBRARY: &[u8] = b"libnosigbus_preload";
const PRELOAD: &[u8] = b"LD_PRELOAD=";

fn is_library(path: &[u8]) -> bool {
    path.windows(LIBRARY.len()).any(|part| part == LIBRARY)
}

/// Reports a program into which this library will not be loaded. Returns whether the program can
/// start only without this library (musl).
///
/// # Safety
///
/// `program` must be a string or null, and `strings` a list of strings with a null pointer at its
/// end, or null.
unsafe fn look_at(program: *const c_char, strings: Strings) -> bool {
    if program.is_null() {
        return false;
    }
    // SAFETY: As the caller promises.
    let (program, mut entries) = unsafe { (CStr::from_ptr(program), entries(strings)) };
    let is_preloaded = entries.any(|entry| {
        let list = entry.to_bytes().strip_prefix(PRELOAD);
        list.is_some_and(is_library)
    });
    let why = reach::look_at(program)
        .ok()
        .and_then(|image| image.obstacle);
    let cleaned = "its environment is without LD_PRELOAD";
    if let Some(why) = why.or((!is_preloaded).then_some(cleaned)) {
        notice::not_reached(program.to_bytes(), why);
    }
    why == Some(reach::MUSL)
}

/// Does what [`look_at`] does, for a program that is searched for in PATH.
///
/// # Safety
///
/// That of [`look_at`].
unsafe fn look_for(name: *const c_char, strings: Strings) -> bool {
    if name.is_null() {
        return false;
    }
    // SAFETY: As the caller promises; the environment is such a list.
    let (program, mut entries) = unsafe { (CStr::from_ptr(name), entries(environ)) };
    if program.to_bytes().contains(&b'/') {
        // SAFETY: The caller's.
        return unsafe { look_at(name, strings) };
    }
    let list = entries.find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    for directory in list.unwrap_or(b"/bin:/usr/bin").split(|&byte| byte == b':') {
        let mut path = Text::<512>::new();
        // Empty is the current directory.
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        for part in [directory, b"/", program.to_bytes_with_nul()] {
            path.push(part);
        }
        let path = CStr::from_bytes_with_nul(path.bytes()).ok();
        if let Some(path) = path.filter(|path| access(*path, Access::EXEC_OK).is_ok()) {
            // SAFETY: The caller's.
            return unsafe { look_at(path.as_ptr(), strings) };
        }
    }
    false
}

/// # Safety
///
/// `strings` must be a list of strings with a null pointer at its end, or null.
unsafe fn entries<'a>(strings: Strings) -> impl Iterator<Item = &'a CStr> {
    let mut next = strings;
    std::iter::from_fn(move || {
        // SAFETY: As the caller promises, and not beyond the null pointer.
        unsafe {
            if next.is_null() || (*next).is_null() {
                return None;
            }
            let entry = CStr::from_ptr(*next);
            next = next.add(1);
            Some(entry)
        }
    })
}

/// The environment of another program.
struct Environment {
    strings: Strings,
    /// The mapping that holds `strings`, if they are a copy and not the caller's own list.
    made: Option<(usize, usize)>,
}

impl Environment {
    /// Returns `strings`, or a copy with two changes. If `status` is not 0, the options variable
    /// of the copy tells the new program to exit with `status` instead of 0. With
    /// `without_library`, LD_PRELOAD of the copy does not list this library.
    ///
    /// # Safety
    ///
    /// `strings` must be a list of strings with a null pointer at its end, or null.
    unsafe fn of(strings: Strings, status: i32, without_library: bool) -> Self {
        let as_given = Self {
            strings,
            made: None,
        };
        if status == 0 && !without_library {
            return as_given;
        }
        let (mut count, mut space) = (0, 0);
        // SAFETY: As the caller promises.
        for entry in unsafe { entries(strings) } {
            count += 1;
            if entry.to_bytes().starts_with(PRELOAD) {
                space += entry.count_bytes() + 2;
            }
        }
        let list = (count + 1) * size_of::<*const c_char>();
        let memory = Mmap {
            addr: 0,
            len: list + VARIABLE_SPACE + space,
            prot: PROT_READ | PROT_WRITE,
            flags: MAP_PRIVATE | MAP_ANONYMOUS,
            fd: -1,
            offset: 0,
        };
        // SAFETY: A new mapping.
        let Ok(addr) = (unsafe { memory.call() }) else {
            return as_given;
        };
        let new = addr as *mut *const c_char;
        // SAFETY: Zeros, behind the list.
        let texts = unsafe {
            std::slice::from_raw_parts_mut((addr + list) as *mut u8, VARIABLE_SPACE + space)
        };
        let (variable, preload) = texts.split_at_mut(VARIABLE_SPACE);
        // SAFETY: As above.
        for (index, entry) in unsafe { entries(strings) }.enumerate() {
            let mut to = entry.as_ptr();
            if status != 0 && options::is_variable(entry.to_bytes()) {
                let mut text = Text::<{ VARIABLE_SPACE }>::new();
                options::variable_for_next(entry.to_bytes(), status, &mut text);
                copy(variable, text.bytes());
                to = variable.as_ptr().cast();
            } else if let Some(paths) = entry
                .to_bytes()
                .strip_prefix(PRELOAD)
                .filter(|_| without_library)
            {
                let mut rest = copy(preload, PRELOAD);
                let others = paths
                    .split(|byte| b": ".contains(byte))
                    .filter(|path| !is_library(path));
                for path in others {
                    rest = copy(rest, path);
                    rest = copy(rest, b":");
                }
                to = preload.as_ptr().cast();
            }
            // SAFETY: There are as many, and the last one stays a null pointer.
            unsafe { *new.add(index) = to };
        }
        Self {
            strings: new.cast_const(),
            made: Some((addr, memory.len)),
        }
    }
}

/// More than the options are long.
const VARIABLE_SPACE: usize = 512;

/// Copies as much as there is space for, and returns what is left of that.
fn copy<'a>(to: &'a mut [u8], from: &[u8]) -> &'a mut [u8] {
    let len = from.len().min(to.len());
    let (start, rest) = to.split_at_mut(len);
    start
        .iter_mut()
        .zip(from)
        .for_each(|(to, &from)| *to = from);
    rest
}

impl Drop for Environment {
    fn drop(&mut self) {
        if let Some((addr, len)) = self.made {
            // SAFETY: Made for this, and the program still goes on.
            let _ = unsafe { munmap(addr, len) };
        }
    }
}

/// # Safety
///
/// As for [`Environment::of`].
unsafe fn before_exec(environment: Strings, without_library: bool) -> Environment {
    notice::end();
    stats::before_exec();
    // SAFETY: The caller's.
    unsafe { Environment::of(environment, outcome::status(), without_library) }
}

/// Executes a program by `next`. `look` checks the program first. It must find the program in
/// the same way as `next`: by path, or by name in PATH.
///
/// # Safety
///
/// That of `next`.
unsafe fn exec(
    next: &Next,
    look: unsafe fn(*const c_char, Strings) -> bool,
    (program, argv, envp): (*const c_char, Strings, Strings),
) -> c_int {
    let next = next!(next: *const c_char, Strings, Strings);
    // SAFETY: The caller's.
    unsafe {
        let environment = before_exec(envp, look(program, envp));
        next(program, argv, environment.strings)
    }
}

/// # Safety
///
/// That of execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: The caller's.
    unsafe { exec(&EXECVE, look_at, (path, argv, envp)) }
}

/// # Safety
///
/// That of execv(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, argv: Strings) -> c_int {
    // SAFETY: The caller's.
    unsafe { execve(path, argv, environ) }
}

/// # Safety
///
/// That of execvp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, argv: Strings) -> c_int {
    // SAFETY: The caller's.
    unsafe { execvpe(file, argv, environ) }
}

/// # Safety
///
/// That of execvpe(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int {
    // SAFETY: The caller's.
    unsafe { exec(&EXECVPE, look_for, (file, argv, envp)) }
}

/// # Safety
///
/// That of fexecve(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
    let next = next!(FEXECVE: c_int, Strings, Strings);
    // SAFETY: The caller's.
    unsafe {
        let environment = before_exec(envp, false);
        next(fd, argv, environment.strings)
    }
}

type Spawn = unsafe extern "C" fn(
    *mut pid_t,
    *const c_char,
    *const c_void,
    *const c_void,
    Strings,
    Strings,
) -> c_int;

/// Does what [`exec`] does, in a child process that libc creates.
///
/// # Safety
///
/// That of `next`.
unsafe fn spawn(
    next: &Next,
    look: unsafe fn(*const c_char, Strings) -> bool,
    (pid, program): (*mut pid_t, *const c_char),
    (actions, attributes): (*const c_void, *const c_void),
    (argv, envp): (Strings, Strings),
) -> c_int {
    // SAFETY: Libc has them, with that signature; the rest is the caller's.
    unsafe {
        let environment = Environment::of(envp, 0, look(program, envp));
        let next = transmute::<*mut c_void, Spawn>(next.get());
        next(pid, program, actions, attributes, argv, environment.strings)
    }
}

/// # Safety
///
/// That of posix_spawn(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: *mut pid_t,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: Strings,
    envp: Strings,
) -> c_int {
    let how = (actions, attributes);
    // SAFETY: The caller's.
    unsafe { spawn(&SPAWN, look_at, (pid, path), how, (argv, envp)) }
}

/// # Safety
///
/// That of posix_spawnp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: *mut pid_t,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: Strings,
    envp: Strings,
) -> c_int {
    let how = (actions, attributes);
    // SAFETY: The caller's.
    unsafe { spawn(&SPAWNP, look_for, (pid, file), how, (argv, envp)) }
}
