//! Several processes on one run, each on a GPU, without a launcher: equal to one process, and ended
//! together. Skipped with a line where there are not two GPUs, unless `PRETEXT_NEED_GPUS` is set.

#[path = "runs.rs"]
mod runs;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use runs::{data, difference, record, run};

/// How far weights may be from those of one process: sums over a batch round differently in parts,
/// and so do cuDNN's.
const TOLERANCE: f64 = 1e-3;

const PROCESSES: usize = 2;

fn gpus() -> bool {
    let found = pretext_train::device::gpus();
    if found.as_ref().is_ok_and(|gpus| gpus.len() >= PROCESSES) {
        return true;
    }
    assert!(std::env::var_os("PRETEXT_NEED_GPUS").is_none(), "PRETEXT_NEED_GPUS: {found:?}");
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: it takes two GPUs: {found:?}");
    }
    false
}

/// One of `size` processes as `torchrun` starts them, or one alone.
fn start(rank: usize, size: usize, port: u16, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pretext"));
    if size > 1 {
        command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
        command.env("WORLD_SIZE", size.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    }
    command.env("PRETEXT_PEER_TIMEOUT", "20").env_remove("RUST_BACKTRACE");
    command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn all(size: usize, args: &[&str]) -> Vec<Child> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (0..size).map(|rank| start(rank, size, port, args)).collect()
}

#[track_caller]
fn work(children: Vec<Child>) {
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn equal(kind: &str, more: &[&str]) {
    if !gpus() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let more = [more, &["--sync-batch-norm", "--device", "cuda"]].concat();
    let out = |name: &str| folder.path().join(name);
    for (name, size) in [("one", 1), ("several", PROCESSES)] {
        work(all(size, &run(kind, &data, &out(name), &more)));
    }
    let file = if kind == "pretrain" { "pretext.safetensors" } else { "classifier.safetensors" };
    let difference = difference(&out("one").join(file), &out("several").join(file));
    assert!(difference < TOLERANCE, "{difference}");
    let several = record(&out("several"));
    assert_eq!(several["machine"]["processes"], PROCESSES);
    let losses = |out: &Path| {
        let record = record(out);
        let epochs = record["epochs"].as_array().unwrap().clone();
        epochs.iter().map(|epoch| epoch["train_loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    for (a, b) in losses(&out("one")).iter().zip(losses(&out("several"))) {
        assert!((a - b).abs() < 1e-2 * a, "{a} by one, {b} by {PROCESSES}");
    }
}

#[test]
fn two_gpus_pretrain_as_one() {
    equal("pretrain", &["--task", "grey-blur"]);
}

#[test]
fn two_gpus_finetune_as_one() {
    equal("finetune", &["--init", "random", "--mixup", "0.4", "--clip", "1"]);
}

#[test]
fn a_dead_process_ends_the_other_in_time() {
    if !gpus() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    for dead in 0..PROCESSES {
        let out = folder.path().join(dead.to_string());
        let more = ["--init", "random", "--checkpoint-every", "0", "--device", "cuda", "--resume"];
        let mut long = run("finetune", &data, &out, &more);
        let epochs = long.iter().position(|word| *word == "--epochs").unwrap();
        long[epochs + 1] = "60";
        let mut children = all(PROCESSES, &long);
        let began = Instant::now();
        while !out.join("checkpoint.safetensors").exists() {
            assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint");
            thread::sleep(Duration::from_millis(5));
        }
        let mut killed = children.remove(dead);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let began = Instant::now();
        let output = children.remove(0).wait_with_output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(&format!("process {dead} of this run")), "{errors}");
        assert!(!out.join("record.json").exists(), "it was too quick");
        work(all(PROCESSES, &long));
    }
}

/// In a build for GPUs alone, several processes on the processor would train copies.
#[cfg(not(feature = "mpi"))]
#[test]
fn processes_on_the_processor_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(folder.path()), folder.path().join("out"));
    let args = run("finetune", &data, &out, &["--init", "random", "--device", "cpu"]);
    let output = start(1, 2, 1, &args).wait_with_output().unwrap();
    let errors = errors(&output);
    assert!(errors.contains("--features mpi"), "{errors}");
    assert_eq!((output.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
}
