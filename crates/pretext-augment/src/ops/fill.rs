//! Fills rectangles.
//!
//! # Specification
//!
//! Rectangles first to last, each row by row, its values in the order red, green, blue. Noise goes on
//! from row to row and from rectangle to rectangle and begins again when it runs out.

use crate::{Image, Rect};

/// Fills rectangles, the later over the earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// What to fill, clipped to the image.
    pub rects: Vec<Rect>,
    /// With what.
    pub paint: Paint,
}

/// What fills a rectangle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paint {
    /// One colour.
    Colour([u8; 3]),
    /// Bytes for the rectangles' values, one after the other; begun again when they run out.
    Noise(Vec<u8>),
}

impl Fill {
    /// Carries the operation out.
    pub fn apply(&self, mut image: Image) -> Image {
        let size = image.size();
        let mut noise = match &self.paint {
            Paint::Noise(bytes) => bytes.iter().cycle(),
            Paint::Colour(colour) => colour.iter().cycle(),
        };
        for rect in &self.rects {
            let rect = rect.clipped(size);
            for y in rect.y..rect.y + rect.height {
                for (value, paint) in image.row_mut(rect, y).iter_mut().zip(&mut noise) {
                    *value = *paint;
                }
            }
        }
        image
    }
}
