//! The fused path against the plain one: byte for byte and bit for bit, on every instruction set.

mod common;
#[path = "common/plans.rs"]
mod plans;

use common::{SHAPES, noise, size, stream};
use plans::{any_op, any_plan, every_change, every_colour};
use pretext_augment::ops::{CropResize, Flip};
use pretext_augment::{
    ISA_VARIABLE, Image, ImageRef, Isa, Layout, Normalise, Op, Plan, Rect, Size, Transform as _,
    Workspace,
};
use rand::RngExt as _;

/// The plain way's bytes and numbers must come out of the fused one on every instruction set.
#[track_caller]
fn check(plan: &Plan, picture: &Image) {
    for isa in Isa::available() {
        check_on(isa, &mut Workspace::with_isa(isa), plan, picture);
    }
}

#[track_caller]
fn check_on(isa: Isa, workspace: &mut Workspace, plan: &Plan, picture: &Image) {
    let want = plan.apply(picture.clone());
    let got = plan.view(picture.view(), workspace);
    assert_eq!(got.size(), want.size(), "{isa}, {picture:?}, {plan:?}");
    let differ = got.pixels().iter().zip(want.pixels()).filter(|(a, b)| a != b).count();
    assert!(got == want, "{isa}, {picture:?}: {differ} bytes differ, {plan:?}");

    let normalise = &Normalise::IMAGENET;
    let mut numbers = vec![0.0; want.pixels().len()];
    normalise.to_chw(&want, &mut numbers);
    let mut out = vec![f32::NAN; numbers.len()];
    plan.write(picture.view(), normalise, Layout::Chw, workspace, &mut out).unwrap();
    assert!(out == numbers, "{isa}, {picture:?}: {plan:?}, [3, H, W]");
    plan.write(picture.view(), normalise, Layout::Hwc, workspace, &mut out).unwrap();
    let area = want.size().area() as usize;
    let hwc = (0..numbers.len()).map(|i| numbers[i % 3 * area + i / 3]);
    assert!(out.iter().copied().eq(hwc), "{isa}, {picture:?}: {plan:?}, [H, W, 3]");
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x, y, width, height }
}

#[test]
fn random_plans_on_pictures_of_random_size() {
    let mut workspaces: Vec<_> =
        Isa::available().map(|isa| (isa, Workspace::with_isa(isa))).collect();
    for seed in 0..1500 {
        let rng = &mut stream(seed);
        let picture = noise(size(rng.random_range(1..80), rng.random_range(1..60)));
        let plan = any_plan(rng, picture.size());
        // One workspace for all: nothing of the last picture may shine through.
        for (isa, workspace) in &mut workspaces {
            check_on(*isa, workspace, &plan, &picture);
        }
    }
}

#[test]
fn every_kind_of_operation_on_pictures_of_every_shape() {
    for (width, height) in SHAPES {
        let picture = noise(size(width, height));
        let rng = &mut stream(u64::from(width * 31 + height));
        for _ in 0..if width.max(height) < 1000 { 150 } else { 12 } {
            let op = any_op(rng, picture.size());
            // Quadratic in what it reaches on such a picture.
            check(&op.into(), &picture);
        }
    }
}

#[test]
fn resizing_from_and_to_every_small_size() {
    for from in (1..40).chain([63, 64, 65, 100, 213]) {
        let picture = noise(size(from, 1 + from * 7 % 50));
        for to in [1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 48, 96] {
            let out = size(to, 1 + to * 5 % 40);
            let op = |crop| Op::CropResize(CropResize { crop, size: out });
            check(&op(Rect::whole(picture.size())).into(), &picture);
            check(&Plan(vec![op(rect(1, 1, from, from)), Op::Flip(Flip)]), &picture);
        }
    }
}

#[test]
fn every_colour_under_every_change() {
    let picture = every_colour();
    for plan in every_change() {
        check(&plan, &picture);
    }
}

#[test]
fn every_byte_is_normalised_to_the_last_bit() {
    let ramp = Image::new(size(256, 1), (0..=255).flat_map(|v| [v; 3]).collect()).unwrap();
    let odd = Normalise { mean: [0.1, 1e-30, -7.0], std: [3.3e-3, 1e-39, 1e9] };
    let half = Normalise { mean: [0.5; 3], std: [0.5; 3] };
    for normalise in [Normalise::IMAGENET, Normalise::UNIT, half, odd] {
        let mut want = vec![0.0; 768];
        normalise.to_chw(&ramp, &mut want);
        for isa in Isa::available() {
            let (mut out, workspace) = (vec![f32::NAN; 768], &mut Workspace::with_isa(isa));
            let plan = Plan::nothing();
            plan.write(ramp.view(), &normalise, Layout::Chw, workspace, &mut out).unwrap();
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&out), bits(&want), "{isa}, {normalise:?}");
        }
    }
}

#[test]
fn streaming_writes_the_same_numbers_wherever_they_begin() {
    const AROUND: usize = 40;
    for width in [1, 7, 16, 63, 64, 65, 200] {
        let picture = noise(size(width, 3));
        let mut want = vec![0.0; picture.pixels().len()];
        Normalise::IMAGENET.to_chw(&picture, &mut want);
        for isa in Isa::available() {
            let mut workspace = Workspace::with_isa(isa).streaming(true);
            for start in 0..AROUND {
                let mut memory = vec![-9.0; want.len() + 2 * AROUND];
                let out = &mut memory[start..start + want.len()];
                let (nothing, layout) = (Plan::nothing(), Layout::Chw);
                nothing
                    .write(picture.view(), &Normalise::IMAGENET, layout, &mut workspace, out)
                    .unwrap();
                assert!(out == want, "{isa}, {width} px, from {start} on");
                let around = memory[..start].iter().chain(&memory[start + want.len()..]);
                assert!(around.copied().eq([-9.0; 2 * AROUND]), "{isa}, {width} px, {start}");
            }
        }
    }
}

#[test]
fn rows_may_lie_apart() {
    let size = size(20, 9);
    let picture = noise(size);
    let mut apart = vec![200; 77 * 9];
    for (y, row) in picture.pixels().chunks_exact(60).enumerate() {
        apart[77 * y..][..60].copy_from_slice(row);
    }
    // Nothing needs to follow the last row.
    let apart = ImageRef::with_stride(size, 77, &apart[..77 * 8 + 60]).unwrap();
    let crop = CropResize { crop: rect(3, 1, 17, 8), size: Size::square(12) };
    let plan = Plan::from(Op::CropResize(crop));
    for isa in Isa::available() {
        let workspace = &mut Workspace::with_isa(isa);
        assert_eq!(plan.view(apart, workspace), plan.apply(picture.clone()), "{isa}");
        assert_eq!(Plan::nothing().view(apart, workspace), picture);
    }
}

#[test]
fn a_place_of_another_size_is_refused() {
    let picture = noise(size(5, 4));
    let (mut out, mut workspace) = ([0.0_f32; 59], Workspace::new());
    let error = Plan::nothing()
        .write(picture.view(), &Normalise::UNIT, Layout::Chw, &mut workspace, &mut out)
        .unwrap_err();
    assert_eq!(error.to_string(), "a view of 5 x 4 is 3 x 20 numbers, not 59");
}

#[test]
fn threads_and_the_batch_around_a_picture_leave_no_trace() {
    let transform = pretext_augment::Compose::new(vec![
        Box::new(pretext_augment::RandomResizedCrop::torchvision(40)),
        Box::new(pretext_augment::HorizontalFlip::default()),
        Box::new(pretext_augment::ColourJitter::new(0.8, 0.8, 0.8, 0.2)),
        Box::new(pretext_augment::GaussianBlur::new(5, 0.1..=2.0)),
        Box::new(pretext_augment::RandomGreyBlur::default()),
    ]);
    let pictures: Vec<Image> = (0..24).map(|i| noise(size(30 + 7 * i, 90 - 3 * i))).collect();
    let numbers = 3 * 40 * 40;
    let write = |i: usize, workspace: &mut Workspace, out: &mut [f32]| {
        let picture = pictures[i].view();
        let plan = transform.sample(picture.size(), &mut stream(i as u64));
        plan.write(picture, &Normalise::IMAGENET, Layout::Chw, workspace, out).unwrap();
    };
    let mut alone = vec![0.0; 24 * numbers];
    for (i, out) in alone.chunks_exact_mut(numbers).enumerate() {
        write(i, &mut Workspace::new(), out);
    }
    for threads in [1, 2, 3, 7] {
        let mut batch = vec![0.0; 24 * numbers];
        let mut shares: Vec<Vec<_>> = (0..threads).map(|_| vec![]).collect();
        for (i, out) in batch.chunks_exact_mut(numbers).enumerate() {
            shares[i * 5 % threads].push((i, out));
        }
        std::thread::scope(|scope| {
            for share in shares {
                scope.spawn(|| {
                    let mut workspace = Workspace::new();
                    for (i, out) in share.into_iter().rev() {
                        write(i, &mut workspace, out);
                    }
                });
            }
        });
        assert!(batch == alone, "{threads} threads");
    }
}

#[test]
#[allow(clippy::print_stdout)] // read by the test below
fn the_instruction_set_in_use() {
    assert!(Isa::current().is_available());
    println!("in use: {}", Workspace::new().isa());
}

#[test]
fn the_variable_forces_an_instruction_set() {
    // It is read once in a process.
    let in_use = |name: &str| {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "the_instruction_set_in_use", "--nocapture"]);
        let output = test.env(ISA_VARIABLE, name).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for isa in Isa::available() {
        let said = in_use(isa.name());
        assert!(said.contains(&format!("in use: {isa}\n")), "{isa}: {said}");
    }
    let fastest = Isa::available().next().unwrap();
    assert!(in_use("none that there is").contains(&format!("in use: {fastest}\n")));
}
