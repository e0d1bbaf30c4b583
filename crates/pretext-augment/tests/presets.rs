//! Presets have the parameters of their papers and code, read off the plans that they draw.

mod common;

use std::collections::BTreeSet;

use common::{SHAPES, noise, size, stream};
use pretext_augment::ops::{Blur, Colour, CropResize, ResizeCrop};
use pretext_augment::{Layout, Normalise, Op, Plan, Size, Workspace, presets, write_views};

const DRAWS: u64 = 3000;
const PICTURE: Size = Size { width: 500, height: 400 };

/// Plans of one view of a preset, drawn often.
fn plans(name: &str, view: usize) -> Vec<Plan> {
    let views = presets::by_name(name).unwrap().views();
    (0..DRAWS).map(|seed| views.sample(PICTURE, &mut stream(seed)).swap_remove(view)).collect()
}

/// The smallest and the largest of some numbers, which must come close to a range's ends.
#[track_caller]
fn spans(values: impl Iterator<Item = f32>, least: f32, most: f32) {
    let values: Vec<f32> = values.collect();
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let slack = 0.02 * (most - least) + 1e-3;
    assert!(low >= least - 1e-2 && high <= most + 1e-2, "{low}..{high} in {least}..{most}");
    assert!(low < least + slack && high > most - slack, "{low}..{high} of {least}..{most}");
}

fn share(plans: &[Plan], what: impl Fn(&Op) -> bool) -> f32 {
    plans.iter().filter(|plan| plan.0.iter().any(&what)).count() as f32 / plans.len() as f32
}

fn values(plans: &[Plan], of: impl Fn(&Op) -> Option<f32>) -> impl Iterator<Item = f32> {
    plans.iter().flat_map(|plan| plan.0.iter()).filter_map(of)
}

/// What is published of one view of a contrastive method.
struct Published {
    side: u32,
    scale: (f32, f32),
    /// Strengths of brightness, contrast, saturation and hue.
    jitter: [f32; 4],
    blur: f32,
    /// The kernel's taps, if it has a number of its own.
    kernel: Option<u32>,
    solarise: f32,
}

#[track_caller]
fn check(name: &str, view: usize, want: &Published) {
    let plans = plans(name, view);
    let area = |op: &Op| match op {
        Op::CropResize(CropResize { crop, size }) => {
            assert_eq!(*size, Size::square(want.side), "{name}, view {view}");
            let ratio = crop.width as f32 / crop.height as f32;
            assert!((0.73..1.37).contains(&ratio), "{name}: ratio {ratio}");
            Some(crop.size().area() as f32 / PICTURE.area() as f32)
        }
        _ => None,
    };
    let areas: Vec<f32> = values(&plans, area).collect();
    assert_eq!(areas.len() as u64, DRAWS, "{name}: one crop in each view");
    // Large parts of extreme ratio do not fit, so that the upper end is rare.
    spans(areas.iter().copied().map(|v| v.min(0.9)), want.scale.0, want.scale.1.min(0.9));

    let [brightness, contrast, saturation, hue] = want.jitter;
    let factors = |strength: f32| (1.0 - strength, 1.0 + strength);
    let (low, high) = factors(brightness);
    spans(values(&plans, |op| kind(op, 0)), low, high);
    let (low, high) = factors(contrast);
    spans(values(&plans, |op| kind(op, 1)), low, high);
    let (low, high) = factors(saturation);
    spans(values(&plans, |op| kind(op, 2)), low, high);
    spans(values(&plans, |op| kind(op, 3)), -hue, hue);

    let near = |share: f32, p: f32, what: &str| {
        assert!((share - p).abs() < 0.03, "{name}, view {view}: {what} {share}, not {p}");
    };
    near(share(&plans, |op| matches!(op, Op::Flip(_))), 0.5, "flip");
    near(share(&plans, |op| matches!(op, Op::Colour(_))), 0.8, "jitter");
    near(share(&plans, |op| matches!(op, Op::Grey(_))), 0.2, "grey");
    near(share(&plans, |op| matches!(op, Op::Blur(_))), want.blur, "blur");
    near(share(&plans, |op| matches!(op, Op::Solarise(_))), want.solarise, "solarise");
    assert!(plans.iter().flat_map(|plan| &plan.0).all(|op| match op {
        Op::Solarise(op) => op.threshold == 128,
        _ => true,
    }));
    let sigma = |op: &Op| match op {
        Op::Blur(Blur { kernel, sigma }) => {
            assert_eq!(*kernel, want.kernel.unwrap_or(Blur::of_sigma(*sigma).kernel), "{name}");
            Some(*sigma)
        }
        _ => None,
    };
    spans(values(&plans, sigma), 0.1, 2.0);
}

fn kind(op: &Op, wanted: u8) -> Option<f32> {
    let (kind, value) = match op {
        Op::Colour(Colour::Brightness(value)) => (0, *value),
        Op::Colour(Colour::Contrast(value)) => (1, *value),
        Op::Colour(Colour::Saturation(value)) => (2, *value),
        Op::Colour(Colour::Hue(value)) => (3, *value),
        _ => return None,
    };
    (kind == wanted).then_some(value)
}

#[test]
fn contrastive_methods_have_the_published_parameters() {
    let strong = [0.8, 0.8, 0.8, 0.2];
    let simclr = Published {
        side: 224,
        scale: (0.08, 1.0),
        jitter: strong,
        blur: 0.5,
        kernel: Some(23),
        solarise: 0.0,
    };
    let moco =
        Published { scale: (0.2, 1.0), jitter: [0.4, 0.4, 0.4, 0.1], kernel: None, ..simclr };
    let byol = Published { jitter: [0.4, 0.4, 0.2, 0.1], blur: 1.0, ..simclr };
    let byol_second = Published { blur: 0.1, solarise: 0.2, ..byol };
    let barlow = Published { kernel: None, ..byol };
    let barlow_second = Published { kernel: None, ..byol_second };
    let swav = Published { scale: (0.14, 1.0), kernel: None, ..simclr };
    let swav_small = Published { side: 96, scale: (0.05, 0.14), ..swav };
    let dino = Published { scale: (0.4, 1.0), ..barlow };
    let dino_second = Published { scale: (0.4, 1.0), ..barlow_second };
    let dino_small = Published { side: 96, scale: (0.05, 0.4), blur: 0.5, ..barlow };
    let methods: [(&str, Vec<&Published>); 6] = [
        ("simclr", vec![&simclr; 2]),
        ("moco-v2", vec![&moco; 2]),
        ("byol", vec![&byol, &byol_second]),
        ("barlow", vec![&barlow, &barlow_second]),
        ("swav", [vec![&swav; 2], vec![&swav_small; 6]].concat()),
        ("dino", [vec![&dino, &dino_second], vec![&dino_small; 8]].concat()),
    ];
    for (name, published) in methods {
        assert_eq!(presets::by_name(name).unwrap().views().len(), published.len(), "{name}");
        for (view, want) in published.into_iter().enumerate() {
            // The last small view stands for all of them.
            if !(2..published_last(name)).contains(&view) {
                check(name, view, want);
            }
        }
    }
}

fn published_last(name: &str) -> usize {
    presets::by_name(name).unwrap().views().len() - 1
}

#[test]
fn moco_flips_last_and_the_others_right_after_the_crop() {
    for (name, last) in [("moco-v2", true), ("simclr", false), ("dino", false)] {
        for plan in plans(name, 0) {
            if let Some(place) = plan.0.iter().position(|op| matches!(op, Op::Flip(_))) {
                let want = if last { plan.0.len() - 1 } else { 1 };
                assert_eq!(place, want, "{name}: {plan:?}");
            }
        }
    }
}

#[test]
fn classifiers_have_the_published_parameters() {
    for (name, least, side) in [("imagenet-train", 0.08, 224), ("fastai", 0.35, 128)] {
        let plans = plans(name, 0);
        let area = |op: &Op| match op {
            Op::CropResize(op) => {
                assert_eq!(op.size, Size::square(side));
                Some(op.crop.size().area() as f32 / PICTURE.area() as f32)
            }
            _ => None,
        };
        spans(values(&plans, area).map(|v| v.min(0.9)), least, 0.9);
        assert!((share(&plans, |op| matches!(op, Op::Flip(_))) - 0.5).abs() < 0.03);
        assert!(plans.iter().all(|plan| plan.0.len() <= 2), "{name}");
    }
    let views = presets::by_name("imagenet-eval").unwrap().views();
    let plan = &views.sample(size(640, 480), &mut stream(0))[0];
    let [Op::ResizeCrop(ResizeCrop { size: resized, crop })] = &plan.0[..] else {
        panic!("{plan:?}")
    };
    assert_eq!((*resized, crop.size()), (size(341, 256), Size::square(224)));
}

#[test]
fn puzzles_are_those_of_the_pretext_tasks() {
    type Puzzle = (&'static str, fn(&Op) -> bool);
    let kinds: [Puzzle; 6] = [
        ("grey-blur", |op| matches!(op, Op::GreyBlur(op) if op.regions[0].sigma.is_some())),
        ("grey", |op| matches!(op, Op::GreyBlur(op) if op.regions[0].sigma.is_none())),
        ("inpaint", |op| matches!(op, Op::Fill(_))),
        ("colourise", |op| matches!(op, Op::Grey(_))),
        ("corrupted", |op| matches!(op, Op::Corrupt(_))),
        ("jigsaw", |op| matches!(op, Op::Tiles(op) if op.side == 3)),
    ];
    for (name, is_puzzle) in kinds {
        let views = presets::by_name(name).unwrap().views();
        let plan = &views.sample(PICTURE, &mut stream(1))[0];
        assert!(plan.0.last().is_some_and(is_puzzle), "{name}: {plan:?}");
        assert_eq!(plan.output_size(PICTURE), Size::square(128));
    }
}

#[test]
fn every_preset_is_found_and_keeps_its_word_at_every_size() {
    let names: BTreeSet<_> = presets::ALL.iter().map(|preset| preset.name).collect();
    assert_eq!(names.len(), presets::ALL.len());
    let workspace = &mut Workspace::new();
    for preset in presets::ALL {
        assert_eq!(presets::by_name(preset.name).unwrap().name, preset.name);
        assert!(!preset.about.is_empty() && !preset.source.is_empty());
        for side in [0, 1, 17, 64, preset.side] {
            let views = preset.views_at(side);
            assert_eq!(views.iter().next().unwrap().size, Size::square(side.max(1)));
            for &(width, height) in &SHAPES[..9] {
                let picture = noise(size(width, height));
                let plans = views.sample(picture.size(), &mut stream(7));
                for (plan, size) in plans.iter().zip(views.sizes()) {
                    assert_eq!(plan.output_size(picture.size()), size, "{}", preset.name);
                }
                let mut numbers: Vec<Vec<f32>> =
                    views.sizes().map(|size| vec![f32::NAN; 3 * size.area() as usize]).collect();
                let mut outputs: Vec<&mut [f32]> =
                    numbers.iter_mut().map(|numbers| &mut numbers[..]).collect();
                let (view, normalise) = (picture.view(), &Normalise::IMAGENET);
                write_views(&plans, view, normalise, Layout::Chw, workspace, &mut outputs).unwrap();
                assert!(
                    numbers.iter().flatten().all(|value| value.is_finite() && value.abs() < 3.0)
                );
            }
        }
    }
    let error = presets::by_name("simsiam").unwrap_err().to_string();
    assert!(
        error.starts_with("no preset is called \"simsiam\"; there are imagenet-train, "),
        "{error}"
    );
}

#[test]
fn views_and_places_must_be_as_many() {
    let picture = noise(size(9, 9));
    let plans =
        presets::by_name("simclr").unwrap().views_at(8).sample(picture.size(), &mut stream(0));
    let (mut out, workspace) = (vec![0.0_f32; 192], &mut Workspace::new());
    let outputs = &mut [&mut out[..]];
    let error =
        write_views(&plans, picture.view(), &Normalise::UNIT, Layout::Hwc, workspace, outputs);
    let message = error.unwrap_err().to_string();
    assert_eq!(message, "2 plans make as many views, and there are places for 1");
}
