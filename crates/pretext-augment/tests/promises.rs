//! What single transforms promise.

mod common;

use common::{SHAPES, noise, size, stream};
use pretext_augment::ops::{Colour, Flip, Grey, GreyBlur, Region, Tiles};
use pretext_augment::{
    ColourJitter, Colourise, Compose, CutOut, Greyscale, HorizontalFlip, Image, Jigsaw, Mixup,
    Normalise, Op, Plan, Probability, RandomErasing, RandomGreyBlur, RandomResizedCrop,
    RandomSolarise, Rect, Size, Transform,
};

#[test]
fn crops_lie_inside() {
    let mut rng = stream(1);
    for i in 0..3000 {
        let size = size(1 + i % 61, 1 + i * 7 % 43);
        let crop = RandomResizedCrop::torchvision(8).with_min_scale(0.01);
        let rect = crop.sample_rect(size, &mut rng);
        assert!(!rect.is_empty() && rect == rect.clipped(size), "{rect:?} in {size:?}");
    }
}

#[test]
fn a_ratio_is_width_over_height() {
    let mut crop = RandomResizedCrop::torchvision(8);
    (crop.ratio, crop.scale) = (2.0..=2.0, 0.1..=0.4);
    for seed in 0..50 {
        let rect = crop.sample_rect(size(400, 400), &mut stream(seed));
        assert!(rect.width.abs_diff(2 * rect.height) <= 2, "{rect:?}");
    }
}

#[test]
fn each_transform_of_a_composition_sees_the_size_that_the_last_one_left() {
    let train = Compose::new(vec![
        Box::new(RandomResizedCrop::torchvision(24)),
        Box::new(CutOut::default()),
    ]);
    for seed in 0..50 {
        let plan = train.sample(size(300, 200), &mut stream(seed));
        let [Op::CropResize(_), Op::Fill(fill)] = &plan.0[..] else { panic!("{plan:?}") };
        assert!(fill.rects.iter().all(|&rect| rect == rect.clipped(Size::square(24))), "{fill:?}");
    }
}

#[test]
fn jitter_takes_its_four_changes_in_any_order() {
    let jitter = ColourJitter::new(0.4, 0.4, 0.4, 0.1);
    let mut orders = std::collections::BTreeMap::new();
    for seed in 0..2400 {
        let plan = jitter.sample(size(9, 9), &mut stream(seed));
        let order: Vec<u8> = plan.0.iter().map(kind).collect();
        *orders.entry(order).or_insert(0) += 1;
    }
    assert_eq!(orders.len(), 24);
    assert!(orders.values().all(|count| (60..140).contains(count)), "{orders:?}");
}

fn kind(op: &Op) -> u8 {
    match op {
        Op::Colour(Colour::Brightness(_)) => 0,
        Op::Colour(Colour::Contrast(_)) => 1,
        Op::Colour(Colour::Saturation(_)) => 2,
        Op::Colour(Colour::Hue(_)) => 3,
        other => panic!("ColourJitter planned {other:?}"),
    }
}

#[test]
fn flipping_and_greying_twice() {
    for (width, height) in SHAPES {
        let image = noise(size(width, height));
        assert_eq!(Flip.apply(Flip.apply(image.clone())), image);
        let grey = Grey.apply(image);
        assert_eq!(Grey.apply(grey.clone()), grey);
    }
}

#[test]
fn a_jigsaw_is_restored_by_the_order_of_its_label() {
    let image = noise(size(50, 31));
    for (tiles, count) in [(2, 24), (3, 64)] {
        let jigsaw = Jigsaw::new(tiles, count).unwrap();
        for seed in 0..100 {
            let (plan, label) = jigsaw.sample_labelled(image.size(), &mut stream(seed));
            let puzzle = plan.apply(image.clone());
            let order = jigsaw.orders()[label as usize].clone();
            assert_eq!(puzzle == image, order.is_sorted(), "label {label}");
            assert_eq!(Tiles { side: tiles, order }.inverse().apply(puzzle), image);
        }
    }
}

fn regions(plan: &Plan) -> &[Region] {
    match &plan.0[..] {
        [Op::GreyBlur(GreyBlur { regions })] => regions,
        other => panic!("RandomGreyBlur planned {other:?}"),
    }
}

fn covers(rect: Rect, x: u32, y: u32) -> bool {
    (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y)
}

#[test]
fn grey_blur_touches_its_rectangles_alone_and_greys_all_of_them() {
    for (width, height) in [(128, 96), (1, 30), (33, 2)] {
        let image = noise(size(width, height));
        let grey = Grey.apply(image.clone());
        for seed in 0..20 {
            let blurred = RandomGreyBlur::default();
            let plain = RandomGreyBlur { blur: None, ..blurred.clone() };
            for (transform, blurs) in [(&blurred, true), (&plain, false)] {
                let plan = transform.sample(image.size(), &mut stream(seed));
                assert!((5..=9).contains(&regions(&plan).len()));
                let out = plan.apply(image.clone());
                for y in 0..height {
                    for x in 0..width {
                        let inside = regions(&plan).iter().any(|region| covers(region.rect, x, y));
                        let [r, g, b] = out.pixel(x, y);
                        assert!(!inside || (r == g && g == b), "({x}, {y}) is not grey");
                        assert!(inside || out.pixel(x, y) == image.pixel(x, y), "({x}, {y})");
                        let exact = out.pixel(x, y) == grey.pixel(x, y);
                        assert!(blurs || !inside || exact, "({x}, {y}) is not the plain grey");
                    }
                }
            }
        }
    }
}

#[test]
fn a_blurred_rectangle_has_less_contrast() {
    let image = noise(size(128, 96));
    let contrast = |image: &Image, rect: Rect| {
        let crop = image.crop(rect).unwrap();
        let (least, most) = (crop.pixels().iter().min(), crop.pixels().iter().max());
        most.unwrap() - least.unwrap()
    };
    let rect = Rect { x: 20, y: 30, width: 40, height: 30 };
    let op = |sigma| GreyBlur { regions: vec![Region { rect, sigma }] };
    let by_sigma = [None, Some(1.0), Some(2.0), Some(6.0)]
        .map(|sigma| contrast(&op(sigma).apply(image.clone()), rect));
    assert!(by_sigma.is_sorted_by(|a, b| a > b), "{by_sigma:?}");
}

#[test]
fn cut_out_and_erasing_leave_the_rest_alone() {
    let image = noise(size(90, 70));
    let erasing = RandomErasing { p: 1.0, colour: None, ..RandomErasing::default() };
    for seed in 0..50 {
        for transform in [&CutOut::default() as &dyn Transform, &erasing] {
            let plan = transform.sample(image.size(), &mut stream(seed));
            let [Op::Fill(fill)] = &plan.0[..] else { panic!("{plan:?}") };
            let out = plan.apply(image.clone());
            for y in 0..70 {
                for x in 0..90 {
                    let inside = fill.rects.iter().any(|&rect| covers(rect, x, y));
                    assert!(inside || out.pixel(x, y) == image.pixel(x, y), "({x}, {y})");
                }
            }
        }
    }
}

#[test]
fn normalised_numbers_are_finite_and_go_back() {
    for (width, height) in SHAPES {
        let image = noise(size(width, height));
        let mut out = vec![f32::NAN; image.pixels().len()];
        Normalise::IMAGENET.to_chw(&image, &mut out);
        assert!(out.iter().all(|value| value.is_finite() && value.abs() < 3.0));
        assert_eq!(Normalise::IMAGENET.to_image(&out, image.size()), image);
    }
}

#[test]
fn mixup_keeps_the_batch_mean() {
    let batch: Vec<Vec<f32>> = (0..8).map(|i| vec![i as f32, 10.0 - i as f32]).collect();
    for seed in 0..50 {
        let mut mixed = batch.clone();
        let params = Mixup { alpha: 0.4 }.sample(batch.len(), &mut stream(seed));
        params.apply(&mut mixed);
        let sum = |batch: &[Vec<f32>]| batch.iter().map(|sample| sample[0]).sum::<f32>();
        assert!((sum(&mixed) - sum(&batch)).abs() < 1e-3);
        for (i, sample) in mixed.iter().enumerate() {
            let partner = params.partner[i] as f32;
            let want = params.lambda * i as f32 + (1.0 - params.lambda) * partner;
            assert!((sample[0] - want).abs() < 1e-5 && (sample[1] - (10.0 - want)).abs() < 1e-5);
        }
    }
    let mut same = batch.clone();
    Mixup { alpha: 0.0 }.sample(batch.len(), &mut stream(0)).apply(&mut same);
    assert_eq!(same, batch);
}

#[test]
fn probability_zero_does_nothing_and_one_always_does() {
    let image = noise(size(20, 10));
    let with = |p| -> [Box<dyn Transform>; 5] {
        [
            Box::new(HorizontalFlip { p }),
            Box::new(Greyscale { p }),
            Box::new(RandomSolarise { p, threshold: 128 }),
            Box::new(RandomErasing { p, ..RandomErasing::default() }),
            Box::new(Probability { p, transform: Box::new(Colourise) as Box<dyn Transform> }),
        ]
    };
    for seed in 0..50 {
        for (never, always) in with(0.0).into_iter().zip(with(1.0)) {
            assert_eq!(never.sample(image.size(), &mut stream(seed)), Plan::nothing());
            assert_ne!(always.sample(image.size(), &mut stream(seed)), Plan::nothing());
        }
    }
}
