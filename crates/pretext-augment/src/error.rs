//! What can go wrong: only what the caller hands in.

use crate::Size;

/// Why something could not be made of the caller's numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pixels are not those of an image of this size.
    #[error("{bytes} bytes are not the 3 x {} x {} of an RGB image", size.width, size.height)]
    Bytes {
        /// The size as given.
        size: Size,
        /// The number of bytes as given.
        bytes: usize,
    },
    /// An image without pixels.
    #[error("an image of {} x {} has no pixels", size.width, size.height)]
    Empty {
        /// The size as given.
        size: Size,
    },
    /// A jigsaw that cannot be.
    #[error("a jigsaw of {tiles} x {tiles} tiles has no {permutations} permutations; {remedy}")]
    Jigsaw {
        /// Tiles a side as given.
        tiles: u32,
        /// Permutations as given.
        permutations: usize,
        /// What would do.
        remedy: &'static str,
    },
}
