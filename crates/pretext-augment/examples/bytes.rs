//! On plain bytes, with no other library: SimCLR's two views of one picture as a network takes them,
//! then one plan for a picture and its mask.

#![allow(clippy::print_stdout)] // a program for the terminal

use pretext_augment::{
    Error, HorizontalFlip, ImageRef, Layout, Normalise, Op, Size, Transform, Workspace, presets,
    write_views,
};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Error> {
    // What a camera, a decoder or a memory-mapped file gives: rows of red, green and blue.
    let size = Size { width: 4, height: 2 };
    let bytes: &[u8] = &[
        250, 0, 0, 200, 0, 0, 150, 0, 0, 100, 0, 0, //
        0, 0, 250, 0, 0, 200, 0, 0, 150, 0, 0, 100,
    ];
    let picture = ImageRef::new(size, bytes)?; // copies nothing
    let (mut workspace, mut rng) = (Workspace::new(), StdRng::seed_from_u64(0));

    let views = presets::by_name("simclr")?.views_at(32);
    let plans = views.sample(size, &mut rng);
    let [mut first, mut second] = [(); 2].map(|()| vec![0.0_f32; 3 * 32 * 32]);
    let outputs = &mut [&mut first[..], &mut second[..]];
    write_views(&plans, picture, &Normalise::IMAGENET, Layout::Chw, &mut workspace, outputs)?;
    println!("two views, whose first numbers are {} and {}", first[0], second[0]);

    let mask: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255].repeat(2);
    let plan = HorizontalFlip { p: 1.0 }.sample(size, &mut rng);
    assert!(matches!(plan.0[..], [Op::Flip(_)])); // a plan is data: look, store, compare
    for bytes in [bytes, mask] {
        let mirrored = plan.view(ImageRef::new(size, bytes)?, &mut workspace);
        println!("{:?}", mirrored.pixels());
    }
    Ok(())
}
