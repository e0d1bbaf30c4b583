//! Blurs rectangles and turns them grey: the operation of RandomGreyBlur.
//!
//! # Specification
//!
//! Regions are treated first to last. For each, the luma of the image as it was before any region
//! was treated is blurred by the region's Gaussian (three standard deviations far, reflected at the
//! image's border) and written to all channels of the pixels inside the region. A region without
//! a blur gets the luma itself. Pixels outside of all regions keep their exact values.

use super::blur::{Blur, blur_rect};
use super::luma;
use crate::{Image, Rect};

/// Blurs rectangles and turns them grey.
#[derive(Clone, Debug, PartialEq)]
pub struct GreyBlur {
    /// What to treat; a later region wins where they overlap.
    pub regions: Vec<Region>,
}

/// One rectangle of a [`GreyBlur`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Where, clipped to the image.
    pub rect: Rect,
    /// Standard deviation of the blur in pixels; `None` turns grey only.
    pub sigma: Option<f32>,
}

impl GreyBlur {
    /// Carries the operation out.
    pub fn apply(&self, image: Image) -> Image {
        let mut out = image.clone();
        for Region { rect, sigma } in &self.regions {
            let rect = rect.clipped(image.size());
            // A region reads the untouched image: what another one did must not shine through.
            let mut own = image.clone();
            let blur = sigma.map_or(Blur { kernel: 1, sigma: 0.0 }, Blur::of_sigma);
            blur_rect(&mut own, rect, blur, |pixel| [luma(pixel); 3]);
            for y in rect.y..rect.y + rect.height {
                out.row_mut(rect, y).copy_from_slice(own.row(rect, y));
            }
        }
        out
    }
}
