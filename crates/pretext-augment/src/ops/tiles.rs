//! Lays an image's tiles in another order.
//!
//! # Specification
//!
//! Places and tiles count row by row. All tiles are read from the image as it was.

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
        for (from, to) in self.moves(image.size()) {
            for row in 0..to.height {
                out.row_mut(to, to.y + row).copy_from_slice(image.row(from, from.y + row));
            }
        }
        out
    }

    /// Where the tiles of an image are, and where they come to lie.
    pub(crate) fn moves(&self, size: Size) -> impl Iterator<Item = (Rect, Rect)> {
        let side = self.side.max(1);
        let tiles = side.saturating_mul(side);
        let (width, height) = (size.width / side, size.height / side);
        let rect = move |i: u32| Rect { x: i % side * width, y: i / side * height, width, height };
        let moves = (0..tiles).zip(&self.order).map(|(place, &tile)| (u32::from(tile), place));
        moves
            .filter(move |&(tile, _)| tile < tiles)
            .map(move |(tile, place)| (rect(tile), rect(place)))
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
