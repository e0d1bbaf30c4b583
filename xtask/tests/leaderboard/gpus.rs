//! Runs on GPUs: one at a time on each, by a stand-in for `nvidia-smi`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::Bench;

const SMALL: [&str; 10] =
    ["--sizes", "32", "--epochs", "2", "--init", "random", "--runs", "6", "--device", "cuda"];

const TWO: &str =
    "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)\nGPU 1: NVIDIA H100 (UUID: GPU-bb)\n";

impl Bench {
    /// Runs with GPUs that `nvidia-smi` lists and that the environment shows. What began and ended, in
    /// order, the most runs at once on each GPU and on all; or the last line that was said.
    fn gpus(
        &self,
        args: &[&str],
        listed: Option<&str>,
        visible: Option<&str>,
    ) -> Result<(HashMap<String, usize>, usize), String> {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let smi = bin.join("nvidia-smi");
        if let Some(listed) = listed {
            let script = format!("#!/bin/sh\n[ \"$*\" = -L ] && printf '{listed}'\n");
            fs::write(&smi, script).unwrap();
            fs::set_permissions(&smi, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let log = self.path("gpus");
        let mut command = self.command(args, "none");
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", bin.display()));
        command.env("GPUS", &log).env("SLOW", "0.3").env_remove("CUDA_VISIBLE_DEVICES");
        command.envs(visible.map(|visible| ("CUDA_VISIBLE_DEVICES", visible)));
        let output = command.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            assert!(!log.exists(), "something ran");
            return Err(errors.lines().last().unwrap_or_default().to_owned());
        }
        let (mut now, mut most, mut all) = (HashMap::new(), HashMap::new(), 0);
        for line in fs::read_to_string(&log).unwrap().lines() {
            let (what, gpu) = line.split_once(' ').unwrap();
            let count = now.entry(gpu.to_owned()).or_insert(0);
            *count = if what == "begin" { *count + 1 } else { *count - 1 };
            let most = most.entry(gpu.to_owned()).or_insert(0);
            *most = (*most).max(*count);
            all = all.max(now.values().sum());
        }
        Ok((most, all))
    }
}

fn most(gpus: &[(&str, usize)]) -> HashMap<String, usize> {
    gpus.iter().map(|(gpu, most)| ((*gpu).to_owned(), *most)).collect()
}

#[test]
fn each_gpu_has_one_run_at_a_time() {
    let bench = Bench::new();
    let (on_each, at_once) = bench.gpus(&SMALL, Some(TWO), None).unwrap();
    assert_eq!(on_each, most(&[("GPU-aa", 1), ("GPU-bb", 1)]));
    assert_eq!(at_once, 2);
    let log = bench.log();
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|line| line.contains("--device cuda")), "{log:?}");
}

#[test]
fn what_the_environment_shows_counts_and_not_what_is_there() {
    let bench = Bench::new();
    let (on_each, _) = bench.gpus(&SMALL, Some(TWO), Some("3,GPU-cc,5")).unwrap();
    assert_eq!(on_each, most(&[("3", 1), ("GPU-cc", 1), ("5", 1)]));
}

#[test]
fn more_jobs_than_gpus_share_them() {
    let bench = Bench::new();
    let (on_each, at_once) =
        bench.gpus(&[&SMALL[..], &["--jobs", "4"]].concat(), Some(TWO), None).unwrap();
    assert_eq!((on_each, at_once), (most(&[("GPU-aa", 2), ("GPU-bb", 2)]), 4));
    let bench = Bench::new();
    let (on_each, at_once) =
        bench.gpus(&[&SMALL[..], &["--jobs", "1"]].concat(), Some(TWO), None).unwrap();
    assert_eq!((on_each, at_once), (most(&[("GPU-aa", 1)]), 1));
}

#[test]
fn without_a_gpu_nothing_runs() {
    let bench = Bench::new();
    let error = bench.gpus(&SMALL, Some("No devices found."), None).unwrap_err();
    assert!(error.starts_with("error: --device cuda: nvidia-smi lists no GPU"), "{error}");
    let error = bench.gpus(&SMALL, Some(TWO), Some("")).unwrap_err();
    assert!(error.contains("CUDA_VISIBLE_DEVICES names no GPU"), "{error}");
}

#[test]
fn jobs_of_a_scheduler_compute_there_too() {
    let bench = Bench::new();
    let printed = bench.works(&[&SMALL[..], &["--launcher", "print"]].concat());
    let cells: Vec<_> = printed.lines().filter(|line| line.contains("--cell")).collect();
    assert_eq!(
        cells.iter().filter(|line| line.contains(" --device cuda ")).count(),
        6,
        "{printed}"
    );
    // A job has the GPU that its scheduler gave it.
    let one = bench.gpus(&["--cell", "0", "--device", "cuda"], None, Some("7")).unwrap();
    assert_eq!(one, (most(&[("7", 1)]), 1));
}

#[test]
fn the_table_says_what_computed_it() {
    let bench = Bench::new();
    let small = ["--sizes", "32", "--epochs", "1", "--init", "random", "--runs", "1"];
    let more = ["--sizes", "32", "--epochs", "1", "--init", "random", "--runs", "2"];
    assert!(bench.works(&small).contains("on abacus with 2 threads"));
    bench.forge("finetune-32px-1ep-random-s0", |record| {
        record["machine"]["device"] = "cuda:0 (NVIDIA H100)".into();
    });
    let table = bench.works(&small);
    assert!(table.contains("on cuda:0 (NVIDIA H100) and abacus with 2 threads"), "{table}");
    let page = fs::read_to_string(bench.path("out/leaderboard.html")).unwrap();
    let both = bench.works(&more);
    let machines = "on abacus with 2 threads; cuda:0 (NVIDIA H100) and abacus with 2 threads,";
    assert!(both.contains(machines), "{both}");
    assert!(page.contains("32 px, 1 epoch<") && page.contains("1 run in 1 row, 0 pretrainings."));
}
