//! Views per second on one thread, the plain way beside the fused one: a picture of 213 x 160 px to
//! views of 128 px, as numbers for a network.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pretext_augment::{
    ColourJitter, Compose, CutOut, GaussianBlur, Greyscale, HorizontalFlip, Image, Layout,
    Normalise, Plan, Probability, RandomGreyBlur, RandomResizedCrop, Side, Size, Transform,
    Workspace,
};
use rand::{SeedableRng, rngs::StdRng};

/// A picture of 213 x 160 pixels, as in Image网's smallest archive.
fn picture() -> Image {
    let size = Size { width: 213, height: 160 };
    let pixels = (0..3 * size.width * size.height).map(|i| {
        let (x, y, channel) = (i / 3 % size.width, i / 3 / size.width, i % 3);
        (x * (channel + 1) + y * y / 40 + x * y % 37) as u8
    });
    Image::new(size, pixels.collect()).expect("three bytes for each pixel")
}

/// SimCLR's view (Chen et al., 2020) at 128 px.
fn simclr() -> Compose {
    Compose::new(vec![
        Box::new(RandomResizedCrop::torchvision(128)),
        Box::new(HorizontalFlip::default()),
        Box::new(Probability { p: 0.8, transform: ColourJitter::new(0.8, 0.8, 0.8, 0.2) }),
        Box::new(Greyscale { p: 0.2 }),
        Box::new(Probability { p: 0.5, transform: GaussianBlur::new(13, 0.1..=2.0) }),
    ])
}

fn benches(c: &mut Criterion) {
    let picture = picture();
    let crop = || RandomResizedCrop::fastai(128);
    let view = crop().augment(picture.clone(), &mut StdRng::seed_from_u64(0));
    let mut input = vec![0.0; 3 * 128 * 128];

    let grey_blur =
        RandomGreyBlur { count: 4..=4, side: Side::Pixels(5..=49), ..RandomGreyBlur::default() };
    let train = Compose::new(vec![Box::new(crop()), Box::new(HorizontalFlip::default())]);
    let nothing = Probability { p: 0.0, transform: CutOut::default() };
    let rows: [(&str, &Image, Box<dyn Transform>); 7] = [
        ("normalise", &view, Box::new(nothing)),
        ("crop, flip, normalise", &picture, Box::new(train)),
        ("SimCLR's view", &picture, Box::new(simclr())),
        ("RandomGreyBlur, 4 rectangles", &view, Box::new(grey_blur)),
        ("RandomGreyBlur", &view, Box::new(RandomGreyBlur::default())),
        ("ColourJitter", &view, Box::new(ColourJitter::new(0.8, 0.8, 0.8, 0.2))),
        ("GaussianBlur, 13 taps", &view, Box::new(GaussianBlur::new(13, 0.1..=2.0))),
    ];
    for (name, picture, transform) in rows {
        // The same plans for both.
        let plans: Vec<Plan> = (0..256)
            .map(|seed| transform.sample(picture.size(), &mut StdRng::seed_from_u64(seed)))
            .collect();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        let mut next = plans.iter().cycle();
        group.bench_function("plain", |b| {
            b.iter(|| {
                let plan = next.next().expect("a cycle");
                let view = plan.apply(black_box(picture).clone());
                Normalise::IMAGENET.to_chw(&view, &mut input);
            })
        });
        let mut workspace = Workspace::new();
        let mut next = plans.iter().cycle();
        group.bench_function("fused", |b| {
            b.iter(|| {
                let plan = next.next().expect("a cycle");
                let (picture, layout) = (black_box(picture).view(), Layout::Chw);
                plan.write(picture, &Normalise::IMAGENET, layout, &mut workspace, &mut input)
                    .expect("the input has the view's size");
            })
        });
        group.finish();
    }
}

criterion_group!(all, benches);
criterion_main!(all);
