//! Folders of tiny pictures for the tests.
#![allow(dead_code)] // each test file uses a part of it

use std::{fs, path::Path};

use tempfile::TempDir;

/// A temporary folder with the files named; each holds another picture, text if it is no picture.
pub(crate) fn folder<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (i, name) in names.into_iter().enumerate() {
        add(root.path(), name.as_ref(), i);
    }
    root
}

/// A file of `root`: a picture of its own size and colour, text, or a folder (`name/`).
pub(crate) fn add(root: &Path, name: &str, i: usize) {
    let path = root.join(name);
    if name.ends_with('/') {
        fs::create_dir_all(path).unwrap();
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if name.ends_with(".txt") {
        fs::write(path, "text").unwrap();
    } else {
        fs::write(path, bmp(3 + i as u32 % 5, 2 + i as u32 % 3, i as u32)).unwrap();
    }
}

/// A BMP of one colour that tells `i`; readers go by the content, so any name will do.
pub(crate) fn bmp(width: u32, height: u32, i: u32) -> Vec<u8> {
    let row = (3 * width).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    for word in
        [54 + row * height, 0, 54, 40, width, height, 24 << 16 | 1, 0, row * height, 0, 0, 0, 0]
    {
        file.extend(word.to_le_bytes());
    }
    let mut line = [(i >> 16) as u8, (i >> 8) as u8, i as u8].repeat(width as usize);
    line.resize(row as usize, 0);
    file.extend(line.repeat(height as usize));
    file
}

/// Image网's shape in small: 3 classes, two of them in `val/`.
pub(crate) fn imagewang() -> TempDir {
    let train = (0..9).map(|i| format!("train/n0{}/n0{}_{i}.JPEG", i % 3, i % 3));
    let val = (0..4).map(|i| format!("val/n0{}/n0{}_{i}.JPEG", i % 2, i % 2));
    let unsup = (0..20).map(|i| format!("unsup/n0{}_{i}.JPEG", i % 2));
    folder(train.chain(val).chain(unsup))
}
