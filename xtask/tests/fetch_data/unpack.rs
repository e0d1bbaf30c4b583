//! Hostile archives, and unpacking that is killed.

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use tar::EntryType;

use crate::archives::{Entry, FILE, archive, endless_name, many, noise, pictures, sha256};
use crate::{Bench, files};

/// A local archive that must be refused with a line that says `word`, and with nothing written.
#[track_caller]
fn hostile(name: &str, bytes: &[u8], word: &str) {
    let bench = Bench::new();
    let archive = format!("archive-{name}.tgz");
    let file = bench.archive(&archive, bytes);
    bench.refused(&["--from", &file], &[name, word]);
    assert_eq!(files(&bench.target()), [".fetch-data.lock"], "{name}");
    assert_eq!(files(bench.folder.path()), [archive.as_str(), "data"], "{name}: beside the target");
}

#[test]
fn ways_out_are_refused() {
    let good: Entry<'_> = ("w/train/1.jpg", FILE, b"x");
    hostile("parent", &archive(&[good, ("w/train/../../../out", FILE, b"x")]), "outside");
    hostile("parent-folder", &archive(&[good, ("../", EntryType::Directory, b"")]), "outside");
    hostile("absolute", &archive(&[good, ("/tmp/pretext-out", FILE, b"x")]), "outside");
    assert!(!Path::new("/tmp/pretext-out").exists());
    hostile("nameless", &archive(&[good, (".", FILE, b"x")]), "no name");
}

#[test]
fn anything_but_files_and_folders_is_refused() {
    for (kind, word) in [
        (EntryType::Symlink, "Symlink"),
        (EntryType::Link, "Link"),
        (EntryType::Block, "Block"),
        (EntryType::Char, "Char"),
        (EntryType::Fifo, "Fifo"),
        (EntryType::GNUSparse, ""),
    ] {
        let entries: [Entry<'_>; 2] = [("w/train/1.jpg", FILE, b"x"), ("w/train/a", kind, b"")];
        hostile("odd", &archive(&entries), word);
    }
}

#[test]
fn a_link_is_no_way_through() {
    // Were the link made, the file would be written where it leads.
    let entries: [Entry<'_>; 2] =
        [("w/train", EntryType::Symlink, b""), ("w/train/out", FILE, b"x")];
    hostile("through", &archive(&entries), "Symlink");
}

#[test]
fn what_is_no_data_set_is_refused() {
    hostile("other", &archive(&[("w/readme", FILE, b"x")]), "train/");
    hostile("empty", &archive(&[]), "empty");
    hostile("text", b"not an archive", "damaged");
    hostile("nothing", b"", "damaged");
    hostile("cut", &pictures()[..100_000], "cut off");
    let whole = pictures();
    hostile("checksum", &whole[..whole.len() - 4], "damaged");
    let mut wrong = pictures();
    let end = wrong.len() - 6;
    wrong[end] ^= 1;
    hostile("wrong-checksum", &wrong, "damaged");
}

#[test]
fn names_cannot_break_the_line() {
    let name = "w/train/../\n\x1b[31mfine";
    hostile("escape", &archive(&[(name, FILE, b"x")]), r"\n\u{1b}[31mfine");
}

#[test]
fn a_million_files_are_refused() {
    hostile("million", &many(1_000_000), "500000 files");
}

#[test]
fn decompression_bombs_are_refused() {
    let zeros = vec![0; 100 << 20];
    hostile("bomb", &archive(&[("w/train/1.jpg", FILE, &zeros)]), "more than");
    // The header alone is enough.
    let mut header = tar::Header::new_ustar();
    header.set_path("w/train/1.jpg").unwrap();
    header.set_size(1 << 50);
    header.set_cksum();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, header.as_bytes()).unwrap();
    hostile("petabyte", &gzip.finish().unwrap(), "more than");
    // A name that would fill the memory.
    hostile("name", &endless_name(100 << 20), "too much");
}

#[test]
fn a_hash_is_checked_before_anything_is_unpacked() {
    let (bench, bytes) = (Bench::new(), pictures());
    let file = bench.archive("a.tgz", &bytes);
    let other = "0".repeat(64);
    let from = ["--from", &file, "--sha256"];
    bench.refused(&[&from[..], &[&other]].concat(), &["a.tgz", &sha256(&bytes), &other]);
    // A known set has to be the known archive.
    bench.refused(&["imagewang-160", "--from", &file], &["191498213", "bytes"]);
    assert!(Path::new(&file).exists(), "somebody else's archive is not ours to move");
    bench.works(&[&from[..], &[&sha256(&bytes)]].concat());
}

#[test]
fn many_files_are_fine() {
    let bench = Bench::new();
    let file = bench.archive("many-wang.tgz", &many(3000));
    bench.works(&["--from", &file]);
    assert_eq!(files(&bench.target().join("many-wang/train/a")).len(), 3001);
    let last = fs::read(bench.target().join("many-wang/train/a/last.jpg")).unwrap();
    assert_eq!(last, noise(2_000_000));
}

#[test]
fn killed_unpacking_leaves_nothing_to_clean_up() {
    let count = 30_000;
    let bytes = many(count);
    // It may be done before it can be killed; then it is tried again.
    for _ in 0..20 {
        let bench = Bench::new();
        let file = bench.archive("many-wang.tgz", &bytes);
        let mut child = bench.command(&["--from", &file]).spawn().unwrap();
        let half = || {
            files(&bench.target())
                .into_iter()
                .filter(|name| name.starts_with(".unpacking-"))
                .any(|name| bench.target().join(name).join("many-wang/train/a/0.jpg").exists())
        };
        while !half() && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if bench.target().join("many-wang").exists() || !half() {
            continue;
        }
        bench.works(&["--from", &file]);
        assert_eq!(files(&bench.target()), [".fetch-data.lock", "many-wang"]);
        assert_eq!(files(&bench.target().join("many-wang/train/a")).len(), count + 1);
        return;
    }
    panic!("unpacking could never be interrupted");
}
