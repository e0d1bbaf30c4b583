//! Whole runs on a GPU, and what is scored on one, against the same on the processor. Skipped with a line where there is no GPU,
//! unless `PRETEXT_NEED_GPU` is set.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use pretext_models::{Builder, Classifier, EncoderOptions, Kind, Mode, Parameters};
use pretext_train::CHECKPOINT;
use pretext_train::checkpoint::inspect;
use pretext_train::control::{Control, Event, Outcome};
use pretext_train::device::{Device, DeviceChoice};
use pretext_train::embed::embed;
use pretext_train::evaluate::{Evaluation, evaluate};
use pretext_train::finetune::{CLASSIFIER, Init, finetune};
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

/// What was heard of a run.
#[derive(Default)]
struct Heard {
    /// Which pictures stayed in the GPU's memory.
    resident: Vec<String>,
    /// The mean loss of each epoch so far, after each step.
    means: Vec<(usize, f64)>,
}

impl Heard {
    /// The loss of each step.
    fn losses(&self) -> Vec<f64> {
        let mut before = 0.0;
        let sums = self.means.iter().map(|&(step, mean)| (step, mean * step as f64));
        sums.map(|(step, sum)| sum - std::mem::replace(&mut before, sum) * f64::from(step > 1))
            .collect()
    }
}

/// Runs something on a device, until it is finished or `stop` says of a step to stop.
fn begin(
    device: &Device,
    resume: bool,
    stop: impl Fn(u32, usize) -> bool + Send + Sync,
    work: impl FnOnce(&mut Control<'_>) -> pretext_train::Result<Outcome>,
) -> (Outcome, Heard) {
    let (mut heard, flag) = (Heard::default(), AtomicBool::new(false));
    let mut report = |event: Event<'_>| match event {
        Event::Resident { which, .. } => heard.resident.push(which.to_owned()),
        Event::Step { epoch, step, loss, .. } => {
            heard.means.push((step, loss));
            flag.fetch_or(stop(epoch, step), Ordering::Relaxed);
        }
        _ => {}
    };
    let mut control = Control {
        device: device.clone(),
        threads: 2,
        strict: true,
        resume,
        wait: false,
        job: None,
        ranks: &pretext_train::ranks::Ranks::alone(),
        stop: &flag,
        checkpoint_every: Duration::MAX,
        report: &mut report,
    };
    let outcome = work(&mut control).unwrap();
    (outcome, heard)
}

/// The same to its end.
fn run(
    device: &Device,
    work: impl FnOnce(&mut Control<'_>) -> pretext_train::Result<Outcome>,
) -> (Box<Record>, Heard) {
    let (outcome, heard) = begin(device, false, |_, _| false, work);
    let Outcome::Finished(record) = outcome else { panic!("{outcome:?}") };
    (record, heard)
}

/// The losses of both must be near in the first epochs, before differences of rounding grow, and not
/// far in any: within `first` of each other in the first 8 steps, within 0.2 afterwards, in the mean of
/// 8 steps, and within 0.05 in the mean of all. Between two instruction sets of a processor, which round
/// differently too, the mean of all was up to 0.01 apart.
#[track_caller]
fn near(gpu: &Heard, cpu: &Heard, first: f64) {
    let (gpu, cpu) = (gpu.losses(), cpu.losses());
    assert_eq!((gpu.len(), cpu.len()), (52, 52));
    for (step, (a, b)) in gpu.iter().zip(&cpu).enumerate().take(8) {
        assert!((a - b).abs() < first * b, "step {step}: {a} on the GPU, {b} on the CPU");
    }
    for (i, (a, b)) in gpu.chunks(8).zip(cpu.chunks(8)).enumerate() {
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (a, b) = (mean(a), mean(b));
        assert!((a - b).abs() < 0.2 * b, "from step {}: {a} on the GPU, {b} on the CPU", 8 * i);
    }
    let (a, b) = (gpu.iter().sum::<f64>(), cpu.iter().sum::<f64>());
    assert!((a - b).abs() < 0.05 * b, "sums of {a} on the GPU, {b} on the CPU");
}

/// The losses on `val/` after the first two epochs, which are 8 steps.
#[track_caller]
fn scored_alike(gpu: &Record, cpu: &Record, within: f64) {
    for (a, b) in gpu.epochs.iter().zip(&cpu.epochs).take(2) {
        let (a, b) = (a.val_loss.unwrap(), b.val_loss.unwrap());
        assert!((a - b).abs() < 2.0 * within * b, "{a} on the GPU, {b} on the CPU");
    }
}

#[test]
fn fifty_steps_of_pretraining() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("data");
    data(&set);
    for (precision, first) in [(Precision::F32, 2e-3), (Precision::Bf16, 5e-2)] {
        let recipe = PretrainRecipe { common: common(precision), ..PretrainRecipe::default() };
        let out = |name: &str| folder.path().join(format!("{name}-{precision:?}"));
        let go = |device: &Device, out: &Path| {
            run(device, |control| pretrain(&recipe, &set, out, control))
        };
        let (want, on_cpu) = go(&Device::cpu(), &out("cpu"));
        let (record, on_gpu) = go(&gpu, &out("gpu"));
        assert_eq!(on_gpu.resident, ["pictures to train on", "pictures of val/"]);
        assert!(on_cpu.resident.is_empty() && record.machine.device.starts_with("cuda:0"));
        near(&on_gpu, &on_cpu, first);
        scored_alike(&record, &want, first);
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
        run(device, |control| finetune(&recipe, &Init::Random, &set, &out, control))
    };
    let ((on_gpu, gpu_heard), (on_cpu, cpu_heard)) = (go(&gpu, "gpu"), go(&Device::cpu(), "cpu"));
    near(&gpu_heard, &cpu_heard, 2e-3);
    scored_alike(&on_gpu, &on_cpu, 2e-3);
    // By pictures that pass through its memory, in other batches.
    let weights = folder.path().join("gpu").join(CLASSIFIER);
    let (mut report, stop) = (|_: Event<'_>| {}, AtomicBool::new(false));
    let mut control = Control {
        device: gpu,
        threads: 2,
        strict: true,
        resume: false,
        wait: false,
        job: None,
        ranks: &pretext_train::ranks::Ranks::alone(),
        stop: &stop,
        checkpoint_every: Duration::MAX,
        report: &mut report,
    };
    let Evaluation::Classifier(again) = evaluate(&weights, &set, &mut control).unwrap() else {
        panic!("no classifier")
    };
    assert_eq!(again.total, on_gpu.result.total);
    let (a, b) = (again.val_loss.unwrap(), on_gpu.result.val_loss.unwrap());
    assert!((a - b).abs() < 1e-3 * b, "{a} by evaluate, {b} by the run");
    // The features of an encoder, too.
    let encoder = folder.path().join("features.safetensors");
    let counts = embed(&weights, &set, &encoder, &mut control).unwrap();
    let features = |path: &Path| pretext_models::weights::read(path).unwrap().0;
    control.device = Device::cpu();
    let on_cpu = folder.path().join("features-cpu.safetensors");
    assert_eq!(counts, embed(&weights, &set, &on_cpu, &mut control).unwrap());
    let (got, want) = (features(&encoder), features(&on_cpu));
    for name in ["train.features", "val.features"] {
        let apart = (&got[name] - &want[name]).unwrap().abs().unwrap().max_all().unwrap();
        let most = want[name].abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let apart = apart.to_scalar::<f32>().unwrap();
        assert!(apart < 1e-3 * most, "{name}: {apart} apart, of {most}");
    }
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

#[test]
fn a_resumed_run_equals_an_unbroken_one() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("data");
    data(&set);
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        let common = Common { epochs: 4, ..common(precision) };
        let recipe = PretrainRecipe { common, ..PretrainRecipe::default() };
        let out = |name: &str| folder.path().join(format!("{name}-{precision:?}"));
        run(&gpu, |control| pretrain(&recipe, &set, &out("unbroken"), control));
        // In the midst of the second epoch: checkpoints are written after each step.
        let stop = |epoch, step| (epoch, step) == (2, 2);
        let (outcome, _) = begin(&gpu, false, stop, |control| {
            control.checkpoint_every = Duration::ZERO;
            pretrain(&recipe, &set, &out("resumed"), control)
        });
        assert!(matches!(outcome, Outcome::Stopped), "{outcome:?}");
        let standing = inspect(&out("resumed").join(CHECKPOINT)).unwrap();
        assert!(standing.epochs.len() == 1 && (2..4).contains(&standing.step), "{standing:?}");
        let (outcome, _) = begin(
            &gpu,
            true,
            |_, _| false,
            |control| pretrain(&recipe, &set, &out("resumed"), control),
        );
        assert!(matches!(outcome, Outcome::Finished(_)), "{outcome:?}");
        let encoder = |name: &str| fs::read(out(name).join(ENCODER)).unwrap();
        assert!(encoder("unbroken") == encoder("resumed"), "{precision:?}");
    }
}

#[test]
fn pictures_that_pass_and_pictures_that_stay_make_the_same_views() {
    use candle_core::DType;
    use pretext_augment::cuda::{Passing, Pictures};
    use pretext_augment::rand::{SeedableRng as _, rngs::StdRng};
    use pretext_augment::{Image, Layout, Normalise, Plan, Size, Transform as _};

    if gpu().is_none() {
        return;
    }
    let device = candle_core::Device::new_cuda_with_stream(0).unwrap();
    let images: Vec<Image> = (0..48_u32)
        .map(|i| {
            let size = Size { width: 30 + 7 * (i % 9), height: 90 - i };
            let bytes = (0..3 * size.area()).map(|at| (at * u64::from(i + 3) % 251) as u8);
            Image::new(size, bytes.collect()).unwrap()
        })
        .collect();
    let crop = pretext_augment::RandomResizedCrop::fastai(32);
    let plan = |i: usize| crop.sample(images[i].size(), &mut StdRng::seed_from_u64(i as u64));
    let plans: Vec<Plan> = (0..images.len()).map(plan).collect();
    let (normalise, layout) = (Normalise::IMAGENET, Layout::Chw);
    let values =
        |tensor: candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();

    let bytes = images.iter().map(|image| image.pixels().len() as u64).sum();
    let mut loading = Pictures::load(&device, bytes).unwrap();
    for image in &images {
        loading.push(image.view()).unwrap();
    }
    let stay = loading.finish().unwrap();
    let mut pass = Passing::new(&device).unwrap();
    let (mut staying, mut passing, mut want) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..images.len()).step_by(8) {
        let views = (start..start + 8).map(|i| (i, &plans[i]));
        staying.push(stay.views(views, &normalise, layout, DType::F32).unwrap());
        let sent = pass.send(images[start..start + 8].iter().map(Image::view)).unwrap();
        let views = (0..8).map(|i| (i, &plans[start + i]));
        passing.push(pass.views(&sent, views, &normalise, layout, DType::F32).unwrap());
        for i in start..start + 8 {
            let mut view = vec![0.0; 3 * 32 * 32];
            let mut workspace = pretext_augment::Workspace::new();
            let image = images[i].view();
            plans[i].write(image, &normalise, layout, &mut workspace, &mut view).unwrap();
            want.extend(view);
        }
    }
    assert!(staying.into_iter().flat_map(values).eq(want.iter().copied()), "that stay");
    assert!(passing.into_iter().flat_map(values).eq(want.iter().copied()), "that pass");
}
