// SPDX-License-Identifier: MIT OR Apache-2.0

//! Untrusted text: names of files and of processes.

/// Escapes a name, so that it can be shown at a terminal.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    nosigbus_common::escape(bytes, &mut text);
    text
}

/// Decodes a name from /proc/PID/maps, where the kernel writes `\012` for a newline.
pub fn unmangled(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        match after.strip_prefix(b"012") {
            Some(after) if first == b'\\' => {
                bytes.push(b'\n');
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Returns the words of a line that have the form NAME=VALUE. A quoted value may contain anything;
/// a quote in it has a backslash before it.
pub fn words(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return None;
            }
            let end = end_of_word(rest);
            let (word, after) = rest.split_at(end);
            rest = after;
            if let Some(equals) = word.iter().position(|&byte| byte == b'=') {
                return Some((&word[..equals], &word[equals + 1..]));
            }
        }
    })
}

fn end_of_word(text: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b' ' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line_and_no_commands() {
        for (name, shown) in [
            (&b"/plain"[..], "/plain"),
            (b"/a b'c\"d", "/a b'c\"d"),
            (b"/new\nline\t\r", "/new\\nline\\t\\r"),
            (b"/\x1b[31mred\x07", "/\\u{1b}[31mred\\u{7}"),
            (b"/back\\slash", "/back\\\\slash"),
            (b"/\xff\xfe", "/\\377\\376"),
            ("/käse \u{202e}".as_bytes(), "/käse \\u{202e}"),
        ] {
            assert_eq!(escaped(name), shown);
        }
        assert_eq!(unmangled(b"/a\\012b\\01\\"), b"/a\nb\\01\\");
    }

    #[test]
    fn quoted_values_are_one_word() {
        let line = br#" pid=7 comm="x pid=1 \" pid=2" x range=1-2"#;
        let words: Vec<_> = words(line).collect();
        let expected: [(&[u8], &[u8]); 3] = [
            (b"pid", b"7"),
            (b"comm", br#""x pid=1 \" pid=2""#),
            (b"range", b"1-2"),
        ];
        assert_eq!(words, expected);
    }
}
