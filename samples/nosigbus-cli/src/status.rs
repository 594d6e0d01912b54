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
    collections::{HashMap, HashSet},
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

/// The list of all opted-in mappings, which only root can read.
const ALL_MAPPINGS: &str = "/sys/kernel/debug/nosigbus/mappings";

/// A line of fdinfo or of debugfs, as nosigbus(4) describes them: names and values.
struct Line<'a> {
    words: &'a [u8],
    /// What is not in fdinfo is empty, or unknown.
    range: &'a str,
    file: &'a str,
    pid: Option<u64>,
    offset: u64,
    len: u64,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Self {
        let mut parsed = Self {
            words: line,
            range: "",
            file: "",
            pid: None,
            offset: 0,
            len: 0,
        };
        for (name, value) in words(line) {
            let value = std::str::from_utf8(value).unwrap_or_default();
            match name {
                b"range" => parsed.range = value,
                b"file" => parsed.file = value,
                b"pid" => parsed.pid = value.parse().ok(),
                b"offset" => parsed.offset = value.parse().unwrap_or(0),
                b"length" => parsed.len = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        parsed
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        let (_, value) = words(self.words).find(|(other, _)| *other == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// Lines, and which ones are of a file, or of a file and a range. There can be millions: users
/// choose how many mappings they opt in.
struct Lines<'a> {
    all: Vec<Line<'a>>,
    of_file: HashMap<&'a str, Vec<usize>>,
    of_range: HashMap<(&'a str, &'a str), Vec<usize>>,
}

impl<'a> Lines<'a> {
    fn parse(text: &'a [u8]) -> Self {
        let mut lines = Self {
            all: text.split(|&byte| byte == b'\n').map(Line::parse).collect(),
            of_file: HashMap::new(),
            of_range: HashMap::new(),
        };
        for (index, line) in lines.all.iter().enumerate() {
            let of_range = (line.file, line.range);
            lines.of_file.entry(line.file).or_default().push(index);
            lines.of_range.entry(of_range).or_default().push(index);
        }
        lines
    }

    /// Finds the line of a VMA's mapping. The VMA can be the whole mapping, a part of it or a copy.
    fn line_of(&self, vma: &Vma, pid: u32, used: &HashSet<usize>) -> Option<usize> {
        let file = vma.file.as_str();
        let fits = |&index: &usize| {
            let line = &self.all[index];
            // A mapping can have grown.
            let end = line.offset.saturating_add(line.len.max(1));
            (line.offset..end).contains(&vma.offset)
        };
        // If several lines fit, prefers, in this order: the same address range, this process (not
        // its parent), the same length, and a line that no other VMA uses yet.
        let best = |lines: Option<&Vec<usize>>| {
            let fitting = lines?.iter().copied().filter(fits);
            fitting.min_by_key(|index| {
                let line = &self.all[*index];
                (
                    line.pid != Some(pid.into()),
                    line.len != vma.len,
                    used.contains(index),
                )
            })
        };
        best(self.of_range.get(&(file, vma.range.as_str())))
            .or_else(|| best(self.of_file.get(file)))
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

/// Returns the lines of fdinfo that may describe mappings of the process. Only mappings that were
/// opted in through a file descriptor that is still open have one.
fn lines_of(process: &Path) -> io::Result<Vec<u8>> {
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

/// A process, and its opted-in VMAs.
struct Process {
    pid: u32,
    command: String,
    vmas: Vec<Vma>,
}

impl Process {
    fn path(pid: u32) -> PathBuf {
        PathBuf::from(format!("/proc/{pid}"))
    }

    fn read(pid: u32) -> io::Result<Self> {
        let path = Self::path(pid);
        let vmas = opted_in_vmas(&fs::read(path.join("smaps"))?);
        let command = fs::read(path.join("comm")).unwrap_or_default();
        let command = escaped(command.strip_suffix(b"\n").unwrap_or(&command));
        Ok(Self { pid, command, vmas })
    }

    fn mappings(self, lines: &Lines<'_>) -> impl Iterator<Item = Mapping> {
        let mut used = HashSet::new();
        self.vmas.into_iter().map(move |vma| {
            let index = lines.line_of(&vma, self.pid, &used);
            used.extend(index);
            let line = index.map(|index| &lines.all[index]);
            let number = |name| line.and_then(|line| line.number(name));
            let error = number("error").filter(|&error| error != 0);
            Mapping {
                pid: self.pid,
                command: self.command.clone(),
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
        })
    }
}

/// The opted-in mappings of processes. For root their lines come from debugfs, which lists every
/// mapping. It is read once, after all processes: it has the lines of all processes.
fn mappings_of(processes: Vec<Process>) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    if processes.is_empty() {
        return mappings;
    }
    let text = fs::read(ALL_MAPPINGS).ok();
    let all = text.as_deref().map(Lines::parse);
    for process in processes {
        match &all {
            Some(lines) => mappings.extend(process.mappings(lines)),
            None => {
                let text = lines_of(&Process::path(process.pid)).unwrap_or_default();
                mappings.extend(process.mappings(&Lines::parse(&text)));
            }
        }
    }
    mappings
}

/// The opted-in mappings of one process.
pub fn of_process(pid: u32) -> Result<Vec<Mapping>> {
    if !Path::new(&format!("/proc/{pid}")).exists() {
        bail!("there is no process {pid}");
    }
    let process = Process::read(pid).with_context(|| {
        format!("process {pid} is another user's, or protects itself: ask as root")
    })?;
    if process.vmas.is_empty() {
        bail!("process {pid} has no mappings opted in");
    }
    Ok(mappings_of(vec![process]))
}

/// Returns the opted-in mappings of all processes that this one may inspect, and how many processes
/// it may not inspect.
pub fn of_all() -> Result<(Vec<Mapping>, usize)> {
    let (mut processes, mut denied) = (Vec::new(), 0);
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        match Process::read(pid) {
            Ok(process) if process.vmas.is_empty() => {}
            Ok(process) => processes.push(process),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    Ok((mappings_of(processes), denied))
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
