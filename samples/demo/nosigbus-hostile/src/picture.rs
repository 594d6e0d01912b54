// SPDX-License-Identifier: MIT OR Apache-2.0

//! PNG files: written, and searched for a colour.

use crate::pool::Color;
use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    io::{BufReader, BufWriter},
    path::Path,
};

/// Writes pixels as wl_shm has them: blue, green, red, and a byte that is not used.
pub fn write(path: &Path, bgrx: &[u8], width: i32, height: i32) -> Result<()> {
    let rgb: Vec<u8> = bgrx
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])
        .collect();
    let write = || -> Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(file, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        Ok(encoder.write_header()?.write_image_data(&rgb)?)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// How many pixels of a file are of exactly that colour.
pub fn count(path: &Path, color: Color) -> Result<usize> {
    let count = || -> Result<usize> {
        let mut reader = png::Decoder::new(BufReader::new(File::open(path)?)).read_info()?;
        let (kind, depth) = reader.output_color_type();
        let samples = kind.samples();
        ensure!(
            depth == png::BitDepth::Eight && samples >= color.len(),
            "not a picture of eight bits a colour"
        );
        let mut pixels = vec![0; reader.output_buffer_size().context("too large")?];
        reader.next_frame(&mut pixels)?;
        Ok(pixels
            .chunks_exact(samples)
            .filter(|pixel| pixel.starts_with(&color))
            .count())
    };
    count().with_context(|| format!("reading {}", path.display()))
}
