//! Several processes on one run, by `mpirun` and the real binary: equal to one process, and ended
//! together.

mod ends;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use pretext_train::models::weights;
use serde_json::Value;

/// How far weights may be from those of one process after a run of these tests: the L2 norm of all
/// differences by that of all weights. Sums over a batch round differently in parts.
const TOLERANCE: f64 = 1e-4;

/// Two classes of 12 pictures to train on, and of 4 to score on.
fn data(folder: &Path) -> PathBuf {
    let root = folder.join("patterns");
    for (class, name) in ["bars", "waves"].iter().enumerate() {
        for i in 0..16 {
            let split = if i < 12 { "train" } else { "val" };
            let picture = RgbImage::from_fn(32 + i % 3, 33, |x, y| {
                let (x, y) = (f64::from(x + i), f64::from(y + 2 * i));
                let value = if class == 0 { (x * 0.9).sin() } else { (y * 0.9 + x * 0.2).cos() };
                let level = (127.0 + 100.0 * value) as u8;
                Rgb([level, 255 - level, (90 * class) as u8 + (3 * i) as u8])
            });
            let path = root.join(format!("{split}/{name}/{i}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            picture.save(path).unwrap();
        }
    }
    root
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The arguments of a small run: 3 steps an epoch.
fn run<'a>(kind: &'a str, data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let line = [kind, "--data", text(data), "--out", text(out), "--encoder", "xresnet18", "--size"];
    let small =
        ["32", "--batch-size", "8", "--epochs", "2", "--threads", "1", "--optimiser", "sgd"];
    [&line[..], &small, &["--lr", "0.01"], more].concat()
}

/// `mpirun` on this machine, with more processes than cores if need be.
fn mpirun(processes: usize) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none", "-n", &processes.to_string()]);
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    // A container may forbid to read another process's memory.
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    command.env_remove("RUST_BACKTRACE");
    command
}

/// So many processes on one command; one is started without `mpirun`.
fn pretext(processes: usize, args: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_pretext");
    let mut command = match processes {
        1 => Command::new(binary),
        _ => {
            let mut command = mpirun(processes);
            command.arg(binary);
            command
        }
    };
    command.args(args).output().unwrap()
}

#[track_caller]
fn works(processes: usize, args: &[&str]) -> String {
    let output = pretext(processes, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{processes} of pretext {}: {errors}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

fn record(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("record.json")).unwrap()).unwrap()
}

/// The L2 norm of the differences of all weights of two files, by that of the weights.
fn difference(one: &Path, other: &Path) -> f64 {
    let (one, other) = (weights::read(one).unwrap().0, weights::read(other).unwrap().0);
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let (mut differences, mut squares) = (0.0, 0.0);
    for (a, b) in one.values().zip(other.values()) {
        let [a, b] = [a, b].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        for (a, b) in a.into_iter().map(f64::from).zip(b.into_iter().map(f64::from)) {
            differences += (a - b).powi(2);
            squares += a.powi(2);
        }
    }
    (differences / squares).sqrt()
}

/// Trains by one process and by several; the difference of the results, and their records.
fn compare(kind: &str, processes: usize, more: &[&str]) -> (f64, Value, Value) {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (one, several) = (folder.path().join("one"), folder.path().join("several"));
    works(1, &run(kind, &data, &one, more));
    works(processes, &run(kind, &data, &several, more));
    let file = if kind == "pretrain" { "pretext.safetensors" } else { "classifier.safetensors" };
    let difference = difference(&one.join(file), &several.join(file));
    (difference, record(&one), record(&several))
}

#[track_caller]
fn equal(kind: &str, processes: usize, more: &[&str]) {
    let more = [more, &["--sync-batch-norm"]].concat();
    let (difference, one, several) = compare(kind, processes, &more);
    assert!(difference < TOLERANCE, "{difference}");
    assert_eq!(several["machine"]["processes"], processes);
    assert_eq!(several["recipe"]["processes"], processes);
    for (a, b) in
        one["epochs"].as_array().unwrap().iter().zip(several["epochs"].as_array().unwrap())
    {
        for loss in ["train_loss", "val_loss"] {
            let (a, b) = (a[loss].as_f64().unwrap(), b[loss].as_f64().unwrap());
            assert!((a - b).abs() < 1e-3 * a, "{loss}: {a} by one, {b} by {processes}");
        }
        assert_eq!(a["images"], b["images"]);
    }
}

#[test]
fn two_processes_pretrain_as_one() {
    equal("pretrain", 2, &["--task", "grey-blur"]);
}

#[test]
fn two_processes_finetune_as_one() {
    equal("finetune", 2, &["--init", "random", "--mixup", "0.4", "--clip", "1"]);
}

/// 8 pictures a step are parts of 2, 3 and 3.
#[test]
fn three_processes_with_uneven_parts_are_as_one() {
    equal("finetune", 3, &["--init", "random"]);
}

/// Without it, each process normalises over its part: that is another training, and the reason why
/// the other tests can fail.
#[test]
fn batch_norm_over_parts_is_something_else() {
    let (difference, _, several) = compare("finetune", 2, &["--init", "random"]);
    assert!(difference > 10.0 * TOLERANCE, "{difference}");
    assert!(several["result"]["accuracy"].as_f64().is_some());
}

#[test]
fn too_small_a_batch_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(folder.path()), folder.path().join("out"));
    let more = ["--init", "random", "--batch-size", "3"];
    let mut args = run("finetune", &data, &out, &more);
    let first = args.iter().position(|&arg| arg == "--batch-size").unwrap();
    args.drain(first..first + 2);
    let output = pretext(2, &args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("--batch-size: 3 pictures are too few for 2 processes"), "{errors}");
    assert_eq!(output.status.code(), Some(2), "{errors}");
}
