//! Two leaderboards on one folder, and kills in between: every run is there once, and is the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{data, text};

/// `xtask` lies beside `pretext` where all of the workspace was built; else it is built now.
fn xtask() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_pretext")).with_file_name("xtask");
    if !beside.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--package", "xtask"]).status();
        assert!(built.unwrap().success(), "xtask cannot be built");
    }
    beside
}

fn leaderboard(data: &Path, out: &Path) -> Child {
    Command::new(xtask())
        .args(["leaderboard", "--data", text(data), "--out", text(out)])
        .args(["--pretext", env!("CARGO_BIN_EXE_pretext")])
        .args(["--sizes", "32", "--epochs", "2", "--init", "random,inpaint", "--runs", "2"])
        .args(["--encoder", "xresnet18", "--batch-size", "8", "--pretrain-epochs", "2"])
        .args(["--threads", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[track_caller]
fn table(board: Child) -> String {
    let output = board.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!table.contains('†'), "records of the real binary break a rule: {table}");
    table
}

/// Every run's record by its directory, without what a clock says, and where its encoder lay.
fn records(out: &Path) -> BTreeMap<String, Value> {
    let runs = fs::read_dir(out).unwrap().map(Result::unwrap);
    let runs = runs.filter(|entry| entry.path().join("record.json").exists());
    let record = |entry: fs::DirEntry| {
        let mut record = crate::record(&entry.path());
        if let Some(weights) = record["initial_weights"].as_object_mut() {
            weights.remove("path");
        }
        without_time(&mut record);
        (entry.file_name().into_string().unwrap(), record)
    };
    runs.map(record).collect()
}

/// How often somebody trained on one of the runs: each time leaves a file of curves.
fn sittings(out: &Path) -> usize {
    let runs = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let files = runs.filter_map(|run| fs::read_dir(run).ok()).flatten();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("events.out.tfevents")).count()
}

fn without_time(value: &mut Value) {
    const OF_TIME: [&str; 5] = ["started", "seconds", "joules", "images_per_second", "data_wait"];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_TIME.contains(&name.as_str()));
            fields.values_mut().for_each(without_time);
        }
        Value::Array(values) => values.iter_mut().for_each(without_time),
        _ => {}
    }
}

/// The process that holds a run of a folder, as soon as one does.
#[cfg(target_os = "linux")]
fn holder(out: &Path) -> u32 {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "no run began");
        for entry in fs::read_dir(out).into_iter().flatten().flatten() {
            let Ok(files) = fs::read_dir(entry.path()) else { continue };
            if entry.path().join("record.json").exists() {
                continue;
            }
            for file in files.flatten() {
                let name = file.file_name().into_string().unwrap();
                if name.starts_with("lease.")
                    && let Ok(bytes) = fs::read(file.path())
                    && let Ok(lease) = serde_json::from_slice::<Value>(&bytes)
                    && let Some(process) = lease["process"].as_u64()
                    && Path::new(&format!("/proc/{process}")).exists()
                {
                    return process as u32;
                }
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn two_leaderboards_and_kills_leave_what_one_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    let want = table(leaderboard(&data, &alone));
    assert_eq!((records(&alone).len(), sittings(&alone)), (5, 5));

    // A run is killed, then one of the leaderboards, whose own run may go on.
    let (mut first, second) = (leaderboard(&data, &shared), leaderboard(&data, &shared));
    let kill = |process: u32| {
        Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
    };
    thread::sleep(Duration::from_millis(300));
    kill(holder(&shared));
    thread::sleep(Duration::from_millis(300));
    first.kill().unwrap();
    first.wait().unwrap();
    // What was killed failed for the leaderboard that had started it; the same command goes on.
    drop(second.wait_with_output().unwrap());
    let got = table(leaderboard(&data, &shared));
    let (got_records, want_records) = (records(&shared), records(&alone));
    assert!(got_records.keys().eq(want_records.keys()), "{:?}", got_records.keys());
    for (name, record) in &got_records {
        assert_eq!(record, &want_records[name], "{name}");
    }
    let rows = |table: &str| -> Vec<String> {
        table.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect()
    };
    assert_eq!(rows(&got), rows(&want));
    // Nothing was done twice but what the kill cut off, and nothing is left to do.
    assert!((5..=6).contains(&sittings(&shared)), "{} sittings", sittings(&shared));
    assert_eq!(rows(&table(leaderboard(&data, &shared))), rows(&want));
}
