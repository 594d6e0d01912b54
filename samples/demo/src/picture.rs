// SPDX-License-Identifier: GPL-2.0-only

//! The frames: a moving bar over a gradient, as a function of the frame's number.

use anyhow::{Context, Result};
use std::{fs::File, io::BufWriter, path::Path};

pub const WIDTH: usize = 640;
pub const HEIGHT: usize = 480;
/// Bytes of a pixel: red, green, blue, and 255, so that no drawn byte sequence is all zeros.
pub const PIXEL: usize = 4;
/// Bytes of a frame, a multiple of every page size up to 16 KiB.
pub const BYTES: usize = WIDTH * HEIGHT * PIXEL;

/// Draws a frame.
pub fn draw(frame: u64) -> Vec<u8> {
    let bar = (frame as usize * 16) % WIDTH;
    let mut pixels = Vec::with_capacity(BYTES);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let in_bar = (bar..bar + 64).contains(&x);
            let shade = (y * 255 / HEIGHT) as u8;
            let tint = (x * 255 / WIDTH) as u8;
            pixels.extend(if in_bar {
                [255, 220 - shade / 2, 40, 255]
            } else {
                [tint / 2, 90 + shade / 3, 200 - shade / 2, 255]
            });
        }
    }
    pixels
}

/// How many pixels of a frame were never drawn.
pub fn missing_pixels(pixels: &[u8]) -> usize {
    pixels
        .chunks_exact(PIXEL)
        .filter(|pixel| pixel[PIXEL - 1] == 0)
        .count()
}

/// Writes a frame as a PNG; missing pixels come out black.
pub fn write_png(path: &Path, pixels: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(file, WIDTH as u32, HEIGHT as u32);
        encoder.set_color(png::ColorType::Rgb);
        let rgb: Vec<u8> = pixels
            .chunks_exact(PIXEL)
            .flat_map(|pixel| &pixel[..PIXEL - 1])
            .copied()
            .collect();
        Ok(encoder.write_header()?.write_image_data(&rgb)?)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
