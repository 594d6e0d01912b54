// SPDX-License-Identifier: MIT OR Apache-2.0

//! The screen, a picture in memory: places for four windows, which do not overlap.

use crate::{
    log,
    pool::{Buffer, PIXEL},
};
use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    sync::Arc,
};
use wayland_server::protocol::wl_shm::Format;

pub const WIDTH: usize = 640;
pub const HEIGHT: usize = 560;
/// Bytes of a line.
pub const STRIDE: usize = WIDTH * PIXEL;
const COLUMNS: usize = 2;
const ROWS: usize = 2;
pub const PLACES: usize = COLUMNS * ROWS;
const PLACE_WIDTH: usize = WIDTH / COLUMNS;
const PLACE_HEIGHT: usize = HEIGHT / ROWS;

/// Pixels as wl_shm has them in XRGB8888: blue, green, red, and a byte that is not used.
pub struct Screen {
    pixels: Vec<u8>,
}

impl Screen {
    pub fn new() -> Self {
        Self {
            pixels: vec![0; STRIDE * HEIGHT],
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact(STRIDE)
    }

    /// Draws the background, and each buffer in its place.
    pub fn draw(&mut self, buffers: impl Iterator<Item = (usize, Arc<Buffer>)>) {
        for (y, line) in self.pixels.chunks_exact_mut(STRIDE).enumerate() {
            let shade = (48 + y * 64 / HEIGHT) as u8;
            for pixel in line.chunks_exact_mut(PIXEL) {
                pixel.copy_from_slice(&[shade, shade / 2 + 16, shade / 2, 0]);
            }
        }
        for (place, buffer) in buffers {
            self.draw_buffer(&buffer, place);
        }
    }

    /// Draws a client's buffer into the middle of a place.
    fn draw_buffer(&mut self, buffer: &Buffer, place: usize) {
        let width = buffer.shape.width.min(PLACE_WIDTH);
        let height = buffer.shape.height.min(PLACE_HEIGHT);
        let left = place % COLUMNS * PLACE_WIDTH + (PLACE_WIDTH - width) / 2;
        let top = place / COLUMNS * PLACE_HEIGHT + (PLACE_HEIGHT - height) / 2;
        let opaque = buffer.shape.format == Format::Xrgb8888;
        buffer.read(width, height, |y, line| {
            let start = (top + y) * STRIDE + left * PIXEL;
            let below = &mut self.pixels[start..][..line.len()];
            if opaque {
                below.copy_from_slice(line);
            } else {
                blend(below, line);
            }
        });
    }

    fn write_png(&self, path: &Path) -> Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(file, WIDTH as u32, HEIGHT as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        let pixels = self.pixels.chunks_exact(PIXEL);
        let rgb: Vec<u8> = pixels
            .flat_map(|bgrx| [bgrx[2], bgrx[1], bgrx[0]])
            .collect();
        Ok(encoder.write_header()?.write_image_data(&rgb)?)
    }
}

/// Draws a line of ARGB8888 over another. Its colours are already multiplied by alpha.
fn blend(below: &mut [u8], line: &[u8]) {
    for (below, above) in below.chunks_exact_mut(PIXEL).zip(line.chunks_exact(PIXEL)) {
        let through = 255 - u32::from(above[3]);
        for (below, above) in below.iter_mut().zip(above) {
            *below = above.saturating_add((u32::from(*below) * through / 255) as u8);
        }
    }
}

/// A directory that some frames are written to.
pub struct Pictures {
    directory: PathBuf,
    frame: u64,
}

impl Pictures {
    const EVERY: u64 = 5;

    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            frame: 0,
        }
    }

    pub fn add(&mut self, screen: &Screen) {
        self.frame += 1;
        if self.frame % Self::EVERY == 0 {
            // Clients may have used up the compositor's file descriptors. That does not end it.
            self.write(screen).unwrap_or_else(log::complain);
        }
    }

    fn write(&self, screen: &Screen) -> Result<()> {
        let path = self.directory.join(format!("{:06}.png", self.frame));
        // The rename makes a picture visible only when it is complete.
        let part = path.with_extension("part");
        screen
            .write_png(&part)
            .and_then(|()| Ok(fs::rename(&part, &path)?))
            .with_context(|| format!("writing {}", path.display()))
    }
}
