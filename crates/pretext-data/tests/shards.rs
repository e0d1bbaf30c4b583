//! Data sets in tar archives and Parquet files: what they hold, in which order, and what is refused.

mod support;

use std::{
    fs,
    io::Cursor,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pretext_data::{Dataset, Error, Loader, Pictures, cache};
use support::bmp;
use tempfile::TempDir;

/// Writes an archive of members with their content.
fn tar(root: &TempDir, name: &str, members: &[(&str, &[u8])]) -> PathBuf {
    let path = root.path().join(name);
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, Cursor::new(content)).unwrap();
    }
    archive.into_inner().unwrap();
    path
}

/// The number that each picture's colour tells: see `support::bmp`.
fn colours(pictures: &Pictures) -> Vec<u8> {
    (0..pictures.len()).map(|i| pictures.read(i).unwrap().pixels[0]).collect()
}

fn sorted(mut colours: Vec<u8>) -> Vec<u8> {
    colours.sort_unstable();
    colours
}

#[track_caller]
fn refused(path: &Path, words: &str) {
    let error = Dataset::open(path).expect_err(words).to_string();
    assert!(error.contains(words) && !error.contains('\n'), "{error}");
}

#[test]
fn members_of_one_name_are_a_sample() {
    let root = tempfile::tempdir().unwrap();
    let long = format!("{}/{}.png", "folder".repeat(15), "name".repeat(20));
    let path = tar(
        &root,
        "shard-000000.tar",
        &[
            ("b/000.jpg", &bmp(3, 2, 0)),
            ("b/000.cls", b"10\n"),
            ("b/001.JPEG", &bmp(3, 2, 1)),
            ("b/001.json", br#"{"label": 9, "text": "a dog"}"#),
            ("002.png", &bmp(3, 2, 2)),
            ("003.txt", b"a caption"),
            ("003.cls", b"8"),
            (&long, &bmp(3, 2, 4)),
            ("b/._000.jpg", b"what another system leaves"),
        ],
    );
    let data = Dataset::open(&path).unwrap();
    assert_eq!(data.classes(), ["9", "10"]);
    assert_eq!((data.train().labels(), data.val().len()), ([1, 0].as_slice(), 0));
    assert_eq!(colours(data.train().pictures()), [0, 1]);
    assert_eq!(sorted(colours(data.unsup())), [2, 4]);
    let name = data.train().pictures().name(0).unwrap();
    assert_eq!(name, "train/10/shard-000000/b/000.jpg");
    assert!(data.unsup().name(0).unwrap().starts_with("unsup/"));
    let summary = data.summary();
    assert_eq!((summary.shards, summary.ignored), (1, 2));
    assert_eq!(summary.bytes, path.metadata().unwrap().len());
    assert!(summary.to_string().contains("1 shard,"), "{summary}");
}

#[test]
fn names_of_shards_tell_the_splits() {
    let root = tempfile::tempdir().unwrap();
    let sample = |i: u32| bmp(3, 2, i);
    let (a, b): (&[u8], &[u8]) = (b"ant", b"bee");
    tar(&root, "train-1.tar", &[("2.png", &sample(2)), ("2.cls", a)]);
    tar(
        &root,
        "train-0.tar",
        &[("0.png", &sample(0)), ("0.cls", b), ("1.png", &sample(1)), ("1.cls", a)],
    );
    tar(&root, "val-0.tar", &[("3.png", &sample(3)), ("3.cls", b)]);
    tar(&root, "test-0.tar", &[("4.png", &sample(4)), ("4.cls", b)]);
    tar(&root, "unsup-0.tar", &[("5.png", &sample(5)), ("5.cls", b"nobody is to know")]);
    let data = Dataset::open(root.path()).unwrap();
    assert_eq!(data.classes(), ["ant", "bee"]);
    assert_eq!(colours(data.train().pictures()), [0, 1, 2]);
    assert_eq!(data.train().labels(), [1, 0, 0]);
    assert_eq!((colours(data.val().pictures()), data.val().labels()), (vec![3], [1].as_slice()));
    assert_eq!(colours(data.unsup()), [5]);
    assert_eq!(data.summary().ignored, 1, "the test shard");
    assert!(!format!("{data:?} {:?}", data.summary()).contains("nobody"));

    let range = root.path().join("train-{0..1}.tar");
    assert_eq!(Dataset::open(&range).unwrap().train().len(), 3);
    refused(&root.path().join("train-{0..2}.tar"), "train-2.tar: no such folder or file");
    refused(&root.path().join("val-0.tar"), "val-0.tar: is to validate with, but nothing");
    fs::remove_file(root.path().join("val-0.tar")).unwrap();
    assert_eq!(colours(Dataset::open(root.path()).unwrap().val().pictures()), [4]);
}

#[test]
fn shards_beside_pictures_or_folders_are_passed_over() {
    let root = support::folder(["a/1.png", "b/2.png"]);
    tar(&root, "all.tar", &[("0.png", &bmp(3, 2, 0))]);
    let data = Dataset::open(root.path()).unwrap();
    assert_eq!((data.train().len(), data.summary().shards), (2, 0));
}

#[test]
fn archives_that_cannot_be_used_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let whole = tar(&root, "a.tar", &[("0.png", &bmp(30, 30, 0)), ("0.cls", b"1")]);
    let bytes = fs::read(&whole).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    refused(&write("cut.tar", &bytes[..1000]), "cut.tar: it ends inside of 0.png; write it again");
    refused(&write("text.tar", &b"no archive ".repeat(100)), "no usable tar archive");
    refused(&write("empty.tar", &[0; 1024]), "empty.tar: holds no pictures");
    refused(
        &tar(&root, "b.tar", &[("0.png", &bmp(3, 2, 0)), ("0.cls", b"\n")]),
        "0.cls holds no class",
    );
    let folder = tempfile::tempdir().unwrap();
    tar(&folder, "train.tar", &[("0.png", &bmp(3, 2, 0)), ("0.cls", b"1")]);
    tar(&folder, "val.tar", &[("1.png", &bmp(3, 2, 0)), ("1.cls", b"2")]);
    refused(folder.path(), "val/1.png is of the class \"2\"");
    tar(&folder, "val.tar", &[("1.png", &bmp(3, 2, 0))]);
    refused(folder.path(), "val.tar: 1.png has no label");
}

#[test]
fn a_damaged_member_is_named_with_its_archive() {
    let root = tempfile::tempdir().unwrap();
    let path = tar(&root, "a.tar", &[("x/0.png", b""), ("x/1.png", &bmp(3, 2, 1))]);
    let data = Dataset::open(&path).unwrap();
    let loader = Loader { threads: 2, ..Loader::default() };
    let batch =
        loader.batches(data.unsup(), vec![0, 1], |_, p| p.pixels[0]).next().unwrap().unwrap();
    assert_eq!(batch.items, [1]);
    assert!(batch.damaged[0].name.ends_with("a.tar/x/0.png"), "{:?}", batch.damaged);
}

#[test]
fn a_cache_of_shards_equals_them_and_notices_their_change() {
    let root = tempfile::tempdir().unwrap();
    let path =
        tar(&root, "a.tar", &[("0.png", &bmp(3, 2, 0)), ("0.cls", b"x"), ("1.png", &bmp(4, 2, 1))]);
    let out = tempfile::tempdir().unwrap();
    let cached = out.path().join("a.safetensors");
    let data = Dataset::open(&path).unwrap();
    cache::write(&data, &cached, &cache::Options::default(), |_| ControlFlow::Continue(()))
        .unwrap();
    let from_cache = Dataset::open(&cached).unwrap();
    assert_eq!(from_cache.fingerprint(), data.fingerprint());
    assert_eq!(
        from_cache.train().pictures().read(0).unwrap(),
        data.train().pictures().read(0).unwrap()
    );
    assert_eq!(from_cache.unsup().read(0).unwrap(), data.unsup().read(0).unwrap());
    tar(&root, "a.tar", &[("0.png", &bmp(3, 2, 0)), ("0.cls", b"y"), ("1.png", &bmp(4, 2, 1))]);
    assert!(matches!(Dataset::open(&cached), Err(Error::StaleCache { .. })));
}

#[cfg(feature = "parquet")]
mod parquet {
    use std::sync::Arc;

    use ::parquet::{
        basic::{Compression, ZstdLevel},
        data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type},
        file::{
            metadata::KeyValue,
            properties::{WriterProperties, WriterVersion},
            writer::SerializedFileWriter,
        },
        schema::parser::parse_message_type,
    };

    use super::*;

    /// As Hugging Face's `datasets` wrote them: see `huggingface/make.py`.
    #[test]
    fn files_of_hugging_face_are_read() {
        let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/huggingface"].iter().collect();
        let copy = tempfile::tempdir().unwrap();
        for split in ["train", "validation"] {
            let name = format!("{split}-00000-of-00001.parquet");
            fs::copy(folder.join(&name), copy.path().join(&name)).unwrap();
        }
        let data = Dataset::open(copy.path()).unwrap();
        assert_eq!(data.classes(), ["zebra", "ant", "cat"]);
        assert_eq!(data.train().labels(), [2, 0, 1, 2]);
        assert_eq!(colours(data.train().pictures()), [0, 1, 2, 4]);
        assert_eq!(data.val().labels(), [0, 2]);
        assert_eq!(colours(data.val().pictures()), [5, 6]);
        assert_eq!(colours(data.unsup()), [3]);
        let name = data.train().pictures().name(3).unwrap();
        assert_eq!(name, "train/cat/train-00000-of-00001/4");
        let path = copy.path().join("train-00000-of-00001.parquet");
        assert_eq!(Dataset::open(&path).unwrap().train().len(), 4);
    }

    /// 60 rows in row groups of 25: some are no pictures, some repeat, some have no label.
    fn write(path: &Path, compression: Compression, version: WriterVersion, dictionary: bool) {
        let schema = "message schema {
            optional group img { optional binary bytes; optional binary path (STRING); }
            optional int32 fine;
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let features = r#"{"info": {"features": {"fine":
            {"_type": "ClassLabel", "names": ["a", "b", "c"]}}}}"#;
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_writer_version(version)
            .set_dictionary_enabled(dictionary)
            .set_data_page_row_count_limit(4)
            .set_write_batch_size(2)
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "huggingface".into(),
                features.to_owned(),
            )]));
        let file = fs::File::create(path).unwrap();
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
        for rows in (0..60_u32).collect::<Vec<_>>().chunks(25) {
            let mut group = writer.next_row_group().unwrap();
            let bytes: Vec<ByteArray> =
                rows.iter().filter(|i| **i != 7).map(|i| bmp(3, 2, i / 2).into()).collect();
            let levels: Vec<i16> = rows.iter().map(|i| if *i == 7 { 1 } else { 2 }).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let none = vec![1; rows.len()];
            column.typed::<ByteArrayType>().write_batch(&[], Some(&none), None).unwrap();
            column.close().unwrap();
            let labels: Vec<i32> = rows.iter().map(|i| *i as i32 % 4 - 1).collect();
            let all = vec![1; rows.len()];
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int32Type>().write_batch(&labels, Some(&all), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn every_compression_and_encoding_gives_the_same_pictures() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.parquet");
        let zstd = Compression::ZSTD(ZstdLevel::default());
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                for dictionary in [false, true] {
                    write(&path, compression, version, dictionary);
                    check(&path);
                }
            }
        }
    }

    fn check(path: &Path) {
        let data = Dataset::open(path).unwrap();
        assert_eq!(data.classes(), ["a", "b", "c"]);
        let labelled: Vec<usize> = (0..60).filter(|i| i % 4 > 0).collect();
        assert_eq!((data.train().len(), data.unsup().len()), (labelled.len(), 15));
        let labels: Vec<u32> = labelled.iter().map(|i| *i as u32 % 4 - 1).collect();
        assert_eq!(data.train().labels(), labels);
        // Backwards, so that pages are passed over.
        for (place, row) in labelled.iter().enumerate().rev() {
            match data.train().pictures().read(place) {
                Ok(picture) => assert_eq!(usize::from(picture.pixels[0]), row / 2),
                Err(error) => {
                    assert_eq!(*row, 7);
                    let error = error.to_string();
                    assert!(
                        error.contains("x.parquet/row 7: damaged picture: the row holds no"),
                        "{error}"
                    );
                }
            }
        }
        let expected: Vec<u8> = (0..60).step_by(4).map(|row| row / 2).collect();
        assert_eq!(sorted(colours(data.unsup())), expected);
        let loader = Loader { threads: 3, batch_size: 7, ..Loader::default() };
        let order = (0..labelled.len()).map(|i| i * 7 % labelled.len()).collect();
        let batches = loader.batches(data.train().pictures(), order, |id, p| (id, p.pixels[0]));
        for (id, colour) in batches.flat_map(|batch| batch.unwrap().items) {
            assert_eq!(usize::from(colour), labelled[id] / 2);
        }
    }

    #[test]
    fn names_of_classes_may_stand_in_the_rows() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.parquet");
        let schema = "message schema {
            required group image { required binary bytes; } required binary label (STRING);
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let file = fs::File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let columns: [Vec<ByteArray>; 2] =
            [vec![bmp(3, 2, 1).into(), bmp(3, 2, 2).into()], vec!["dog".into(), "cat".into()]];
        for values in columns {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let data = Dataset::open(&path).unwrap();
        assert_eq!(
            (data.classes(), data.train().labels()),
            (["cat".into(), "dog".into()].as_slice(), [1, 0].as_slice())
        );
        assert_eq!(colours(data.train().pictures()), [1, 2]);
    }

    #[test]
    fn files_that_cannot_be_used_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.parquet");
        write(&path, Compression::SNAPPY, WriterVersion::PARQUET_1_0, false);
        let whole = fs::read(&path).unwrap();
        for length in [0, 3, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Dataset::open(&path).unwrap_err().to_string();
            assert!(error.contains("x.parquet: ") && !error.contains('\n'), "{error}");
        }
        // Bytes of pictures and headers change, and nothing panics.
        for at in (4..whole.len() - 8).step_by(37) {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            fs::write(&path, &changed).unwrap();
            if let Ok(data) = Dataset::open(&path) {
                for i in 0..data.train().len() {
                    let _ = data.train().pictures().read(i);
                }
            }
        }
        let schema = Arc::new(parse_message_type("message m { required int64 label; }").unwrap());
        let file = fs::File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        refused(&path, "it has no column of pictures");
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_the_feature_parquet_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.parquet");
    fs::write(&path, "PAR1").unwrap();
    refused(&path, "this build reads no Parquet; build it with the feature `parquet`");
}
