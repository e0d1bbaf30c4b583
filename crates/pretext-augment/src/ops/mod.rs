//! The deterministic half: operations on pixels, one file each, as plain data.
//!
//! Rectangles are clipped to the image, so a plan made for one size does no harm to another.

mod blur;
mod colour;
mod corrupt;
mod crop_resize;
mod fill;
mod flip;
mod grey;
mod grey_blur;
mod resample;
mod resize_crop;
mod solarise;
mod tiles;
pub(crate) mod weights;

pub use blur::Blur;
pub use colour::Colour;
pub use corrupt::Corrupt;
pub use crop_resize::CropResize;
pub use fill::{Fill, Paint};
pub use flip::Flip;
pub use grey::Grey;
pub use grey_blur::{GreyBlur, Region};
pub use resize_crop::ResizeCrop;
pub use solarise::Solarise;
pub use tiles::Tiles;

pub(crate) use blur::{grown, reflected};
pub(crate) use grey::luma;
