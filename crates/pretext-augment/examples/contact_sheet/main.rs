//! Draws every transform: a strip of samples for each, a contact sheet of all of them, and one of the
//! views of every preset.
//!
//! `cargo run -p pretext-augment --example contact_sheet -- [PICTURE [FOLDER]]`
//!
//! Each strip is written as a PNG and, for rustdoc, as Markdown that holds it.
//!
//! PICTURE is any JPEG, PNG or WebP, by default the photograph of this crate's documentation;
//! FOLDER, by default `contact_sheet`, is made if it does not exist.

#![allow(clippy::print_stdout)] // a program for the terminal

mod embed;
mod font;
mod samples;

use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{Rgb, RgbImage, imageops};
use pretext_augment::ops::CropResize;
use pretext_augment::{Image, Rect, Size};

use samples::Row;

const PHOTOGRAPH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/photograph.jpg");
const PAPER: Rgb<u8> = Rgb([255; 3]);
/// Between two pictures, in pixels.
const GAP: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let picture = arguments.next().unwrap_or_else(|| PHOTOGRAPH.into());
    let folder = arguments.next().unwrap_or_else(|| "contact_sheet".into());

    let rgb = image::open(&picture).map_err(|error| format!("{}: {error}", picture.display()))?;
    let rgb = rgb.into_rgb8();
    let size = Size { width: rgb.width(), height: rgb.height() };
    let image = Image::new(size, rgb.into_raw())?;
    let rows = samples::of_every_transform(&image)?;
    let presets = samples::of_every_preset(&image);

    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for row in &rows {
        let strip = strip(&row.views[..3], 80);
        let file = folder.join(row.name.replace(", ", "-").replace(' ', "-"));
        save(&strip, &file.with_extension("png"))?;
        embed::write(&strip, row.name, &file.with_extension("md"))?;
    }
    save(&sheet(&rows, 2), &folder.join("contact_sheet.png"))?;
    save(&sheet(&presets, 1), &folder.join("presets.png"))?;
    let (transforms, presets) = (rows.len(), presets.len());
    println!("{transforms} transforms and {presets} presets are drawn in {}", folder.display());
    Ok(())
}

/// Views side by side, each brought to a square.
fn strip(views: &[Image], side: u32) -> RgbImage {
    let mut strip = RgbImage::from_pixel(views.len() as u32 * (side + GAP) - GAP, side, PAPER);
    for (i, view) in (0..).zip(views) {
        let shown = CropResize { crop: Rect::whole(view.size()), size: Size::square(side) };
        let pixels = shown.apply(view.clone()).into_pixels();
        let shown = RgbImage::from_raw(side, side, pixels).expect("three bytes for each pixel");
        imageops::replace(&mut strip, &shown, i64::from(i * (side + GAP)), 0);
    }
    strip
}

/// The strips in columns, each under its name.
fn sheet(rows: &[Row], columns: u32) -> RgbImage {
    let (side, margin, label) = (64, 16, 26);
    let strips: Vec<RgbImage> = rows.iter().map(|row| strip(&row.views, side)).collect();
    let width = strips.iter().map(RgbImage::width).max().unwrap_or(0) + margin;
    let height = side + label + margin / 2;
    let lines = strips.len().div_ceil(columns as usize);
    let size = (columns * width + margin, lines as u32 * height + margin);
    let mut sheet = RgbImage::from_pixel(size.0, size.1, PAPER);
    for (i, (row, strip)) in rows.iter().zip(&strips).enumerate() {
        let (x, y) =
            (margin + (i / lines) as u32 * width, margin / 2 + (i % lines) as u32 * height);
        font::write(&mut sheet, row.name, x, y);
        imageops::replace(&mut sheet, strip, i64::from(x), i64::from(y + label));
    }
    sheet
}

fn save(picture: &RgbImage, path: &Path) -> Result<(), Box<dyn Error>> {
    let file = fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = std::io::BufWriter::new(file);
    let (best, adaptive) = (CompressionType::Best, FilterType::Adaptive);
    picture.write_with_encoder(PngEncoder::new_with_quality(file, best, adaptive))?;
    Ok(())
}
