//! JPEG, strictly: what libraries usually fill up with grey is an error here.
//!
//! The `image` crate asks its JPEG decoder to make the best of damaged files. The same decoder
//! has a strict mode, but even that one (a) takes an early end marker for the end of the picture
//! and invents the rest, and (b) minds harmless bytes between segments. So the file is first
//! copied segment by segment: the copy has no stray bytes, and behind the coded pixels of a
//! sequential JPEG stands a run of 1 bits, which is no Huffman code (ITU-T T.81, annex C). A
//! decoder that needs more pixels than the file has must stumble over it.

use image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::{DecodeError, check_size, one_line};

/// Longest Huffman code (16 bits) and longest value (16 bits), four times over.
const PADDING: [u8; 32] = {
    let mut stuffed = [0xFF; 32];
    let mut i = 1;
    while i < stuffed.len() {
        // In coded data, a 0xFF byte is written as 0xFF 0x00.
        stuffed[i] = 0;
        i += 2;
    }
    stuffed
};

const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;

pub(super) fn decode(bytes: &[u8]) -> Result<(DynamicImage, Orientation), DecodeError> {
    let bytes = tidy(bytes)?;
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

/// A copy of well-formed segments only, with [`PADDING`] behind the last scan; whatever follows
/// the end marker is left out.
///
/// # Errors
/// [`DecodeError::Truncated`] if the file stops before its end marker.
fn tidy(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut copy = Vec::with_capacity(bytes.len() + PADDING.len());
    let mut rest = bytes.get(2..).ok_or(DecodeError::Truncated)?;
    copy.extend([0xFF, 0xD8]);
    let mut sequential = true;
    let mut scan_end = copy.len();
    loop {
        let marker;
        (marker, rest) = next_marker(rest).ok_or(DecodeError::Truncated)?;
        match marker {
            END => break,
            // Markers without a segment: nothing to copy outside of coded data.
            0x01 | 0xD0..=0xD8 => continue,
            0xC1..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => sequential = marker == 0xC1,
            _ => {}
        }
        let length = match rest {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(DecodeError::Truncated),
        };
        if length < 2 {
            return Err(DecodeError::Corrupt(format!("segment {marker:#X} has no length")));
        }
        let segment = rest.get(..length).ok_or(DecodeError::Truncated)?;
        copy.extend([0xFF, marker]);
        copy.extend(segment);
        rest = &rest[length..];
        if marker == SCAN {
            let end = coded_length(rest).ok_or(DecodeError::Truncated)?;
            copy.extend(&rest[..end]);
            rest = &rest[end..];
            scan_end = copy.len();
        }
    }
    if sequential {
        copy.splice(scan_end..scan_end, PADDING);
    }
    copy.extend([0xFF, END]);
    Ok(copy)
}

/// The next marker and what follows it, over stray and fill bytes.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)? + 1;
        match *bytes.get(at)? {
            0x00 | 0xFF => {}
            marker => return Some((marker, &bytes[at + 1..])),
        }
    }
}

/// Bytes of coded data up to the marker that ends it; restart markers are part of it.
fn coded_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
        match *bytes.get(at + 1)? {
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], tidied: Result<&[u8], DecodeError>) {
        let tidied = tidied.map(<[u8]>::to_vec);
        assert_eq!(tidy(bytes), tidied);
    }

    #[test]
    fn stray_bytes_and_what_follows_the_end_are_left_out() {
        let file =
            b"\xFF\xD8 stray \xFF\xFF\xFE\0\x03c\xFF\xC2\0\x02\xFF\xDA\0\x02ab\xFF\0c\xFF\xD0d\
            \xFF\xD9 junk";
        let whole =
            b"\xFF\xD8\xFF\xFE\0\x03c\xFF\xC2\0\x02\xFF\xDA\0\x02ab\xFF\0c\xFF\xD0d\xFF\xD9";
        check(file, Ok(whole));
    }

    #[test]
    fn a_picture_inside_a_segment_does_not_end_the_file() {
        check(b"\xFF\xD8\xFF\xE1\0\x06\xFF\xD8\xFF\xD9", Err(DecodeError::Truncated));
    }

    #[test]
    fn padding_stands_behind_the_last_scan() {
        let file = b"\xFF\xD8\xFF\xDA\0\x02ab\xFF\xDA\0\x02cd\xFF\xFE\0\x02\xFF\xD9";
        let padded = [&file[..14], &PADDING, &file[14..]].concat();
        check(file, Ok(&padded));
    }

    #[test]
    fn every_cut_is_noticed() {
        let file = b"\xFF\xD8\xFF\xFE\0\x03c\xFF\xDA\0\x02ab\xFF\0c\xFF\xD9";
        for length in 0..file.len() {
            check(&file[..length], Err(DecodeError::Truncated));
        }
    }
}
