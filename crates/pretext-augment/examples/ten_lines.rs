//! From an `image::RgbImage` to another view of it and what a network takes, in ten lines.
//!
//! `cargo run -p pretext-augment --features image --example ten_lines`

use pretext_augment::{
    ColourJitter, Compose, HorizontalFlip, ImageRef, Layout, Normalise, RandomResizedCrop,
    Transform, Workspace,
};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rgb = image::open(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/photograph.jpg"))?.into_rgb8();
    let picture = ImageRef::try_from(&rgb)?; // copies nothing
    let augment = Compose::new(vec![
        Box::new(RandomResizedCrop::torchvision(128)),
        Box::new(HorizontalFlip::default()),
        Box::new(ColourJitter::new(0.4, 0.4, 0.4, 0.1)),
    ]);
    let plan = augment.sample(picture.size(), &mut StdRng::seed_from_u64(0));
    let mut workspace = Workspace::new(); // one for each thread, again and again
    let mut input = vec![0.0_f32; 3 * 128 * 128]; // [3, H, W]
    plan.write(picture, &Normalise::IMAGENET, Layout::Chw, &mut workspace, &mut input)?;
    image::RgbImage::from(plan.view(picture, &mut workspace)).save("view.png")?;
    Ok(())
}
