//! What holds for every transform, on pictures of any shape.

mod common;

use common::{SHAPES, noise, size, stream};
use pretext_augment::{
    ColourJitter, Colourise, Compose, Corruption, CutOut, EvalCrop, GaussianBlur, Greyscale,
    HorizontalFlip, Image, Isa, Jigsaw, Layout, Normalise, OneOf, Probability, RandomErasing,
    RandomGreyBlur, RandomResizedCrop, RandomSolarise, Side, Size, Transform, Workspace,
};
use rand::Rng as _;

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
                let picture = noise(size(width, height));
                let plain = plan.apply(picture.clone());
                assert_eq!(plain.size(), promised, "{plan:?}");
                for isa in Isa::available() {
                    let workspace = &mut Workspace::with_isa(isa);
                    assert_eq!(plan.view(picture.view(), workspace), plain, "{isa}: {plan:?}");
                    let mut out = vec![f32::NAN; plain.pixels().len()];
                    let (view, normalise) = (picture.view(), &Normalise::IMAGENET);
                    plan.write(view, normalise, Layout::Hwc, workspace, &mut out).unwrap();
                    assert!(out.iter().all(|value| value.is_finite()), "{isa}: {plan:?}");
                }
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
