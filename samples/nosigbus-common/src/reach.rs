// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds out whether the dynamic linker would load a preload library into a program that is about
//! to be executed.

use core::ffi::CStr;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags, fgetxattr, fstat, open},
    io::{Errno, pread, retry_on_intr},
    process::{geteuid, getgid, getuid},
};

/// How many nested scripts the kernel follows.
const MAX_SCRIPTS: usize = 5;
/// How many bytes of a script the kernel reads.
const MAX_LINE: usize = 256;
const MAX_PROGRAM_HEADERS: u64 = 1024;

const EI_CLASS: usize = 4;
const ELFCLASS64: u8 = 2;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;

const SETUID: u32 = 0o4000;
/// Setgid and group-execute. Without group-execute, the setgid bit marks mandatory locking.
const SETGID: u32 = 0o2010;

/// An obstacle: such a program does not even start with the library.
pub const MUSL: &str = "it is linked with musl, not with glibc";

/// What the kernel loads first.
pub struct Image {
    path: [u8; MAX_LINE],
    len: usize,
    /// Why the library is not loaded into the program, or does not see its mappings.
    pub obstacle: Option<&'static str>,
}

impl Image {
    /// The interpreter, if it is a script; otherwise empty.
    pub fn interpreter(&self) -> &[u8] {
        self.path.get(..self.len).unwrap_or_default()
    }
}

/// Looks at a program, or at the interpreter of a script.
///
/// # Errors
///
/// If the file cannot be read. It may still be executable.
pub fn look_at(program: &CStr) -> Result<Image, Errno> {
    let mut image = Image {
        path: [0; MAX_LINE],
        len: 0,
        obstacle: None,
    };
    let mut file = open_to_read(program)?;
    for _ in 0..MAX_SCRIPTS {
        let mut line = [0; MAX_LINE];
        let len = read_at(&file, &mut line, 0)?;
        let Some(interpreter) = interpreter(line.get(..len).unwrap_or_default()) else {
            break;
        };
        // The path ends with a zero, because `image.len` is smaller than the buffer.
        image.path = [0; MAX_LINE];
        image.len = interpreter.len().min(MAX_LINE - 1);
        for (to, from) in image.path.iter_mut().zip(interpreter).take(image.len) {
            *to = *from;
        }
        let path = image.path.get(..=image.len).unwrap_or_default();
        file = open_to_read(CStr::from_bytes_with_nul(path).map_err(|_| Errno::INVAL)?)?;
    }
    image.obstacle = match of_elf(&file)? {
        None => gains_privileges(&file)?,
        obstacle => obstacle,
    };
    Ok(image)
}

fn open_to_read(path: &CStr) -> Result<OwnedFd, Errno> {
    open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )
}

fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    retry_on_intr(|| pread(&file, &mut *buffer, offset))
}

/// Returns the interpreter of a script from its first bytes.
fn interpreter(start: &[u8]) -> Option<&[u8]> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    line.split(|byte| byte.is_ascii_whitespace())
        .find(|word| !word.is_empty())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let field = bytes
        .get(at..at + 2)
        .and_then(|field| field.try_into().ok());
    field.map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes
        .get(at..at + 4)
        .and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes
        .get(at..at + 8)
        .and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}

fn of_elf(file: &OwnedFd) -> Result<Option<&'static str>, Errno> {
    let mut header = [0; 64];
    let len = read_at(file, &mut header, 0)?;
    if len < header.len() || !header.starts_with(b"\x7fELF") {
        // The kernel cannot load this file. A shell may run it as a script.
        return Ok(None);
    }
    if header.get(EI_CLASS) != Some(&ELFCLASS64) || u16_at(&header, 18) != MACHINE {
        return Ok(Some(
            "it is for another architecture than the preload library",
        ));
    }
    let (offset, size) = (u64_at(&header, 32), u64::from(u16_at(&header, 54)));
    let (mut interpreter, mut go) = (None, false);
    for index in 0..u64::from(u16_at(&header, 56)).min(MAX_PROGRAM_HEADERS) {
        let mut entry = [0; 56];
        if read_at(file, &mut entry, offset.saturating_add(index * size))? < entry.len() {
            break;
        }
        let at = u64_at(&entry, 8);
        match u32_at(&entry, 0) {
            PT_INTERP => {
                let mut name = [0; MAX_LINE];
                let len = read_at(file, &mut name, at)?.min(u64_at(&entry, 32) as usize);
                interpreter = Some(contains(name.get(..len).unwrap_or_default(), b"musl"));
            }
            PT_NOTE => {
                let mut note = [0; 16];
                let len = read_at(file, &mut note, at)?;
                go |= len == note.len() && note.get(12..16) == Some(b"Go\0\0");
            }
            _ => {}
        }
    }
    Ok(match interpreter {
        None => Some("it is statically linked, and loads no preload library"),
        Some(true) => Some(MUSL),
        Some(false) if go => Some("it is a Go program, which maps files without libc"),
        Some(false) => None,
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Returns an obstacle for a setuid or setgid program, or one with file capabilities. The dynamic
/// linker ignores preload libraries in such programs.
fn gains_privileges(file: &OwnedFd) -> Result<Option<&'static str>, Errno> {
    let stat = fstat(file)?;
    if stat.st_mode & SETUID != 0 && stat.st_uid != getuid().as_raw() {
        return Ok(Some(
            "it is a setuid program, which loads no preload library",
        ));
    }
    if stat.st_mode & SETGID == SETGID && stat.st_gid != getgid().as_raw() {
        return Ok(Some(
            "it is a setgid program, which loads no preload library",
        ));
    }
    let mut nothing = [0_u8; 0];
    let has_capabilities =
        fgetxattr(file, c"security.capability", &mut nothing).is_ok_and(|len| len > 0);
    Ok((has_capabilities && !geteuid().is_root())
        .then_some("it has file capabilities, and loads no preload library"))
}
