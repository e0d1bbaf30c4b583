//! The decoder behind the feature `turbojpeg`: libjpeg-turbo, which also reduces on the way.

use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

use super::segments::Examined;
use crate::{
    DecodeError,
    decode::{one_line, reduce::factor},
};

/// The decoder's name, for records.
pub(crate) const NAME: &str = "libjpeg-turbo";

/// Whether it reduces pictures on the way.
pub(in crate::decode) const REDUCES: bool = true;

/// Keeps libjpeg-turbo's memory from file to file.
#[derive(Debug, Default)]
pub(super) struct Decoder(Option<Decompressor>);

impl Decoder {
    /// Width, height and RGB of a file, reduced as far as `shortest_side` lets it.
    pub(super) fn decode(
        &mut self,
        examined: &Examined<'_>,
        tidy: &mut Vec<u8>,
        shortest_side: Option<u32>,
    ) -> Result<(u32, u32, Vec<u8>), DecodeError> {
        let frame = &examined.frame;
        // It warns of missing data itself, and a warning is an error here.
        examined.tidy(&[], tidy);
        let factor = factor(frame.width, frame.height, shortest_side);
        let (width, height) = (frame.width.div_ceil(factor), frame.height.div_ceil(factor));
        let decompressor = match &mut self.0 {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new()?),
        };
        decompressor.set_scaling_factor(ScalingFactor::new(1, factor as usize))?;
        let inks = frame.channels.len() == 4;
        let (format, channels) = if inks { (PixelFormat::CMYK, 4) } else { (PixelFormat::RGB, 3) };
        let pitch = width as usize * channels;
        let mut pixels = vec![0; pitch * height as usize];
        let output = Image {
            pixels: pixels.as_mut_slice(),
            width: width as usize,
            pitch,
            height: height as usize,
            format,
        };
        decompressor.decompress(tidy, output)?;
        if inks {
            // As Adobe writes them: 255 is no ink at all.
            let shown = |ink: u8, black: u8| (u32::from(ink) * u32::from(black) + 127) / 255;
            let rgb = pixels.chunks_exact(4);
            let rgb = rgb.flat_map(|p| [0, 1, 2].map(|i| shown(p[i], p[3]) as u8));
            pixels = rgb.collect();
        }
        Ok((width, height, pixels))
    }
}

impl From<turbojpeg::Error> for DecodeError {
    fn from(error: turbojpeg::Error) -> Self {
        let text = match &error {
            turbojpeg::Error::TurboJpegError(text) => one_line(text),
            other => one_line(other),
        };
        if text.contains("Premature end") { Self::Truncated } else { Self::Corrupt(text) }
    }
}
