//! Images per second on one thread: a picture of 160 px to a view of 128 px.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pretext_augment::{
    ColourJitter, Compose, GaussianBlur, HorizontalFlip, Image, Normalise, RandomGreyBlur,
    RandomResizedCrop, Size, Transform,
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

fn benches(c: &mut Criterion) {
    let picture = picture();
    let crop = || RandomResizedCrop::fastai(128);
    let view = crop().augment(picture.clone(), &mut StdRng::seed_from_u64(0));
    let mut input = vec![0.0; 3 * 128 * 128];

    let mut group = c.benchmark_group("128 px");
    group.throughput(Throughput::Elements(1));
    let train = Compose::new(vec![Box::new(crop()), Box::new(HorizontalFlip::default())]);
    let mut rng = StdRng::seed_from_u64(0);
    group.bench_function("crop of 213 x 160, flip, normalise", |b| {
        b.iter(|| {
            let view = train.augment(black_box(picture.clone()), &mut rng);
            Normalise::IMAGENET.to_chw(&view, &mut input);
        })
    });
    let transforms: [(&str, Box<dyn Transform>); 4] = [
        ("grey-blur", Box::new(RandomGreyBlur::default())),
        ("grey only", Box::new(RandomGreyBlur { blur: None, ..RandomGreyBlur::default() })),
        ("colour jitter", Box::new(ColourJitter::new(0.4, 0.4, 0.4, 0.1))),
        ("Gaussian blur, 13 taps", Box::new(GaussianBlur::new(13, 0.1..=2.0))),
    ];
    for (name, transform) in transforms {
        let mut rng = StdRng::seed_from_u64(0);
        group.bench_function(name, |b| {
            b.iter(|| transform.augment(black_box(view.clone()), &mut rng))
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
