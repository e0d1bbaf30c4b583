//! What holds for every transform, on pictures of any shape, and what single ones promise.

use pretext_augment::ops::{Colour, Flip, Grey, GreyBlur, Region, Tiles};
use pretext_augment::{
    ColourJitter, Colourise, Compose, Corruption, CutOut, EvalCrop, GaussianBlur, Greyscale,
    HorizontalFlip, Image, Jigsaw, Mixup, Normalise, OneOf, Op, Plan, Probability, RandomErasing,
    RandomGreyBlur, RandomResizedCrop, RandomSolarise, Rect, Side, Size, Transform,
};
use rand::{Rng as _, SeedableRng, rngs::StdRng};

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

/// A picture of a size in which neighbours differ and every value comes up.
fn noise(size: Size) -> Image {
    let bytes = (0..3 * size.area() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    Image::new(size, bytes.collect()).unwrap()
}

fn stream(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

type Named = (&'static str, Box<dyn Transform>);

/// Every transform there is, also in its other ways, such that it happens always.
fn every() -> Vec<Named> {
    let plain: [Named; 22] = [
        ("resized crop, torchvision", Box::new(RandomResizedCrop::torchvision(24))),
        ("resized crop, fastai", Box::new(RandomResizedCrop::fastai(24))),
        ("evaluation crop, torchvision", Box::new(EvalCrop::torchvision(32, 24))),
        ("evaluation crop, fastai", Box::new(EvalCrop::fastai(24))),
        ("flip", Box::new(HorizontalFlip { p: 1.0 })),
        ("jitter", Box::new(ColourJitter::new(0.8, 0.8, 0.8, 0.5))),
        ("greyscale", Box::new(Greyscale { p: 1.0 })),
        ("colourise", Box::new(Colourise)),
        ("blur", Box::new(GaussianBlur::new(23, 0.1..=2.0))),
        ("blur by sigma", Box::new(GaussianBlur::of_sigma(0.0..=9.0))),
        ("solarise", Box::new(RandomSolarise { p: 1.0, threshold: 128 })),
        ("erasing", Box::new(RandomErasing { p: 1.0, ..RandomErasing::default() })),
        ("erasing by noise", Box::new(RandomErasing { colour: None, ..RandomErasing::default() })),
        ("cut-out", Box::new(CutOut::default())),
        ("cut-out in px", Box::new(CutOut { side: Side::Pixels(0..=60), ..CutOut::default() })),
        ("grey-blur", Box::new(RandomGreyBlur::default())),
        ("grey only", Box::new(RandomGreyBlur { blur: None, ..RandomGreyBlur::default() })),
        ("corruption", Box::new(Corruption::default())),
        (
            "corruption in px",
            Box::new(Corruption { side: Side::Pixels(0..=60), ..Corruption::default() }),
        ),
        ("jigsaw of 4", Box::new(Jigsaw::new(2, 24).unwrap())),
        ("jigsaw of 9", Box::new(Jigsaw::new(3, 9).unwrap())),
        ("probability", Box::new(Probability { p: 0.5, transform: Colourise })),
    ];
    let mut every = Vec::from(plain);
    let some: Vec<Box<dyn Transform>> = vec![
        Box::new(RandomResizedCrop::torchvision(9)),
        Box::new(CutOut::default()),
        Box::new(Corruption::default()),
    ];
    every.push(("compose", Box::new(Compose::new(some))));
    every.push((
        "one of",
        Box::new(OneOf::new(vec![Box::new(EvalCrop::fastai(7)), Box::new(Colourise)])),
    ));
    every
}

const SHAPES: [(u32, u32); 12] = [
    (1, 1),
    (2, 1),
    (1, 2),
    (2, 2),
    (1, 57),
    (57, 1),
    (3, 5),
    (64, 48),
    (20_000, 1),
    (1, 20_000),
    (20_000, 3),
    (20_000, 40),
];

#[test]
fn any_picture_comes_out_at_the_promised_size() {
    for (width, height) in SHAPES {
        let image = noise(size(width, height));
        for (name, transform) in every() {
            for seed in 0..if width < 1000 { 20 } else { 2 } {
                let plan = transform.sample(image.size(), &mut stream(seed));
                let out = plan.apply(image.clone());
                assert_eq!(out.size(), plan.output_size(image.size()), "{name}, {image:?}, {seed}");
                assert_eq!(out.pixels().len() as u64, 3 * out.size().area());
            }
        }
    }
}

#[test]
fn crops_to_a_size_have_it() {
    for (width, height) in SHAPES {
        for (name, transform) in every().into_iter().take(4) {
            let plan = transform.sample(size(width, height), &mut stream(0));
            assert_eq!(plan.output_size(size(width, height)), Size::square(24), "{name}");
        }
    }
}

#[test]
fn a_plan_of_another_size_does_no_harm() {
    for (from, to) in [((64, 48), (5, 90)), ((5, 90), (1, 1)), ((1, 1), (64, 48))] {
        for (name, transform) in every() {
            for seed in 0..20 {
                let plan = transform.sample(size(from.0, from.1), &mut stream(seed));
                let image = noise(size(to.0, to.1));
                let promised = plan.output_size(image.size());
                assert_eq!(plan.apply(image).size(), promised, "{name}, {from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn plans_depend_on_size_and_stream_alone() {
    let image = noise(size(64, 48));
    for (name, transform) in every() {
        let (mut first, mut again) = (stream(5), stream(5));
        let plan = transform.sample(image.size(), &mut first);
        // What was sampled in between leaves no trace.
        transform.sample(size(9, 200), &mut stream(77));
        let out = transform.augment(image.clone(), &mut again);
        assert_eq!(out, plan.apply(image.clone()), "{name}");
        assert_eq!(first.next_u64(), again.next_u64(), "{name}: another number of draws");
        let mut third = stream(5);
        assert_eq!(transform.sample(image.size(), &mut third), plan, "{name}");
    }
}

#[test]
fn chance_has_a_say_and_every_transform_a_visible_effect() {
    let image = noise(size(64, 48));
    // These draw nothing, or only whether they happen.
    let sure = ["evaluation crop, torchvision", "evaluation crop, fastai", "flip", "greyscale"];
    let sure = [&sure[..], &["colourise", "solarise"]].concat();
    for (name, transform) in every() {
        let outs: Vec<Image> =
            (0..8).map(|seed| transform.augment(image.clone(), &mut stream(seed))).collect();
        assert!(outs.iter().any(|out| *out != image), "{name} changes nothing");
        assert_eq!(outs.iter().all(|out| *out == outs[0]), sure.contains(&name), "{name}");
    }
}

/// Numbers that make no sense, of every kind that the types allow.
fn odd() -> Vec<Box<dyn Transform>> {
    let reversed = std::ops::RangeInclusive::new(9, 5);
    let mut odd: Vec<Box<dyn Transform>> = vec![
        Box::new(EvalCrop::torchvision(0, 0)),
        Box::new(EvalCrop::fastai(0)),
        Box::new(RandomResizedCrop::torchvision(0)),
        Box::new(GaussianBlur::new(u32::MAX, 0.5..=0.5)),
        Box::new(CutOut { count: reversed.clone(), side: Side::Pixels(reversed), colour: [1; 3] }),
        Box::new(Corruption { side: Side::Pixels(u32::MAX..=u32::MAX), ..Corruption::default() }),
        Box::new(CutOut { side: Side::Pixels(u32::MAX..=u32::MAX), ..CutOut::default() }),
    ];
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, 1e30] {
        let crop = RandomResizedCrop::torchvision(5);
        let [mut scaled, mut shaped] = [crop.clone(), crop.clone()];
        scaled.scale = x..=x;
        shaped.ratio = x..=x;
        odd.push(Box::new(scaled));
        odd.push(Box::new(shaped));
        odd.push(Box::new(crop.with_min_scale(x)));
        odd.push(Box::new(RandomErasing { p: 1.0, scale: x..=1.0, ratio: x..=9.0, colour: None }));
        odd.push(Box::new(ColourJitter::new(x, x, x, x.max(0.0))));
        let (range, turn) = (x..=x, x..=x);
        let ranges = [range.clone(), range.clone(), range];
        let [brightness, contrast, saturation] = ranges;
        odd.push(Box::new(ColourJitter { brightness, contrast, saturation, hue: turn }));
        odd.push(Box::new(GaussianBlur::new(4, x..=x)));
        odd.push(Box::new(GaussianBlur::of_sigma(x..=x)));
        odd.push(Box::new(RandomGreyBlur { blur: Some(x..=x), ..RandomGreyBlur::default() }));
        let side = Side::Fraction(x..=x);
        odd.push(Box::new(CutOut { side: side.clone(), ..CutOut::default() }));
        odd.push(Box::new(Corruption { side, sigma: x, noise: x }));
        odd.push(Box::new(Probability { p: x, transform: Colourise }));
    }
    odd
}

#[test]
fn odd_numbers_do_no_harm() {
    for transform in odd() {
        for (width, height) in [(1, 1), (9, 4), (2, 30)] {
            for seed in 0..12 {
                let plan = transform.sample(size(width, height), &mut stream(seed));
                let promised = plan.output_size(size(width, height));
                assert_eq!(plan.apply(noise(size(width, height))).size(), promised, "{plan:?}");
            }
        }
    }
}

#[test]
fn a_side_of_0_counts_as_1() {
    for (name, transform) in every() {
        for seed in 0..20 {
            let plan = transform.sample(size(0, 0), &mut stream(seed));
            assert_eq!(plan, transform.sample(size(1, 1), &mut stream(seed)), "{name}");
        }
    }
}

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
