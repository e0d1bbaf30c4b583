//! Pictures per second through the whole loader, from a folder and from its cache, on one thread
//! and on two: crop to 128 x 128 pixels (or what there is), flip, normalise to `[3, H, W]`.
//!
//! The pictures are data/sample, or those of the folder in PRETEXT_BENCH_FOLDER (`corpus.py` makes
//! one of 1,000 photographs of 160 pixels).

mod photographs;

use std::{hint::black_box, ops::ControlFlow};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pretext_data::{Dataset, Loader, Picture, Pictures, cache};

/// As in the command line program: the system's allocator gives large vectors back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIDE: usize = 128;

/// A crop that wanders with the picture's index, every other one flipped, by ImageNet's mean and
/// standard deviation.
fn prepare(id: usize, picture: &Picture) -> Vec<f32> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (wide, high) = (SIDE.min(width), SIDE.min(height));
    let (left, top) = (id * 7 % (width - wide + 1), id * 5 % (height - high + 1));
    let mut out = vec![0.0; 3 * wide * high];
    let (red, rest) = out.split_at_mut(wide * high);
    let (green, blue) = rest.split_at_mut(wide * high);
    let scale = [0.229, 0.224, 0.225].map(|std: f32| 1.0 / (255.0 * std));
    let shift = [0.485 / 0.229, 0.456 / 0.224, 0.406_f32 / 0.225].map(|mean| -mean);
    for y in 0..high {
        let start = 3 * ((top + y) * width + left);
        let row = &picture.pixels[start..start + 3 * wide];
        let places = y * wide..(y + 1) * wide;
        let (red, green, blue) =
            (&mut red[places.clone()], &mut green[places.clone()], &mut blue[places]);
        for (x, pixel) in row.chunks_exact(3).enumerate() {
            let x = if id.is_multiple_of(2) { x } else { wide - 1 - x };
            red[x] = f32::from(pixel[0]) * scale[0] + shift[0];
            green[x] = f32::from(pixel[1]) * scale[1] + shift[1];
            blue[x] = f32::from(pixel[2]) * scale[2] + shift[2];
        }
    }
    out
}

fn epoch(pictures: &Pictures, loader: &Loader) -> usize {
    // A prime step: another picture each time, in no order of the disk's.
    let order = (0..pictures.len()).map(|i| i * 7919 % pictures.len()).collect();
    let batches = loader.batches(pictures, order, |id, picture| prepare(id, &picture));
    batches.flatten().map(|batch| black_box(batch.items).len()).sum()
}

fn benches(c: &mut Criterion) {
    let files = Dataset::open(&photographs::folder()).expect("a folder of pictures");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cache.safetensors");
    cache::write(&files, &path, &cache::Options::default(), |_| ControlFlow::Continue(()))
        .expect("room for a cache");
    let cached = Dataset::open(&path).expect("a cache");

    let mut group = c.benchmark_group("to tensors");
    for (name, data) in [("folder", &files), ("cache", &cached)] {
        let pictures = Pictures::concat(&[data.train().pictures().clone(), data.unsup().clone()]);
        group.sample_size(10).throughput(Throughput::Elements(pictures.len() as u64));
        for threads in [1, 2] {
            let loader = Loader { threads, ..Loader::default() };
            group.bench_function(format!("{name}, {threads} threads"), |b| {
                b.iter(|| assert_eq!(epoch(&pictures, &loader), pictures.len()))
            });
        }
        // Without a loader, by one thread alone: what the loader costs.
        let mut decoder = pretext_data::Decoder::default();
        group.bench_function(format!("{name}, no loader"), |b| {
            b.iter(|| {
                for id in 0..pictures.len() {
                    let picture = pictures.read_with(id, &mut decoder).expect("a picture");
                    black_box(prepare(id, &picture));
                }
            })
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
