//! Views made on a GPU against the plain operations, to the last bit: of pictures that stay in its
//! memory and of such that pass through. Skipped with a line where there is no GPU, unless
//! `PRETEXT_NEED_GPU` is set.

mod common;
#[path = "common/plans.rs"]
mod plans;

use std::collections::BTreeMap;

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::{DType, Device, Tensor};
use common::{SHAPES, noise, size, stream};
use plans::{any_op, any_plan, every_change, every_colour};
use pretext_augment::cuda::{Passing, Pictures};
use pretext_augment::{Image, Layout, Normalise, Plan, Size, presets};
use rand::RngExt as _;

fn gpu() -> Option<Device> {
    let why = match CudaContext::device_count() {
        Ok(1..) => return Some(Device::new_cuda_with_stream(0).expect("cuBLAS and cuRAND")),
        Ok(_) => "no GPU: the driver finds none".to_owned(),
        Err(error) => format!("no GPU: the driver answers {:?}", error.0),
    };
    assert!(std::env::var_os("PRETEXT_NEED_GPU").is_none(), "PRETEXT_NEED_GPU: {why}");
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: {why}");
    }
    None
}

const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];
const LAYOUTS: [Layout; 2] = [Layout::Chw, Layout::Hwc];

/// How a batch is written.
#[derive(Clone, Copy, Debug)]
struct How {
    normalise: Normalise,
    layout: Layout,
    dtype: DType,
}

/// The bits of numbers, whatever their type.
fn bits(numbers: &Tensor) -> Vec<u32> {
    let numbers = numbers.flatten_all().unwrap();
    match numbers.dtype() {
        DType::F32 => numbers.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect(),
        DType::BF16 => {
            let numbers = numbers.to_vec1::<half::bf16>().unwrap();
            numbers.into_iter().map(|number| number.to_bits().into()).collect()
        }
        _ => {
            let numbers = numbers.to_vec1::<half::f16>().unwrap();
            numbers.into_iter().map(|number| number.to_bits().into()).collect()
        }
    }
}

/// What the plain operations give.
fn plain(picture: &Image, plan: &Plan, how: How) -> Vec<u32> {
    let image = plan.apply(picture.clone());
    let area = image.size().area() as usize;
    let mut numbers = vec![0.0; 3 * area];
    how.normalise.to_chw(&image, &mut numbers);
    let place = |i: usize| if how.layout == Layout::Chw { i } else { i % 3 * area + i / 3 };
    let bits = |number: f32| match how.dtype {
        DType::F32 => number.to_bits(),
        DType::BF16 => half::bf16::from_f32(number).to_bits().into(),
        _ => half::f16::from_f32(number).to_bits().into(),
    };
    (0..3 * area).map(|i| bits(numbers[place(i)])).collect()
}

/// Views of one size as one batch, of pictures that lie on the GPU and of the same on their way.
#[track_caller]
fn check(gpu: &Device, pictures: &[Image], views: &[(usize, Plan)], how: How) {
    let How { normalise, layout, dtype } = how;
    let bytes = pictures.iter().map(|picture| picture.pixels().len() as u64).sum();
    let mut loading = Pictures::load(gpu, bytes).unwrap();
    pictures.iter().try_for_each(|picture| loading.push(picture.view())).unwrap();
    let resident = loading.finish().unwrap();
    let asked = || views.iter().map(|(picture, plan)| (*picture, plan));
    let stayed = resident.views(asked(), &normalise, layout, dtype).unwrap();
    let mut passing = Passing::new(gpu).unwrap();
    let sent = passing.send(pictures.iter().map(Image::view)).unwrap();
    let passed = passing.views(&sent, asked(), &normalise, layout, dtype).unwrap();

    let Size { width, height } = views[0].1.output_size(pictures[views[0].0].size());
    let (width, height) = (width as usize, height as usize);
    let shape = if layout == Layout::Chw {
        [views.len(), 3, height, width]
    } else {
        [views.len(), height, width, 3]
    };
    assert_eq!((stayed.dims(), passed.dims()), (&shape[..], &shape[..]), "{how:?}");
    let (stayed, passed) = (bits(&stayed), bits(&passed));
    let numbers = 3 * width * height;
    for (i, (picture, plan)) in views.iter().enumerate() {
        let want = plain(&pictures[*picture], plan, how);
        for (where_from, got) in [("that stay", &stayed), ("that pass", &passed)] {
            let got = &got[i * numbers..][..numbers];
            let differ = got.iter().zip(&want).filter(|(a, b)| a != b).count();
            let picture = &pictures[*picture];
            assert!(
                got == want,
                "{differ} of {numbers} differ, of pictures {where_from}: {picture:?}, {plan:?}, {how:?}"
            );
        }
    }
}

#[test]
fn random_plans_on_pictures_of_random_size() {
    let Some(gpu) = gpu() else { return };
    let mut by_size: BTreeMap<(u32, u32), Vec<(Image, Plan)>> = BTreeMap::new();
    for seed in 0..1500 {
        let rng = &mut stream(seed);
        let picture = noise(size(rng.random_range(1..80), rng.random_range(1..60)));
        let plan = any_plan(rng, picture.size());
        let Size { width, height } = plan.output_size(picture.size());
        by_size.entry((width, height)).or_default().push((picture, plan));
    }
    let rng = &mut stream(1);
    for views in by_size.into_values() {
        let (pictures, plans): (Vec<Image>, Vec<Plan>) = views.into_iter().unzip();
        let views: Vec<(usize, Plan)> = plans.into_iter().enumerate().collect();
        let normalise = Normalise::IMAGENET;
        let layout = LAYOUTS[rng.random_range(0..2)];
        let dtype = DTYPES[rng.random_range(0..3)];
        check(&gpu, &pictures, &views, How { normalise, layout, dtype });
    }
}

#[test]
fn every_preset_in_every_number_and_layout() {
    let Some(gpu) = gpu() else { return };
    let shapes = [(213, 160), (160, 213), (500, 375), (1, 1), (7, 400), (33, 47)];
    let pictures: Vec<Image> = shapes.iter().map(|&(w, h)| noise(size(w, h))).collect();
    let mut ways = DTYPES.iter().flat_map(|dtype| LAYOUTS.map(|layout| (*dtype, layout))).cycle();
    for preset in presets::ALL {
        // Of 192 px the canvas leaves no room for scratch memory beside it, of 400 px there is none.
        for side in [30, 128, 192, 400] {
            let sampled = preset.views_at(side);
            let plans: Vec<Vec<Plan>> = pictures
                .iter()
                .zip(0..)
                .map(|(picture, seed)| sampled.sample(picture.size(), &mut stream(seed)))
                .collect();
            for view in 0..sampled.len() {
                let views: Vec<(usize, Plan)> =
                    plans.iter().map(|plans| plans[view].clone()).enumerate().collect();
                let Some((dtype, layout)) = ways.next() else { break };
                check(
                    &gpu,
                    &pictures,
                    &views,
                    How { normalise: Normalise::IMAGENET, layout, dtype },
                );
            }
        }
    }
}

#[test]
fn every_kind_of_operation_on_pictures_of_every_shape() {
    let Some(gpu) = gpu() else { return };
    for (width, height) in SHAPES {
        let picture = [noise(size(width, height))];
        let rng = &mut stream(u64::from(width * 31 + height));
        for _ in 0..if width.max(height) < 1000 { 60 } else { 8 } {
            let plan = any_op(rng, picture[0].size()).into();
            let how = How { normalise: Normalise::UNIT, layout: Layout::Hwc, dtype: DType::BF16 };
            check(&gpu, &picture, &[(0, plan)], how);
        }
    }
}

#[test]
fn every_colour_under_every_change() {
    let Some(gpu) = gpu() else { return };
    let picture = [every_colour()];
    let views: Vec<(usize, Plan)> = every_change().into_iter().map(|plan| (0, plan)).collect();
    let how = How { normalise: Normalise::UNIT, layout: Layout::Chw, dtype: DType::F32 };
    check(&gpu, &picture, &views, how);
}

#[test]
fn every_byte_in_every_number_and_layout() {
    let Some(gpu) = gpu() else { return };
    let ramp = [Image::new(size(256, 1), (0..=255).flat_map(|v| [v; 3]).collect()).unwrap()];
    let odd = Normalise { mean: [0.1, 1e-30, -7.0], std: [3.3e-3, 1e-39, 1e9] };
    let tiny = Normalise { mean: [0.5; 3], std: [3e4, 1e6, 9e7] };
    for normalise in [Normalise::IMAGENET, Normalise::UNIT, odd, tiny] {
        for dtype in DTYPES {
            for layout in LAYOUTS {
                check(&gpu, &ramp, &[(0, Plan::nothing())], How { normalise, layout, dtype });
            }
        }
    }
}
