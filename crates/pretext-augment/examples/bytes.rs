//! On plain bytes, with no other library: one plan for a picture and its mask, then a puzzle.

#![allow(clippy::print_stdout)] // a program for the terminal

use pretext_augment::{Corruption, Error, HorizontalFlip, Image, Op, Size, Transform};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Error> {
    // What a camera, a decoder or a memory-mapped file gives: rows of red, green and blue.
    let size = Size { width: 4, height: 2 };
    let picture: &[u8] = &[
        250, 0, 0, 200, 0, 0, 150, 0, 0, 100, 0, 0, //
        0, 0, 250, 0, 0, 200, 0, 0, 150, 0, 0, 100,
    ];
    let mask: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255].repeat(2);

    let mut rng = StdRng::seed_from_u64(0);
    let plan = HorizontalFlip { p: 1.0 }.sample(size, &mut rng);
    assert!(matches!(plan.0[..], [Op::Flip(_)])); // a plan is data: look, store, compare
    for bytes in [picture, mask] {
        let mirrored = plan.apply(Image::new(size, bytes.to_vec())?);
        println!("{:?}", mirrored.pixels());
    }

    let (puzzle, label) = Corruption::default().sample_labelled(size, &mut rng);
    let puzzle = puzzle.apply(Image::new(size, picture.to_vec())?);
    println!("{:?} is {}", puzzle.pixels(), Corruption::CLASSES[label as usize]);
    Ok(())
}
