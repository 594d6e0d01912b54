// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why the module does not take a mapping: it says EOPNOTSUPP, and /proc/self/smaps knows more.

use std::fs;

/// An entry of /proc/self/smaps.
struct Entry<'a> {
    start: u64,
    end: u64,
    /// As /proc/self/maps shows it; empty if there is none.
    path: &'a str,
    /// What VmFlags says.
    flags: &'a str,
}

/// "7f00-7f10 r--p 00000000 00:01 1234    /path with spaces"
fn parse_heading(line: &str) -> Option<Entry<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    // Permissions, offset, device, inode.
    let path = (0..4).try_fold(rest, |rest, _| {
        let rest = rest.trim_start();
        Some(rest.split_once(' ').map_or("", |(_, rest)| rest))
    })?;
    Some(Entry {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        path: path.trim_start(),
        flags: "",
    })
}

fn entries(smaps: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::<Entry<'_>>::new();
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if let Some(entry) = entries.last_mut() {
                entry.flags = flags;
            }
        } else {
            entries.extend(parse_heading(line));
        }
    }
    entries
}

/// What is wrong with an entry; `None` if nothing that can be seen.
fn objection(entry: &Entry<'_>) -> Option<String> {
    let has = |flag| entry.flags.split_whitespace().any(|word| word == flag);
    let is = match entry.path {
        path if has("ht") => format!("huge pages (hugetlb) {path}"),
        path if has("io") || has("pf") => format!("device memory {path}"),
        "" => "anonymous memory".into(),
        path if path.starts_with('[') => format!("anonymous memory {path}"),
        path if path.starts_with("/dev/zero") => "shared anonymous memory".into(),
        path if path.starts_with("/SYSV") => "System V shared memory".into(),
        path if path.starts_with("/secretmem") => "memfd_secret memory".into(),
        _ if has("lo") => {
            return Some(
                "this one is locked in memory: munlock it first, and munlockall if every new one \
                 is (MCL_FUTURE)"
                    .into(),
            );
        }
        _ if has("um") || has("uw") || has("ui") => {
            return Some("this one is registered with userfaultfd: undo that first".into());
        }
        _ => return None,
    };
    Some(format!("this one is of {}", is.trim_end()))
}

pub(crate) const UNSUPPORTED: &str = "only mappings of ordinary files can be opted in, which are \
                                      not locked in memory and not registered with userfaultfd";

/// The advice about a range that the module does not take.
pub(crate) fn unsupported(addr: u64, len: u64) -> String {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let entries = entries(&smaps);
    let inside = || {
        entries
            .iter()
            .filter(|entry| addr < entry.end && entry.start < addr.saturating_add(len))
    };
    match (inside().find_map(objection), inside().next()) {
        (Some(objection), _) => {
            format!("only mappings of ordinary files can be opted in; {objection}")
        }
        (None, Some(entry)) => format!("{UNSUPPORTED}; this one is of {}", entry.path),
        (None, None) => UNSUPPORTED.into(),
    }
}
