//! A cache is the folder it was made from, and anything that is no whole cache is refused.

mod support;

use std::{fs, ops::ControlFlow, path::Path};

use pretext_data::{Dataset, Error, Labelled, Pictures, cache, cache::Options};
use support::{add, folder, imagewang};

fn write(data: &Dataset, path: &Path, options: &Options) -> Result<cache::Report, Error> {
    cache::write(data, path, options, |_| ControlFlow::Continue(()))
}

#[track_caller]
fn same(a: &Pictures, b: &Pictures) {
    assert_eq!(a.len(), b.len());
    for i in 0..a.len() {
        assert_eq!(a.read(i).unwrap(), b.read(i).unwrap(), "{i}");
        assert_eq!(a.name(i).unwrap(), b.name(i).unwrap());
    }
}

#[track_caller]
fn same_labelled(a: &Labelled, b: &Labelled) {
    same(a.pictures(), b.pictures());
    assert_eq!(a.labels(), b.labels());
}

#[test]
fn a_cache_equals_its_folder() {
    let (root, out) = (imagewang(), folder([""; 0]));
    let path = out.path().join("a.safetensors");
    let data = Dataset::open(root.path()).unwrap();
    let report = write(&data, &path, &Options::default()).unwrap();
    assert_eq!((report.pictures, report.damaged.len()), (33, 0));
    assert_eq!(report.bytes, path.metadata().unwrap().len());

    let cached = Dataset::open(&path).unwrap();
    same_labelled(data.train(), cached.train());
    same_labelled(data.val(), cached.val());
    same(data.unsup(), cached.unsup());
    assert_eq!(data.classes(), cached.classes());
    assert_eq!(data.fingerprint(), cached.fingerprint());
    assert_eq!(data.summary().classes, cached.summary().classes);
    assert!(cached.summary().cached);
    assert!(matches!(cached.unsup().read(20), Err(Error::NoSuchPicture { .. })));
}

/// The odd pictures of data/hostile, a cache of them, and for each picture of the cache its place
/// in the folder: the default decoder refuses some.
fn odd_pictures() -> (tempfile::TempDir, Pictures, Pictures, Vec<usize>) {
    let folder: std::path::PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../../data/hostile/good"].iter().collect();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("a.safetensors");
    let data = Dataset::open(&folder).unwrap();
    write(&data, &path, &Options::default()).unwrap();
    let (files, cached) = (data.unsup().clone(), Dataset::open(&path).unwrap().unsup().clone());
    let place = |name| (0..files.len()).find(|i| files.name(*i).unwrap() == name).unwrap();
    let places = (0..cached.len()).map(|i| place(cached.name(i).unwrap())).collect();
    (out, files, cached, places)
}

#[test]
fn sizes_are_known_before_anything_is_decoded() {
    let (_out, files, cached, _) = odd_pictures();
    let mut known = 0;
    for (pictures, shortest_side) in
        [&files, &cached].into_iter().flat_map(|list| [None, Some(1), Some(12)].map(|s| (list, s)))
    {
        let mut decoder = pretext_data::Decoder::reducing_to(shortest_side);
        for i in 0..pictures.len() {
            // The default decoder refuses some behind their header.
            let Ok(picture) = pictures.read_with(i, &mut decoder) else { continue };
            let bytes = pictures.decoded_bytes(i, &mut decoder).unwrap();
            let name = pictures.name(i).unwrap();
            assert_eq!(bytes, picture.pixels.len() as u64, "{name}, {shortest_side:?}");
            known += 1;
        }
    }
    assert!(known > 250, "{known}");
    let no_picture = pretext_data::Decoder::default();
    assert!(files.decoded_bytes(files.len(), &mut { no_picture }).is_err());
}

#[test]
fn real_pictures_survive_in_a_cache() {
    let (_out, files, cached, places) = odd_pictures();
    assert!(places.len() >= files.len() - 4 && places.is_sorted());
    for (i, place) in places.into_iter().enumerate() {
        assert_eq!(files.read(place).unwrap(), cached.read(i).unwrap());
    }
}

#[test]
fn the_file_does_not_depend_on_threads_and_does_not_tell_names_of_unsup() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let data = Dataset::open(root.path()).unwrap();
    let bytes = |threads| {
        let path = out.path().join(format!("{threads}.safetensors"));
        write(&data, &path, &Options { threads, ..Options::default() }).unwrap();
        fs::read(path).unwrap()
    };
    let one = bytes(1);
    assert_eq!(one, bytes(5));
    let tells = |name: &[u8]| one.windows(name.len()).any(|window| window == name);
    assert!(tells(b"train/n02/n02_5.JPEG"));
    // Numbers from 9 on are in unsup/ alone.
    for name in [b"n00_10", b"n01_11", b"n01_19"] {
        assert!(!tells(name));
    }
}

#[test]
fn tensors_are_as_documented() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    // Without this one, the pixels happen to end at a multiple of 8.
    fs::write(root.path().join("train/n00/n00_0.JPEG"), support::bmp(5, 1, 0)).unwrap();
    let path = out.path().join("a.safetensors");
    let data = Dataset::open(root.path()).unwrap();
    write(&data, &path, &Options::default()).unwrap();
    let file = fs::read(&path).unwrap();
    let (header, _) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    for (name, dtype, shape) in [
        ("offsets", safetensors::Dtype::I64, vec![34]),
        ("sizes", safetensors::Dtype::U32, vec![33, 2]),
        ("labels", safetensors::Dtype::U32, vec![33]),
        ("split", safetensors::Dtype::U8, vec![33]),
    ] {
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, shape.as_slice()), "{name}");
        let start = tensor.data().as_ptr() as usize - file.as_ptr() as usize;
        assert_eq!(start % dtype.bitsize().div_ceil(8), 0, "{name} is aligned");
    }
    assert_eq!(header % 8, 0);
    assert_eq!(tensors.tensor("pixels").unwrap().shape()[0] % 8, 0);
    let split = tensors.tensor("split").unwrap().data().to_vec();
    assert_eq!(split, [vec![0; 9], vec![1; 4], vec![2; 20]].concat());
    let labels = tensors.tensor("labels").unwrap().data().to_vec();
    assert_eq!(labels[4 * 13..], [255; 80]);
}

#[test]
fn larger_pictures_are_reduced() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    let data = Dataset::open(root.path()).unwrap();
    write(&data, &path, &Options { size: Some(3), ..Options::default() }).unwrap();
    let cached = Dataset::open(&path).unwrap();
    assert_eq!(cached.summary().cached_size, Some(3));
    assert_eq!(cached.fingerprint(), data.fingerprint());
    for i in 0..cached.unsup().len() {
        let (before, after) = (data.unsup().read(i).unwrap(), cached.unsup().read(i).unwrap());
        let shorter = before.width.min(before.height);
        assert_eq!(after.width.min(after.height), shorter.min(3));
        assert_eq!(before.pixels[..3], after.pixels[..3]);
    }
}

#[test]
fn damaged_pictures_are_left_out_and_listed() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    for name in ["train/n01/n01_4.JPEG", "val/n00/n00_0.JPEG"] {
        fs::write(root.path().join(name), "").unwrap();
    }
    let data = Dataset::open(root.path()).unwrap();
    let report = write(&data, &path, &Options::default()).unwrap();
    assert_eq!(report.pictures, 31);
    assert!(report.damaged[0].name.ends_with("train/n01/n01_4.JPEG"));
    assert!(report.damaged[1].name.ends_with("val/n00/n00_0.JPEG"));
    let cached = Dataset::open(&path).unwrap();
    assert_eq!(cached.train().labels(), [0, 0, 0, 1, 1, 2, 2, 2]);
    assert_eq!((cached.val().len(), cached.unsup().len()), (3, 20));
    assert_eq!(cached.summary().damaged, 2);
    assert_eq!(cached.fingerprint(), data.fingerprint());

    let strict = Options { strict: true, ..Options::default() };
    let error = write(&data, &out.path().join("b.safetensors"), &strict).unwrap_err().to_string();
    assert!(error.contains("train/n01/n01_4.JPEG: damaged picture: the file is empty"), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "nothing half-written is left");
}

#[test]
fn refusals_leave_nothing_behind() {
    let (root, out) = (folder(["a/1.png", "a/2.png"]), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    let data = Dataset::open(root.path()).unwrap();
    let stopped = cache::write(&data, &path, &Options::default(), |progress| {
        assert_eq!((progress.done, progress.total), (2, 2));
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(Error::Stopped { .. })));
    let wrong_name = write(&data, &out.path().join("a.bin"), &Options::default());
    assert!(matches!(wrong_name, Err(Error::CacheName { .. })));
    let no_folder = write(&data, &out.path().join("b/a.safetensors"), &Options::default());
    assert!(matches!(no_folder, Err(Error::Write { .. })));
    for name in ["a/1.png", "a/2.png"] {
        fs::write(root.path().join(name), "").unwrap();
    }
    let nothing = write(&Dataset::open(root.path()).unwrap(), &path, &Options::default());
    assert!(matches!(nothing, Err(Error::AllDamaged { count: 2, .. })));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_cache_is_not_cached_and_is_replaced_whole() {
    let (root, out) = (folder(["a/1.png"]), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    let data = Dataset::open(root.path()).unwrap();
    write(&data, &path, &Options::default()).unwrap();
    let cached = Dataset::open(&path).unwrap();
    let before = cached.train().pictures().read(0).unwrap();
    let again = write(&cached, &out.path().join("b.safetensors"), &Options::default());
    assert!(matches!(again, Err(Error::AlreadyCached { .. })));

    add(root.path(), "b/2.png", 7);
    write(&Dataset::open(root.path()).unwrap(), &path, &Options::default()).unwrap();
    assert_eq!(Dataset::open(&path).unwrap().train().len(), 2);
    // Who has the old one open still reads the old one.
    assert_eq!(cached.train().pictures().read(0).unwrap(), before);
}

#[test]
fn a_cache_is_current_until_anything_changes() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    let options = Options::default();
    let open = || Dataset::open(root.path()).unwrap();
    assert!(!cache::is_current(&path, &open(), &options));
    write(&open(), &path, &options).unwrap();
    assert!(cache::is_current(&path, &open(), &options));
    assert!(!cache::is_current(&path, &open(), &Options { size: Some(3), ..options.clone() }));
    assert!(cache::is_current(&path, &open(), &Options { strict: true, ..options.clone() }));

    // Neither name nor size tell this, only the time.
    let file = root.path().join("train/n00/n00_0.JPEG");
    let later = file.metadata().unwrap().modified().unwrap() + std::time::Duration::from_secs(2);
    fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    assert!(!cache::is_current(&path, &open(), &options));
    let error = Dataset::open(&path).unwrap_err().to_string();
    let (cache_path, source) = (path.display(), root.path().display());
    let remedy = format!("(pretext cache --data {source} --out {cache_path})");
    assert!(error.starts_with(&format!("{cache_path}: made from {source}, where")), "{error}");
    assert!(error.ends_with(&remedy), "{error}");

    write(&open(), &path, &options).unwrap();
    assert!(Dataset::open(&path).is_ok());
    add(root.path(), "unsup/more.png", 1);
    assert!(matches!(Dataset::open(&path), Err(Error::StaleCache { .. })));
    // Another file beside the pictures changes nothing.
    write(&open(), &path, &options).unwrap();
    add(root.path(), "unsup/notes.txt", 1);
    assert!(Dataset::open(&path).is_ok());
}

#[test]
fn a_cache_outlives_its_source_and_goes_anywhere() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    write(&Dataset::open(root.path()).unwrap(), &path, &Options::default()).unwrap();
    let moved = out.path().join("moved.safetensors");
    fs::rename(&path, &moved).unwrap();
    assert!(Dataset::open(&moved).is_ok());
    // The folder is there, but without pictures.
    for split in ["train", "val", "unsup"] {
        fs::remove_dir_all(root.path().join(split)).unwrap();
    }
    assert!(matches!(Dataset::open(&moved), Err(Error::StaleCache { .. })));
    drop(root);
    assert_eq!(Dataset::open(&moved).unwrap().train().len(), 9);
}

#[test]
fn a_cache_left_incomplete_is_not_current_for_the_strict() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    fs::write(root.path().join("train/n01/n01_4.JPEG"), "").unwrap();
    let data = Dataset::open(root.path()).unwrap();
    write(&data, &path, &Options::default()).unwrap();
    assert!(cache::is_current(&path, &data, &Options::default()));
    assert!(!cache::is_current(&path, &data, &Options { strict: true, ..Options::default() }));
}

#[test]
fn pictures_of_a_cache_are_windows_into_it() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    write(&Dataset::open(root.path()).unwrap(), &path, &Options::default()).unwrap();
    let pictures = Dataset::open(&path).unwrap().train().pictures().clone();
    let (one, again) = (pictures.read(3).unwrap(), pictures.read(3).unwrap());
    assert_eq!(one.pixels.as_ptr(), again.pixels.as_ptr());
    drop(pictures);
    // The mapping lives as long as its last picture.
    assert_eq!(again.pixels, one.pixels.clone().into_vec());
    assert_eq!(one, again);
}

#[test]
fn pictures_are_reduced_the_same_from_a_folder_and_from_its_cache() {
    let (_out, files, cached, places) = odd_pictures();
    let mut decoder = pretext_data::Decoder::reducing_to(Some(12));
    let mut reduced = 0;
    for (i, place) in places.into_iter().enumerate() {
        let whole = files.read(place).unwrap();
        let a = files.read_with(place, &mut decoder).unwrap();
        let b = cached.read_with(i, &mut decoder).unwrap();
        assert_eq!((a.width, a.height), (b.width, b.height));
        assert!(a.width.min(a.height) >= whole.width.min(whole.height).min(12));
        reduced += usize::from(a.width < whole.width);
        // libjpeg-turbo reduces on the way, in the frequency domain: see `hostile.rs`.
        if pretext_data::jpeg_decoder() == "zune-jpeg" {
            assert_eq!(a, b, "{i}");
        }
    }
    assert!(reduced > 30);
}

#[track_caller]
fn check(content: &[u8], problem: &str) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("a.safetensors");
    fs::write(&path, content).unwrap();
    let error = Dataset::open(&path).unwrap_err().to_string();
    assert!(
        error.contains(&format!("a.safetensors: not a usable decoded cache: {problem}")),
        "{error}"
    );
    assert!(
        error.ends_with("; make it again from the pictures") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn files_that_are_no_whole_cache_are_refused() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    write(&Dataset::open(root.path()).unwrap(), &path, &Options::default()).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        check(&whole[..length], "it is truncated or no safetensors file");
    }
    check(
        b"This is no cache, but it has the name of one.",
        "it is truncated or no safetensors file",
    );
    let other =
        safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![1], &[0]).unwrap();
    let other = safetensors::serialize([("pixels", other)], None).unwrap();
    check(&other, "it is a safetensors file of another kind");
}

#[test]
fn absurd_numbers_of_a_header_take_no_memory() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    write(&Dataset::open(root.path()).unwrap(), &path, &Options::default()).unwrap();
    let whole = fs::read(&path).unwrap();
    let (length, header) = (8, u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize);
    let text = std::str::from_utf8(&whole[length..length + header]).unwrap().trim_end();
    for (told, absurd, problem) in [
        ("\"unsup\":\"20\"", "\"unsup\":\"9223372036854775807\"", "its tensor \"offsets\""),
        ("\"unsup\":\"20\"", "\"unsup\":\"18446744073709551615\"", "its number of rows"),
        ("[34]", "[1152921504606846976]", "it is truncated or no safetensors file"),
        ("\"version\":\"2\"", "\"version\":\"1\"", "its version is"),
    ] {
        assert!(text.contains(told), "{text}");
        let text = text.replace(told, absurd);
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend(text.as_bytes());
        file.extend(&whole[length + header..]);
        check(&file, problem);
    }
    let mut longer = whole.clone();
    longer[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    check(&longer, "it is truncated or no safetensors file");
}

/// A header that tells the truth about a file that is a hole, of more rows than there is memory for.
#[test]
fn absurd_numbers_of_rows_take_no_memory() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("a.safetensors");
    let rows = 1_u64 << 36;
    let mut end = 0;
    let mut tensors = serde_json::Map::new();
    for (name, dtype, shape, bytes) in [
        ("offsets", "I64", vec![rows + 1], 8 * (rows + 1)),
        ("sizes", "U32", vec![rows, 2], 8 * rows),
        ("labels", "U32", vec![rows], 4 * rows),
        ("split", "U8", vec![rows], rows),
        ("names", "U8", vec![1], 1),
        ("pixels", "U8", vec![1], 1),
    ] {
        let offsets = [end, end + bytes];
        let about = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        tensors.insert(name.into(), about);
        end += bytes;
    }
    let numbers = ["val", "unsup", "damaged", "ignored"].map(|key| (key, "0".to_owned()));
    let texts = ["fingerprint", "source", "stamp"].map(|key| (key, String::new()));
    let mut about = std::collections::BTreeMap::from([
        ("format", "pretext-cache".to_owned()),
        ("version", "2".to_owned()),
        ("classes", "[\"a\"]".to_owned()),
        ("train", rows.to_string()),
        ("size", "full".to_owned()),
    ]);
    about.extend(numbers.into_iter().chain(texts));
    tensors.insert("__metadata__".into(), serde_json::json!(about));
    let header = serde_json::to_vec(&tensors).unwrap();
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], &header].concat()).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
    let error = Dataset::open(&path).unwrap_err().to_string();
    assert!(error.contains("the offset or size of its row 0 is wrong"), "{error}");
}

#[test]
fn rows_that_contradict_each_other_are_refused() {
    let (root, out) = (imagewang(), tempfile::tempdir().unwrap());
    let path = out.path().join("a.safetensors");
    write(&Dataset::open(root.path()).unwrap(), &path, &Options::default()).unwrap();
    let whole = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    for (name, at, byte, problem) in [
        ("offsets", 8 * 2, 1, "the offset or size of its row 1 is wrong"),
        ("offsets", 8 * 33 + 7, 0x80, "the offset or size of its row 32 is wrong"),
        ("offsets", 8 * 33 + 6, 1, "the offset or size of its row 32 is wrong"),
        ("sizes", 8 * 3, 0, "the offset or size of its row 3 is wrong"),
        ("labels", 0, 3, "the label of its row 0 is wrong"),
        ("labels", 4 * 14, 0, "the label of its row 14 is wrong"),
        ("split", 9, 2, "the split of its row 9 is wrong"),
        ("names", 0, 0xFF, "the name of its row 0 is wrong"),
    ] {
        let tensor = tensors.tensor(name).unwrap();
        let start = tensor.data().as_ptr() as usize - whole.as_ptr() as usize;
        let mut changed = whole.clone();
        changed[start + at] = byte;
        check(&changed, problem);
    }
    // Rows that agree with each other, but lie beyond the pixels.
    let offsets = tensors.tensor("offsets").unwrap();
    let start = offsets.data().as_ptr() as usize - whole.as_ptr() as usize;
    let mut changed = whole.clone();
    for i in 0..34 {
        changed[start + 8 * i + 5] = 1;
    }
    check(&changed, "the offset or size of its row 0 is wrong");
}
