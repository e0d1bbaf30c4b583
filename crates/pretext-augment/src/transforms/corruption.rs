//! The puzzle of corrupted-image classification.

use rand::seq::SliceRandom as _;
use rand::{Rng, RngExt as _};

use super::side::Side;
use crate::mixup::normal;
use crate::ops::Corrupt;
use crate::transform::whole;
use crate::{Op, Plan, Rect, Size, Transform};

/// Corrupts one patch in one of four ways; the label says which.
///
/// ```
/// use pretext_augment::{Corruption, Size};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let mut rng = StdRng::seed_from_u64(0);
/// let (plan, label) = Corruption::default().sample_labelled(Size::square(64), &mut rng);
/// assert!((label as usize) < Corruption::CLASSES.len());
/// assert_eq!(plan.0.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Corruption {
    /// The patch's sides; patches lie inside the image.
    pub side: Side,
    /// Standard deviation of the blur, as a share of the patch's shorter side.
    pub sigma: f32,
    /// Standard deviation of the noise, in levels of 255.
    pub noise: f32,
}

impl Default for Corruption {
    /// A quarter to a half of each side, blurred by a tenth of the patch, noise of 40 levels.
    fn default() -> Self {
        Self { side: Side::Fraction(0.25..=0.5), sigma: 0.1, noise: 40.0 }
    }
}

impl Corruption {
    /// What the labels mean.
    pub const CLASSES: [&str; 4] = ["shuffled", "blurred", "noised", "swapped"];

    /// Decides how an image of this size is corrupted; the label is a place in
    /// [`CLASSES`](Self::CLASSES).
    pub fn sample_labelled(&self, size: Size, rng: &mut dyn Rng) -> (Plan, u32) {
        let label = whole(0, Self::CLASSES.len() as u32 - 1, rng);
        let rect = self.patch(size, rng);
        let pixels = rect.size().area() as u32;
        let op = match label {
            0 => {
                let mut order: Vec<u32> = (0..pixels).collect();
                order.shuffle(rng);
                Corrupt::Shuffle { rect, order }
            }
            1 => {
                let sigma = self.sigma * rect.width.min(rect.height) as f32;
                Corrupt::Blur { rect, sigma: sigma.max(0.8) }
            }
            2 => {
                let level = |rng: &mut dyn Rng| (normal(rng) * f64::from(self.noise)) as i16;
                Corrupt::Noise { rect, noise: (0..3 * pixels).map(|_| level(rng)).collect() }
            }
            _ => Corrupt::Swap { rect, with: apart(rect, size, rng) },
        };
        (Op::Corrupt(op).into(), label)
    }

    fn patch(&self, size: Size, rng: &mut dyn Rng) -> Rect {
        let mut interval = |extent: u32| {
            let length = match &self.side {
                Side::Pixels(range) => whole(*range.start(), *range.end(), rng),
                Side::Fraction(range) => {
                    let share = crate::transform::uniform(range, rng);
                    (share * extent as f32).round() as u32
                }
            };
            let length = length.clamp(1, extent);
            (whole(0, extent - length, rng), length)
        };
        let ((y, height), (x, width)) = (interval(size.height), interval(size.width));
        Rect { x, y, width, height }
    }
}

/// Tries to find a place for the second patch that does not overlap the first.
const TRIES: usize = 20;

/// Where a patch of the same size lies, apart from the first if there is room.
fn apart(rect: Rect, size: Size, rng: &mut dyn Rng) -> (u32, u32) {
    let mut place = (0, 0);
    for _ in 0..TRIES {
        let x = rng.random_range(0..=size.width - rect.width);
        let y = rng.random_range(0..=size.height - rect.height);
        place = (x, y);
        if x.abs_diff(rect.x) >= rect.width || y.abs_diff(rect.y) >= rect.height {
            break;
        }
    }
    place
}

impl Transform for Corruption {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        self.sample_labelled(size, rng).0
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::Image;

    #[test]
    fn any_image_can_be_corrupted_and_every_label_comes_up() {
        let mut seen = [0; 4];
        for seed in 0..800 {
            let size = Size { width: 1 + seed as u32 % 40, height: 1 + seed as u32 % 23 };
            let mut rng = StdRng::seed_from_u64(seed);
            let (plan, label) = Corruption::default().sample_labelled(size, &mut rng);
            seen[label as usize] += 1;
            assert_eq!(plan.apply(Image::filled(size, [1, 2, 3])).size(), size);
        }
        assert!(seen.iter().all(|&count| count > 150), "{seen:?}");
    }

    #[test]
    fn shuffling_and_swapping_keep_all_pixels() {
        let size = Size::square(40);
        let image = Image::new(size, (0..4800).map(|i| (i * 31 % 256) as u8).collect()).unwrap();
        let sorted = |image: &Image| {
            let mut pixels = image.pixels().as_chunks::<3>().0.to_vec();
            pixels.sort_unstable();
            pixels
        };
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (plan, label) = Corruption::default().sample_labelled(size, &mut rng);
            let out = plan.apply(image.clone());
            assert_ne!(out, image, "label {label}");
            if matches!(label, 0 | 3) {
                assert_eq!(sorted(&out), sorted(&image), "label {label}");
            }
        }
    }
}
