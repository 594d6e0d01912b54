// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies of memory that others write to meanwhile.

use std::{
    slice,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

const WORD: usize = size_of::<usize>();

/// The words that have any of `len` bytes from `addr` on, and where in the first of them the bytes
/// begin.
///
/// # Safety
///
/// These words are mapped as long as `'a`, and nobody accesses them but atomically, or by ways that
/// are not this program's.
unsafe fn words<'a>(addr: *const u8, len: usize) -> (&'a [AtomicUsize], usize) {
    let inside = addr.addr() % WORD;
    let count = (inside + len).div_ceil(WORD);
    // SAFETY: As the caller has it. They begin at a word.
    let words = unsafe { slice::from_raw_parts(addr.wrapping_sub(inside).cast(), count) };
    (words, inside)
}

/// Copies bytes out of memory that others, in this process and elsewhere, may write to meanwhile:
/// by relaxed atomic loads of one aligned `usize` each. What comes of it may be part old, part new.
///
/// For memory that is mapped by other means than a [`Mapping`](crate::Mapping), which copies in
/// this way, and needs no `unsafe`.
///
/// # Safety
///
/// `len` bytes from `source` on are mapped, and readable, for as long as this takes, and so are the
/// rest of the words that have the first and the last of them (of a file that is mapped all pages
/// are). Threads of this process write there by atomic accesses of a `usize` only, as
/// [`copy_to_shared`] does.
pub unsafe fn copy_from_shared(source: *const u8, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: As the caller has it. Relaxed loads of that size may be made of read-only memory.
    let (mut words, inside) = unsafe { words(source, bytes.len()) };
    let (head, bytes) = bytes.split_at_mut(to_word(inside).min(bytes.len()));
    if !head.is_empty() {
        // There are bytes in it, so there is a word.
        load_part(&words[0], inside, head);
        words = &words[1..];
    }
    let mut chunks = bytes.chunks_exact_mut(WORD);
    let whole = chunks.len();
    for (chunk, word) in chunks.by_ref().zip(words) {
        chunk.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        load_part(&words[whole], 0, tail);
    }
}

/// Copies bytes to memory that others may access meanwhile: by relaxed atomic stores of one aligned
/// `usize` each. Parts of words are written by compare-and-exchange, so that whoever writes to the
/// other bytes in this way loses nothing.
///
/// # Safety
///
/// As [`copy_from_shared`] has it for the bytes from `target` on, which are writable.
pub unsafe fn copy_to_shared(target: *mut u8, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: As the caller has it.
    let (mut words, inside) = unsafe { words(target, bytes.len()) };
    let (head, bytes) = bytes.split_at(to_word(inside).min(bytes.len()));
    if !head.is_empty() {
        store_part(&words[0], inside, head);
        words = &words[1..];
    }
    let mut chunks = bytes.chunks_exact(WORD);
    let whole = chunks.len();
    for (chunk, word) in chunks.by_ref().zip(words) {
        let mut value = [0; WORD];
        value.copy_from_slice(chunk);
        word.store(usize::from_ne_bytes(value), Relaxed);
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        store_part(&words[whole], 0, tail);
    }
}

/// How many bytes come before the next word.
fn to_word(inside: usize) -> usize {
    inside.next_multiple_of(WORD) - inside
}

fn load_part(word: &AtomicUsize, inside: usize, bytes: &mut [u8]) {
    bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes()[inside..][..bytes.len()]);
}

fn store_part(word: &AtomicUsize, inside: usize, bytes: &[u8]) {
    let merged = |old: usize| {
        let mut value = old.to_ne_bytes();
        value[inside..][..bytes.len()].copy_from_slice(bytes);
        Some(usize::from_ne_bytes(value))
    };
    // It is always Some, so this always succeeds.
    let _ = word.fetch_update(Relaxed, Relaxed, merged);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that begin with a word, with room around them.
    struct Memory(Vec<usize>);

    impl Memory {
        fn new() -> Self {
            Self(vec![usize::from_ne_bytes([0xaa; WORD]); 8])
        }

        fn byte(&mut self, index: usize) -> *mut u8 {
            self.0.as_mut_ptr().cast::<u8>().wrapping_add(index)
        }

        fn bytes(&self) -> Vec<u8> {
            self.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
        }
    }

    #[test]
    fn copies_are_exact_and_nothing_beside_them_changes() {
        for offset in 0..3 * WORD {
            for len in 0..4 * WORD {
                let mut memory = Memory::new();
                let bytes: Vec<u8> = (0..len).map(|byte| byte as u8 + 1).collect();
                let mut expected = memory.bytes();
                expected[offset..][..len].copy_from_slice(&bytes);
                // SAFETY: Inside of it, and nobody else knows it.
                unsafe { copy_to_shared(memory.byte(offset), &bytes) };
                assert_eq!(memory.bytes(), expected);
                let mut back = vec![0; len];
                // SAFETY: As above.
                unsafe { copy_from_shared(memory.byte(offset), &mut back) };
                assert_eq!(back, bytes);
            }
        }
    }

    #[test]
    fn nothing_is_copied_of_no_memory() {
        // SAFETY: No bytes.
        unsafe { copy_from_shared(std::ptr::null(), &mut []) };
        // SAFETY: As above.
        unsafe { copy_to_shared(std::ptr::null_mut(), &[]) };
    }
}
