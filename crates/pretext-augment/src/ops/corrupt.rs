//! Corrupts one patch, in one of four ways.
//!
//! # Specification
//!
//! Shuffling reads the patch as it was; an entry beyond the patch leaves its place alone. Blurring is
//! `Blur::of_sigma`, reading beyond the patch and writing inside of it. Noise is added in 16 bits and
//! cut off at 0 and 255, row by row, red, green, blue, until it runs out. Swapping reads both patches
//! as they were and writes pixel for pixel, the first patch's before the second's.

use super::blur::{Blur, blur_rect};
use crate::{Image, Rect};

/// Corrupts one patch.
#[derive(Clone, Debug, PartialEq)]
pub enum Corrupt {
    /// Lays the patch's pixels in another order.
    Shuffle {
        /// The patch.
        rect: Rect,
        /// `order[place]` is the pixel that comes to lie there; both count row by row.
        order: Vec<u32>,
    },
    /// Blurs the patch.
    Blur {
        /// The patch.
        rect: Rect,
        /// Standard deviation in pixels.
        sigma: f32,
    },
    /// Adds noise to the patch.
    Noise {
        /// The patch.
        rect: Rect,
        /// What is added to each value, cut off at 0 and 255.
        noise: Vec<i16>,
    },
    /// Exchanges two patches of one size.
    Swap {
        /// The first patch.
        rect: Rect,
        /// Left and top of the second.
        with: (u32, u32),
    },
}

impl Corrupt {
    /// Carries the operation out.
    pub fn apply(&self, mut image: Image) -> Image {
        let size = image.size();
        match self {
            Self::Shuffle { rect, order } => {
                let rect = rect.clipped(size);
                let before = pixels(&image, rect);
                for ((place, slot), &from) in (0..).zip(&before).zip(order) {
                    let pixel = before.get(from as usize).unwrap_or(slot);
                    set(&mut image, rect, place, *pixel);
                }
            }
            Self::Blur { rect, sigma } => {
                blur_rect(&mut image, *rect, Blur::of_sigma(*sigma));
            }
            Self::Noise { rect, noise } => {
                let rect = rect.clipped(size);
                let mut noise = noise.iter();
                for y in rect.y..rect.y + rect.height {
                    for (value, noise) in image.row_mut(rect, y).iter_mut().zip(&mut noise) {
                        *value = (i16::from(*value).saturating_add(*noise)).clamp(0, 255) as u8;
                    }
                }
            }
            Self::Swap { rect, with: (x, y) } => {
                let first = rect.clipped(size);
                let second = Rect { x: *x, y: *y, ..first }.clipped(size);
                let first = Rect { x: first.x, y: first.y, ..second };
                let (a, b) = (pixels(&image, first), pixels(&image, second));
                for (place, (a, b)) in (0..).zip(a.into_iter().zip(b)) {
                    set(&mut image, first, place, b);
                    set(&mut image, second, place, a);
                }
            }
        }
        image
    }
}

fn pixels(image: &Image, rect: Rect) -> Vec<[u8; 3]> {
    let rows = rect.y..rect.y + rect.height;
    rows.flat_map(|y| image.row(rect, y).as_chunks::<3>().0).copied().collect()
}

fn set(image: &mut Image, rect: Rect, place: u32, pixel: [u8; 3]) {
    let (x, y) = (place % rect.width, place / rect.width);
    let at = 3 * x as usize;
    image.row_mut(rect, rect.y + y)[at..at + 3].copy_from_slice(&pixel);
}
