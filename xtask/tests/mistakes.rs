//! Mistakes of the user's: one line that names the flag, and an exit code of 2.

use std::fs;
use std::path::Path;
use std::process::Command;

#[track_caller]
fn check(args: &[&str], words: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command.args(args).current_dir(env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn of_bench_train() {
    check(&["bench", "train", "--networks", "vgg"], &["--networks", "vgg", "resnet18"]);
    check(&["bench", "train", "--precisions", "f8"], &["--precisions", "f8", "bf16"]);
    check(&["bench", "train", "--rounds", "0"], &["--rounds", "at least 1"]);
    check(&["bench", "train", "--batch", "1"], &["--batch", "at least 2"]);
    let against = ["bench", "train", "--against", "pytorch", "--python", "/nowhere/python"];
    check(&against, &["--python", "torch", "/nowhere/python"]);
}

#[test]
fn of_bench_data() {
    check(&["bench", "data", "--works", "all"], &["--works", "choose of"]);
    check(&["bench", "data", "--pictures", "0"], &["--pictures", "at least 1"]);
    check(&["bench", "data", "--corpus", "/nowhere"], &["--corpus", "/nowhere"]);
    let folder = tempfile::tempdir().unwrap();
    let corpus = ["bench", "data", "--corpus", folder.path().to_str().unwrap()];
    check(&corpus, &["--corpus", "is empty"]);
    fs::write(folder.path().join("a.png"), "").unwrap();
    check(&corpus, &["--corpus", "a.png", "no JPEG"]);
}

#[test]
fn of_bench_gpu() {
    check(&["bench", "gpu", "--parts", "all"], &["--parts", "kernels"]);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn of_cuda_toolkit() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "mine").unwrap();
    let refused = |into: &Path, words: &[&str]| {
        check(&["cuda-toolkit", "--anyway", "--into", into.to_str().unwrap()], words);
    };
    refused(folder.path(), &["holds something else", "--into"]);
    // A file is no folder.
    refused(&folder.path().join("mine/cuda"), &["cannot write into", "mine/cuda", "--into"]);
    assert_eq!(fs::read(folder.path().join("mine")).unwrap(), b"mine");
}
