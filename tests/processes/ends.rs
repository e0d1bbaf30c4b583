//! How several processes end: together, and with a checkpoint that goes on to the same bits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::runs::{data, run};
use crate::{mpirun, works};

/// Two processes of which each writes its number and its exit code into `notes`, under a launcher
/// that lets the other live when one dies.
fn start(notes: &Path, args: &[&str]) -> Child {
    fs::create_dir_all(notes).unwrap();
    let script = "\
        \"$@\" 2> $NOTES/errors.$OMPI_COMM_WORLD_RANK &\n\
        echo $! > $NOTES/process.$OMPI_COMM_WORLD_RANK\n\
        wait $!\n\
        echo $? > $NOTES/code.$OMPI_COMM_WORLD_RANK";
    let mut command = mpirun(2);
    command.args(["--enable-recovery", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_pretext")]);
    command.args(args).env("NOTES", notes).env("PRETEXT_PEER_TIMEOUT", "3");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[track_caller]
fn wait_until(what: &str, is: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

fn signal(name: &str, notes: &Path, rank: usize) {
    let process = fs::read_to_string(notes.join(format!("process.{rank}"))).unwrap();
    Command::new("kill").args([name, process.trim()]).status().unwrap();
}

fn code(notes: &Path, rank: usize) -> Option<i32> {
    fs::read_to_string(notes.join(format!("code.{rank}"))).ok()?.trim().parse().ok()
}

/// A run that is long enough to be stopped in, its unbroken weights, and where the broken one goes.
struct Runs {
    _folder: tempfile::TempDir,
    data: PathBuf,
    unbroken: PathBuf,
    broken: PathBuf,
    notes: PathBuf,
}

const LONG: [&str; 5] = ["--init", "random", "--checkpoint-every", "0", "--sync-batch-norm"];

impl Runs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (data, unbroken, broken) = (data(folder.path()), path("unbroken"), path("broken"));
        let notes = path("notes");
        works(2, &run("finetune", &data, &unbroken, &LONG));
        Self { data, unbroken, broken, notes, _folder: folder }
    }

    fn start(&self) -> Child {
        let child = start(&self.notes, &run("finetune", &self.data, &self.broken, &LONG));
        wait_until("a checkpoint", || self.broken.join("checkpoint.safetensors").exists());
        child
    }

    #[track_caller]
    fn goes_on_to_the_same_weights(&self) {
        assert!(self.broken.join("checkpoint.safetensors").exists(), "it was too quick");
        let more = [&LONG[..], &["--resume"]].concat();
        works(2, &run("finetune", &self.data, &self.broken, &more));
        let weights = |out: &Path| fs::read(out.join("classifier.safetensors")).unwrap();
        assert!(weights(&self.unbroken) == weights(&self.broken), "other weights");
    }
}

#[test]
fn a_signal_to_one_stops_all_with_a_checkpoint() {
    let runs = Runs::new();
    let mut child = runs.start();
    signal("-TERM", &runs.notes, 1);
    child.wait().unwrap();
    assert_eq!((code(&runs.notes, 0), code(&runs.notes, 1)), (Some(130), Some(130)));
    runs.goes_on_to_the_same_weights();
}

/// A signal to `mpirun` itself, which Open MPI passes on in its own way: all stop with a checkpoint.
#[track_caller]
fn mpirun_passes_on(signal: &str, options: &[&str], code: i32) {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(folder.path()), folder.path().join("out"));
    let mut args = run("finetune", &data, &out, &LONG);
    let epochs = args.iter().position(|&arg| arg == "--epochs").unwrap();
    // Far more than there is time for.
    args[epochs + 1] = "10000";
    let mut command = mpirun(2);
    command.args(options).arg(env!("CARGO_BIN_EXE_pretext")).args(&args);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a checkpoint", || out.join("checkpoint.safetensors").exists());
    let told = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("stopped; a checkpoint is in").count(), 1, "{errors}");
    assert_eq!(output.status.code(), Some(code), "{errors}");
}

#[test]
fn mpirun_passes_sigusr1_on() {
    mpirun_passes_on("-USR1", &[], 130);
}

/// It ends with 1 whatever its processes end with.
#[test]
fn mpirun_given_time_passes_sigterm_and_sigint_on() {
    for signal in ["-TERM", "-INT"] {
        mpirun_passes_on(signal, &["--mca", "odls_base_sigkill_timeout", "5"], 1);
    }
}

#[test]
fn a_dead_process_ends_the_others_in_time() {
    let runs = Runs::new();
    let mut child = runs.start();
    signal("-KILL", &runs.notes, 1);
    let took = wait_until("the end of process 0", || code(&runs.notes, 0).is_some());
    child.wait().unwrap();
    let errors = fs::read_to_string(runs.notes.join("errors.0")).unwrap();
    assert_eq!(code(&runs.notes, 0), Some(1), "{errors}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{errors}");
    assert!(lines[0].contains("another process"), "{errors}");
    runs.goes_on_to_the_same_weights();
}

#[test]
fn a_run_of_other_processes_is_not_gone_on_with() {
    let runs = Runs::new();
    let mut child = runs.start();
    signal("-TERM", &runs.notes, 0);
    child.wait().unwrap();
    let more = [&LONG[..], &["--resume"]].concat();
    let output = crate::pretext(1, &run("finetune", &runs.data, &runs.broken, &more));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("processes: 2 then, nothing now"), "{errors}");
    assert_eq!(output.status.code(), Some(2), "{errors}");
}
