//! Pixels, numbers and distributions against torchvision, PIL and fastai.
//!
//! `tests/reference/make.py` made what is compared with.

use std::path::PathBuf;

use pretext_augment::ops::{Blur, Colour, CropResize, Fill, Flip, Grey, Paint, Solarise};
use pretext_augment::{
    ColourJitter, EvalCrop, GaussianBlur, HorizontalFlip, Image, Isa, Normalise, Op, Plan,
    RandomErasing, RandomResizedCrop, Rect, Size, Transform, Workspace,
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference")
}

fn reference() -> Value {
    let text = std::fs::read_to_string(folder().join("reference.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn picture(file: &str) -> Image {
    let picture = image::open(folder().join(file)).unwrap().into_rgb8();
    let size = Size { width: picture.width(), height: picture.height() };
    Image::new(size, picture.into_raw()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn whole_numbers<const N: usize>(value: &Value) -> [u32; N] {
    let numbers: Vec<u32> = list(value).iter().map(|v| v.as_u64().unwrap() as u32).collect();
    numbers.try_into().unwrap()
}

fn size_of(value: &Value) -> Size {
    let [width, height] = whole_numbers(value);
    Size { width, height }
}

fn range(value: &Value) -> std::ops::RangeInclusive<f32> {
    value[0].as_f64().unwrap() as f32..=value[1].as_f64().unwrap() as f32
}

/// What a case of the file says, and by how many levels any value may differ.
fn plan(case: &Value, input: Size) -> (Plan, u8) {
    let float = |name: &str| case[name].as_f64().unwrap() as f32;
    let whole = |name: &str| case[name].as_u64().unwrap() as u32;
    let colour = |change: fn(f32) -> Colour| (Op::Colour(change(float("value"))).into(), 1);
    // These draw nothing; the stream is never asked.
    let evaluate = |crop: EvalCrop| (crop.sample(input, &mut StdRng::seed_from_u64(0)), 1);
    match case["op"].as_str().unwrap() {
        "crop" => {
            let [x, y, width, height] = whole_numbers(&case["rect"]);
            let crop = Rect { x, y, width, height };
            (Op::CropResize(CropResize { crop, size: size_of(&case["size"]) }).into(), 1)
        }
        "eval-torchvision" => evaluate(EvalCrop::torchvision(whole("resize"), whole("side"))),
        "eval-fastai" => evaluate(EvalCrop::fastai(whole("side"))),
        "flip" => (Op::Flip(Flip).into(), 0),
        "grey" => (Op::Grey(Grey).into(), 0),
        "solarise" => (Op::Solarise(Solarise { threshold: whole("threshold") as u8 }).into(), 0),
        "brightness" => colour(Colour::Brightness),
        "contrast" => colour(Colour::Contrast),
        "saturation" => colour(Colour::Saturation),
        "hue" => colour(Colour::Hue),
        "blur" => {
            let blur = Blur { kernel: whole("kernel"), sigma: float("sigma") };
            (Op::Blur(blur).into(), 1)
        }
        "erase" => {
            let [x, y, width, height] = whole_numbers(&case["rect"]);
            let rects = vec![Rect { x, y, width, height }];
            let paint = Paint::Colour(whole_numbers(&case["colour"]).map(|value: u32| value as u8));
            (Op::Fill(Fill { rects, paint }).into(), 0)
        }
        "chain" => {
            let steps = list(&case["steps"]).iter().flat_map(|step| plan(step, input).0.0);
            (Plan(steps.collect()), whole("tolerance") as u8)
        }
        other => panic!("the file has an op {other}"),
    }
}

#[test]
fn pixels_are_those_of_torchvision_pil_and_fastai() {
    for case in list(&reference()["cases"]) {
        let input = picture(&format!("{}.png", case["input"].as_str().unwrap()));
        let want = picture(case["file"].as_str().unwrap());
        let (plan, tolerance) = plan(case, input.size());
        check(case, "plain", &plan.apply(input.clone()), &want, tolerance);
        for isa in Isa::available() {
            let out = plan.view(input.view(), &mut Workspace::with_isa(isa));
            check(case, isa.name(), &out, &want, tolerance);
        }
    }
}

#[track_caller]
fn check(case: &Value, way: &str, out: &Image, want: &Image, tolerance: u8) {
    assert_eq!(out.size(), want.size(), "{way}: {case}");
    let pairs = out.pixels().iter().zip(want.pixels());
    let worst = pairs.clone().map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(worst <= tolerance, "{way}: {case}: off by {worst}");
    // Roundings may differ, but not to one side (PIL's second one makes it a little brighter).
    let bias = pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)).sum::<f64>();
    let bias = bias / out.pixels().len() as f64;
    assert!(bias.abs() < 0.15, "{way}: {case}: brighter by {bias}");
}

#[test]
fn normalised_numbers_are_equal_bit_for_bit() {
    let reference = reference();
    let want: Vec<f32> =
        list(&reference["normalise"]).iter().map(|v| v.as_f64().unwrap() as f32).collect();
    let ramp = (0..=255).flat_map(|v| [v; 3]).collect();
    let image = Image::new(Size { width: 256, height: 1 }, ramp).unwrap();
    let mut out = vec![0.0; 768];
    Normalise::IMAGENET.to_chw(&image, &mut out);
    assert_eq!(out, want);
}

/// The rectangle of one draw, where there is one.
fn draw(of: &str, size: Size, rng: &mut StdRng) -> Option<Rect> {
    match of {
        "torchvision" => Some(RandomResizedCrop::torchvision(8).sample_rect(size, rng)),
        "fastai" => Some(RandomResizedCrop::fastai(8).sample_rect(size, rng)),
        "erasing" => {
            let erasing = RandomErasing { p: 1.0, ..RandomErasing::default() };
            match erasing.sample(size, rng).0.first() {
                Some(Op::Fill(Fill { rects, .. })) => Some(rects[0]),
                _ => None,
            }
        }
        other => panic!("the file has a distribution of {other}"),
    }
}

/// Share of the picture's area, width over height, and the centre.
fn measures(rect: Rect, size: Size) -> [f64; 4] {
    let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(f64::from);
    [width * height / size.area() as f64, width / height, x + width / 2.0, y + height / 2.0]
}

#[test]
fn rectangles_have_the_same_distribution() {
    const DRAWS: usize = 10_000;
    // Three standard deviations of the difference of two shares among 10,000, at the median.
    const TOLERANCE: f64 = 0.022;
    let reference = reference();
    let probabilities = list(&reference["probabilities"]);
    for want in list(&reference["distributions"]) {
        let (of, size) = (want["of"].as_str().unwrap(), size_of(&want["size"]));
        let mut rng = StdRng::seed_from_u64(11);
        let rects: Vec<Rect> =
            (0..DRAWS).map(|_| draw(of, size, &mut rng).expect("a rectangle fits")).collect();
        for (i, name) in ["area", "ratio", "x", "y"].into_iter().enumerate() {
            let values: Vec<f64> = rects.iter().map(|&rect| measures(rect, size)[i]).collect();
            let share = |least: f64| {
                values.iter().filter(|&&value| value < least).count() as f64 / DRAWS as f64
            };
            for (quantile, p) in list(&want["quantiles"][name]).iter().zip(probabilities) {
                let (quantile, p) = (quantile.as_f64().unwrap(), p.as_f64().unwrap());
                // Whole pixels make ties: the share jumps at the quantile, past p.
                let (below, up_to) = (share(quantile - 1e-5), share(quantile + 1e-5));
                assert!(
                    below - TOLERANCE < p && p < up_to + TOLERANCE,
                    "{of}, {size:?}, {name}: {below} to {up_to} lie at {quantile}, not {p}",
                );
            }
        }
    }
}

#[test]
fn what_fits_nowhere_falls_back_to_the_same_rectangle() {
    let mut seen = 0;
    for want in list(&reference()["distributions"]) {
        let (of, size) = (want["of"].as_str().unwrap(), size_of(&want["size"]));
        if want["fallback"].as_f64() == Some(1.0) {
            let rect = draw(of, size, &mut StdRng::seed_from_u64(0)).unwrap();
            for (name, got) in ["area", "ratio", "x", "y"].into_iter().zip(measures(rect, size)) {
                let want = want["quantiles"][name][0].as_f64().unwrap();
                assert!((got - want).abs() < 1e-5, "{of}, {size:?}: {rect:?}, {name} {want}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 4, "the file has {seen} sizes where nothing fits");
}

#[test]
fn presets_have_the_published_numbers() {
    let presets = &reference()["presets"];
    let crop = RandomResizedCrop::torchvision(224);
    assert_eq!(crop.scale, range(&presets["crop"]["scale"]));
    assert_eq!(crop.ratio, range(&presets["crop"]["ratio"]));
    assert_eq!(crop.size, Size::square(224));
    // Of fastai's ImageNet and Imagenette recipes.
    assert_eq!(RandomResizedCrop::fastai(128).scale, 0.35..=1.0);

    let jitter = ColourJitter::new(0.8, 0.4, 1.2, 0.2);
    let ours = [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue];
    for (ours, want) in ours.into_iter().zip(list(&presets["jitter"])) {
        let want = range(want);
        assert!((ours.start() - want.start()).abs() < 1e-6, "{ours:?} {want:?}");
        assert!((ours.end() - want.end()).abs() < 1e-6, "{ours:?} {want:?}");
    }

    let erasing = RandomErasing::default();
    assert_eq!(f64::from(erasing.p), presets["erasing"]["p"].as_f64().unwrap());
    assert_eq!(erasing.scale, range(&presets["erasing"]["scale"]));
    assert_eq!(erasing.ratio, range(&presets["erasing"]["ratio"]));
    assert_eq!(f64::from(HorizontalFlip::default().p), presets["flip"].as_f64().unwrap());
    assert_eq!(GaussianBlur::new(9, 0.1..=2.0).kernel, Some(9));
}
