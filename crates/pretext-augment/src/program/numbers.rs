//! How bytes become numbers on a GPU.

use crate::Normalise;

/// One channel's, as `kernels/params.cuh` has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    mean: f32,
    deviation: f32,
    /// A byte times this, and `shift` added, is nearly `(byte / 255 - mean) / deviation`.
    scale: f32,
    shift: f32,
}

impl Channel {
    /// Red, green, blue.
    pub(super) fn all(normalise: &Normalise) -> [Self; 3] {
        std::array::from_fn(|c| Self::new(normalise.mean[c], normalise.std[c]))
    }

    fn new(mean: f32, deviation: f32) -> Self {
        let wide = f64::from(deviation);
        let (scale, shift) = (1.0 / (255.0 * wide), -f64::from(mean) / wide);
        Self { mean, deviation, scale: scale as f32, shift: shift as f32 }
    }

    /// Whether one multiply-add gives the `bf16` of every byte: as the kernels round it, halves upwards.
    pub(super) fn is_scaled(&self) -> bool {
        (0..=255_u8).map(f32::from).all(|byte| {
            let right = half::bf16::from_f32((byte / 255.0 - self.mean) / self.deviation);
            let nearly = byte.mul_add(self.scale, self.shift);
            let bits = nearly.to_bits().wrapping_add(0x8000) >> 16;
            nearly.is_finite() && bits == u32::from(right.to_bits())
        })
    }

    pub(super) fn words(&self) -> [u32; 4] {
        [self.mean, self.deviation, self.scale, self.shift].map(f32::to_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_normalisations_need_no_table() {
        let half = Normalise { mean: [0.5; 3], std: [0.5; 3] };
        let cifar = Normalise { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] };
        for normalise in [Normalise::IMAGENET, Normalise::UNIT, half, cifar] {
            assert!(Channel::all(&normalise).iter().all(Channel::is_scaled), "{normalise:?}");
        }
    }

    #[test]
    fn odd_ones_do() {
        for (mean, deviation) in [(f32::NAN, 1.0), (0.5, 1e-39), (0.5, 0.0)] {
            assert!(!Channel::new(mean, deviation).is_scaled(), "{mean}, {deviation}");
        }
    }
}
