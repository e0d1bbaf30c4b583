//! Every transform with the parameters of its presets, and samples of each.

use pretext_augment::{
    ColourJitter, Colourise, Compose, Corruption, CutOut, Error, EvalCrop, GaussianBlur, Greyscale,
    HorizontalFlip, Image, Jigsaw, Mixup, Normalise, OneOf, Probability, RandomErasing,
    RandomGreyBlur, RandomResizedCrop, RandomSolarise, Size, Transform, Workspace, presets,
};
use rand::{SeedableRng, rngs::StdRng};

/// The side of a view: what most recipes train on.
const SIDE: u32 = 128;
/// Samples of each transform.
const SAMPLES: usize = 5;

/// Among the first samples of this one are all four kinds of corruption, and all are well mixed.
const SEED: u64 = 56;

/// A transform's name and samples of it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) views: Vec<Image>,
}

/// Samples of each transform, from one stream. Crops take a part of the picture; all else is shown on its
/// central square.
pub(super) fn of_every_transform(picture: &Image) -> Result<Vec<Row>, Error> {
    let centre = EvalCrop::torchvision(SIDE, SIDE);
    let square = centre.augment(picture.clone(), &mut StdRng::seed_from_u64(0));
    let crop = || Box::new(RandomResizedCrop::fastai(SIDE));
    let jitter = || Box::new(ColourJitter::new(0.4, 0.4, 0.4, 0.1));
    let crops: [(_, Box<dyn Transform>); 4] = [
        ("RandomResizedCrop", Box::new(RandomResizedCrop::torchvision(SIDE))),
        ("RandomResizedCrop, fastai", crop()),
        ("EvalCrop", Box::new(EvalCrop::fastai(SIDE))),
        (
            "Compose",
            Box::new(Compose::new(vec![crop(), Box::new(HorizontalFlip::default()), jitter()])),
        ),
    ];
    let others: [(_, Box<dyn Transform>); 15] = [
        ("HorizontalFlip", Box::new(HorizontalFlip::default())),
        ("ColourJitter", jitter()),
        ("Greyscale", Box::new(Greyscale { p: 0.5 })),
        ("GaussianBlur", Box::new(GaussianBlur::new(13, 0.1..=2.0))),
        ("RandomSolarise", Box::new(RandomSolarise { p: 0.5, ..RandomSolarise::default() })),
        ("RandomErasing", Box::new(RandomErasing { p: 1.0, ..RandomErasing::default() })),
        (
            "RandomErasing, noise",
            Box::new(RandomErasing { p: 1.0, colour: None, ..RandomErasing::default() }),
        ),
        ("CutOut", Box::new(CutOut::default())),
        ("RandomGreyBlur", Box::new(RandomGreyBlur::default())),
        (
            "RandomGreyBlur, blur off",
            Box::new(RandomGreyBlur { blur: None, ..RandomGreyBlur::default() }),
        ),
        ("Colourise", Box::new(Colourise)),
        ("Corruption", Box::new(Corruption::default())),
        ("Jigsaw", Box::new(Jigsaw::new(3, 30)?)),
        ("OneOf", Box::new(OneOf::new(vec![Box::new(Colourise), jitter()]))),
        ("Probability", Box::new(Probability { p: 0.5, transform: CutOut::default() })),
    ];
    let sample = |image: &Image, (name, transform): (&'static str, Box<dyn Transform>)| {
        let mut rng = StdRng::seed_from_u64(SEED);
        let views = (0..SAMPLES).map(|_| transform.augment(image.clone(), &mut rng)).collect();
        Row { name, views }
    };
    let mut rows: Vec<Row> = crops.into_iter().map(|named| sample(picture, named)).collect();
    rows.extend(others.into_iter().map(|named| sample(&square, named)));
    rows.push(Row { name: "Mixup", views: mixed(&rows[0].views) });
    rows.push(Row { name: "Normalise", views: rows[1].views.iter().map(normalised).collect() });
    Ok(rows)
}

/// Views that each preset makes of one picture, as often as they fit into a row of ten.
pub(super) fn of_every_preset(picture: &Image) -> Vec<Row> {
    let (mut rng, mut workspace) = (StdRng::seed_from_u64(SEED), Workspace::new());
    let row = |preset: &presets::Preset| {
        let published = preset.views_at(SIDE);
        let mut views = vec![];
        while views.len() + published.len() <= 10 {
            let plans = published.sample(picture.size(), &mut rng);
            views.extend(plans.iter().map(|plan| plan.view(picture.view(), &mut workspace)));
        }
        Row { name: preset.name, views }
    };
    presets::ALL.iter().map(row).collect()
}

/// Views as a batch, mixed with each other.
fn mixed(views: &[Image]) -> Vec<Image> {
    let floats = |view: &Image| view.pixels().iter().map(|&value| f32::from(value)).collect();
    let mut batch: Vec<Vec<f32>> = views.iter().map(floats).collect();
    let mixup = Mixup { alpha: 1.0 }.sample(batch.len(), &mut StdRng::seed_from_u64(SEED));
    mixup.apply(&mut batch);
    let mut mixed = views.to_vec();
    for (view, values) in mixed.iter_mut().zip(&batch) {
        for (byte, value) in view.pixels_mut().iter_mut().zip(values) {
            *byte = value.round() as u8;
        }
    }
    mixed
}

/// Normalised values as a picture, in which -3 is black and 3 is white.
fn normalised(view: &Image) -> Image {
    let mut values = vec![0.0; view.pixels().len()];
    Normalise::IMAGENET.to_chw(view, &mut values);
    let shown = Normalise { mean: [0.5; 3], std: [1.0 / 6.0; 3] };
    shown.to_image(&values, Size::square(SIDE))
}
