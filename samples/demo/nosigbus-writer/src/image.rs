// SPDX-License-Identifier: MIT OR Apache-2.0

//! The content of the output, written as a linker does: sections in any order, then data that
//! depends on the whole file. The bytes depend only on size and seed, and do not compress.

use anyhow::{Result, ensure};

/// A file, or a mapping of one.
pub trait Output {
    fn write(&mut self, bytes: &[u8], offset: usize) -> Result<()>;
    fn read(&self, bytes: &mut [u8], offset: usize) -> Result<()>;
}

/// Magic, size, number of sections, build ID: eight bytes each.
const HEADER: usize = 32;
const MAGIC: &[u8; 8] = b"nosigbus";
const BUILD_ID: usize = 24;
const SECTION_MAX: usize = 96 << 10;
/// A relocation for each of this many bytes.
const RELOCATION_EVERY: usize = 4096;

struct Section {
    offset: usize,
    len: usize,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Returns sections in the order of writing. They have all lengths, and borders inside pages.
fn sections(size: usize, random: &mut Random) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut offset = HEADER;
    while offset < size {
        let len = (1 + random.below(SECTION_MAX)).min(size - offset);
        sections.push(Section { offset, len });
        offset += len;
    }
    for i in (1..sections.len()).rev() {
        sections.swap(i, random.below(i + 1));
    }
    sections
}

/// Adds the address of a section to each place that refers to a section.
fn relocate(output: &mut impl Output, sections: &[Section], random: &mut Random) -> Result<()> {
    for section in sections {
        for _ in 0..section.len / RELOCATION_EVERY {
            let place = section.offset + random.below(section.len - 7);
            let target = sections[random.below(sections.len())].offset as u64;
            let mut value = [0; 8];
            output.read(&mut value, place)?;
            let value = u64::from_le_bytes(value).wrapping_add(target);
            output.write(&value.to_le_bytes(), place)?;
        }
    }
    Ok(())
}

/// Returns a hash of the whole output without the build ID.
fn build_id(output: &impl Output, size: usize) -> Result<u64> {
    let mut hash = size as u64;
    let mut buffer = vec![0; 64 << 10];
    for offset in (0..size).step_by(buffer.len()) {
        let part = &mut buffer[..(64 << 10).min(size - offset)];
        output.read(part, offset)?;
        for byte in part {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// Writes the whole output.
pub fn write(output: &mut impl Output, size: usize, seed: u64) -> Result<()> {
    ensure!(size > HEADER, "--size must be more than {HEADER} bytes");
    let mut random = Random(seed);
    let sections = sections(size, &mut random);

    for section in &sections {
        let mut bytes = vec![0; section.len];
        random.fill(&mut bytes);
        output.write(&bytes, section.offset)?;
    }
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&(size as u64).to_le_bytes());
    header[16..24].copy_from_slice(&(sections.len() as u64).to_le_bytes());
    output.write(&header, 0)?;

    relocate(output, &sections, &mut random)?;
    let id = build_id(output, size)?;
    output.write(&id.to_le_bytes(), BUILD_ID)
}
