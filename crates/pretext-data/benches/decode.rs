//! Decoding photographs, one thread: ours, strict and with orientation, beside the bare libraries;
//! and large ones reduced on the way.
//!
//! The pictures are 64 of data/sample, or of the folder in PRETEXT_BENCH_FOLDER.

mod photographs;

use std::{fs, hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{ExtendedColorType, ImageEncoder as _, RgbImage, codecs::jpeg::JpegEncoder, imageops};
use pretext_data::{Decoder, decode};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// As in the command line program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// JPEGs anywhere below a folder, at most 64.
fn jpegs(folder: &Path, found: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if found.len() >= 64 {
            return;
        }
        if path.is_dir() {
            jpegs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "jpg") {
            found.push(fs::read(path).expect("a file"));
        }
    }
}

/// One of the photographs at 2000 x 1500 pixels.
fn large(jpeg: &[u8]) -> Vec<u8> {
    let small = decode(jpeg).expect("a photograph");
    let small = RgbImage::from_raw(small.width, small.height, small.pixels.into_vec());
    let small = small.expect("three bytes a pixel");
    let large = imageops::resize(&small, 2000, 1500, imageops::FilterType::CatmullRom);
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, 90)
        .write_image(&large, 2000, 1500, ExtendedColorType::Rgb8)
        .expect("a picture in memory");
    file
}

/// `zune-jpeg` with nothing before and behind it.
fn bare_zune(jpeg: &[u8]) -> Option<Vec<u8>> {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(jpeg), options).decode().ok()
}

fn benches(c: &mut Criterion) {
    let mut files = Vec::new();
    jpegs(&photographs::folder(), &mut files);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(files.len() as u64));
    let mut decoder = Decoder::default();
    group.bench_function("ours, strict", |b| {
        b.iter(|| files.iter().all(|file| black_box(decoder.decode(file)).is_ok()))
    });
    group.bench_function("bare zune-jpeg", |b| {
        b.iter(|| files.iter().all(|file| black_box(bare_zune(file)).is_some()))
    });
    #[cfg(feature = "turbojpeg")]
    group.bench_function("bare libjpeg-turbo", |b| {
        let decode = |file: &Vec<u8>| turbojpeg::decompress(file, turbojpeg::PixelFormat::RGB);
        b.iter(|| files.iter().all(|file| black_box(decode(file)).is_ok()))
    });
    group.bench_function("image, lenient", |b| {
        let decode =
            |file: &Vec<u8>| image::load_from_memory(file).map(image::DynamicImage::into_rgb8);
        b.iter(|| files.iter().all(|file| black_box(decode(file)).is_ok()))
    });
    group.finish();

    let file = large(&files[0]);
    let mut group = c.benchmark_group("decode 2000 x 1500");
    group.sample_size(20);
    for (name, shortest_side) in [
        ("whole", None),
        ("to 500 px", Some(500)),
        ("to 250 px", Some(250)),
        ("to 128 px", Some(128)),
    ] {
        let mut decoder = Decoder::reducing_to(shortest_side);
        group.bench_function(name, |b| b.iter(|| black_box(decoder.decode(&file)).is_ok()));
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
