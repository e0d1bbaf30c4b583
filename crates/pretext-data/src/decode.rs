//! Bytes of a picture file to RGB8, or a reason why not; the content decides, never the name.

mod jpeg;
mod reduce;

use std::{
    io::Cursor,
    panic::{self, AssertUnwindSafe},
};

use image::{
    DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage, error::ImageError,
    metadata::Orientation,
};

use crate::Pixels;

pub(crate) use reduce::{bytes, reduce};

/// The most pixels a picture may have: 100 million, about 300 MB decoded.
///
/// A file that announces more is refused before any memory is taken for it.
pub const MAX_PIXELS: u64 = 100_000_000;

/// The most bytes a picture file may have: 256 MiB.
pub const MAX_BYTES: u64 = 256 << 20;

/// Memory that one decoder may take for itself and its output, in bytes.
const MAX_ALLOCATION: u64 = 1 << 30;

/// One decoded picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// RGB, one byte each, interleaved, row by row from the top: `3 * width * height` bytes.
    pub pixels: Pixels,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

/// Why bytes are not a picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are of no known format.
    #[error("neither JPEG, PNG, WebP, BMP nor GIF")]
    UnknownFormat,
    /// A file of more than [`MAX_BYTES`].
    #[error("the file has more than {MAX_BYTES} bytes")]
    TooManyBytes,
    /// A picture of more than [`MAX_PIXELS`].
    #[error("{width} x {height} pixels are more than {MAX_PIXELS}")]
    TooManyPixels {
        /// Announced pixels in a row.
        width: u32,
        /// Announced rows.
        height: u32,
    },
    /// The file stops before the picture does.
    #[error("the file is truncated")]
    Truncated,
    /// The format is known, this variant of it is not.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The content contradicts itself.
    #[error("{0}")]
    Corrupt(String),
}

/// Decodes a JPEG, PNG, WebP, BMP or GIF to RGB8.
///
/// - The format is told by the first bytes.
/// - EXIF orientation is applied (JPEG, PNG, WebP), so that the picture stands upright.
/// - Grey is widened to three equal channels; palettes are looked up; 16 bits a channel are scaled
///   to 8, rounded.
/// - CMYK and YCCK JPEGs are taken as Adobe writes them (inverted), as Pillow does.
/// - Transparency is composited on white, as a page or a viewer shows it. (Pillow's
///   `convert("RGB")` drops the alpha channel instead, which brings out whatever colour the hidden
///   pixels happen to have.)
/// - JPEGs may be baseline, extended or progressive, with restart markers or without, of any common
///   sampling. Arithmetic coding, 12 bits a channel, lossless and hierarchical JPEGs are refused
///   by name.
/// - Animations give their first frame. Colour profiles and gamma are ignored, as in torchvision.
///
/// A truncated or inconsistent file is an error, never a half grey picture. Limits are
/// [`MAX_PIXELS`] and 1 GiB of memory for a decoder.
///
/// ```
/// use pretext_data::{DecodeError, decode};
/// // The smallest BMP: one pixel, stored as blue, green, red, and a byte of padding.
/// let bmp = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\
///     \0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\x14\x1e\0";
/// let picture = decode(bmp)?;
/// assert_eq!((picture.width, picture.height), (1, 1));
/// assert_eq!(picture.pixels, [30, 20, 10]);
/// assert_eq!(decode(b"hello"), Err(DecodeError::UnknownFormat));
/// # Ok::<(), DecodeError>(())
/// ```
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    Decoder::default().decode(bytes)
}

/// The library that decodes JPEGs in this build, or whose pixels they have to the bit where code of
/// our own is quicker: `zune-jpeg` or `libjpeg-turbo`. They may differ by a few levels in rounding and
/// in how colour is interpolated.
#[must_use]
pub fn jpeg_decoder() -> &'static str {
    jpeg::NAME
}

/// [`decode`] for many pictures: it keeps memory from one to the next, and can reduce them.
///
/// ```
/// use pretext_data::Decoder;
/// let mut decoder = Decoder::reducing_to(Some(20));
/// let picture = decoder.decode(&std::fs::read("../../data/hostile/good/plain.jpg")?)?;
/// assert_eq!((picture.width, picture.height), (32, 24)); // 64 x 48, halved
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    shortest_side: Option<u32>,
    /// Bytes of the file under way.
    pub(crate) file: Vec<u8>,
    jpeg: jpeg::Memory,
}

impl Decoder {
    /// A decoder that may give pictures at a half, a quarter or an eighth of their size, the
    /// smallest whose shorter side still has `shortest_side` pixels; `None` keeps every pixel.
    ///
    /// Which one depends on the picture's size and on `shortest_side` alone. Each pixel is then the
    /// mean of a square of pixels; with the feature `turbojpeg`, JPEGs are reduced by libjpeg-turbo
    /// in the frequency domain, which is quicker and the same within 2 levels in mean for common
    /// samplings of colour; where colour is sampled more coarsely, hard edges of it differ more.
    #[must_use]
    pub fn reducing_to(shortest_side: Option<u32>) -> Self {
        Self { shortest_side, ..Self::default() }
    }

    /// The shorter side that pictures keep at least, if they may be reduced.
    #[must_use]
    pub fn shortest_side(&self) -> Option<u32> {
        self.shortest_side
    }

    /// Decodes one picture.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Picture, DecodeError> {
        // A decoder that panics on a file nobody has tried before must not end a run of hours.
        panic::catch_unwind(AssertUnwindSafe(|| {
            decode_any(bytes, self.shortest_side, &mut self.jpeg)
        }))
        .unwrap_or_else(|_| {
            self.jpeg = jpeg::Memory::default();
            Err(DecodeError::Corrupt("the decoder failed on it".into()))
        })
    }

    /// The bytes that [`Decoder::decode`] gives, by what the file says of itself: nothing is decoded.
    pub(crate) fn announced(&self, bytes: &[u8]) -> Result<u64, DecodeError> {
        let sides = panic::catch_unwind(AssertUnwindSafe(|| announced_sides(bytes)));
        let failed = |_| Err(DecodeError::Corrupt("the decoder failed on it".into()));
        let (width, height) = sides.unwrap_or_else(failed)?;
        check_size(width, height)?;
        Ok(reduce::bytes(width, height, self.shortest_side))
    }
}

/// Width and height as they are stored: upright they may be the other way round.
fn announced_sides(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::sides(bytes),
        Ok(format) => Ok(ImageReader::with_format(Cursor::new(bytes), format).into_dimensions()?),
        Err(_) => Err(DecodeError::UnknownFormat),
    }
}

fn decode_any(
    bytes: &[u8],
    shortest_side: Option<u32>,
    memory: &mut jpeg::Memory,
) -> Result<Picture, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes);
    let (mut image, orientation) = match format {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, shortest_side, memory)?,
        Ok(
            format @ (ImageFormat::Png | ImageFormat::WebP | ImageFormat::Bmp | ImageFormat::Gif),
        ) => decode_with_image(bytes, format)?,
        _ => return Err(DecodeError::UnknownFormat),
    };
    image.apply_orientation(orientation);
    let picture = flatten(image);
    let reduced = jpeg::REDUCES && format.is_ok_and(|format| format == ImageFormat::Jpeg);
    Ok(if reduced { picture } else { reduce(picture, shortest_side) })
}

fn decode_with_image(
    bytes: &[u8],
    format: ImageFormat,
) -> Result<(DynamicImage, Orientation), DecodeError> {
    if format == ImageFormat::WebP && is_shorter_than_announced(bytes) {
        return Err(DecodeError::Truncated);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    decoder.set_limits(limits)?;
    // A broken orientation tag is no reason to lose the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder)?, orientation))
}

/// Whether a RIFF file ends before its announced end; the decoder does not miss chunks behind the
/// pixels, but one of them holds the orientation.
fn is_shorter_than_announced(bytes: &[u8]) -> bool {
    let announced = bytes.get(4..8).and_then(|size| size.try_into().ok()).map(u32::from_le_bytes);
    announced.is_none_or(|size| (bytes.len() as u64) < u64::from(size) + 8)
}

fn check_size(width: u32, height: u32) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(DecodeError::TooManyPixels { width, height });
    }
    if width == 0 || height == 0 {
        return Err(DecodeError::Corrupt(format!("{width} x {height} pixels")));
    }
    Ok(())
}

/// To RGB8; transparency shows white paper.
fn flatten(image: DynamicImage) -> Picture {
    let rgb = if image.color().has_alpha() { on_white(image) } else { image.into_rgb8() };
    let (width, height) = rgb.dimensions();
    Picture { width, height, pixels: rgb.into_raw().into() }
}

fn on_white(image: DynamicImage) -> RgbImage {
    let rgba = image.into_rgba8();
    let (width, height) = rgba.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let [r, g, b, alpha] = rgba[(x, y)].0;
        image::Rgb([r, g, b].map(|c| over_white(c, alpha)))
    })
}

/// `colour * alpha + white * (1 - alpha)`, rounded.
fn over_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    let sum = colour * alpha + 255 * (255 - alpha);
    ((sum + 127) / 255) as u8
}

impl From<ImageError> for DecodeError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Truncated
            }
            ImageError::Unsupported(error) => Self::Unsupported(one_line(&error)),
            ImageError::Limits(error) => Self::Unsupported(one_line(&error)),
            error => Self::Corrupt(one_line(&error)),
        }
    }
}

/// Decoders put line breaks into their messages; a warning is one line.
pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparency_shows_white() {
        for (colour, alpha, shown) in
            [(0, 0, 255), (200, 0, 255), (200, 255, 200), (0, 128, 127), (255, 77, 255)]
        {
            assert_eq!(over_white(colour, alpha), shown, "{colour} with alpha {alpha}");
        }
    }

    #[test]
    fn announced_sizes_are_limited() {
        assert_eq!(check_size(10_000, 10_000), Ok(()));
        let refused = DecodeError::TooManyPixels { width: 10_001, height: 10_000 };
        assert_eq!(check_size(10_001, 10_000), Err(refused));
        assert!(check_size(u32::MAX, u32::MAX).is_err());
        assert!(check_size(0, 1).is_err());
    }
}
