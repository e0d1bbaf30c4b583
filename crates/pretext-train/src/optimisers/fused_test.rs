//! The kernels, launch after launch, compiled for the processor, against the rules on slices.
//!
//! It takes a C++ compiler (`$CXX`, or `c++`). Where there is none the tests say so and pass, unless
//! `PRETEXT_NEED_CXX` is set.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::OnceLock;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};
use pretext_models::{Kind, Parameters};

use super::arguments::{Arguments, CHUNK, TENSORS};
use super::fused::{Fused, Step, TAKEN};
use super::{ALL, Optimiser, Rule};

type Run = unsafe extern "C" fn(*const c_char, u32, *const Arguments) -> bool;

fn compile() -> Option<Run> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("OUT_DIR")).join("optimisers-on-the-host.so");
    let out = pretext_kernels::on_the_processor(package, &out, &["-fPIC", "-shared"])?;
    // SAFETY: the library has no code of its own that runs when it is loaded; the functions have these
    // signatures.
    unsafe {
        let library = Box::leak(Box::new(libloading::Library::new(&out).unwrap()));
        let size = library.get::<extern "C" fn() -> usize>(b"pretext_arguments").unwrap()();
        assert_eq!(size, size_of::<Arguments>(), "the two sides differ on the arguments");
        Some(*library.get::<Run>(b"pretext_launch").unwrap())
    }
}

/// Launches on the processor, if there is a compiler.
fn host() -> Option<impl Fn(&str, u32, &Arguments) -> Result<()>> {
    static COMPILED: OnceLock<Option<Run>> = OnceLock::new();
    let run = (*COMPILED.get_or_init(compile))?;
    Some(move |kernel: &str, blocks: u32, a: &Arguments| {
        let name = CString::new(kernel).unwrap();
        // SAFETY: the arguments are those that the GPU gets, addresses of tensors.
        assert!(unsafe { run(name.as_ptr(), blocks, a) }, "there is no kernel {kernel}");
        Ok(())
    })
}

/// Weights of several chunks, one of zeros, one of a single number, and more than a launch takes.
fn parameters() -> Parameters {
    let parameters = Parameters::new(&Device::Cpu);
    let insert = |name: &str, kind, shape: &[usize], level: f32| {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| level * (i as f32 * 0.7 + count as f32).sin());
        let values = Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(shape).unwrap();
        parameters.insert(name, kind, &values).unwrap();
    };
    insert("long", Kind::Weight, &[3, CHUNK + 5], 1.0);
    insert("zero", Kind::Weight, &[2, 2], 0.0);
    insert("bias", Kind::Bias, &[7], 2.0);
    insert("one", Kind::Weight, &[1], 0.1);
    insert("without gradient", Kind::Weight, &[5], 1.0);
    for i in 0..TENSORS {
        insert(&format!("small {i}"), Kind::Weight, &[2, 3], 0.5);
    }
    parameters
}

/// Gradients of another size in each step, times `scale`.
fn gradients(parameters: &Parameters, step: usize, scale: f64) -> GradStore {
    let mut losses = Vec::new();
    for p in parameters.iter().filter(|p| p.name != "without gradient") {
        let bent = (p.var.as_tensor() * (1.0 + step as f64)).unwrap().cos().unwrap();
        // Its gradient is 0 where the weight is, in the first steps.
        let far = (p.var.as_tensor() - 0.1 * step.saturating_sub(3) as f64).unwrap();
        losses.push((bent + far.sqr().unwrap()).unwrap().sum_all().unwrap());
    }
    let loss = Tensor::stack(&losses, 0).unwrap().sum_all().unwrap();
    (loss * scale).unwrap().backward().unwrap()
}

fn optimiser(rule: Rule, parameters: &Parameters) -> Optimiser {
    Optimiser::new(rule, 1e-2, parameters, |name| Some(usize::from(name == "bias")))
}

const RATES: [f64; 2] = [3e-2, 1e-2];

/// Whether all weights are the same: to the bit, or to the last bits of sums in another order.
#[track_caller]
fn same(what: &str, got: &Parameters, want: &Parameters, tolerance: f32) {
    for (p, q) in got.iter().zip(want.iter()) {
        let flat =
            |p: &pretext_models::Parameter| p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (got, want) in flat(&p).iter().zip(flat(&q)) {
            assert!(
                (got - want).abs() <= tolerance * want.abs().max(0.1),
                "{what}, {}: {got}, not {want}",
                p.name
            );
        }
    }
}

/// Runs steps of both; `scales` are what each step's loss is multiplied by, if it is.
fn compare(name: &str, rule: Rule, clip: Option<f64>, scales: Option<&[f32]>) {
    let Some(launch) = host() else { return };
    let (plain, other) = (parameters(), parameters());
    let mut by_slices = optimiser(rule, &plain);
    let by_kernels = optimiser(rule, &other);
    let mut fused = Fused::new(rule, &by_kernels.slots, 0, &[].into()).unwrap();
    // Sums are taken for clipping and for norms; all else is the same arithmetic.
    let sums = clip.is_some() || matches!(rule, Rule::Lars { .. } | Rule::Lamb { .. });
    for i in 0..14 {
        let scale = scales.map(|scales| scales[i % scales.len()]);
        let tensor = scale.map(|scale| Tensor::new(scale, &Device::Cpu).unwrap());
        let by = scale.map_or(1.0, f64::from);
        let (left, right) = (gradients(&plain, i, by), gradients(&other, i, by));
        let want = match &tensor {
            None => by_slices.step(&left, &RATES, clip).map(|()| None),
            Some(scale) => by_slices.step_scaled(&left, &RATES, clip, scale).map(Some),
        };
        let step = Step { rates: &RATES, weight_decay: 1e-2, clip, loss_scale: tensor.as_ref() };
        let got = fused.step(&by_kernels.slots, &right, &step, &launch).unwrap();
        let finite = |tensor: Option<Tensor>| tensor.map(|t| t.to_scalar::<f32>().unwrap());
        assert_eq!(finite(got), finite(want.unwrap()), "{name} {clip:?}, step {i}");
        let tolerance = if sums { 2e-6 } else { 0.0 };
        same(&format!("{name} {clip:?} {scale:?}, step {i}"), &other, &plain, tolerance);
        if i == 6 {
            // Through a checkpoint.
            let state = fused.state(&by_kernels.slots, i as u64 + 1).unwrap();
            assert_eq!(state.contains_key(TAKEN), scales.is_some_and(|s| s.contains(&f32::MAX)));
            fused = Fused::new(rule, &by_kernels.slots, i as u64 + 1, &state).unwrap();
        }
    }
    let (slices, kernels) =
        (by_slices.state().unwrap(), fused.state(&by_kernels.slots, 14).unwrap());
    for (key, want) in &slices {
        assert_eq!(kernels[key].shape(), want.shape(), "{name}, {key}");
    }
    for key in kernels.keys().filter(|key| !key.starts_with("without gradient")) {
        assert!(slices.contains_key(key), "{name}: {key} in a checkpoint");
    }
}

#[test]
fn the_kernels_step_as_the_rules_on_slices_do() {
    for (name, rule) in ALL {
        // A norm that is met, and one that is not.
        for clip in [None, Some(0.5), Some(1e6)] {
            compare(name, *rule, clip, None);
        }
    }
}

#[test]
fn scaled_losses_step_as_plain_ones_and_those_that_overflow_do_not_count() {
    // The largest number overflows: those steps are skipped.
    let scales = [1024.0, f32::MAX, 65536.0, 0.5];
    for (name, rule) in ALL {
        for clip in [None, Some(0.5)] {
            compare(name, *rule, clip, Some(&scales));
        }
    }
}

#[test]
fn a_scale_changes_nothing_but_what_overflows() {
    for (name, rule) in ALL {
        let (plain, scaled) = (parameters(), parameters());
        let (mut a, mut b) = (optimiser(*rule, &plain), optimiser(*rule, &scaled));
        let scale = Tensor::new(256.0_f32, &Device::Cpu).unwrap();
        for i in 0..8 {
            a.step(&gradients(&plain, i, 1.0), &RATES, Some(1.0)).unwrap();
            let gradients = gradients(&scaled, i, 256.0);
            let finite = b.step_scaled(&gradients, &RATES, Some(1.0), &scale).unwrap();
            assert_eq!(finite.to_scalar::<f32>().unwrap(), 1.0);
            same(&format!("{name}, step {i}"), &scaled, &plain, 0.0);
        }
        // A step that overflows is none: the next is as if it had not been.
        let overflow = gradients(&scaled, 8, f64::from(f32::MAX) * 8.0);
        let finite = b.step_scaled(&overflow, &RATES, Some(1.0), &scale).unwrap();
        assert_eq!(finite.to_scalar::<f32>().unwrap(), 0.0);
        same(&format!("{name}, skipped"), &scaled, &plain, 0.0);
        a.step(&gradients(&plain, 9, 1.0), &RATES, Some(1.0)).unwrap();
        b.step_scaled(&gradients(&scaled, 9, 256.0), &RATES, Some(1.0), &scale).unwrap();
        same(&format!("{name}, after it"), &scaled, &plain, 0.0);
    }
}
