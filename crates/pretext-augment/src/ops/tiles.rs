//! Lays an image's tiles in another order.

use crate::{Image, Rect, Size};

/// Cuts an image into `side` by `side` tiles and lays them in another order.
///
/// Tiles have whole pixels and one size, `floor(width / side)` by `floor(height / side)`; rows and
/// columns that are left over at the right and at the bottom stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Tiles in each direction.
    pub side: u32,
    /// `order[place]` is the tile that comes to lie there; both count row by row. An entry beyond
    /// the last tile leaves its place alone.
    pub order: Vec<u8>,
}

impl Tiles {
    /// Carries the operation out.
    pub fn apply(&self, image: Image) -> Image {
        let mut out = image.clone();
        let Size { width, height } = image.size();
        let side = self.side.max(1);
        let tiles = side.saturating_mul(side);
        let (w, h) = (width / side, height / side);
        let rect = |i: u32| Rect { x: i % side * w, y: i / side * h, width: w, height: h };
        for (place, &tile) in (0..tiles).zip(&self.order) {
            if u32::from(tile) >= tiles {
                continue;
            }
            let (from, to) = (rect(u32::from(tile)), rect(place));
            for row in 0..h {
                out.row_mut(to, to.y + row).copy_from_slice(image.row(from, from.y + row));
            }
        }
        out
    }

    /// The order that undoes this one, if it is a permutation.
    pub fn inverse(&self) -> Self {
        let mut order = self.order.clone();
        for (place, &tile) in (0..).zip(&self.order) {
            if let Some(slot) = order.get_mut(usize::from(tile)) {
                *slot = place;
            }
        }
        Self { side: self.side, order }
    }
}
