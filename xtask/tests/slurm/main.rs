//! The launcher `slurm` on a real Slurm, started by the test: a killed job, a lost node and a time
//! limit cost a cell no more than the work since its last checkpoint.
//!
//! Skipped with a word where Slurm is not installed or cannot be started, unless
//! `PRETEXT_NEED_SLURM` is set.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Counts to $STEPS in steps of half a second, goes on from its file, and stops at a signal.
const PRETEXT: &str = r#"#!/bin/bash
kind=$1; shift
while [ $# -gt 0 ]; do
  case $1 in
    --resume|--wait) shift;;
    --print-recipe) preview=1; shift;;
    --*) declare "$(echo "$1" | tr -d -)=$2"; shift 2;;
  esac
done
if [ "$kind" = show ]; then printf png > "$out"; exit 0; fi
recipe="{\"size\":$size,\"epochs\":$epochs,\"encoder\":\"$encoder\",\"batch_size\":$batchsize,\"seed\":$seed}"
code='{"version":"0","commit":null}'
if [ -n "$preview" ]; then
  echo "{\"kind\":\"$kind\",\"recipe\":$recipe,\"fingerprint\":\"f\",\"code\":$code}"; exit 0
fi
stop=0; trap 'stop=1' TERM USR1
step=$(cat "$out/step" 2>/dev/null || echo 0)
echo "$SLURM_ARRAY_TASK_ID $SLURMD_NODENAME $$ from $step" >> "$LOG"
while [ "$step" -lt "$(cat "$STEPS")" ]; do
  [ $stop = 1 ] && { echo "$SLURM_ARRAY_TASK_ID stopped at $step" >> "$LOG"; exit 130; }
  sleep 0.5
  step=$((step + 1)); echo $step > "$out/step.part"; mv "$out/step.part" "$out/step"
done
echo "$SLURM_ARRAY_TASK_ID done" >> "$LOG"
cat > "$out/record.json" <<END
{"kind":"$kind","seed":$seed,"seconds":1,"recipe":$recipe,
 "data":{"name":"sample","fingerprint":"f","pretrained_on":[]},"code":$code,
 "machine":{"processor":"abacus","threads":1},
 "initial_weights":{"kind":"random","seed":$seed,"sha256":"$(printf '%064d' $seed)"},
 "epochs":[],"result":{"accuracy":0.5,"correct":1,"total":2,"size":$size,"views":1}}
END
"#;

struct Cluster {
    folder: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = script("down.sh").arg(self.folder.path()).status();
    }
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm").join(name))
}

impl Cluster {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = (20_000 + std::process::id() % 20_000).to_string();
        let started = script("up.sh").arg(folder.path()).arg(port).output();
        let cluster = Self { folder };
        match started {
            Ok(output) if output.status.success() => Some(cluster),
            other => {
                let needed = std::env::var_os("PRETEXT_NEED_SLURM").is_some();
                assert!(!needed, "Slurm does not start, and PRETEXT_NEED_SLURM is set: {other:?}");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("SLURM_CONF", self.path("etc/slurm.conf"))
            .env("LOG", self.path("log.txt"))
            .env("STEPS", self.path("steps"));
        command
    }

    fn slurm(&self, words: &str) -> String {
        let mut command = self.command("timeout");
        let output = command.arg("20").args(words.split_whitespace()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log.txt")).unwrap_or_default()
    }

    #[track_caller]
    fn wait(&self, seconds: u64, what: &str, there: impl Fn() -> bool) {
        let begun = Instant::now();
        while !there() {
            let queue = || self.slurm("squeue -a");
            let late = begun.elapsed() > Duration::from_secs(seconds);
            assert!(!late, "{what}\n{}{}", self.log(), queue());
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Submits the matrix and gives what was said.
    #[track_caller]
    fn submit(&self, out: &str, more: &[&str]) -> String {
        let output = self
            .command(env!("CARGO_BIN_EXE_xtask"))
            .args(["leaderboard", "--launcher", "slurm", "--sizes", "32", "--epochs", "2"])
            .args(["--init", "random", "--runs", "2", "--jobs", "2"])
            .args(["--sbatch-arg=--cpus-per-task=2"])
            .args(more)
            .arg("--pretext")
            .arg(self.path("pretext"))
            .arg("--out")
            .arg(self.path(out))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        errors
    }
}

#[test]
fn a_killed_job_a_lost_node_and_a_time_limit() {
    let Some(cluster) = Cluster::start() else {
        #[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
        {
            eprintln!("skipped: Slurm is not installed, or cannot be started here");
        }
        return;
    };
    let pretext = cluster.path("pretext");
    fs::write(&pretext, PRETEXT).unwrap();
    fs::set_permissions(&pretext, fs::Permissions::from_mode(0o755)).unwrap();
    let report = |out: &str| cluster.path(out).join("slurm/report.log");
    let said = |out: &str, words: &str| {
        fs::read_to_string(report(out)).unwrap_or_default().contains(words)
    };

    // A killed run: the report names what is missing, and a second submission does only that.
    fs::write(cluster.path("steps"), "1000").unwrap();
    cluster.submit("killed", &[]);
    cluster.wait(40, "both cells run", || cluster.log().matches(" from 0").count() == 2);
    let log = cluster.log();
    let line = log.lines().find(|line| line.starts_with("1 ")).unwrap();
    let process = line.split_whitespace().nth(2).unwrap();
    Command::new("kill").args(["-9", process]).status().unwrap();
    fs::write(cluster.path("steps"), "4").unwrap();
    cluster.wait(60, "the report", || said("killed", "1 of 2 cells are missing: 1 (finetune-"));
    let told = cluster.submit("killed", &[]);
    assert!(told.contains("cells 1\n"), "{told}");
    cluster.wait(60, "the table", || said("killed", "50.00 ± 0.00"));
    assert_eq!(cluster.log().matches("0 done").count(), 1, "{}", cluster.log());

    // A time limit of a minute, with the signal long before it.
    fs::write(cluster.path("log.txt"), "").unwrap();
    fs::write(cluster.path("steps"), "1000").unwrap();
    let limit = ["--sbatch-arg=--time=1", "--sbatch-arg=--signal=B:USR1@55"];
    cluster.submit("limit", &limit);
    cluster.wait(60, "both stop", || cluster.log().matches("stopped at").count() == 2);
    fs::write(cluster.path("steps"), "1").unwrap();
    cluster.wait(60, "both are done", || cluster.log().matches(" done").count() == 2);
    let log = cluster.log();
    assert_eq!(log.matches(" from 0").count(), 2, "a job began anew: {log}");

    // A lost node: daemon, step and run are gone at once.
    fs::write(cluster.path("log.txt"), "").unwrap();
    fs::write(cluster.path("steps"), "1000").unwrap();
    cluster.submit("lost", &[]);
    cluster.wait(60, "both cells run", || cluster.log().matches(" from 0").count() == 2);
    thread::sleep(Duration::from_secs(2));
    let log = cluster.log();
    let line = log.lines().find(|line| line.contains(" n2 ")).unwrap();
    let (cell, process) =
        (line.split_whitespace().next().unwrap(), line.split_whitespace().nth(2).unwrap());
    let daemon = fs::read_to_string(cluster.path("run/slurmd.n2.pid")).unwrap();
    // From the run upwards to its step's keeper, all of which die with a node.
    let mut lost = vec![daemon.trim().to_owned()];
    let mut process = process.to_owned();
    while process != "1" && !process.is_empty() && process != daemon.trim() {
        lost.push(process.clone());
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        process = parent.unwrap_or_default().trim().to_owned();
    }
    Command::new("kill").arg("-9").args(&lost).status().unwrap();
    fs::write(cluster.path("steps"), "12").unwrap();
    let restarted = format!("{cell} n1 ");
    cluster.wait(100, "the other node takes over", || cluster.log().contains(&restarted));
    cluster.wait(60, "both are done", || cluster.log().matches(" done").count() == 2);
    let log = cluster.log();
    assert_eq!(log.matches(" from 0").count(), 2, "a job began anew: {log}");
}
