//! The default decoder: `zune-jpeg`, in pure Rust.
//!
//! Its strict mode takes an early end marker for the end of the picture and invents the rest: the
//! padding makes it stumble. Common files are decoded before they come to it, by `baseline`.

#[cfg(target_arch = "x86_64")]
mod baseline;

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::segments::{Channel, Examined, Frame};
use crate::{DecodeError, decode::one_line};

/// The decoder's name, for records.
pub(crate) const NAME: &str = "zune-jpeg";

/// Whether it reduces pictures on the way.
pub(in crate::decode) const REDUCES: bool = false;

/// A run of 1 bits, which is no Huffman code (T.81, annex C): a decoder that needs more data than
/// the file has must stumble over it. Longest code (16 bits) and longest value (16 bits), four
/// times over; in coded data, a 0xFF byte is written as 0xFF 0x00.
const PADDING: &[u8] = &{
    let mut stuffed = [0xFF; 32];
    let mut i = 1;
    while i < stuffed.len() {
        stuffed[i] = 0;
        i += 2;
    }
    stuffed
};

/// `zune-jpeg` itself has nothing to keep: it takes its memory anew for each file.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    #[cfg(target_arch = "x86_64")]
    baseline: baseline::Decoder,
}

impl Decoder {
    /// Width, height and RGB of a file. It cannot reduce on the way.
    pub(super) fn decode(
        &mut self,
        examined: &Examined<'_>,
        tidy: &mut Vec<u8>,
        _shortest_side: Option<u32>,
    ) -> Result<(u32, u32, Vec<u8>), DecodeError> {
        let frame = &examined.frame;
        #[cfg(target_arch = "x86_64")]
        if let Some(pixels) = self.baseline.decode(examined, tidy) {
            return Ok((frame.width, frame.height, pixels));
        }
        examined.tidy(PADDING, tidy);
        Ok((frame.width, frame.height, decode(tidy, frame)?))
    }
}

/// RGB of a tidied file.
fn decode(bytes: &[u8], frame: &Frame) -> Result<Vec<u8>, DecodeError> {
    refuse_odd_sampling(frame)?;
    let grey = frame.channels.len() == 1;
    let (colours, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(colours);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers()?;
    let (width, height) = (frame.width as usize, frame.height as usize);
    if decoder.dimensions() != Some((width, height)) {
        return Err(DecodeError::Corrupt("its headers contradict each other".into()));
    }
    let mut pixels = vec![0; width * height * channels];
    decoder.decode_into(&mut pixels)?;
    if grey {
        pixels = pixels.into_iter().flat_map(|value| [value; 3]).collect();
    }
    Ok(pixels)
}

/// `zune-jpeg` 0.5 shows another picture, or panics, where a later channel is finer than the first,
/// and it knows no factor of 3: such files, which no camera writes, are refused.
fn refuse_odd_sampling(frame: &Frame) -> Result<(), DecodeError> {
    let odd = |(horizontal, vertical): (u8, u8)| {
        !horizontal.is_power_of_two() || !vertical.is_power_of_two()
    };
    let samples = |channel: &Channel| channel.sampling.0 * channel.sampling.1;
    let Some((first, others)) = frame.channels.split_first() else { return Ok(()) };
    // A lone channel's factors mean nothing (T.81, A.2.2).
    let refused = !others.is_empty()
        && (frame.channels.iter().any(|channel| odd(channel.sampling))
            || others.iter().any(|channel| samples(channel) > samples(first)));
    if refused {
        let factors: Vec<String> =
            frame.channels.iter().map(|c| format!("{}x{}", c.sampling.0, c.sampling.1)).collect();
        return Err(DecodeError::Unsupported(format!("channels sampled {}", factors.join(", "))));
    }
    Ok(())
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
