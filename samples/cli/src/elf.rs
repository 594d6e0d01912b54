// SPDX-License-Identifier: GPL-2.0-only

//! Whether the dynamic linker gets to see a program, and so the preload library.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::{ffi::OsStringExt, fs::FileExt},
    path::{Path, PathBuf},
};

/// As many as the kernel follows.
const MAX_SCRIPTS: usize = 5;
const MAX_PROGRAM_HEADERS: usize = 1024;

const EI_CLASS: usize = 4;
const E_MACHINE: usize = 18;
const PT_INTERP: u32 = 3;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
const ELFCLASS64: u8 = 2;

/// What the kernel loads first.
pub struct Image {
    /// The interpreter, for a script.
    pub path: PathBuf,
    pub obstacle: Option<&'static str>,
}

/// Looks at a program, or at the interpreter of a script.
pub fn look_at(program: &Path) -> io::Result<Image> {
    let mut path = program.to_path_buf();
    for _ in 0..MAX_SCRIPTS {
        match interpreter(&path)? {
            Some(next) => path = next,
            None => break,
        }
    }
    let obstacle = obstacle(&File::open(&path)?)?;
    Ok(Image { path, obstacle })
}

/// That of a script.
fn interpreter(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut line = Vec::new();
    // As much of it as the kernel looks at.
    BufReader::new(File::open(path)?.take(256)).read_until(b'\n', &mut line)?;
    let Some(rest) = line.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let mut words = rest
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    Ok(words
        .next()
        .map(|word| PathBuf::from(std::ffi::OsString::from_vec(word.to_vec()))))
}

fn obstacle(file: &File) -> io::Result<Option<&'static str>> {
    let mut header = [0; 64];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) if header.starts_with(b"\x7fELF") => {}
        // Not for the kernel to load; a shell may make something of it.
        Ok(()) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    if header[EI_CLASS] != ELFCLASS64 || half(E_MACHINE) != MACHINE {
        return Ok(Some(
            "it is for another architecture than the preload library",
        ));
    }
    let offset = u64::from_le_bytes(header[32..40].try_into().expect("8 bytes"));
    let (size, count) = (usize::from(half(54)), usize::from(half(56)));
    for index in 0..count.min(MAX_PROGRAM_HEADERS) {
        let mut entry = [0; 56];
        let at = offset.saturating_add((index * size) as u64);
        match file.read_exact_at(&mut entry, at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        if entry[..4] == PT_INTERP.to_le_bytes() {
            return Ok(None);
        }
    }
    Ok(Some(
        "it is statically linked, and loads no preload library",
    ))
}
