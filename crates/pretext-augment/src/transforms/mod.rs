//! The random half: policies that decide what happens, one file each.

mod colour_jitter;
mod colourise;
mod compose;
mod corruption;
mod cut_out;
mod eval_crop;
mod gaussian_blur;
mod greyscale;
mod horizontal_flip;
mod jigsaw;
mod random_erasing;
mod random_grey_blur;
mod resized_crop;
mod side;
mod solarise;

pub use colour_jitter::ColourJitter;
pub use colourise::Colourise;
pub use compose::{Compose, OneOf, Probability};
pub use corruption::Corruption;
pub use cut_out::CutOut;
pub use eval_crop::EvalCrop;
pub use gaussian_blur::GaussianBlur;
pub use greyscale::Greyscale;
pub use horizontal_flip::HorizontalFlip;
pub use jigsaw::Jigsaw;
pub use random_erasing::RandomErasing;
pub use random_grey_blur::RandomGreyBlur;
pub use resized_crop::RandomResizedCrop;
pub use side::Side;
pub use solarise::RandomSolarise;
