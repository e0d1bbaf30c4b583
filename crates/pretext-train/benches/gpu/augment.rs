//! Views of pictures that lie in the GPU's memory, in `bf16` and channels-last.

use candle_core::{DType, Device, Result, Tensor};
use pretext_augment::cuda::Pictures;
use pretext_augment::{
    ColourJitter, Compose, Corruption, CutOut, EvalCrop, GaussianBlur, Greyscale, HorizontalFlip,
    Image, Jigsaw, Layout, Normalise, Op, Plan, RandomErasing, RandomGreyBlur, RandomResizedCrop,
    RandomSolarise, Size, Transform, presets,
};
use rand::{Rng, SeedableRng as _, rngs::StdRng};

use super::timing::Case;

/// Side of a view, in pixels.
const SIDE: u32 = 128;
/// Views of a launch.
const VIEWS: usize = 2048;
/// Pictures that they are made of.
const PICTURES: usize = 512;
/// A photograph whose shorter side is 160 px.
const PHOTOGRAPH: Size = Size { width: 213, height: 160 };

/// Each is made when its turn comes.
pub(crate) const ALL: &[fn(&Device) -> Result<Case>] = &[
    |device| case(device, "normalise", SQUARE, |_, _| vec![Plan::nothing()]),
    |device| {
        case(device, "RandomResizedCrop, flip, normalise", PHOTOGRAPH, |size, rng| {
            let crop = Box::new(RandomResizedCrop::torchvision(SIDE));
            let both = Compose::new(vec![crop, Box::new(HorizontalFlip::default())]);
            vec![both.sample(size, rng)]
        })
    },
    |device| of(device, "EvalCrop", PHOTOGRAPH, EvalCrop::fastai(SIDE)),
    |device| of(device, "HorizontalFlip", SQUARE, HorizontalFlip { p: 1.0 }),
    |device| of(device, "RandomGreyBlur", SQUARE, RandomGreyBlur::default()),
    |device| of(device, "ColourJitter", SQUARE, ColourJitter::new(0.8, 0.8, 0.8, 0.2)),
    |device| of(device, "Greyscale", SQUARE, Greyscale { p: 1.0 }),
    |device| of(device, "GaussianBlur, 13 taps", SQUARE, GaussianBlur::new(13, 0.1..=2.0)),
    |device| of(device, "Solarise", SQUARE, RandomSolarise { p: 1.0, ..RandomSolarise::default() }),
    |device| {
        let erasing = RandomErasing { p: 1.0, ..RandomErasing::default() };
        of(device, "RandomErasing", SQUARE, erasing)
    },
    |device| of(device, "CutOut", SQUARE, CutOut::default()),
    |device| {
        let corruption = Corruption::default();
        case(device, "Corruption", SQUARE, move |size, rng| {
            vec![corruption.sample_labelled(size, rng).0]
        })
    },
    |device| {
        // Its set of permutations takes a while.
        let jigsaw = Jigsaw::default();
        case(device, "Jigsaw", SQUARE, move |size, rng| vec![jigsaw.sample_labelled(size, rng).0])
    },
    |device| {
        case(device, "SimCLR, two views", PHOTOGRAPH, |size, rng| {
            presets::by_name("simclr")
                .map_or(vec![], |simclr| simclr.views_at(SIDE).sample(size, rng))
        })
    },
];

const SQUARE: Size = Size { width: SIDE, height: SIDE };

fn of(device: &Device, name: &str, size: Size, transform: impl Transform) -> Result<Case> {
    case(device, name, size, |size, rng| vec![transform.sample(size, rng)])
}

/// Views of pictures of a size; `sample` gives the plans of one picture.
fn case(
    device: &Device,
    name: &str,
    size: Size,
    sample: impl Fn(Size, &mut dyn Rng) -> Vec<Plan>,
) -> Result<Case> {
    let mut rng = StdRng::seed_from_u64(0);
    let images: Vec<Image> = (0..PICTURES)
        .map(|i| {
            let value = |at: usize| ((at * 7919 + i * 104_729) % 251) as u8;
            let pixels = (0..3 * size.area() as usize).map(value).collect();
            Image::new(size, pixels).map_err(candle_core::Error::wrap)
        })
        .collect::<Result<_>>()?;
    let bytes = images.iter().map(|image| image.pixels().len() as u64).sum();
    let mut loading = Pictures::load(device, bytes)?;
    images.iter().try_for_each(|image| loading.push(image.view()))?;
    let pictures = loading.finish()?;
    let mut plans = vec![];
    for view in 0..VIEWS {
        plans.extend(sample(size, &mut rng).into_iter().map(|plan| (view % PICTURES, plan)));
        if plans.len() >= VIEWS {
            break;
        }
    }
    let read: usize = plans.iter().map(|(_, plan)| read(plan, size)).sum();
    let written = plans.len() * (SIDE * SIDE) as usize * 3 * DType::BF16.size_in_bytes();
    let nothing = Tensor::zeros((), DType::F32, device)?;
    Ok(Case::new("augment", name).bytes(read + written).views(plans.len()).launches(
        move || Ok(nothing.clone()),
        move |_| {
            let views = plans.iter().map(|(picture, plan)| (*picture, plan));
            let (normalise, layout) = (Normalise::IMAGENET, Layout::Hwc);
            pictures.views(views, &normalise, layout, DType::BF16).map(drop)
        },
    ))
}

/// Bytes of a picture that a plan has to look at: what it cuts out first, or all of it.
fn read(plan: &Plan, size: Size) -> usize {
    let area = match plan.0.first() {
        Some(Op::CropResize(crop)) => {
            let rect = crop.crop.clipped(size);
            u64::from(rect.width) * u64::from(rect.height)
        }
        _ => size.area(),
    };
    3 * area as usize
}
