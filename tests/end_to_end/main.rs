//! From pictures on disk to a score, through the real binary.

mod holes;
mod race;
mod stops;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::Value;

/// Classes in `train/`; the second half is in `val/` too.
const CLASSES: [&str; 4] = ["bars", "dots", "hoops", "waves"];

/// A small data set in Image网's shape, whose classes differ in pattern.
fn data(folder: &Path) -> PathBuf {
    let root = folder.join("patterns");
    for (class, name) in CLASSES.iter().enumerate() {
        for i in 0..8 {
            write(&root.join(format!("train/{name}/{i}.png")), class, i);
        }
        if class >= 2 {
            for i in 8..14 {
                write(&root.join(format!("val/{name}/{i}.png")), class, i);
                write(&root.join(format!("unsup/{}_{i}.png", 10 * class)), class, 20 + i);
            }
        }
    }
    root
}

fn write(path: &Path, class: usize, i: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = RgbImage::from_fn(28 + i % 5, 30, |x, y| {
        let (x, y) = (f64::from(x + i), f64::from(y + 2 * i));
        let value = match class {
            0 => (x * 0.9).sin(),
            1 => (x * 0.8).sin() * (y * 0.8).sin(),
            2 => ((x - 20.0).hypot(y - 20.0) * 0.9).sin(),
            _ => (y * 0.9 + (x * 0.5).sin()).sin(),
        };
        let level = (127.0 + 100.0 * value) as u8;
        Rgb([level, 255 - level, (40 * class) as u8 + (3 * i) as u8])
    });
    picture.save(path).unwrap();
}

fn pretext(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pretext"));
    command.args(args).env_remove("RUST_BACKTRACE").output().unwrap()
}

/// Runs a command that must work, and gives what it printed.
#[track_caller]
fn works(args: &[&str]) -> String {
    let output = pretext(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pretext {}: {errors}", args.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must end with a mistake of the user's: one line that says `words`.
#[track_caller]
fn refused(args: &[&str], words: &[&str]) {
    let output = pretext(args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "pretext {}: {errors}", args.join(" "));
    let line = errors.trim_end();
    assert_eq!(line.lines().count(), 1, "{errors}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const SMALL: [&str; 6] = ["--encoder", "xresnet18", "--size", "32", "--batch-size", "8"];

fn pretrain<'a>(data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let line = ["pretrain", "--data", text(data), "--out", text(out)];
    [&line[..], &SMALL, more].concat()
}

fn finetune<'a>(data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let line = ["finetune", "--data", text(data), "--out", text(out)];
    [&line[..], &SMALL, more].concat()
}

fn record(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("record.json")).unwrap()).unwrap()
}

/// The surest dozen of wrong answers; a run without any says so.
fn mistakes_are_named_and_drawn(data: &Path, run: &Path, result: &Value) {
    let wrong = (result["total"].as_u64().unwrap() - result["correct"].as_u64().unwrap()) as usize;
    let count = result["mistakes"].as_array().map_or(0, Vec::len);
    assert_eq!(count, wrong.min(12));
    let sheet = run.with_extension("png");
    let line = ["show", "--mistakes", text(run), "--data", text(data), "--out", text(&sheet)];
    if wrong == 0 {
        refused(&line, &["without mistakes"]);
    } else {
        assert_eq!(works(&line).matches(" taken for ").count(), count);
        // The leaderboard's page cuts the pictures out by these numbers.
        let (columns, rows) = (4, count.div_ceil(4) as u32);
        let sheet = image::open(&sheet).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (4 + columns * 36, 4 + rows * 36));
    }
}

#[test]
fn from_pictures_to_a_score() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));

    works(&pretrain(&data, &before, &["--task", "grey-blur", "--epochs", "2"]));
    let first = record(&before);
    assert_eq!(first["kind"], "pretrain");
    assert_eq!(first["initial_weights"]["kind"], "random");
    assert_eq!(first["data"]["pretrained_on"], serde_json::json!(["train", "unsup"]));
    assert_eq!(first["epochs"].as_array().unwrap().len(), 2);
    assert!(first["result"]["val_loss"].as_f64().unwrap() > 0.0);
    assert!(!before.join("checkpoint.safetensors").exists());

    let encoder = before.join("encoder.safetensors");
    works(&finetune(&data, &after, &["--init", text(&encoder), "--epochs", "3"]));
    let second = record(&after);
    let origin = &second["initial_weights"];
    assert_eq!(origin["kind"], "file");
    assert_eq!(origin["sha256"], first["encoder_sha256"], "the chain from record to record");
    assert_eq!(origin["pretrained"]["task"], "grey-blur");
    assert_eq!(origin["pretrained"]["initial_weights"]["kind"], "random");
    assert_eq!(second["result"]["total"], 12);
    assert_eq!(second["result"]["size"], second["recipe"]["size"]);
    assert_eq!(second["result"]["views"], 1);
    let classes = second["result"]["per_class"].as_array().unwrap();
    assert_eq!(classes.len(), 2);
    for class in classes {
        let answers = class["answers"].as_object().unwrap();
        let right = answers.get(class["class"].as_str().unwrap()).and_then(Value::as_u64);
        assert_eq!(right.unwrap_or(0), class["correct"].as_u64().unwrap());
        let all: u64 = answers.values().filter_map(Value::as_u64).sum();
        assert_eq!(all, class["total"].as_u64().unwrap());
    }
    mistakes_are_named_and_drawn(&data, &after, &second["result"]);
    // What TensorBoard reads: a file a sitting, whose first record names the format.
    let events = fs::read_dir(&after).unwrap().flatten().map(|entry| entry.path());
    let mut events = events.filter(|path| text(path).contains("/events.out.tfevents."));
    let (bytes, more) = (fs::read(events.next().unwrap()).unwrap(), events.next());
    assert!(bytes.windows(13).any(|part| part == b"brain.Event:2") && more.is_none());
    let steps = bytes.windows(10).filter(|part| part == b"loss/train").count();
    let epochs = bytes.windows(12).filter(|part| part == b"accuracy/val").count();
    assert!(epochs == 3 && steps >= 3 && steps % 3 == 0, "{steps} steps in {epochs} epochs");
    assert_eq!(second["data"]["classes"].as_array().unwrap().len(), 4);

    let classifier = after.join("classifier.safetensors");
    let score =
        works(&["evaluate", "--weights", text(&classifier), "--data", text(&data), "--json"]);
    let score: Value = serde_json::from_str(&score).unwrap();
    assert_eq!(score["classifier"]["correct"], second["result"]["correct"]);
    let probe = works(&["evaluate", "--weights", text(&encoder), "--data", text(&data), "--json"]);
    let probe: Value = serde_json::from_str(&probe).unwrap();
    assert_eq!(probe["nearest_neighbours"]["total"], 12);
    assert_eq!(probe["linear"]["total"], 12);

    let image = data.join("val/hoops/9.png");
    let line = works(&["predict", "--weights", text(&classifier), text(&image), "--json"]);
    let prediction: Value = serde_json::from_str(&line).unwrap();
    assert!(CLASSES.contains(&prediction["class"].as_str().unwrap()));
    assert!((0.0..=1.0).contains(&prediction["probability"].as_f64().unwrap()));

    let features = folder.path().join("features.safetensors");
    let line =
        ["embed", "--weights", text(&encoder), "--data", text(&data), "--out", text(&features)];
    works(&line);
    assert!(works(&["info", text(&features)]).contains("train.features"));
    assert!(works(&["info", text(&encoder)]).contains("grey-blur"));
    assert!(works(&["info", "--machine"]).contains("instructions"));

    let cache = folder.path().join("cache.safetensors");
    works(&["cache", "--data", text(&data), "--out", text(&cache)]);
    let cached = folder.path().join("cached");
    works(&finetune(&cache, &cached, &["--init", text(&encoder), "--epochs", "3"]));
    assert_eq!(record(&cached)["data"]["fingerprint"], second["data"]["fingerprint"]);
    assert_eq!(
        fs::read(cached.join("classifier.safetensors")).unwrap(),
        fs::read(&classifier).unwrap(),
        "the cache gives other pictures than the folder"
    );
}

/// The pictures of `split/` as an archive in WebDataset's way.
fn pack(data: &Path, split: &str) {
    let mut archive =
        tar::Builder::new(fs::File::create(data.join(format!("{split}.tar"))).unwrap());
    for class in CLASSES {
        let Ok(entries) = fs::read_dir(data.join(split).join(class)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let key = format!("{class}_{}", path.file_stem().unwrap().display());
            let mut add = |name: String, content: &[u8]| {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, name, content).unwrap();
            };
            add(format!("{key}.png"), &fs::read(&path).unwrap());
            add(format!("{key}.cls"), class.as_bytes());
        }
    }
    archive.into_inner().unwrap();
}

#[test]
fn shards_are_trained_on_and_cached_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    for split in ["train", "val"] {
        pack(&data, split);
        fs::rename(data.join(format!("{split}.tar")), shards.join(format!("{split}.tar"))).unwrap();
    }
    let out = folder.path().join("tar");
    works(&finetune(&shards, &out, &["--init", "random", "--epochs", "1"]));
    let tars = record(&out);
    assert_eq!(tars["result"]["total"], 12);
    assert!(!tars["code"]["jpeg_decoder"].as_str().unwrap().is_empty());
    assert!(tars["epochs"][0]["data_wait"].as_f64().unwrap() >= 0.0);

    if cfg!(feature = "parquet") {
        let parquet =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../pretext-data/tests/huggingface");
        let out = folder.path().join("parquet");
        works(&pretrain(&parquet, &out, &["--epochs", "1"]));
        assert_eq!(record(&out)["data"]["classes"], serde_json::json!(["zebra", "ant", "cat"]));
    }

    let train = shards.join("train.tar");
    let cache = folder.path().join("cache.safetensors");
    let line = ["cache", "--data", text(&train), "--out", text(&cache)];
    assert!(works(&line).starts_with("32 pictures"));
    assert!(works(&line).contains("up to date; nothing was done"));
    assert!(works(&["info", text(&train)]).contains("32 pictures in 4 classes"));
    fs::copy(shards.join("val.tar"), &train).unwrap();
    refused(&["info", text(&cache)], &["cache.safetensors: made from", "pretext cache --data"]);
    assert!(works(&line).starts_with("12 pictures"));
    fs::write(&train, "no archive").unwrap();
    refused(&line, &["train.tar: no usable tar archive"]);
    let parquet = folder.path().join("x.parquet");
    fs::write(&parquet, "PAR1").unwrap();
    let words = if cfg!(feature = "parquet") { "no usable Parquet" } else { "reads no Parquet" };
    refused(&["cache", "--data", text(&parquet), "--out", text(&cache)], &["x.parquet", words]);
}

#[test]
fn every_task_trains_and_shows() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    for task in ["grey-blur", "grey", "inpaint", "colourise", "corrupted", "jigsaw"] {
        let out = folder.path().join(task);
        works(&pretrain(&data, &out, &["--task", task, "--epochs", "1", "--include-val-pixels"]));
        let record = record(&out);
        assert_eq!(record["data"]["pretrained_on"], serde_json::json!(["train", "unsup", "val"]));
        assert!(record["result"]["val_loss"].is_null(), "{task}: val was trained on");

        let (png, weights) = (out.join("show.png"), out.join("pretext.safetensors"));
        let line = ["show", "--data", text(&data), "--task", task, "--count", "3"];
        let line = [&line[..], &["--weights", text(&weights), "--out", text(&png)]].concat();
        works(&line);
        let sheet = image::open(&png).unwrap();
        let columns = if task == "corrupted" || task == "jigsaw" { 2 } else { 3 };
        assert_eq!((sheet.width(), sheet.height()), (4 + columns * 36, 4 + 3 * 36), "{task}");
    }
}

#[test]
fn threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let run = |threads: &str| {
        let out = folder.path().join(format!("pre{threads}"));
        works(&pretrain(&data, &out, &["--epochs", "2", "--threads", threads]));
        let encoder = out.join("encoder.safetensors");
        let tuned = folder.path().join(format!("fine{threads}"));
        let more = ["--init", text(&encoder), "--epochs", "2", "--threads", threads];
        works(&finetune(&data, &tuned, &more));
        (fs::read(&encoder).unwrap(), fs::read(tuned.join("classifier.safetensors")).unwrap())
    };
    let (one, two, three) = (run("1"), run("2"), run("3"));
    assert!(one == two, "1 and 2 threads differ");
    assert!(one == three, "1 and 3 threads differ");
}

#[test]
fn damaged_pictures_are_named_counted_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    fs::write(data.join("train/bars/broken.jpg"), b"not a picture").unwrap();
    let out = folder.path().join("out");
    let output = pretext(&finetune(&data, &out, &["--init", "random", "--epochs", "4"]));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("bars/broken.jpg") && errors.contains("left out"), "{errors}");
    // The last, incomplete batch of an epoch is not trained on, and the broken picture may be in it.
    let epochs = record(&out)["epochs"].as_array().unwrap().clone();
    let damaged: Vec<u64> = epochs.iter().map(|epoch| epoch["damaged"].as_u64().unwrap()).collect();
    assert!(damaged.contains(&1) && damaged.iter().all(|&count| count <= 1), "{damaged:?}");

    let strict = folder.path().join("strict");
    let args = finetune(&data, &strict, &["--init", "random", "--epochs", "4", "--strict"]);
    let output = pretext(&args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.lines().last().unwrap().contains("broken.jpg"), "{errors}");
    assert!(!strict.join("record.json").exists());
}

#[test]
fn mistakes_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let path = |name: &str| folder.path().join(name);
    let (out, missing, empty) = (path("out"), path("missing"), path("empty"));
    fs::create_dir(&empty).unwrap();
    let random = ["--init", "random"];

    refused(&finetune(&missing, &out, &random), &["missing"]);
    refused(&finetune(&empty, &out, &random), &["empty"]);
    refused(&pretrain(&data.join("train/bars/0.png"), &out, &[]), &["0.png"]);
    refused(&pretrain(&data, &data.join("train/bars/0.png"), &[]), &["0.png", "--out"]);
    let line = ["pretrain", "--data", text(&data), "--out", text(&out)];
    refused(&[&line[..], &["--size", "4"]].concat(), &["--size"]);
    refused(&[&line[..], &["--batch-size", "1"]].concat(), &["--batch-size"]);
    refused(
        &[&line[..], &["--task", "jigsav"]].concat(),
        &["--task", "jigsav", "jigsaw", "--help"],
    );
    refused(&["finetune", "--data", text(&data)], &["--init", "--out"]);
    refused(&pretrain(&data, &out, &["--regions", "9..5"]), &["--regions"]);
    refused(
        &finetune(&data, &out, &["--init", text(&path("no.safetensors"))]),
        &["no.safetensors"],
    );
    let foreign = data.join("train/bars/0.png");
    refused(&finetune(&data, &out, &["--init", text(&foreign)]), &["0.png"]);
    refused(&["evaluate", "--weights", text(&foreign), "--data", text(&data)], &["0.png"]);
    refused(&["predict", "--weights", text(&foreign), text(&foreign)], &["0.png"]);
    assert!(!out.exists(), "a refused run left a folder behind");

    let unlabelled = data.join("unsup");
    refused(&finetune(&unlabelled, &out, &random), &["train/<class>/"]);
    fs::create_dir_all(data.join("val/strangers")).unwrap();
    write(&data.join("val/strangers/0.png"), 0, 0);
    refused(&finetune(&data, &out, &random), &["strangers"]);
}

/// Whether a GPU can be computed on here.
fn has_gpu() -> bool {
    works(&["info", "--machine"]).lines().any(|line| line.starts_with("cuda:0"))
}

#[test]
fn without_a_gpu_the_device_is_the_processor() {
    if has_gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let (out, weights) = (folder.path().join("out"), folder.path().join("no.safetensors"));
    let words = if cfg!(feature = "cuda") { "no GPU" } else { "--features cuda" };
    for device in ["cuda", "cuda:0", "cuda:7"] {
        let flag = format!("--device {device}: ");
        refused(&pretrain(&data, &out, &["--device", device]), &[&flag, words]);
    }
    let line = ["evaluate", "--weights", text(&weights), "--data", text(&data)];
    refused(&[&line[..], &["--device", "cuda"]].concat(), &[words]);
    let line = ["cache", "--data", text(&data), "--out", text(&weights), "--device", "cuda"];
    refused(&line, &["--device", "CPU"]);
    refused(&pretrain(&data, &out, &["--precision", "f16"]), &["--precision", "GPUs", "bf16"]);
    refused(&pretrain(&data, &out, &["--device", "gpu"]), &["--device", "cuda:N"]);
    assert!(!out.exists(), "a refused run left a folder behind");

    let output = pretext(&pretrain(&data, &out, &["--device", "auto", "--epochs", "1"]));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let line = errors.lines().find(|line| line.starts_with("computing on the cpu")).unwrap();
    assert!(line.contains(words), "{line}");
    assert_eq!(record(&out)["machine"]["device"], "cpu");
}

#[test]
fn help_names_every_task() {
    let help = works(&["pretrain", "--help"]);
    for task in ["grey-blur", "grey", "inpaint", "colourise", "corrupted", "jigsaw"] {
        assert!(help.contains(task), "{task}");
    }
}
