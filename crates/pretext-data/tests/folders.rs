//! Layouts, orders and fingerprints of folders, and what is said about folders that are none.

mod support;

use std::{fs, path::Path};

use pretext_data::{Dataset, Error, Pictures};
use support::{add, folder, imagewang};

fn names(pictures: &Pictures) -> Vec<String> {
    (0..pictures.len()).map(|i| pictures.name(i).unwrap()).collect()
}

/// The number that each picture's colour tells: see `support::bmp`.
fn colours(pictures: &Pictures) -> Vec<u8> {
    (0..pictures.len()).map(|i| pictures.read(i).unwrap().pixels[0]).collect()
}

#[test]
fn splits_are_told_by_their_folders() {
    let root = imagewang();
    let data = Dataset::open(root.path()).unwrap();
    assert_eq!(data.classes(), ["n00", "n01", "n02"]);
    assert_eq!((data.train().len(), data.val().len(), data.unsup().len()), (9, 4, 20));
    assert_eq!(data.train().labels(), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    assert_eq!(data.val().labels(), [0, 0, 1, 1]);
    assert_eq!(colours(data.train().pictures()), [0, 3, 6, 1, 4, 7, 2, 5, 8]);
    assert_eq!(data.val().pictures().name(1).unwrap(), "val/n00/n00_2.JPEG");
    assert_eq!(data.root(), root.path());
}

#[test]
fn class_folders_alone_are_train() {
    let root = folder(["b/2.png", "a/1.png", "b/1.png", "c d/deep/er/1.png"]);
    let data = Dataset::open(root.path()).unwrap();
    assert_eq!(data.classes(), ["a", "b", "c d"]);
    let expected = ["train/a/1.png", "train/b/1.png", "train/b/2.png", "train/c d/deep/er/1.png"];
    assert_eq!(names(data.train().pictures()), expected);
    assert!(data.val().is_empty() && data.unsup().is_empty());
}

#[test]
fn flat_pictures_and_unsup_alone_have_no_classes() {
    for root in [folder(["1.png", "2.png"]), folder(["unsup/1.png", "unsup/x/2.png"])] {
        let data = Dataset::open(root.path()).unwrap();
        assert!(data.classes().is_empty() && data.train().is_empty() && data.val().is_empty());
        assert_eq!(data.unsup().len(), 2);
    }
}

#[test]
fn order_is_by_bytes() {
    let root = folder(["b/10.png", "b/9.png", "b/Z.png", "b/é.png", "B/1.png", "b/a.PNG"]);
    let data = Dataset::open(root.path()).unwrap();
    let expected = ["B/1.png", "b/10.png", "b/9.png", "b/Z.png", "b/a.PNG", "b/é.png"];
    assert_eq!(names(data.train().pictures()), expected.map(|name| format!("train/{name}")));
}

#[test]
fn hidden_and_other_files_are_passed_over_and_counted() {
    let root = folder(["a/1.png", "a/.2.png", "a/notes.txt", "a/x/notes.txt", ".git/1.png"]);
    let data = Dataset::open(root.path()).unwrap();
    assert_eq!((data.train().len(), data.summary().ignored), (1, 4));
    let root = folder(["train/a/1.png", "test/a/1.png", "cover.png", "readme.txt"]);
    let data = Dataset::open(root.path()).unwrap();
    assert_eq!((data.train().len(), data.summary().ignored), (1, 3));
}

#[test]
fn nothing_tells_the_names_of_unsup() {
    let root = folder((0..200).map(|i| format!("unsup/n0{}_{i:03}.JPEG", i / 100)));
    let data = Dataset::open(root.path()).unwrap();
    let told = format!("{:?} {:?} {:?} {}", data, data.unsup(), data.summary(), data.summary());
    for text in names(data.unsup()).iter().chain([&told]) {
        assert!(
            !text.contains("n00_") && !text.contains("n01_") && !text.contains("JPEG"),
            "{text}"
        );
    }

    // Pictures are numbered by class: an alphabetical order would change the class only once. Of
    // 199 neighbours in a fair order, about 100 differ; 72 to 128 is four standard deviations.
    let classes: Vec<_> = colours(data.unsup()).iter().map(|i| i / 100).collect();
    let changes = classes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((72..=128).contains(&changes), "{changes}");
    let first_half = classes[..100].iter().filter(|class| **class == 0).count();
    assert!((36..=64).contains(&first_half), "{first_half}");
}

#[test]
fn the_order_of_unsup_does_not_depend_on_when_files_were_made() {
    let names: Vec<_> = (0..30).map(|i| format!("unsup/x_{i}.png")).collect();
    let (forth, back) = (folder(&names), tempfile::tempdir().unwrap());
    for (i, name) in names.iter().enumerate().rev() {
        add(back.path(), name, i);
    }
    let order = |root: &Path| colours(Dataset::open(root).unwrap().unsup());
    assert_eq!(order(forth.path()), order(back.path()));
}

#[test]
fn fingerprints_tell_names_and_sizes() {
    let root = imagewang();
    let print = || Dataset::open(root.path()).unwrap().fingerprint();
    let first = print();
    assert_eq!(first, Dataset::open(imagewang().path()).unwrap().fingerprint());
    let file = root.path().join("train/n00/n00_0.JPEG");
    let content = fs::read(&file).unwrap();
    fs::write(&file, [content.as_slice(), b"0"].concat()).unwrap();
    assert_ne!(print(), first);
    fs::write(&file, content).unwrap();
    assert_eq!(print(), first);
    fs::rename(&file, root.path().join("train/n00/other.JPEG")).unwrap();
    assert_ne!(print(), first);
}

#[cfg(unix)]
#[test]
fn links_are_followed() {
    let real = folder(["pictures/1.png", "pictures/2.png"]);
    let root = folder(["b/1.png"]);
    std::os::unix::fs::symlink(real.path().join("pictures"), root.path().join("a")).unwrap();
    std::os::unix::fs::symlink("nowhere.png", root.path().join("b/2.png")).unwrap();
    let data = Dataset::open(root.path()).unwrap();
    assert_eq!(data.train().labels(), [0, 0, 1, 1]);
    let error = data.train().pictures().read(3).unwrap_err().to_string();
    assert!(error.contains("b/2.png: no such folder or file"), "{error}");

    std::os::unix::fs::symlink(root.path(), root.path().join("b/up")).unwrap();
    check(root.path(), "b/up: links back to a folder above it; remove the link");
}

/// The error of opening ends with `message` and is one line that names the root.
#[track_caller]
fn check(path: &Path, message: &str) {
    let error = Dataset::open(path).unwrap_err().to_string();
    assert!(error.ends_with(message) || error.contains(message), "{error}");
    assert!(error.starts_with(&path.display().to_string()) && !error.contains('\n'), "{error}");
}

#[test]
fn folders_that_cannot_be_used_are_named_with_the_remedy() {
    let cases: &[(&[&str], &str)] = &[
        (
            &[],
            ": holds no pictures (looked for jpg, jpeg, png, webp, bmp, gif); fill the folder or",
        ),
        (&["notes.txt"], ": holds no pictures"),
        (&["train/"], "/train: holds no pictures"),
        (
            &["train/a/1.png", "train/b/notes.txt"],
            r#"/train: the class folder "b" holds no pictures"#,
        ),
        (&["a/1.png", "b/"], r#": the class folder "b" holds no pictures; fill it or remove it"#),
        (&["train/a/1.png", "val/"], "/val: holds no pictures"),
        (&["train/a/1.png", "val/a/"], "/val: holds no pictures"),
        (&["train/a/1.png", "unsup/"], "/unsup: holds no pictures"),
        (&["val/a/1.png"], ": has a val/ folder but no train/ folder; add train/<class>/ folders"),
        (
            &["train/a/1.png", "val/b/1.png"],
            r#"/val/b: the class "b" is in val/ but not in train/; add train/b/ or remove it from val/"#,
        ),
        (
            &["a/1.png", "2.png"],
            "/2.png: lies loose beside class folders; move it into a class folder",
        ),
        (&["train/2.png", "train/1.png"], "/train/1.png: lies loose"),
        (&["train/a/1.png", "val/1.png"], "/val/1.png: lies loose"),
    ];
    for (names, message) in cases {
        check(folder(*names).path(), message);
    }
}

#[test]
fn paths_that_are_no_folders_are_named_with_the_remedy() {
    let root = folder(["a/1.png", "notes.txt"]);
    check(&root.path().join("b"), "/b: no such folder or file; check the path");
    check(&root.path().join("a/1.png"), "/a/1.png: is a file, but a folder of pictures is needed");
    check(&root.path().join("a/1.png/x"), "is a file, but a folder of pictures is needed");
    fs::write(root.path().join("train"), "").unwrap();
    check(root.path(), "/train: is a file, but a folder of pictures is needed here");
}

#[test]
fn damaged_pictures_are_named() {
    let root = folder(["a/1.png", "a/2.png"]);
    fs::write(root.path().join("a/2.png"), b"nonsense").unwrap();
    let pictures = Dataset::open(root.path()).unwrap().train().pictures().clone();
    let error = pictures.read(1).unwrap_err().to_string();
    let end = "/a/2.png: damaged picture: neither JPEG, PNG, WebP, BMP nor GIF; replace or remove the file";
    assert!(error.ends_with(end), "{error}");
    fs::remove_file(root.path().join("a/2.png")).unwrap();
    assert!(matches!(pictures.read(1), Err(Error::Missing { .. })));
    assert!(matches!(pictures.read(2), Err(Error::NoSuchPicture { index: 2, len: 2 })));
    assert!(matches!(pictures.name(2), Err(Error::NoSuchPicture { index: 2, len: 2 })));
}

#[test]
fn summaries_count() {
    let root = imagewang();
    let data = Dataset::open(root.path()).unwrap();
    let summary = data.summary();
    assert_eq!((summary.train, summary.val, summary.unsup), (9, 4, 20));
    let counts: Vec<_> = summary.classes.iter().map(|count| (count.train, count.val)).collect();
    assert_eq!(counts, [(3, 2), (3, 2), (3, 0)]);
    let text = summary.to_string();
    assert!(text.contains("val          4 pictures in 2 classes"), "{text}");
    assert!(text.contains("n02       3 train       0 val"), "{text}");
}
