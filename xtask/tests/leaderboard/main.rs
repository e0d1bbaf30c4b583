//! `cargo xtask leaderboard` with a stand-in for the binary `pretext`, which needs no time.
#![cfg(unix)]

mod cells;
mod gpus;
mod page;
mod rules;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Writes what a run leaves, with an accuracy that depends on seed and initial weights, and notes
/// its arguments in `$LOG`.
const PRETEXT: &str = r#"#!/bin/sh
kind=$1; shift; words=$*
while [ $# -gt 0 ]; do
  case $1 in
    --resume|--wait|--self-attention) shift;;
    --print-recipe) preview=true; shift;;
    --include-val-pixels) val=true; shift;;
    --*) eval "$(echo "$1" | tr -d - )=\$2"; shift 2;;
  esac
done
if [ "$kind" = show ]; then
  echo "$kind $words" >> "$LOG"
  if [ -n "$PNG" ]; then cp "$PNG" "$out"; else printf png > "$out"; fi
  exit 0
fi
if [ -n "$preview" ]; then
  [ "$optimiser" = magic ] && { echo "error: no optimiser is called magic" >&2; exit 2; }
  cat <<END
{"kind":"$kind","data":"sample","fingerprint":"f","code":{"version":"0.1.0","commit":"c0ffee"},
 "recipe":{"size":$size,"epochs":$epochs,"encoder":"$encoder","batch_size":$batchsize,
           "task":"$task","include_val_pixels":${val:-false},"clip":null,"seed":$seed}}
END
  exit 0
fi
echo "$kind $words" >> "$LOG"
[ "$seed" = "$FAIL" ] && exit 1
[ -n "$GPUS" ] && echo "begin $CUDA_VISIBLE_DEVICES" >> "$GPUS"
[ -n "$SLOW" ] && sleep "$SLOW"
[ -n "$GPUS" ] && echo "end $CUDA_VISIBLE_DEVICES" >> "$GPUS"
mkdir -p "$out"
sha256() { sha256sum | cut -d' ' -f1; }
random() { echo "{\"kind\":\"random\",\"seed\":$1,\"sha256\":\"$(echo "$1" | sha256)\"}"; }
accuracy=null; correct=null; percent=0; from=$(random "$seed")
if [ "$kind" = pretrain ]; then
  echo "$task $seed $epochs" > "$out/encoder.safetensors"
  wrote="\"encoder_sha256\":\"$(sha256 < "$out/encoder.safetensors")\","
elif [ "$init" = random ]; then percent=$((30 + seed)); named='"init":"random",'
else
  percent=$((40 + 2 * seed))
  read -r puzzle first passes < "$init"
  named="\"init\":\"sha256:$(sha256 < "$init")\","
  from="{\"kind\":\"file\",\"sha256\":\"$(sha256 < "$init")\",\"pretrained\":{
    \"task\":\"$puzzle\",\"seed\":$first,\"epochs\":$passes,\"fingerprint\":\"f\",
    \"pretrained_on\":[\"train\",\"unsup\"],\"initial_weights\":$(random "$first")}}"
fi
[ -n "$FLAT" ] && percent=$FLAT
[ "$kind" = finetune ] && { accuracy=0.$percent; correct=$((6 * percent)); }
i=1; list=
while [ $i -le "$epochs" ]; do
  share=null; [ "$kind" = finetune ] && share=$((10 * percent * i / epochs))e-3
  list="$list${list:+,}{\"train_loss\":$((3000 - 1000 * i / epochs - 10 * percent))e-3,
    \"val_loss\":$((3200 - 900 * i / epochs))e-3,\"val_accuracy\":$share}"
  i=$((i + 1))
done
cat > "$out/record.json" <<END
{"kind":"$kind","seed":$seed,"seconds":2.5,
 "recipe":{"size":$size,"epochs":$epochs,"encoder":"$encoder","batch_size":$batchsize,
           "task":"$task","include_val_pixels":${val:-false},"seed":$seed,$named
           "line":"the recipe in one line"},
 "data":{"name":"sample","fingerprint":"f","pretrained_on":["train","unsup"]},
 "code":{"version":"0.1.0","commit":"c0ffee"},
 "machine":{"processor":"abacus","threads":2},
 "initial_weights":$from,$wrote
 "epochs":[$list],
 "result":{"accuracy":$accuracy,"correct":$correct,"total":600,"size":$size,"views":1}}
END
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("pretext");
        fs::write(&script, PRETEXT).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run's directory, by its name without the hash.
    #[track_caller]
    fn run_folder(&self, run: &str) -> PathBuf {
        let names = fs::read_dir(self.path("out")).unwrap().flatten().map(|entry| entry.path());
        let begins = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.rsplit_once('-').is_some_and(|(name, _)| name == run)
        };
        names.into_iter().find(begins).unwrap_or_else(|| panic!("no {run}"))
    }

    /// A run's record.
    fn record(&self, run: &str) -> PathBuf {
        self.run_folder(run).join("record.json")
    }

    /// Changes a run's record.
    fn forge(&self, run: &str, change: impl Fn(&mut Value)) {
        let path = self.record(run);
        let mut record = json(&path);
        change(&mut record);
        fs::write(path, record.to_string()).unwrap();
    }

    fn run(&self, args: &[&str], fail: &str) -> Output {
        self.command(args, fail).output().unwrap()
    }

    fn command(&self, args: &[&str], fail: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .arg("leaderboard")
            .args(args)
            .arg("--pretext")
            .arg(self.path("pretext"))
            .arg("--out")
            .arg(self.path("out"))
            .env("LOG", self.path("log"))
            .env("FAIL", fail);
        command
    }

    #[track_caller]
    fn works(&self, args: &[&str]) -> String {
        let output = self.run(args, "none");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The runs that were started so far.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_matrix_becomes_a_table() {
    let bench = Bench::new();
    let printed = bench.works(&["--sizes", "32", "--epochs", "2,4", "--runs", "3,1"]);
    // Two pretrainings and their pictures, three kinds of weights with three runs and one.
    assert_eq!(bench.log().len(), 2 + 2 + 3 * (3 + 1));
    let row = |start: &str| {
        let line = printed.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        line.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    // Three runs of 30, 31 and 32 %, and of 40, 42 and 44 %; pairs differ by 10, 11 and 12 points.
    let random = row("| 32   | 2      | random ");
    assert_eq!(random[4..10], ["31.00 ± 1.00", "28.52 to 33.48", "3", "", "", ""]);
    let blur = row("| 32   | 2      | grey-blur");
    let want = ["42.00 ± 2.00", "37.03 to 46.97", "3", "+11.00", "+8.52 to +13.48", "> 99 %"];
    assert_eq!(blur[4..10], want);
    // One run has no spread.
    let one = row("| 32   | 4      | inpaint");
    assert_eq!(one[4..10], ["40.00", "", "1", "+10.00", "", ""]);
    assert!(printed.contains("by paired t over pairs of runs with the same seed"), "{printed}");
    assert!(!printed.contains('†'), "{printed}");
    let markdown = fs::read_to_string(bench.path("out/leaderboard.md")).unwrap();
    assert!(printed.starts_with(&markdown));

    let board = json(&bench.path("out/leaderboard.json"));
    assert_eq!(board["rows"].as_array().unwrap().len(), 6);
    assert_eq!(board["rows"][1]["runs"][2]["accuracy"], 0.44);
    assert_eq!(board["rows"][1]["accuracy"]["runs"], 3);
    assert_eq!(board["rows"][1]["gain"]["test"], "paired t");
    let low = board["rows"][1]["gain"]["interval"][0].as_f64().unwrap();
    assert!((low - 0.085_158_6).abs() < 1e-6, "{low}");
    assert_eq!(board["rows"][5]["gain"]["interval"], Value::Null);
    assert_eq!(board["rows"][1]["broken_rules"], serde_json::json!([]));
    assert_eq!(board["pretrainings"][0]["task"], "grey-blur");

    let csv = fs::read_to_string(bench.path("out/leaderboard.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 1 + 6);
    let value = |row: usize, column: &str| {
        lines[row][lines[0].iter().position(|name| *name == column).unwrap()]
    };
    assert_eq!((value(2, "initial_weights"), value(2, "seeds")), ("grey-blur", "0 1 2"));
    assert!(value(2, "gain_low").starts_with("0.0851586"), "{}", value(2, "gain_low"));
    assert_eq!((value(1, "gain"), value(6, "std"), value(6, "broken_rules")), ("", "", ""));
}

#[test]
fn runs_that_score_the_same_are_not_sure_of_themselves() {
    let bench = Bench::new();
    let args = ["--sizes", "32", "--epochs", "2", "--init", "random,jigsaw", "--runs", "2"];
    // Pairs of 30 and 31 % against 50 and 50; then 50 against 50.
    bench.works(&[&args[..5], &["random"], &args[6..]].concat());
    let output = bench.command(&args, "none").env("FLAT", "50").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let row = |start: &str, printed: &str| {
        let line = printed.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        line.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    let jigsaw = row("| 32   | 2      | jigsaw", &printed);
    assert_eq!(jigsaw[4..10], ["50.00 ± 0.00", "", "2", "+19.50", "+13.15 to +25.85", "> 99 %"]);
    assert!(printed.contains("no spread seen is no proof of none"), "{printed}");

    let flat = [&args[..], &["--seed", "7"]].concat();
    let output = bench.command(&flat, "none").env("FLAT", "50").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let jigsaw = row("| 32   | 2      | jigsaw", &printed);
    assert_eq!(jigsaw[4..10], ["50.00 ± 0.00", "", "2", "+0.00", "", ""]);
    let gain = &json(&bench.path("out/leaderboard.json"))["rows"][1]["gain"];
    assert!(gain["interval"].is_null() && gain["probability"].is_null(), "{gain}");
    let page = fs::read_to_string(bench.path("out/leaderboard.html")).unwrap();
    assert!(page.contains("+0.00  (no spread seen)"), "the chart draws a gain that is sure");
}

#[test]
fn finished_runs_are_not_done_again() {
    let bench = Bench::new();
    let small = ["--sizes", "32", "--epochs", "2", "--init", "random,jigsaw"];
    let output = bench.run(&small, "2");
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("finetune-32px-2ep-random-s2") && errors.contains("goes on"),
        "{errors}"
    );
    let before = bench.log().len();
    let first = bench.works(&small);
    // Seed 2 failed, from random weights and from jigsaw; the rest was done and kept.
    assert_eq!(bench.log().len() - before, 2 + 1);
    let after = bench.log().len();
    assert_eq!(bench.works(&small), first);
    assert_eq!(bench.log().len(), after);
    bench.works(&[&small[..], &["--runs", "4"]].concat());
    assert_eq!(bench.log().len(), after + 2);
}

#[test]
fn another_runs_record_is_refused() {
    let bench = Bench::new();
    let small = ["--sizes", "32", "--epochs", "2", "--init", "random,jigsaw"];
    bench.works(&small);
    // Another recipe has another directory; a record that was put into the wrong one is no result.
    bench.forge("finetune-32px-2ep-random-s1", |record| record["recipe"]["encoder"] = "vgg".into());
    let output = bench.run(&small, "none");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("encoder \"vgg\""), "{errors}");
    assert!(errors.contains("--out"), "{errors}");
    fs::remove_file(bench.record("finetune-32px-2ep-random-s1")).unwrap();
    bench.works(&small);

    // Whatever the directory's name is a hash of: a table names what differs, and leaves it out.
    let sound = fs::read(bench.record("finetune-32px-2ep-random-s1")).unwrap();
    type Forge = fn(&mut Value);
    let forgeries: [(&str, Forge); 8] = [
        ("recipe encoder \"vgg\", not", |record| record["recipe"]["encoder"] = "vgg".into()),
        ("recipe learning_rate 9.0, not null", |record| {
            record["recipe"]["learning_rate"] = 9.0.into();
        }),
        ("recipe clip 1, not null", |record| record["recipe"]["clip"] = 1.into()),
        ("recipe batch_size null, not 32", |record| {
            record["recipe"].as_object_mut().unwrap().remove("batch_size");
        }),
        ("fingerprint \"g\", not \"f\"", |record| record["data"]["fingerprint"] = "g".into()),
        ("code commit \"beef\", not \"c0ffee\"", |record| record["code"]["commit"] = "beef".into()),
        ("code jpeg_decoder \"mine\"", |record| record["code"]["jpeg_decoder"] = "mine".into()),
        ("seed 2, not 1", |record| record["seed"] = 2.into()),
    ];
    for (words, forge) in forgeries {
        bench.forge("finetune-32px-2ep-random-s1", forge);
        let output = bench.run(&[&small[..], &["--report"]].concat(), "none");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(words) && errors.contains("does not count"), "{words}: {errors}");
        assert!(errors.contains("1 of 7 cells are missing: 2 (fine"), "{words}: {errors}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains("| 31.00 ± 1.41 "), "{words}: {printed}");
        fs::write(bench.record("finetune-32px-2ep-random-s1"), &sound).unwrap();
    }

    let encoder = bench.run_folder("pretrain-32px-2ep-jigsaw-s0").join("encoder.safetensors");
    fs::write(encoder, "other weights").unwrap();
    let output = bench.run(&small, "none");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("SHA-256"), "{errors}");
}

#[test]
fn a_dry_run_only_prints() {
    let bench = Bench::new();
    let printed = bench.works(&["--data", "imagewang", "--dry-run"]);
    assert!(bench.log().is_empty() && !bench.path("out").exists());
    // Two pretrainings a size; 5 + 3 + 1 + 1 runs of three kinds of weights.
    assert_eq!(printed.lines().count(), 3 * (2 + 3 * 10));
    let first = printed.lines().next().unwrap();
    assert!(first.starts_with("pretext pretrain ") && first.contains("--epochs 15"), "{first}");
    assert!(first.contains("--encoder xresnet34") && first.contains("--batch-size 64"), "{first}");
}

#[test]
fn mistakes_are_one_line() {
    let bench = Bench::new();
    let cases: [(&[&str], &str); 13] = [
        (&["--runs", "1,2"], "--runs"),
        // A run that counts twice would be sure of itself.
        (&["--sizes", "32,64,32"], "--sizes: 32 is named twice"),
        (&["--epochs", "2", "--epochs", "02"], "--epochs: 2 is named twice"),
        (&["--init", "random,random"], "--init: \"random\" is named twice"),
        (&["--seed", "18446744073709551615", "--runs", "2"], "--seed: 18446744073709551615 and 2"),
        (&["--seed", "9223372036854775806"], "--seed: 9223372036854775806 and 3"),
        (&["--runs", "4294967295"], "--runs: that is 12884901885 runs"),
        (&["--runs", "10000000", "--dry-run"], "--runs: that is 30000000 runs"),
        (&["--sizes", "8,16", "--runs", "1667"], "at most 10000"),
        (&["--cell", "0"], "cells.json"),
        (&["--sizes", "0"], "--sizes"),
        (&["--sizes", "big"], "big"),
        (&["--data", "imagewang"], "cargo xtask fetch-data imagewang-160"),
    ];
    for (args, word) in cases {
        let output = bench.run(args, "none");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(word), "{errors}");
        assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
        assert_eq!(output.status.code(), Some(2), "{errors}");
    }
    assert!(bench.log().is_empty());
    let most = bench.works(&["--seed", "9223372036854775804", "--dry-run"]);
    assert!(most.contains("--seed 9223372036854775806 "), "{most}");
}
