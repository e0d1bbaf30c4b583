//! From an `image::RgbImage` to another view of it and what a network takes, in ten lines.

use image::RgbImage;
use pretext_augment::{
    ColourJitter, Compose, HorizontalFlip, ImageRef, Layout, Normalise, RandomResizedCrop, Size,
    Transform, Workspace,
};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rgb: RgbImage =
        image::open(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/photograph.jpg"))?.into_rgb8();
    let size = Size { width: rgb.width(), height: rgb.height() };
    let picture = ImageRef::new(size, rgb.as_raw())?; // copies nothing
    let augment = Compose::new(vec![
        Box::new(RandomResizedCrop::torchvision(128)),
        Box::new(HorizontalFlip::default()),
        Box::new(ColourJitter::new(0.4, 0.4, 0.4, 0.1)),
    ]);
    let plan = augment.sample(size, &mut StdRng::seed_from_u64(0));
    let mut workspace = Workspace::new(); // one for each thread, used again and again
    let mut input = vec![0.0_f32; 3 * 128 * 128]; // [3, H, W]
    plan.write(picture, &Normalise::IMAGENET, Layout::Chw, &mut workspace, &mut input)?;
    let view = plan.view(picture, &mut workspace); // as bytes, to look at
    RgbImage::from_raw(128, 128, view.into_pixels()).ok_or("no such size")?.save("view.png")?;
    Ok(())
}
