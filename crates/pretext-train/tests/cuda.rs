//! Whole runs on a GPU against the same on the processor. Skipped with a line where there is no GPU,
//! unless `PRETEXT_NEED_GPU` is set.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use pretext_models::{Builder, Classifier, EncoderOptions, Kind, Mode, Parameters};
use pretext_train::control::{Control, Event, Outcome};
use pretext_train::device::{Device, DeviceChoice};
use pretext_train::finetune::{Init, finetune};
use pretext_train::optimisers::{ALL, Optimiser};
use pretext_train::precision::Precision;
use pretext_train::pretrain::{ENCODER, pretrain};
use pretext_train::recipe::{Common, FinetuneRecipe, PretrainRecipe};
use pretext_train::record::Record;
use rand::{SeedableRng as _, rngs::StdRng};

fn gpu() -> Option<Device> {
    match Device::open(DeviceChoice::Gpu(0)) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("PRETEXT_NEED_GPU").is_none(), "PRETEXT_NEED_GPU: {error}");
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: {error}");
            }
            None
        }
    }
}

/// Two classes of stripes.
fn data(folder: &Path) {
    for i in 0..40_u32 {
        let (split, class) = (if i < 32 { "train" } else { "val" }, i % 2);
        let path = folder.join(format!("{split}/{class}/{i:02}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let picture = image::RgbImage::from_fn(36 + i % 7, 40, |x, y| {
            let at = if class == 0 { x } else { y };
            let level = (127.0 + 100.0 * (f64::from(at + i) * 0.7).sin()) as u8;
            image::Rgb([level, 255 - level, (5 * i) as u8])
        });
        picture.save(path).unwrap();
    }
}

fn common(precision: Precision) -> Common {
    Common {
        encoder: "xresnet18".into(),
        size: 32,
        batch_size: 8,
        epochs: 13, // 52 steps.
        precision,
        clip: Some(1.0),
        ..Common::default()
    }
}

/// Runs something on a device; its record, and whether pictures lay in the GPU's memory.
fn run(
    device: &Device,
    work: impl FnOnce(&mut Control<'_>) -> pretext_train::Result<Outcome>,
) -> (Box<Record>, bool) {
    let mut resident = false;
    let mut report = |event: Event<'_>| resident |= matches!(event, Event::Resident { .. });
    let mut control = Control {
        device: device.clone(),
        threads: 2,
        strict: true,
        resume: false,
        wait: false,
        job: None,
        ranks: &pretext_train::ranks::Ranks::alone(),
        stop: &AtomicBool::new(false),
        checkpoint_every: Duration::MAX,
        report: &mut report,
    };
    let outcome = work(&mut control).unwrap();
    let Outcome::Finished(record) = outcome else { panic!("{outcome:?}") };
    (record, resident)
}

/// The losses of both must be near in the first epoch, before differences of rounding grow, and over all
/// epochs on average. One epoch late in a run says little: between two instruction sets of a processor,
/// which round differently too, single epochs were up to 5% apart, and all of them 1% on average.
#[track_caller]
fn near(gpu: &Record, cpu: &Record, first: f64, all: f64) {
    let losses = |record: &Record| -> Vec<f64> {
        record.epochs.iter().map(|epoch| epoch.train_loss).collect()
    };
    let (got, want) = (losses(gpu), losses(cpu));
    let (a, b) = (got[0], want[0]);
    assert!((a - b).abs() < first * b, "first epoch: {a} on the GPU, {b} on the CPU");
    let apart: f64 = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).sum();
    let whole: f64 = want.iter().sum();
    assert!(apart < all * whole, "losses {got:?} on the GPU, {want:?} on the CPU");
}

#[test]
fn fifty_steps_of_pretraining() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("data");
    data(&set);
    for (precision, first, all) in [(Precision::F32, 2e-3, 0.05), (Precision::Bf16, 1e-2, 0.05)] {
        let recipe = PretrainRecipe { common: common(precision), ..PretrainRecipe::default() };
        let out = |name: &str| folder.path().join(format!("{name}-{precision:?}"));
        let go = |device: &Device, out: &Path| {
            run(device, |control| pretrain(&recipe, &set, out, control))
        };
        let (on_cpu, _) = go(&Device::cpu(), &out("cpu"));
        let (on_gpu, resident) = go(&gpu, &out("gpu"));
        assert!(resident && on_gpu.machine.device.starts_with("cuda:0"));
        near(&on_gpu, &on_cpu, first, all);
        go(&gpu, &out("again"));
        let encoder = |name: &str| fs::read(out(name).join(ENCODER)).unwrap();
        assert!(encoder("gpu") == encoder("again"), "another run gives other weights");
    }
}

#[test]
fn fifty_steps_of_fine_tuning() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("data");
    data(&set);
    let common = common(Precision::F32);
    let recipe = FinetuneRecipe { common, mixup: 0.4, ..FinetuneRecipe::default() };
    let go = |device: &Device, name: &str| {
        let out = folder.path().join(name);
        run(device, |control| finetune(&recipe, &Init::Random, &set, &out, control)).0
    };
    near(&go(&gpu, "gpu"), &go(&Device::cpu(), "cpu"), 2e-3, 0.05);
}

/// Weights of several blocks, of zeros, and a bias, on a device.
fn parameters(device: &candle_core::Device) -> Parameters {
    let parameters = Parameters::new(device);
    let insert = |name: &str, kind, count: usize, level: f32| {
        let values = (0..count).map(|i| level * (i as f32 * 0.7).sin());
        let values = Tensor::from_iter(values, device).unwrap();
        parameters.insert(name, kind, &values).unwrap();
    };
    insert("long", Kind::Weight, 10_007, 1.0);
    insert("zero", Kind::Weight, 33, 0.0);
    insert("bias", Kind::Bias, 7, 2.0);
    parameters
}

/// The same gradients wherever the parameters lie, of another size in each step.
fn gradients(parameters: &Parameters, step: usize, scale: f32) -> GradStore {
    let mut losses = vec![];
    for parameter in parameters.iter() {
        let var = parameter.var.as_tensor();
        let shift = |i: usize| scale * ((i * 7919 + step * 31) % 1013) as f32 / 500.0 - scale;
        let factors = (0..var.elem_count()).map(shift);
        let factors = Tensor::from_iter(factors, var.device()).unwrap();
        losses.push((var * factors).unwrap().sum_all().unwrap());
    }
    Tensor::stack(&losses, 0).unwrap().sum_all().unwrap().backward().unwrap()
}

#[test]
fn optimisers_step_as_on_the_cpu() {
    if gpu().is_none() {
        return;
    }
    let gpu = pretext_ops::cuda::device(0).unwrap();
    let group = |name: &str| Some(usize::from(name == "bias"));
    // The second step's gradients overflow.
    for (clip, scales) in [(None, [1.0; 3]), (Some(0.5), [1024.0, f32::MAX, 0.25])] {
        for (name, rule) in ALL {
            let cpu = candle_core::Device::Cpu;
            let [(there, mut on_gpu), (here, mut on_cpu)] = [&gpu, &cpu].map(|device| {
                let parameters = parameters(device);
                let optimiser = Optimiser::new(*rule, 1e-2, &parameters, group);
                (parameters, optimiser)
            });
            for step in 0..21 {
                let scale = scales[step % 3];
                let finite = [(&there, &mut on_gpu), (&here, &mut on_cpu)].map(|(p, optimiser)| {
                    let gradients = gradients(p, step, 4.0 * scale);
                    let scale = Tensor::new(scale, p.iter().next().unwrap().var.device()).unwrap();
                    let rates = [3e-2, 1e-2];
                    let taken = optimiser.step_scaled(&gradients, &rates, clip, &scale).unwrap();
                    taken.to_scalar::<f32>().unwrap()
                });
                assert_eq!(finite[0], finite[1], "{name} {clip:?}, step {step}");
                assert_eq!(finite[0] == 0.0, scale == f32::MAX, "{name} {clip:?}, step {step}");
                for (p, q) in there.iter().zip(here.iter()) {
                    let (got, want) =
                        (p.var.to_vec1::<f32>().unwrap(), q.var.to_vec1::<f32>().unwrap());
                    for (got, want) in got.iter().zip(&want) {
                        let near = (got - want).abs() <= 1e-5 * want.abs().max(0.1);
                        assert!(near, "{name} {clip:?}, step {step}: {got}, not {want}");
                    }
                }
                if step == 10 {
                    // Through a checkpoint.
                    let state = on_gpu.state().unwrap();
                    on_gpu = Optimiser::new(*rule, 1e-2, &there, group);
                    on_gpu.restore(11, &state).unwrap();
                }
            }
        }
    }
}

/// A network with both kinds of attention, which are candle's products and softmax beside our operators.
#[test]
fn attention_learns_as_on_the_cpu() {
    if gpu().is_none() {
        return;
    }
    let run = |device: &candle_core::Device| {
        let parameters = Parameters::new(device);
        let mut rng = StdRng::seed_from_u64(0);
        let options = EncoderOptions {
            self_attention: true,
            squeeze_excite: true,
            ..EncoderOptions::default()
        };
        let builder = Builder::new(&parameters, &mut rng);
        let classifier = Classifier::new("xresnet18", &options, 3, builder).unwrap();
        // Blocks begin as their shortcuts and attention at 0: nothing would reach what it is made of.
        for var in parameters.iter().map(|parameter| parameter.var) {
            if var.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() == 0.0 {
                var.set(&(var.ones_like().unwrap() * 0.1).unwrap()).unwrap();
            }
        }
        let values = (0..4 * 3 * 32 * 32).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
        let x = Tensor::from_iter(values, device).unwrap().reshape((4, 3, 32, 32)).unwrap();
        let classes = Tensor::new(&[0_u32, 1, 2, 1], &candle_core::Device::Cpu).unwrap();
        let logits = classifier.forward(&x, Mode::Train).unwrap();
        let loss = pretext_ops::cross_entropy(&logits, &classes, 0.1).unwrap();
        let gradients = pretext_ops::backward(&loss).unwrap();
        let gradients: Vec<(String, Vec<f32>)> = parameters
            .iter()
            .filter_map(|p| Some((p.name.clone(), gradients.get(p.var.as_tensor())?.clone())))
            .map(|(name, g)| (name, g.flatten_all().unwrap().to_vec1().unwrap()))
            .collect();
        (loss.to_scalar::<f32>().unwrap(), gradients)
    };
    let (got, want) = (run(&pretext_ops::cuda::device(0).unwrap()), run(&candle_core::Device::Cpu));
    assert!((got.0 - want.0).abs() < 1e-3 * want.0, "a loss of {}, not {}", got.0, want.0);
    assert_eq!(got.1.len(), want.1.len());
    assert!(want.1.iter().any(|(name, g)| name.ends_with("gamma") && g[0] != 0.0));
    for ((name, got), (_, want)) in got.1.iter().zip(&want.1) {
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        let apart = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
        let whole = norm(&mut want.iter().copied()).max(1e-3);
        assert!(apart < 1e-2 * whole, "{name}: {apart} apart, of {whole}");
    }
}
