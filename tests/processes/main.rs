//! Several processes on one run, by `mpirun` and the real binary: equal to one process, and ended
//! together.

mod ends;
mod runs;

use std::process::{Command, Output};

use runs::{data, difference, record, run};
use serde_json::Value;

/// How far weights may be from those of one process after a run of these tests: the L2 norm of all
/// differences by that of all weights. Sums over a batch round differently in parts.
const TOLERANCE: f64 = 1e-4;

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
