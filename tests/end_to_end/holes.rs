//! Files of weights that are truly as large as they say, and far too large: what they hold is compared
//! with what a network takes before any of it is read.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stops::kill_in_the_middle;
use crate::{data, finetune, pretrain, refused, text, works};

/// A TiB: to read it is to run out of memory.
const HOLE: u64 = 1 << 40;

/// Adds a tensor that is a hole to a safetensors file; one that had its name gets another.
fn add_hole(path: &Path, name: &str) {
    let bytes = fs::read(path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let start = tensors.len() as u64;
    let offsets = [start, start + HOLE];
    if let Some(old) = header.as_object_mut().unwrap().remove(name) {
        header[format!("{name}.old")] = old;
    }
    header[name] = json!({"dtype": "F32", "shape": [HOLE / 4], "data_offsets": offsets});
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    let whole = [&length, &header[..], tensors].concat();
    fs::write(path, &whole).unwrap();
    File::options().write(true).open(path).unwrap().set_len(whole.len() as u64 + HOLE).unwrap();
}

#[test]
fn weights_too_large_for_their_network_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let path = |name: &str| folder.path().join(name);
    let (before, after, other) = (path("before"), path("after"), path("other"));
    works(&pretrain(&data, &before, &["--epochs", "1"]));
    works(&finetune(&data, &after, &["--init", "random", "--epochs", "1"]));
    let [encoder, network] =
        ["encoder", "pretext"].map(|name| before.join(name.to_owned() + ".safetensors"));
    let classifier = after.join("classifier.safetensors");
    for file in [&encoder, &network, &classifier] {
        add_hole(file, "hole");
        let told = works(&["info", text(file)]);
        assert!(told.contains("hole  [274877906944]"), "{told}");
    }
    let unexpected = [".safetensors: the weights do not fit: 1 unexpected: hole"];
    refused(&finetune(&data, &other, &["--init", text(&encoder)]), &unexpected);
    let (picture, out) = (data.join("train/bars/0.png"), path("out"));
    refused(&["predict", "--weights", text(&classifier), text(&picture)], &unexpected);
    let at = ["--data", text(&data)];
    refused(&[&["evaluate", "--weights", text(&classifier)], &at[..]].concat(), &unexpected);
    for weights in [&encoder, &classifier] {
        let line = ["embed", "--weights", text(weights), "--out", text(&out)];
        refused(&[&line[..], &at].concat(), &unexpected);
    }
    let line = ["show", "--task", "grey-blur", "--weights", text(&network), "--out", text(&out)];
    refused(&[&line[..], &at].concat(), &unexpected);
}

#[test]
fn checkpoints_too_large_for_their_run_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    for (name, words) in [
        ("model.hole", &["checkpoint.safetensors: the weights do not fit: 1 unexpected: hole"][..]),
        (
            "optimiser.11.bias.first",
            &["checkpoint.safetensors", "11.bias.first is [274877906944], the parameter [4]"],
        ),
    ] {
        let out = folder.path().join(name);
        let more = ["--init", "random", "--epochs", "200", "--resume"];
        let args = finetune(&data, &out, &more);
        kill_in_the_middle(&args, &out, Duration::ZERO);
        let checkpoint = out.join("checkpoint.safetensors");
        add_hole(&checkpoint, name);
        let told = works(&["info", text(&checkpoint)]);
        assert!(told.contains("stands behind"), "{told}");
        refused(&args, words);
    }
}
