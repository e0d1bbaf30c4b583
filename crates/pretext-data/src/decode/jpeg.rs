//! JPEG, strictly: what libraries usually fill up with grey is an error here.
//!
//! The `image` crate asks its JPEG decoder to make the best of damaged files. The same decoder
//! has a strict mode, but even that one takes an early end marker for the end of the picture and
//! invents the rest, and minds harmless bytes between segments: [`segments`] mends both.

mod segments;

use image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::{DecodeError, check_size, one_line};

pub(super) fn decode(bytes: &[u8]) -> Result<(DynamicImage, Orientation), DecodeError> {
    let bytes = segments::tidy(bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes.as_slice()), options);
    decoder.decode_headers()?;
    let (Some((width, height)), Some(stored)) = (decoder.dimensions(), decoder.input_colorspace())
    else {
        return Err(DecodeError::Corrupt("no picture header".into()));
    };
    let (width, height) = (width as u32, height as u32);
    check_size(width, height)?;
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);

    let grey = stored == ColorSpace::Luma;
    let (colours, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let mut pixels = vec![0; width as usize * height as usize * channels];
    decoder.decode_into(&mut pixels)?;
    let image = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    let image = image.ok_or_else(|| DecodeError::Corrupt("too few pixels".into()))?;
    Ok((image, orientation))
}

impl From<DecodeErrors> for DecodeError {
    fn from(error: DecodeErrors) -> Self {
        match error {
            DecodeErrors::ExhaustedData => Self::Truncated,
            DecodeErrors::Unsupported(scheme) => Self::Unsupported(format!("{scheme:?}")),
            DecodeErrors::Format(text) => Self::Corrupt(text),
            DecodeErrors::FormatStatic(text) => Self::Corrupt(text.into()),
            error => Self::Corrupt(one_line(&error)),
        }
    }
}
