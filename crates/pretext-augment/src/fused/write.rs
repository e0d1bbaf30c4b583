//! From planes of bytes to what a network takes.

use super::isa::Kernel;
use super::planes::Planes;
use super::vectors::Vectors;
use crate::Normalise;

/// How the numbers of a view lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// `[3, H, W]`: a plane for each channel.
    Chw,
    /// `[H, W, 3]`: pixel after pixel, also called channels-last.
    Hwc,
}

/// A number that a view can be written in: `f32`, or, with the feature `bf16`, `half::bf16`.
pub trait Element: Copy + Send + Sync + 'static + private::Sealed {
    /// The nearest number, halves to even.
    fn from_f32(value: f32) -> Self;
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    #[cfg(feature = "bf16")]
    impl Sealed for half::bf16 {}
}

impl Element for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

#[cfg(feature = "bf16")]
impl Element for half::bf16 {
    // half's own asks for the processor's features at each call.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        Self::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }
}

/// A normalisation, prepared: `(byte / 255 - mean) / std` to the last bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    normalise: Normalise,
    channels: [Channel; 3],
}

/// How one channel is normalised.
#[derive(Clone, Copy, Debug)]
struct Channel {
    mean: f32,
    inverse: f32,
    /// What is missing from `inverse`.
    rest: f32,
    /// Whether multiplying by the inverse gives the quotient's last bit for every byte.
    exact: bool,
    table: [f32; 256],
}

const INVERSE_255: f32 = 1.0 / 255.0;
/// What is missing from [`INVERSE_255`].
const REST_255: f32 = (1.0 / 255.0 - INVERSE_255 as f64) as f32;

impl Channel {
    fn new(mean: f32, std: f32) -> Self {
        let inverse = 1.0 / std;
        let rest = (1.0 / f64::from(std) - f64::from(inverse)) as f32;
        let table = std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
        let mut channel = Self { mean, inverse, rest, exact: true, table };
        channel.exact = (0..=255).zip(&table).all(|(byte, want)| channel.scaled(byte) == *want);
        channel
    }

    #[inline(always)]
    fn scaled(&self, byte: u8) -> f32 {
        let byte = f32::from(byte);
        let unit = byte.mul_add(INVERSE_255, byte * REST_255) - self.mean;
        unit.mul_add(self.inverse, unit * self.rest)
    }
}

impl Scale {
    /// The prepared normalisation, which is kept for the next view.
    pub(super) fn of(kept: &mut Option<Self>, normalise: Normalise) -> &Self {
        let kept = kept.get_or_insert_with(|| Self::new(normalise));
        if kept.normalise != normalise {
            *kept = Self::new(normalise);
        }
        kept
    }

    fn new(normalise: Normalise) -> Self {
        let channels = std::array::from_fn(|i| Channel::new(normalise.mean[i], normalise.std[i]));
        Self { normalise, channels }
    }
}

/// Writes planes as numbers, three for each pixel.
pub(super) struct Write<'a, E> {
    pub(super) planes: &'a Planes,
    pub(super) scale: &'a Scale,
    pub(super) layout: Layout,
    /// Past the caches, for [`Layout::Chw`].
    pub(super) streaming: bool,
    pub(super) out: &'a mut [E],
}

impl<E: Element> Kernel for Write<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { planes, scale, layout, streaming, out } = self;
        let len = planes.len();
        match layout {
            Layout::Chw => {
                let planes = planes.channels.iter().zip(&scale.channels);
                for (out, (plane, channel)) in out.chunks_exact_mut(len).zip(planes) {
                    if streaming {
                        stream(v, channel, &plane[..len], out);
                    } else {
                        convert(v, channel, &plane[..len], out);
                    }
                }
                if streaming {
                    v.fence();
                }
            }
            Layout::Hwc => {
                const CHUNK: usize = 64;
                for (i, out) in out.chunks_mut(3 * CHUNK).enumerate() {
                    let mut values = [[E::from_f32(0.0); CHUNK]; 3];
                    for ((values, plane), channel) in
                        values.iter_mut().zip(&planes.channels).zip(&scale.channels)
                    {
                        convert(v, channel, &plane[CHUNK * i..][..CHUNK], values);
                    }
                    let (pixels, _) = out.as_chunks_mut::<3>();
                    for (j, pixel) in pixels.iter_mut().enumerate() {
                        *pixel = [values[0][j], values[1][j], values[2][j]];
                    }
                }
            }
        }
    }
}

/// [`convert`] past the caches: whole lines of them go to memory, which need not be read before.
#[inline(always)]
fn stream<V: Vectors, E: Element>(v: V, channel: &Channel, bytes: &[u8], out: &mut [E]) {
    const CHUNK: usize = 64;
    const LINE: usize = 64;
    let head = out.as_ptr().align_offset(LINE).min(out.len());
    let (to, out) = out.split_at_mut(head);
    let (from, bytes) = bytes.split_at(head);
    convert(v, channel, from, to);
    let (chunks, rest) = bytes.as_chunks::<CHUNK>();
    let (outs, to) = out.as_chunks_mut::<CHUNK>();
    for (out, bytes) in outs.iter_mut().zip(chunks) {
        let mut values = [E::from_f32(0.0); CHUNK];
        convert(v, channel, bytes, &mut values);
        v.stream(&values, out);
    }
    convert(v, channel, rest, to);
}

#[inline(always)]
fn convert<V: Vectors, E: Element>(_: V, channel: &Channel, bytes: &[u8], out: &mut [E]) {
    if V::NATIVE && channel.exact {
        for (out, &byte) in out.iter_mut().zip(bytes) {
            *out = E::from_f32(channel.scaled(byte));
        }
    } else {
        for (out, &byte) in out.iter_mut().zip(bytes) {
            *out = E::from_f32(channel.table[usize::from(byte)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_normalisations_are_exact_without_a_table() {
        for normalise in [Normalise::IMAGENET, Normalise::UNIT] {
            assert!(Scale::new(normalise).channels.iter().all(|channel| channel.exact));
        }
        let odd = Normalise { mean: [0.5; 3], std: [0.0, f32::NAN, 1e-39] };
        assert!(Scale::new(odd).channels.iter().all(|channel| !channel.exact));
    }

    #[cfg(feature = "bf16")]
    #[test]
    fn bf16_rounds_as_half_does() {
        for bits in (0..u32::MAX - 999).step_by(997) {
            let value = f32::from_bits(bits);
            let (ours, theirs) =
                (<half::bf16 as Element>::from_f32(value), half::bf16::from_f32(value));
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{value}");
        }
    }
}
