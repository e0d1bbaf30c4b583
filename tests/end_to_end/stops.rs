//! Runs that are killed, stopped or raced: nothing is lost, and nothing is different afterwards.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{data, finetune, pretrain, record, refused, text, works};

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pretext"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until a run has written its first checkpoint, or ended.
#[track_caller]
fn wait_for_checkpoint(run: &mut Child, out: &Path) {
    let begun = Instant::now();
    while !out.join("checkpoint.safetensors").exists() && run.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(unix)]
fn signal(name: &str, run: &Child) {
    Command::new("kill").args([name, &run.id().to_string()]).status().unwrap();
}

/// Starts a run and kills it (SIGKILL) once a checkpoint is there and some more time has passed.
pub(crate) fn kill_in_the_middle(args: &[&str], out: &Path, after: Duration) {
    let mut run = start(args);
    wait_for_checkpoint(&mut run, out);
    thread::sleep(after);
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_killed_run_goes_on_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (unbroken, broken) = (folder.path().join("unbroken"), folder.path().join("broken"));
    let more = ["--init", "random", "--epochs", "4"];
    works(&finetune(&data, &unbroken, &more));

    for after in [0, 30] {
        let args = finetune(&data, &broken, &[&more[..], &["--resume"]].concat());
        kill_in_the_middle(&args, &broken, Duration::from_millis(after));
    }
    if !broken.join("record.json").exists() {
        refused(&finetune(&data, &broken, &more), &["unfinished", "--resume"]);
        let other = ["--init", "random", "--epochs", "4", "--lr", "0.001", "--resume"];
        refused(&finetune(&data, &broken, &other), &["learning_rate", "0.008", "0.001"]);
    }
    works(&finetune(&data, &broken, &[&more[..], &["--resume"]].concat()));
    assert!(
        fs::read(unbroken.join("classifier.safetensors")).unwrap()
            == fs::read(broken.join("classifier.safetensors")).unwrap(),
        "the resumed run ended elsewhere"
    );
    let (a, b) = (record(&unbroken), record(&broken));
    for (a, b) in a["epochs"].as_array().unwrap().iter().zip(b["epochs"].as_array().unwrap()) {
        assert_eq!(a["train_loss"], b["train_loss"]);
        assert_eq!(a["val_accuracy"], b["val_accuracy"]);
    }
    let again = finetune(&data, &broken, &[&more[..], &["--resume"]].concat());
    assert!(works(&again).contains("val accuracy"));
    refused(&finetune(&data, &broken, &more), &["finished run", "--out"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (out, unbroken) = (folder.path().join("out"), folder.path().join("unbroken"));
    let args = pretrain(&data, &out, &["--epochs", "3"]);
    let mut child = start(&args);
    wait_for_checkpoint(&mut child, &out);
    signal("-INT", &child);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(130) {
        assert!(errors.contains("--resume"), "{errors}");
        let told = works(&["info", text(&out.join("checkpoint.safetensors"))]);
        assert!(told.contains("grey-blur pretraining") && told.contains("stands behind"), "{told}");
        works(&pretrain(&data, &out, &["--epochs", "3", "--resume"]));
    } else {
        assert!(output.status.success(), "{errors}");
    }
    works(&pretrain(&data, &unbroken, &["--epochs", "3"]));
    assert!(
        fs::read(out.join("encoder.safetensors")).unwrap()
            == fs::read(unbroken.join("encoder.safetensors")).unwrap(),
        "the resumed run ended elsewhere"
    );
}

/// Where a full disk cuts a checkpoint off, one line says so, and the run goes on once there is space.
#[cfg(unix)]
#[test]
fn a_full_disk_is_one_line_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let out = folder.path().join("out");
    let args = pretrain(&data, &out, &["--epochs", "1"]);
    // Files may not grow beyond 100 blocks of 512 bytes; without the signal, writing fails.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ && ulimit -f 100 && exec \"$0\" \"$@\""]);
    let output = limited.arg(env!("CARGO_BIN_EXE_pretext")).args(&args).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "it is nobody's mistake: {errors}");
    let line = errors.lines().find(|line| line.starts_with("error: ")).unwrap();
    let told = "checkpoint.safetensors: file too large; free some space and run it again";
    assert!(line.contains(told) && line.ends_with("--resume"), "{line}");
    assert!(!out.join("checkpoint.safetensors").exists(), "nothing half written is left");
    works(&pretrain(&data, &out, &["--epochs", "1", "--resume"]));
}

/// What a clock measured: the only parts in which a resumed run's record differs.
fn without_times(mut record: Value) -> Value {
    let fields = record.as_object_mut().unwrap();
    let measured = ["started", "seconds", "joules"];
    fields.retain(|name, _| !measured.contains(&name.as_str()));
    for epoch in fields["epochs"].as_array_mut().unwrap() {
        let measured = ["seconds", "images_per_second", "data_wait"];
        epoch.as_object_mut().unwrap().retain(|name, _| !measured.contains(&name.as_str()));
    }
    record
}

#[cfg(unix)]
#[test]
fn killed_at_any_moment_a_run_ends_with_the_same_record() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (unbroken, broken) = (folder.path().join("unbroken"), folder.path().join("broken"));
    // A checkpoint after each step, so that each life gets a little further.
    let more = ["--init", "random", "--epochs", "3", "--checkpoint-every", "0", "--resume"];
    works(&finetune(&data, &unbroken, &more));
    let args = finetune(&data, &broken, &more);
    // Moments in a fixed, odd sequence: starting, loading, stepping, writing. Later lives are longer,
    // for machines where the start alone takes long.
    let mut lives = 0;
    while !broken.join("record.json").exists() {
        lives += 1;
        assert!(lives < 100, "it never ends");
        let mut child = start(&args);
        thread::sleep(Duration::from_millis(20 + 61 * lives % 600 + 40 * lives));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(lives > 1, "it was never killed in the middle");
    works(&args);
    assert_eq!(without_times(record(&unbroken)), without_times(record(&broken)));
    let weights = |out: &Path| fs::read(out.join("classifier.safetensors")).unwrap();
    assert!(weights(&unbroken) == weights(&broken), "the weights differ");
}

#[cfg(unix)]
#[test]
fn two_processes_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let out = folder.path().join("out");
    let args = finetune(&data, &out, &["--init", "random", "--epochs", "4", "--resume"]);
    let racers: Vec<_> = (0..3).map(|_| start(&args)).collect();
    let waiting = start(&[&args[..], &["--wait"]].concat());
    let mut codes = Vec::new();
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(75) {
            assert!(errors.contains("works on it") && errors.contains("--wait"), "{errors}");
            assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
        }
        codes.push(output.status.code());
    }
    // The run belongs to one of them, or to the one that waits; that one always ends well.
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 75))), "{codes:?}");
    assert!(codes.iter().filter(|code| **code == Some(0)).count() <= 1, "{codes:?}");
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(record(&out)["epochs"].as_array().unwrap().len(), 4);
}

/// A machine that died says nothing: only its silence, as long as the README says, frees its run.
#[test]
fn the_lease_of_another_machine_is_taken_after_a_minute_of_silence() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let out = folder.path().join("out");
    let args = finetune(&data, &out, &["--init", "random", "--epochs", "1", "--resume"]);
    fs::create_dir(&out).unwrap();
    let lease = r#"{"host":"a-machine-that-died","system":"another boot","process":7,
        "process_started":1,"job":"812_3","restarts":4,"heartbeats":99,
        "heartbeat":"2020-01-01T00:00:00Z","released":false}"#;
    fs::write(out.join("lease.4.json"), lease).unwrap();
    let began = Instant::now();
    let output = start(&args).wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("a-machine-that-died, job 812_3"), "{errors}");
    assert!(began.elapsed() >= Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(!out.join("lease.4.json").exists());
    let lease: Value =
        serde_json::from_slice(&fs::read(out.join("lease.5.json")).unwrap()).unwrap();
    assert_eq!((&lease["restarts"], &lease["released"]), (&5.into(), &true.into()));
    assert_eq!(record(&out)["epochs"].as_array().unwrap().len(), 1);
}

#[cfg(unix)]
#[test]
fn each_signal_stops_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    for name in ["-TERM", "-USR1", "-INT"] {
        let out = folder.path().join(name);
        let args = finetune(&data, &out, &["--init", "random", "--epochs", "200", "--resume"]);
        let mut child = start(&args);
        wait_for_checkpoint(&mut child, &out);
        signal(name, &child);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{name}");
        let lease = fs::read(out.join("lease.0.json")).unwrap();
        let lease: Value = serde_json::from_slice(&lease).unwrap();
        assert_eq!(lease["released"], true, "{name}");
        let progress = fs::read(out.join("progress.json")).unwrap();
        let progress: Value = serde_json::from_slice(&progress).unwrap();
        assert!(progress["share"].as_f64().unwrap() > 0.0, "{name}");
    }
}
