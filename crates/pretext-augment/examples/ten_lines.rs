//! From an `image::RgbImage` to another view of it and what a network takes, in ten lines.

use image::RgbImage;
use pretext_augment::{
    ColourJitter, Compose, HorizontalFlip, Image, Normalise, RandomResizedCrop, Size, Transform,
};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rgb: RgbImage =
        image::open(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/photograph.jpg"))?.into_rgb8();
    let size = Size { width: rgb.width(), height: rgb.height() };
    let augment = Compose::new(vec![
        Box::new(RandomResizedCrop::torchvision(128)),
        Box::new(HorizontalFlip::default()),
        Box::new(ColourJitter::new(0.4, 0.4, 0.4, 0.1)),
    ]);
    let view = augment.augment(Image::new(size, rgb.into_raw())?, &mut StdRng::seed_from_u64(0));
    let mut input = vec![0.0; 3 * 128 * 128]; // [3, H, W]
    Normalise::IMAGENET.to_chw(&view, &mut input);
    RgbImage::from_raw(128, 128, view.into_pixels()).ok_or("no such size")?.save("view.png")?;
    Ok(())
}
