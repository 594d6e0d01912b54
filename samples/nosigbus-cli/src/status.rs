// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nosigbus status`.
//!
//! Names of files and processes can contain any bytes that their owners choose, and root may run
//! this command at a terminal. So the names are read as bytes, and escaped before they are shown.

use crate::text::{escaped, unmangled, words};
use anyhow::{Context, Result, bail};
use nosigbus::uapi::DEVICE;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

/// The list of all opted-in mappings, which only root can read.
const ALL_MAPPINGS: &str = "/sys/kernel/debug/nosigbus/mappings";

/// A line of fdinfo or of debugfs, as nosigbus(4) describes them: names and values.
struct Line<'a>(HashMap<&'a [u8], &'a [u8]>);

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Self {
        Self(words(line).collect())
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.0.get(name.as_bytes())?).ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// An opted-in VMA.
struct Vma {
    range: String,
    offset: u64,
    len: u64,
    file: String,
    path: Vec<u8>,
}

/// Finds the opted-in VMAs in /proc/PID/smaps by their flags.
fn opted_in_vmas(smaps: &[u8]) -> Vec<Vma> {
    let mut vmas = Vec::new();
    let mut last = None;
    for line in smaps.split(|&byte| byte == b'\n') {
        match line.strip_prefix(b"VmFlags:") {
            Some(flags) => {
                let has = |flag: &[u8]| flags.split(|&byte| byte == b' ').any(|word| word == flag);
                if has(b"mm") && has(b"gu") {
                    vmas.extend(last.take());
                }
            }
            None => last = vma(line).or(last),
        }
    }
    vmas
}

/// Parses a line in the format of /proc/PID/maps.
fn vma(line: &[u8]) -> Option<Vma> {
    let mut parts = line.splitn(6, |&byte| byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (range, _flags, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Vma {
        range: range.into(),
        offset: hex(offset)?,
        len: hex(end)?.checked_sub(hex(start)?)?,
        file: format!("{device}:{inode}"),
        path: unmangled(parts.next().unwrap_or_default().trim_ascii_start()),
    })
}

/// Returns the paths of fdinfo for each file descriptor of the device.
fn devices(process: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        // It may be closed by now.
        if fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(DEVICE)) {
            found.push(process.join("fdinfo").join(entry.file_name()));
        }
    }
    Ok(found)
}

/// Returns all lines that may describe mappings of the process. For root they come from debugfs,
/// which lists every mapping. Otherwise they come from fdinfo, which lists only mappings that were
/// opted in through a file descriptor that is still open.
fn lines(process: &Path) -> io::Result<Vec<u8>> {
    if let Ok(all) = fs::read(ALL_MAPPINGS) {
        return Ok(all);
    }
    let mut lines = Vec::new();
    for info in devices(process)? {
        let info = fs::read(info).unwrap_or_default();
        for line in info.split(|&byte| byte == b'\n') {
            if let Some(line) = line.strip_prefix(b"nosigbus:") {
                lines.extend_from_slice(line);
                lines.push(b'\n');
            }
        }
    }
    Ok(lines)
}

/// The known data of an opted-in VMA. Unknown fields are `None`.
pub struct Mapping {
    pid: u32,
    command: String,
    range: String,
    bytes: u64,
    class: Option<String>,
    zero_pages: Option<u64>,
    private_pages: Option<u64>,
    shadow_pages: Option<u64>,
    errors: Option<u64>,
    error: Option<u64>,
    error_offset: Option<u64>,
    file: String,
}

impl Mapping {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "pid": self.pid,
            "command": self.command,
            "range": self.range,
            "bytes": self.bytes,
            "class": self.class,
            "zero_pages": self.zero_pages,
            "private_pages": self.private_pages,
            "shadow_pages": self.shadow_pages,
            "errors": self.errors,
            "error": self.error,
            "error_offset": self.error_offset,
            "file": self.file,
        })
    }
}

/// The opted-in mappings of a process.
fn mappings_of(pid: u32) -> io::Result<Vec<Mapping>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let vmas = opted_in_vmas(&fs::read(process.join("smaps"))?);
    if vmas.is_empty() {
        return Ok(Vec::new());
    }
    let command = fs::read(process.join("comm")).unwrap_or_default();
    let command = escaped(command.strip_suffix(b"\n").unwrap_or(&command));
    let lines = lines(&process)?;
    let lines: Vec<Line<'_>> = lines
        .split(|&byte| byte == b'\n')
        .map(Line::parse)
        .collect();
    let mut used = Vec::new();
    let mapping = |vma: Vma| {
        let index = line_of(&vma, pid, &lines, &used);
        used.extend(index);
        let line = index.map(|index| &lines[index]);
        let number = |name| line.and_then(|line| line.number(name));
        let error = number("error").filter(|&error| error != 0);
        Mapping {
            pid,
            command: command.clone(),
            bytes: vma.len,
            class: line.and_then(|line| line.text("class")).map(String::from),
            zero_pages: number("zero_pages"),
            private_pages: number("private_pages"),
            shadow_pages: number("shadow_pages"),
            errors: number("errors"),
            error,
            error_offset: error.and_then(|_| number("error_offset")),
            range: vma.range,
            file: escaped(&vma.path),
        }
    };
    Ok(vmas.into_iter().map(mapping).collect())
}

/// The opted-in mappings of one process.
pub fn of_process(pid: u32) -> Result<Vec<Mapping>> {
    if !Path::new(&format!("/proc/{pid}")).exists() {
        bail!("there is no process {pid}");
    }
    let mappings = mappings_of(pid).with_context(|| {
        format!("process {pid} is another user's, or protects itself: ask as root")
    })?;
    if mappings.is_empty() {
        bail!("process {pid} has no mappings opted in");
    }
    Ok(mappings)
}

/// Returns the opted-in mappings of all processes that this one may inspect, and how many processes
/// it may not inspect.
pub fn of_all() -> Result<(Vec<Mapping>, usize)> {
    let (mut mappings, mut denied) = (Vec::new(), 0);
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        match mappings_of(pid) {
            Ok(found) => mappings.extend(found),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    Ok((mappings, denied))
}

/// Finds the line of a VMA's mapping. The VMA can be the whole mapping, a part of it or a copy.
fn line_of(vma: &Vma, pid: u32, lines: &[Line<'_>], used: &[usize]) -> Option<usize> {
    let fits = |line: &Line<'_>| {
        let start = line.number("offset").unwrap_or(0);
        let end = start.saturating_add(line.number("length").unwrap_or(0));
        // A mapping can have grown.
        line.text("file") == Some(&vma.file)
            && (start..end.max(start.saturating_add(1))).contains(&vma.offset)
    };
    let found = (0..lines.len()).filter(|&index| fits(&lines[index]));
    // If several lines fit, prefers, in this order: the same address range, this process (not its
    // parent), the same length, and a line that no other VMA uses yet.
    found.min_by_key(|&index| {
        let line = &lines[index];
        (
            line.text("range") != Some(&vma.range),
            line.number("pid") != Some(pid.into()),
            line.number("length") != Some(vma.len),
            used.contains(&index),
        )
    })
}

const COLUMNS: usize = 10;

fn row(mapping: &Mapping) -> [String; COLUMNS] {
    let number = |number: Option<u64>| number.map_or("?".into(), |number| number.to_string());
    let errors = match (mapping.error, mapping.error_offset) {
        (Some(error), Some(offset)) => format!(
            "{} ({} at {offset})",
            number(mapping.errors),
            io::Error::from_raw_os_error(error as i32),
        ),
        _ => number(mapping.errors),
    };
    [
        mapping.pid.to_string(),
        mapping.command.clone(),
        mapping.range.clone(),
        mapping.bytes.to_string(),
        mapping.class.clone().unwrap_or("?".into()),
        number(mapping.zero_pages),
        number(mapping.private_pages),
        number(mapping.shadow_pages),
        errors,
        mapping.file.clone(),
    ]
}

/// Formats the mappings as a table. `of_all` adds the columns for process and command.
pub fn table(mappings: &[Mapping], of_all: bool) -> String {
    let mut rows = vec![
        [
            "PID", "COMMAND", "RANGE", "BYTES", "CLASS", "ZERO", "PRIVATE", "SHADOW", "ERRORS",
            "FILE",
        ]
        .map(String::from),
    ];
    rows.extend(mappings.iter().map(row));
    let columns = if of_all { 0..COLUMNS } else { 2..COLUMNS };
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for column in columns.clone() {
            let _ = write!(line, "{:1$}  ", row[column], widths[column]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
