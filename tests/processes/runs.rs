//! A small data set, a small run, and how far its results are from another's.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use pretext_train::models::weights;
use serde_json::Value;

/// Two classes of 12 pictures to train on, and of 4 to score on.
pub(crate) fn data(folder: &Path) -> PathBuf {
    let root = folder.join("patterns");
    for (class, name) in ["bars", "waves"].iter().enumerate() {
        for i in 0..16 {
            let split = if i < 12 { "train" } else { "val" };
            let picture = RgbImage::from_fn(32 + i % 3, 33, |x, y| {
                let (x, y) = (f64::from(x + i), f64::from(y + 2 * i));
                let value = if class == 0 { (x * 0.9).sin() } else { (y * 0.9 + x * 0.2).cos() };
                let level = (127.0 + 100.0 * value) as u8;
                Rgb([level, 255 - level, (90 * class) as u8 + (3 * i) as u8])
            });
            let path = root.join(format!("{split}/{name}/{i}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            picture.save(path).unwrap();
        }
    }
    root
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The arguments of a small run: 3 steps an epoch.
pub(crate) fn run<'a>(
    kind: &'a str,
    data: &'a Path,
    out: &'a Path,
    more: &[&'a str],
) -> Vec<&'a str> {
    let line = [kind, "--data", text(data), "--out", text(out), "--encoder", "xresnet18", "--size"];
    let small =
        ["32", "--batch-size", "8", "--epochs", "2", "--threads", "1", "--optimiser", "sgd"];
    [&line[..], &small, &["--lr", "0.01"], more].concat()
}

pub(crate) fn record(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("record.json")).unwrap()).unwrap()
}

/// The L2 norm of the differences of all weights of two files, by that of the weights.
pub(crate) fn difference(one: &Path, other: &Path) -> f64 {
    let (one, other) = (weights::read(one).unwrap().0, weights::read(other).unwrap().0);
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let (mut differences, mut squares) = (0.0, 0.0);
    for (a, b) in one.values().zip(other.values()) {
        let [a, b] = [a, b].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        for (a, b) in a.into_iter().map(f64::from).zip(b.into_iter().map(f64::from)) {
            differences += (a - b).powi(2);
            squares += a.powi(2);
        }
    }
    (differences / squares).sqrt()
}
