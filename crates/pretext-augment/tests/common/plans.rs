//! Random plans.

use pretext_augment::ops::{
    Blur, Colour, Corrupt, CropResize, Fill, Flip, Grey, GreyBlur, Paint, Region, ResizeCrop,
    Solarise, Tiles,
};
use pretext_augment::{Image, Op, Plan, Rect, Size};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// All colours of every fifth level and the extremes: what a hue can be made of.
pub(crate) fn every_colour() -> Image {
    let levels: Vec<u8> = (0..=255).step_by(5).chain([1, 2, 127, 128, 254]).collect();
    let mut pixels = vec![];
    for &red in &levels {
        for &green in &levels {
            for &blue in &levels {
                pixels.extend([red, green, blue]);
            }
        }
    }
    let side = levels.len() as u32;
    Image::new(Size { width: side * side, height: side }, pixels).unwrap()
}

/// Every change of colour, each with ordinary and odd numbers.
pub(crate) fn every_change() -> Vec<Plan> {
    let odd = [0.0, 0.3, 1.0, 1.7, 60.0, -1.0, f32::NAN, f32::INFINITY];
    let kinds = [Colour::Brightness, Colour::Contrast, Colour::Saturation, Colour::Hue];
    let changes = odd.iter().flat_map(|&value| kinds.map(|change| Op::Colour(change(value))));
    let shifts = [-0.5, -0.31, -1.0 / 6.0, 0.001, 0.1, 0.25, 1.0 / 3.0, 0.5, 0.999];
    let hues = shifts.map(|shift| Op::Colour(Colour::Hue(shift)));
    changes.chain(hues).chain([Op::Grey(Grey)]).map(Plan::from).collect()
}

/// Up to six operations for a picture of this size.
pub(crate) fn any_plan(rng: &mut StdRng, mut size: Size) -> Plan {
    let mut plan = Plan::nothing();
    for _ in 0..rng.random_range(0..7) {
        let op = any_op(rng, size);
        size = op.output_size(size);
        plan.0.push(op);
    }
    plan
}

/// A rectangle that may lie anywhere, also beyond the picture.
pub(crate) fn any_rect(rng: &mut StdRng, size: Size) -> Rect {
    let mut interval = |extent: u32| {
        let start = rng.random_range(0..=extent);
        (start, rng.random_range(0..=extent + 5))
    };
    let ((x, width), (y, height)) = (interval(size.width), interval(size.height));
    Rect { x, y, width, height }
}

/// Any operation with any sensible numbers.
pub(crate) fn any_op(rng: &mut StdRng, size: Size) -> Op {
    let factor = rng.random_range(0.0..2.0);
    let out = Size { width: rng.random_range(0..70), height: rng.random_range(0..70) };
    match rng.random_range(0..16) {
        0 => Op::CropResize(CropResize { crop: any_rect(rng, size), size: out }),
        1 => Op::ResizeCrop(ResizeCrop { size: out, crop: any_rect(rng, out) }),
        2 => Op::CropResize(CropResize { crop: Rect::whole(size), size }),
        3 | 4 => Op::Flip(Flip),
        5 => Op::Colour(Colour::Brightness(factor)),
        6 => Op::Colour(Colour::Contrast(factor)),
        7 => Op::Colour(Colour::Saturation(factor)),
        8 => Op::Colour(Colour::Hue(factor / 2.0 - 0.5)),
        9 => Op::Grey(Grey),
        10 => Op::Blur(Blur { kernel: rng.random_range(0..40), sigma: 3.0 * factor }),
        11 => Op::Solarise(Solarise { threshold: rng.random() }),
        12 => {
            let rects = (0..rng.random_range(0..4)).map(|_| any_rect(rng, size)).collect();
            let paint = if rng.random() {
                Paint::Colour(rng.random())
            } else {
                Paint::Noise((0..rng.random_range(1..99)).map(|_| rng.random()).collect())
            };
            Op::Fill(Fill { rects, paint })
        }
        13 => {
            let region = |rng: &mut StdRng| Region {
                rect: any_rect(rng, size),
                sigma: rng.random::<bool>().then(|| rng.random_range(-0.5..9.0)),
            };
            let regions = (0..rng.random_range(0..5)).map(|_| region(rng)).collect();
            Op::GreyBlur(GreyBlur { regions })
        }
        14 => Op::Corrupt(match rng.random_range(0..3) {
            0 => Corrupt::Blur { rect: any_rect(rng, size), sigma: 2.0 * factor },
            1 => Corrupt::Noise { rect: any_rect(rng, size), noise: vec![-30, 40, 90, 7] },
            _ => Corrupt::Swap { rect: any_rect(rng, size), with: (1, 2) },
        }),
        _ => {
            let side = rng.random_range(0..4_u32);
            let order = (0..side * side).map(|_| rng.random_range(0..10)).collect();
            Op::Tiles(Tiles { side, order })
        }
    }
}
