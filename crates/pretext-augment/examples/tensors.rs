//! From pixels to SimCLR's two views as tensors of candle, `[N, 3, H, W]` each.
//!
//! `cargo run -p pretext-augment --features candle --example tensors`

#![allow(clippy::print_stdout)] // a program for the terminal

use pretext_augment::{Image, Layout, Normalise, Size, Workspace, batch, presets};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let size = Size { width: 213, height: 160 };
    let pictures: Vec<Image> = (0..4).map(|i| Image::filled(size, [60 * i, 99, 150])).collect();
    let (views, mut rng) = (presets::by_name("simclr")?.views_at(128), StdRng::seed_from_u64(0));
    let plans: Vec<_> = pictures.iter().map(|p| views.sample(p.size(), &mut rng)).collect();

    let workspace = &mut Workspace::new();
    for view in 0..views.len() {
        let views = pictures.iter().zip(&plans).map(|(p, plans)| (p.view(), &plans[view]));
        let tensor = batch::<f32>(views, &Normalise::IMAGENET, Layout::Chw, workspace)?;
        println!("view {view}: {:?}, mean {}", tensor.dims(), tensor.mean_all()?);
    }
    Ok(())
}
