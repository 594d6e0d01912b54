// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copies from and to memory that other code may write to at the same time.

use std::{
    slice,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

const WORD: usize = size_of::<usize>();

/// Returns the words that contain the `len` bytes from `addr` on, and the offset of the first byte
/// in the first word.
///
/// # Safety
///
/// These words must be mapped for `'a`. This program must access them only atomically.
unsafe fn words<'a>(addr: *const u8, len: usize) -> (&'a [AtomicUsize], usize) {
    let inside = addr.addr() % WORD;
    let count = (inside + len).div_ceil(WORD);
    // SAFETY: The caller guarantees it. The address is aligned to a word.
    let words = unsafe { slice::from_raw_parts(addr.wrapping_sub(inside).cast(), count) };
    (words, inside)
}

/// Copies bytes out of memory that other code, in this process and in others, may write to at the
/// same time. It uses relaxed atomic loads of one aligned `usize` each. The copy may be partly old
/// and partly new.
///
/// Use it for memory that was mapped without a [`Mapping`](crate::Mapping). A `Mapping` copies in
/// the same way, and needs no `unsafe`.
///
/// # Safety
///
/// During the call, `bytes.len()` bytes from `source` on must be mapped and readable. So must the
/// rest of the first and of the last word that contain them. (In a mapped file this is always so,
/// because whole pages are mapped.) Threads of this process may write there only by atomic accesses
/// of a `usize`, as [`copy_to_shared`] does.
pub unsafe fn copy_from_shared(source: *const u8, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: The caller guarantees it. Relaxed loads of that size are allowed on read-only memory.
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

/// Copies bytes to memory that other code may access at the same time. It uses relaxed atomic
/// stores of one aligned `usize` each. It writes parts of words by compare-and-exchange, so that
/// no write is lost if another thread writes the other bytes of the word in the same way.
///
/// # Safety
///
/// That of [`copy_from_shared`], for the bytes from `target` on, which must also be writable.
pub unsafe fn copy_to_shared(target: *mut u8, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: The caller guarantees it, and that the memory is writable.
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

/// Returns how many bytes are left of a word after its first `inside` bytes: none if it is 0.
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
