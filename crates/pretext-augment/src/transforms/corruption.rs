//! The puzzle of corrupted-image classification.

use rand::Rng;
use rand::seq::SliceRandom as _;

use super::side::Side;
use crate::mixup::normal;
use crate::ops::Corrupt;
use crate::transform::whole;
use crate::{Op, Plan, Rect, Size, Transform};

/// Corrupts one patch in one of four ways; the label says which.
///
#[cfg_attr(doc, doc = include_str!("../../docs/Corruption.md"))]
///
/// Shuffled pixels never all end where they began, and swapped patches never overlap, unless the
/// patch, or the image, has one pixel alone.
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
        let size = size.of_an_image();
        let label = whole(0, Self::CLASSES.len() as u32 - 1, rng);
        let rect = self.patch(size, rng);
        let pixels = rect.size().area();
        let op = match label {
            0 => {
                let mut order: Vec<u32> = (0..pixels as u32).collect();
                order.shuffle(rng);
                if order.is_sorted() {
                    // A patch that ends as it began would be mislabelled.
                    order.rotate_left(1);
                }
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
            _ => {
                let (rect, with) = apart(rect, size, rng);
                Corrupt::Swap { rect, with }
            }
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

/// A patch and the place of another of its size, which do not overlap.
///
/// A patch that leaves no room for another is made narrower first; only an image of one pixel has
/// no two patches, and its pixel is swapped with itself.
fn apart(mut rect: Rect, size: Size, rng: &mut dyn Rng) -> (Rect, (u32, u32)) {
    if places(rect, size).next().is_none() {
        // With a third of the width there is room at one side, and with a third of the height
        // above or below.
        rect.width = rect.width.min((size.width / 3).max(1));
        rect.height = rect.height.min((size.height / 3).max(1));
    }
    let strips = places(rect, size).count() as u32;
    let chosen = strips.checked_sub(1).map_or(0, |last| whole(0, last, rng));
    let place = places(rect, size)
        .nth(chosen as usize)
        .map(|((left, right), (top, bottom))| (whole(left, right, rng), whole(top, bottom, rng)));
    (rect, place.unwrap_or((rect.x, rect.y)))
}

/// First and last, both inclusive.
type Span = (u32, u32);

/// The strips beside, above and below a patch that have room for another: where its left and top
/// may lie.
fn places(rect: Rect, size: Size) -> impl Iterator<Item = (Span, Span)> {
    let (last_x, last_y) = (size.width - rect.width, size.height - rect.height);
    let left = rect.x.checked_sub(rect.width).map(|x| ((0, x), (0, last_y)));
    let right = Some((rect.x + rect.width, last_x)).filter(|(first, last)| first <= last);
    let above = rect.y.checked_sub(rect.height).map(|y| ((0, last_x), (0, y)));
    let below = Some((rect.y + rect.height, last_y)).filter(|(first, last)| first <= last);
    [left, right.map(|x| (x, (0, last_y))), above, below.map(|y| ((0, last_x), y))]
        .into_iter()
        .flatten()
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
        let sorted = |image: &Image| {
            let mut pixels = image.pixels().as_chunks::<3>().0.to_vec();
            pixels.sort_unstable();
            pixels
        };
        for seed in 0..400 {
            let size = Size { width: 2 + seed as u32 % 41, height: 1 + seed as u32 % 37 };
            // No two pixels are alike, so that any change of order shows.
            let pixels =
                (0..size.area() as u32).flat_map(|i| [60 + (i % 128) as u8, (i / 128) as u8, 99]);
            let image = Image::new(size, pixels.collect()).unwrap();
            let mut rng = StdRng::seed_from_u64(seed);
            let (plan, label) = Corruption::default().sample_labelled(size, &mut rng);
            let out = plan.apply(image.clone());
            if matches!(label, 0 | 3) {
                assert_eq!(sorted(&out), sorted(&image), "seed {seed}, label {label}");
            }
            // A patch of one pixel cannot be shuffled; two patches can always be swapped.
            assert!(label != 3 || out != image, "seed {seed}");
        }
    }

    #[test]
    fn a_corrupted_image_is_another() {
        let size = Size::square(40);
        let noisy = (0..4800_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        let image = Image::new(size, noisy.collect()).unwrap();
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (plan, label) = Corruption::default().sample_labelled(size, &mut rng);
            assert_ne!(plan.apply(image.clone()), image, "seed {seed}, label {label}");
        }
    }
}
