//! What can go wrong: only what the caller hands in.

use crate::{Size, presets};

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
    /// Rows that overlap, or fewer bytes than rows and their gaps take.
    #[error("{bytes} bytes in rows of {stride} are too few for an RGB picture of {} x {}", size.width, size.height)]
    Stride {
        /// The size as given.
        size: Size,
        /// From row to row, in bytes, as given.
        stride: usize,
        /// The number of bytes as given.
        bytes: usize,
    },
    /// The place for a view is not as large as the view.
    #[error("a view of {} x {} is 3 x {} numbers, not {numbers}", size.width, size.height, size.area())]
    Output {
        /// The view's size.
        size: Size,
        /// How many numbers there is room for.
        numbers: usize,
    },
    /// Another number of places than of views.
    #[error("{plans} plans make as many views, and there are places for {outputs}")]
    Views {
        /// How many plans were given.
        plans: usize,
        /// How many places were given.
        outputs: usize,
    },
    /// A preset that there is not.
    #[error("no preset is called \"{name}\"; there are {}", names())]
    Preset {
        /// The name as given.
        name: String,
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

fn names() -> String {
    presets::ALL.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}
