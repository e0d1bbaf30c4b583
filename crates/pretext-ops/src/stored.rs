//! Numbers as they lie in memory, and the numbers that they are computed with.
//!
//! `f32` and `f64` are computed with as they are. `bf16` is the upper half of an `f32`: it is
//! widened where it is read and rounded where it is written, so that half the memory moves and
//! every sum is still one of `f32`.

use candle_core::WithDType;
use half::bf16;

use crate::values::Float;

/// A number as it lies in memory.
pub(crate) trait Stored: WithDType {
    /// What it is computed with.
    type Wide: Float;

    fn widen(self) -> Self::Wide;

    /// The nearest such number, the even one of two.
    fn narrow(wide: Self::Wide) -> Self;

    /// The numbers widened: they themselves, or a copy in the scratch.
    fn wide<'a>(values: &'a [Self], scratch: &'a mut Vec<Self::Wide>) -> &'a [Self::Wide];

    /// Calls `f` with zeros to add to, and writes what they became.
    fn sum_up(
        values: &mut [Self],
        scratch: &mut Vec<Self::Wide>,
        f: impl FnOnce(&mut [Self::Wide]),
    );
}

macro_rules! as_they_are {
    ($($type:ty),*) => { $(
        impl Stored for $type {
            type Wide = Self;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }

            #[inline(always)]
            fn narrow(wide: Self) -> Self {
                wide
            }

            #[inline(always)]
            fn wide<'a>(values: &'a [Self], _: &'a mut Vec<Self>) -> &'a [Self] {
                values
            }

            #[inline(always)]
            fn sum_up(values: &mut [Self], _: &mut Vec<Self>, f: impl FnOnce(&mut [Self])) {
                values.fill(0.0);
                f(values);
            }
        }
    )* };
}
as_they_are!(f32, f64);

impl Stored for bf16 {
    type Wide = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Without branches, so that loops of it become vectors.
    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        let bits = wide.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        let nan = (bits >> 16) as u16 | 0x40;
        Self::from_bits(if wide.is_nan() { nan } else { rounded })
    }

    #[inline(always)]
    fn wide<'a>(values: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32] {
        scratch.resize(values.len(), 0.0);
        scratch.iter_mut().zip(values).for_each(|(wide, value)| *wide = value.widen());
        scratch
    }

    #[inline(always)]
    fn sum_up(values: &mut [Self], scratch: &mut Vec<f32>, f: impl FnOnce(&mut [f32])) {
        scratch.clear();
        scratch.resize(values.len(), 0.0);
        f(scratch);
        values.iter_mut().zip(scratch).for_each(|(value, wide)| *value = Self::narrow(*wide));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_its_crate_does() {
        let tricky = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1_7fff, 0x1_8000, 0x1_8001];
        for high in [0_u32, 0x0080, 0x3f80, 0x7f7f, 0x7f80, 0x7fc0, 0x8000, 0xbf80, 0xff7f, 0xff80]
        {
            for low in tricky {
                let value = f32::from_bits((high << 16).wrapping_add(low));
                let (got, want) = (bf16::narrow(value), bf16::from_f32(value));
                assert_eq!(got.to_bits(), want.to_bits(), "{value:e}");
                assert_eq!(got.widen().to_bits(), want.to_f32().to_bits(), "{value:e}");
            }
        }
    }
}
