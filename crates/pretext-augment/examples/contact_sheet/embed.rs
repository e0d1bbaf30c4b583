//! Pictures as Markdown that holds them, because rustdoc shows no files that lie beside the source.

use std::{error::Error, fmt::Write as _, fs, path::Path};

use image::{RgbImage, codecs::jpeg::JpegEncoder};

/// Writes a file with one picture, `![name](data:...)`, for `#[doc = include_str!(..)]`.
pub(super) fn write(picture: &RgbImage, name: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut jpeg = vec![];
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 88))?;
    let mut text = String::new();
    writeln!(text, "![samples of {name}](data:image/jpeg;base64,{})", base64(&jpeg))?;
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(())
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            (0..3).fold(0, |bits, i| bits << 8 | three.get(i).map_or(0, |&b| usize::from(b)));
        for i in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * i) & 63]);
            text.push(if i <= three.len() { digit } else { '=' });
        }
    }
    text
}
