// SPDX-License-Identifier: GPL-2.0-only

//! `nosigbus status`.

use anyhow::{Context, Result, bail};
use std::{
    collections::HashMap,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

const DEVICE: &str = "/dev/nosigbus";
/// Which root can read.
const ALL_MAPPINGS: &str = "/sys/kernel/debug/nosigbus/mappings";

/// A line of fdinfo or of debugfs, as nosigbus(4) describes them: names and values.
struct Line<'a>(HashMap<&'a str, &'a str>);

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        Self(
            line.split_whitespace()
                .filter_map(|word| word.split_once('='))
                .collect(),
        )
    }

    fn text(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or("?")
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }
}

/// An opted-in VMA.
struct Vma {
    range: String,
    offset: u64,
    len: u64,
    file: String,
    path: String,
}

/// The opted-in VMAs in /proc/PID/smaps, which are known by their flags.
fn opted_in_vmas(smaps: &str) -> Vec<Vma> {
    let mut vmas = Vec::new();
    let mut last = None;
    for line in smaps.lines() {
        match line.strip_prefix("VmFlags:") {
            Some(flags) => {
                let has = |flag| flags.split_whitespace().any(|word| word == flag);
                if has("mm") && has("gu") {
                    vmas.extend(last.take());
                }
            }
            None => last = vma(line).or(last),
        }
    }
    vmas
}

/// A line as in /proc/PID/maps.
fn vma(line: &str) -> Option<Vma> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word)
    };
    let (range, _flags, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Vma {
        range: range.into(),
        offset: hex(offset)?,
        len: hex(end)?.checked_sub(hex(start)?)?,
        file: format!("{device}:{inode}"),
        path: rest.trim_start().into(),
    })
}

/// The file descriptors of the device.
fn devices(process: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        // It may be closed by now.
        if fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(DEVICE)) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// All lines that may be about mappings of the process. Those of root tell of every one; file
/// descriptors only of those that were opted in through one that is still open.
fn lines(process: &Path) -> Result<String> {
    if let Ok(all) = fs::read_to_string(ALL_MAPPINGS) {
        return Ok(all);
    }
    let mut lines = String::new();
    for fd in devices(process)? {
        let info = fs::read_to_string(process.join("fdinfo").join(fd)).unwrap_or_default();
        for line in info
            .lines()
            .filter_map(|line| line.strip_prefix("nosigbus:"))
        {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// What is known of the opted-in mappings of a process.
pub fn table(pid: u32) -> Result<String> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if !process.exists() {
        bail!("there is no process {pid}");
    }
    let denied = || format!("process {pid} is another user's, or protects itself: ask as root");
    let smaps = fs::read_to_string(process.join("smaps")).with_context(denied)?;
    let lines = lines(&process).with_context(denied)?;
    let vmas = opted_in_vmas(&smaps);
    if vmas.is_empty() {
        bail!("process {pid} has no mappings opted in");
    }

    let mut rows = vec![
        [
            "RANGE", "BYTES", "CLASS", "ZERO", "PRIVATE", "SHADOW", "ERRORS", "FILE",
        ]
        .map(String::from),
    ];
    let mut used = Vec::new();
    let lines: Vec<Line<'_>> = lines.lines().map(Line::parse).collect();
    for vma in &vmas {
        let line = line_of(vma, pid, &lines, &used);
        used.extend(line);
        rows.push(row(vma, line.map(|index| &lines[index])));
    }
    Ok(laid_out(&rows))
}

/// The line that tells of the mapping that a VMA is, or is a part or a copy of.
fn line_of(vma: &Vma, pid: u32, lines: &[Line<'_>], used: &[usize]) -> Option<usize> {
    let fits = |line: &Line<'_>| {
        let start = line.number("offset");
        let end = start.saturating_add(line.number("length"));
        // A mapping can have grown.
        line.text("file") == vma.file && (start..end.max(start + 1)).contains(&vma.offset)
    };
    let mut found: Vec<usize> = (0..lines.len())
        .filter(|&index| fits(&lines[index]))
        .collect();
    // Of several: one of these very addresses, of this process and not of its parent, of this
    // length, and not another VMA's already.
    found.sort_by_key(|&index| {
        let line = &lines[index];
        (
            line.text("range") != vma.range,
            line.number("pid") != u64::from(pid),
            line.number("length") != vma.len,
            used.contains(&index),
        )
    });
    found.first().copied()
}

fn row(vma: &Vma, line: Option<&Line<'_>>) -> [String; 8] {
    let of_line = |name| line.map_or("?", |line| line.text(name)).to_string();
    let errors = match line {
        Some(line) if line.number("error") != 0 => format!(
            "{} ({} at {})",
            line.text("errors"),
            io::Error::from_raw_os_error(line.number("error") as i32),
            line.text("error_offset")
        ),
        _ => of_line("errors"),
    };
    [
        vma.range.clone(),
        vma.len.to_string(),
        of_line("class"),
        of_line("zero_pages"),
        of_line("private_pages"),
        of_line("shadow_pages"),
        errors,
        vma.path.clone(),
    ]
}

/// In columns.
fn laid_out(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
