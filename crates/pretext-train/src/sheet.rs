//! Square pictures of one size side by side, as a PNG.

use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use pretext_augment::Image;

use crate::error::{Error, Result};
use crate::files;

/// Space between pictures and around them, in pixels.
const GAP: u32 = 4;
/// Its colour.
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);

/// A grid of pictures.
pub(crate) struct Sheet {
    pixels: RgbImage,
    pitch: u32,
}

impl Sheet {
    /// An empty one, for pictures of `side` pixels.
    pub(crate) fn new(columns: usize, rows: usize, side: u32) -> Self {
        let pitch = side + GAP;
        let (width, height) = (columns as u32 * pitch + GAP, rows as u32 * pitch + GAP);
        Self { pixels: RgbImage::from_pixel(width, height, PAPER), pitch }
    }

    /// Puts a picture into its place; what does not fit is left out.
    pub(crate) fn put(&mut self, picture: &Image, column: usize, row: usize) {
        let (left, top) = (GAP + column as u32 * self.pitch, GAP + row as u32 * self.pitch);
        let width = picture.size().width.max(1) as usize;
        for (i, pixel) in picture.pixels().chunks_exact(3).enumerate() {
            let (x, y) = (left + (i % width) as u32, top + (i / width) as u32);
            if x < self.pixels.width() && y < self.pixels.height() {
                self.pixels.put_pixel(x, y, Rgb([pixel[0], pixel[1], pixel[2]]));
            }
        }
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.pixels.write_to(&mut bytes, ImageFormat::Png).map_err(|error| Error::File {
            path: out.to_owned(),
            problem: format!("cannot be written as PNG ({error})"),
        })?;
        files::write_whole(out, bytes.get_ref())
    }
}
