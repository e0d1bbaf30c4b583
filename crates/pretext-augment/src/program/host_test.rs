//! The kernels, compiled for the processor, against the plain operations: to the last bit.
//!
//! `kernels/host.cpp` holds nothing but threads; all else is what nvcc compiles for a GPU. It takes a
//! C++ compiler (`$CXX`, or `c++`). Where there is none the tests say so and pass, unless
//! `PRETEXT_NEED_CXX` is set.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/common/plans.rs"]
mod plans;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rand::RngExt as _;

use self::common::{SHAPES, noise, size, stream};
use self::plans::{any_op, any_plan, any_rect, every_change, every_colour};
use super::{Batch, Number, Room};
use crate::ops::Corrupt;
use crate::{Image, Layout, Normalise, Op, Plan, Rect, Size, presets};

/// The compiled kernels, if there is a compiler.
fn compiled() -> Option<&'static Path> {
    static COMPILED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compile = || {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = Path::new(env!("OUT_DIR")).join("kernels-on-the-host");
        pretext_kernels::on_the_processor(package, &out, &["-pthread"])
    };
    COMPILED.get_or_init(compile).as_deref()
}

/// A process that runs batches.
struct Host(Child);

impl Host {
    fn start() -> Option<Self> {
        let mut command = Command::new(compiled()?);
        Some(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()))
    }

    /// Runs a batch with so many threads a block; gives the output's bytes.
    fn run(&mut self, threads: u32, words: &[u32], pictures: &[u8], out: usize) -> Vec<u8> {
        let params: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header = [threads, params.len() as u32, pictures.len() as u32, out as u32];
        let header: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(&[&header[..], &params, pictures].concat()).unwrap();
        stdin.flush().unwrap();
        let mut bytes = vec![0; out];
        self.0.stdout.as_mut().unwrap().read_exact(&mut bytes).expect("the kernels crashed");
        bytes
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// How a batch is run.
#[derive(Clone, Copy, Debug)]
struct How {
    normalise: Normalise,
    layout: Layout,
    number: Number,
    threads: u32,
    /// As much scratch memory as helps, or as little as works.
    roomy: bool,
}

const HOW: How = How {
    normalise: Normalise::IMAGENET,
    layout: Layout::Chw,
    number: Number::F32,
    threads: 1,
    roomy: true,
};

/// What the plain operations give, in bytes as they lie in memory.
fn plain(picture: &Image, plan: &Plan, how: How) -> Vec<u8> {
    let image = plan.apply(picture.clone());
    let area = image.size().area() as usize;
    let mut numbers = vec![0.0; 3 * area];
    how.normalise.to_chw(&image, &mut numbers);
    let place = |i: usize| match how.layout {
        Layout::Chw => i,
        Layout::Hwc => i % 3 * area + i / 3,
    };
    let numbers = (0..3 * area).map(|i| numbers[place(i)]);
    match how.number {
        Number::F32 => numbers.flat_map(f32::to_ne_bytes).collect(),
        Number::Bf16 => numbers.flat_map(|v| half::bf16::from_f32(v).to_ne_bytes()).collect(),
        Number::F16 => numbers.flat_map(|v| half::f16::from_f32(v).to_ne_bytes()).collect(),
    }
}

/// Runs views of one size as a batch and holds them against the plain operations.
#[track_caller]
fn check_batch(host: &mut Host, views: &[(&Image, &Plan)], how: How) {
    let (mut batch, mut pictures) = (Batch::default(), vec![]);
    for (picture, plan) in views {
        batch.push(pictures.len() as u64, picture.size(), plan).unwrap();
        pictures.extend_from_slice(picture.pixels());
    }
    let memory = batch.memory();
    let room = match how.roomy {
        true => Room { program: memory.program, scratch: memory.roomy },
        false => Room { scratch: memory.scratch, ..Room::default() },
    };
    let words = batch.words(&how.normalise, how.layout, how.number, room);
    let numbers = 3 * batch.size().unwrap().area() as usize;
    let bytes = numbers * if how.number == Number::F32 { 4 } else { 2 };
    let out = host.run(how.threads, &words, &pictures, views.len() * bytes);
    for ((picture, plan), out) in views.iter().zip(out.chunks_exact(bytes)) {
        let want = plain(picture, plan, how);
        let differ = out.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert!(out == want, "{differ} of {bytes} bytes differ: {picture:?}, {plan:?}, {how:?}");
    }
}

#[track_caller]
fn check(host: &mut Host, picture: &Image, plan: &Plan) {
    check_batch(host, &[(picture, plan)], HOW);
}

#[test]
fn random_plans_on_pictures_of_random_size() {
    let Some(mut host) = Host::start() else { return };
    let mut by_size: BTreeMap<(u32, u32), Vec<(Image, Plan)>> = BTreeMap::new();
    for seed in 0..3000 {
        let rng = &mut stream(seed);
        let picture = noise(size(rng.random_range(1..80), rng.random_range(1..60)));
        let plan = any_plan(rng, picture.size());
        let Size { width, height } = plan.output_size(picture.size());
        by_size.entry((width, height)).or_default().push((picture, plan));
    }
    let rng = &mut stream(1);
    for views in by_size.values() {
        let views: Vec<_> = views.iter().map(|(picture, plan)| (picture, plan)).collect();
        let how = How {
            layout: if rng.random() { Layout::Chw } else { Layout::Hwc },
            number: [Number::F32, Number::Bf16, Number::F16][rng.random_range(0..3)],
            roomy: rng.random(),
            ..HOW
        };
        check_batch(&mut host, &views, how);
    }
}

#[test]
fn several_threads_do_what_one_does() {
    let Some(mut host) = Host::start() else { return };
    for seed in 0..150 {
        let rng = &mut stream(10_000 + seed);
        let picture = noise(size(rng.random_range(1..50), rng.random_range(1..40)));
        let plan = any_plan(rng, picture.size());
        let how = How { threads: 2 + seed as u32 % 4, roomy: rng.random(), ..HOW };
        check_batch(&mut host, &[(&picture, &plan)], how);
    }
}

#[test]
fn every_kind_of_operation_on_pictures_of_every_shape() {
    let Some(mut host) = Host::start() else { return };
    for (width, height) in SHAPES {
        let picture = noise(size(width, height));
        let rng = &mut stream(u64::from(width * 31 + height));
        for i in 0..if width.max(height) < 1000 { 150 } else { 20 } {
            let plan = any_op(rng, picture.size()).into();
            check_batch(&mut host, &[(&picture, &plan)], How { roomy: i % 2 == 0, ..HOW });
        }
    }
}

#[test]
fn every_preset_as_batches() {
    let Some(mut host) = Host::start() else { return };
    let shapes = [(213, 160), (160, 213), (500, 375), (1, 1), (7, 400), (20_000, 3), (33, 47)];
    let pictures: Vec<Image> = shapes.iter().map(|&(w, h)| noise(size(w, h))).collect();
    for preset in presets::ALL {
        for side in [1, 30, 128] {
            let views = preset.views_at(side);
            let sampled: Vec<Vec<Plan>> = pictures
                .iter()
                .zip(0..)
                .map(|(picture, seed)| views.sample(picture.size(), &mut stream(seed)))
                .collect();
            for view in 0..views.len() {
                let batch: Vec<_> =
                    pictures.iter().zip(&sampled).map(|(p, plans)| (p, &plans[view])).collect();
                let layout = if view % 2 == 0 { Layout::Chw } else { Layout::Hwc };
                check_batch(&mut host, &batch, How { layout, number: Number::Bf16, ..HOW });
            }
        }
    }
}

#[test]
fn every_colour_under_every_change() {
    let Some(mut host) = Host::start() else { return };
    let picture = every_colour();
    for plan in every_change() {
        check(&mut host, &picture, &plan);
    }
}

#[test]
fn shuffles_and_swaps_of_overlapping_patches() {
    let Some(mut host) = Host::start() else { return };
    for seed in 0..300 {
        let rng = &mut stream(20_000 + seed);
        let picture = noise(size(rng.random_range(1..30), rng.random_range(1..30)));
        let rect = any_rect(rng, picture.size());
        let with = (rng.random_range(0..30), rng.random_range(0..30));
        check(&mut host, &picture, &Op::Corrupt(Corrupt::Swap { rect, with }).into());
        let order = (0..rng.random_range(0..500)).map(|_| rng.random_range(0..600)).collect();
        check(&mut host, &picture, &Op::Corrupt(Corrupt::Shuffle { rect, order }).into());
        let whole = Rect::whole(picture.size());
        let noise = (0..rng.random_range(0..900)).map(|_| rng.random()).collect();
        check(&mut host, &picture, &Op::Corrupt(Corrupt::Noise { rect: whole, noise }).into());
    }
}

#[test]
fn every_byte_in_every_number_and_layout() {
    let Some(mut host) = Host::start() else { return };
    let ramp = Image::new(size(256, 1), (0..=255).flat_map(|v| [v; 3]).collect()).unwrap();
    let odd = Normalise { mean: [0.1, 1e-30, -7.0], std: [3.3e-3, 1e-39, 1e9] };
    let tiny = Normalise { mean: [0.5; 3], std: [3e4, 1e6, 9e7] };
    for normalise in [Normalise::IMAGENET, Normalise::UNIT, odd, tiny] {
        for number in [Number::F32, Number::Bf16, Number::F16] {
            for layout in [Layout::Chw, Layout::Hwc] {
                let how = How { normalise, layout, number, ..HOW };
                check_batch(&mut host, &[(&ramp, &Plan::nothing())], how);
            }
        }
    }
}

#[test]
fn views_of_another_size_are_refused() {
    let mut batch = Batch::default();
    batch.push(0, size(4, 4), &Plan::nothing()).unwrap();
    assert_eq!(batch.push(48, size(4, 5), &Plan::nothing()), Err(size(4, 5)));
    assert_eq!(batch.len(), 1);
}
