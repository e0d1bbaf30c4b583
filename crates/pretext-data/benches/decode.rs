//! Pictures per second: decoding, the loader, and the cache.

use std::{fs, hint::black_box, ops::ControlFlow, path::PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{ExtendedColorType, ImageEncoder as _, codecs::jpeg::JpegEncoder};
use pretext_data::{Dataset, Loader, cache, decode};

/// A JPEG of 213 x 160 pixels, as in Image网's smallest archive, of 25 to 30 kB.
fn jpeg() -> Vec<u8> {
    let (width, height) = (213, 160);
    let pixels: Vec<u8> = (0..width * height * 3)
        .map(|i| {
            let (x, y, channel) = (i / 3 % width, i / 3 / width, i % 3);
            (x * (channel + 1) + y * y / 40 + x * y % 37) as u8
        })
        .collect();
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, 90)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .expect("a picture in memory");
    file
}

fn benches(c: &mut Criterion) {
    let jpeg = jpeg();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    group.bench_function("ours, strict", |b| b.iter(|| decode(black_box(&jpeg))));
    group.bench_function("image, lenient", |b| {
        b.iter(|| image::load_from_memory(black_box(&jpeg)).map(image::DynamicImage::into_rgb8))
    });
    group.finish();

    let folder = tempfile::tempdir().expect("a temporary folder");
    for i in 0..256 {
        fs::write(folder.path().join(format!("{i}.jpg")), &jpeg).expect("room for small files");
    }
    let files = Dataset::open(folder.path()).expect("a folder of pictures");
    let path: PathBuf = folder.path().join("cache.safetensors");
    cache::write(&files, &path, &cache::Options::default(), |_| ControlFlow::Continue(()))
        .expect("room for a cache");
    let cached = Dataset::open(&path).expect("a cache");

    let mut group = c.benchmark_group("epoch of 256");
    group.sample_size(10).throughput(Throughput::Elements(256));
    for (name, data) in [("folder", &files), ("cache", &cached)] {
        for threads in [1, 2] {
            let loader = Loader { threads, ..Loader::default() };
            group.bench_function(format!("{name}, {threads} threads"), |b| {
                b.iter(|| {
                    let order = (0..256).collect();
                    loader.batches(data.unsup(), order, |_, p| p.pixels[0]).flatten().count()
                })
            });
        }
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
