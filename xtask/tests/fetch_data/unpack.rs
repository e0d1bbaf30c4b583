//! Hostile archives, and unpacking that is killed.

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use tar::EntryType;

use crate::archives::{
    Entry, FILE, archive, endless_name, gzip, long_name, many, noise, pictures, sha256,
};
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
fn a_million_folders_are_refused() {
    // The folders that names imply count too: each of these has thirty of its own.
    let names: Vec<_> = (0..20_000).map(|i| format!("w/train/{i}/{}", "a/".repeat(28))).collect();
    let entries: Vec<Entry<'_>> =
        names.iter().map(|name| (name.as_str(), EntryType::Directory, &b""[..])).collect();
    hostile("folders", &archive(&entries), "500000 files");
}

#[test]
fn folders_a_thousand_deep_are_refused() {
    let name = "w/train/".to_owned() + &"a/".repeat(1000);
    hostile("deep", &long_name(&name), "deeper than 32 folders");
    let short: Entry<'_> = (&"a/".repeat(33), EntryType::Directory, b"");
    hostile("deeper", &archive(&[("w/train/1.jpg", FILE, b"x"), short]), "deeper than 32 folders");
}

/// What no file system would take is the archive's fault, and none of it is written.
#[test]
fn faults_of_an_archive_are_told_as_such() {
    let good: Entry<'_> = ("w/train/1.jpg", FILE, b"x");
    let both = r#""w/train/a" in it is a file and a folder at once"#;
    let (file, within): (Entry<'_>, Entry<'_>) =
        (("w/train/a", FILE, b"x"), ("w/train/a/b.jpg", FILE, b"x"));
    hostile("within", &archive(&[good, file, within]), both);
    hostile("over", &archive(&[good, within, file]), both);
    let folder: Entry<'_> = ("w/train/a/", EntryType::Directory, b"");
    hostile("folder", &archive(&[good, file, folder]), both);
    hostile("file", &archive(&[good, folder, file]), both);
    // Only a file is called train.
    hostile("no-train", &archive(&[("w/train", FILE, b"x")]), "has no train/ folder");
    let long = format!("w/train/{}.jpg", "a".repeat(296));
    hostile("long", &long_name(&long), "has a name of 300 bytes");
    hostile("zero", &long_name("w/train/a\0b.jpg"), "in its name");
}

#[test]
fn the_later_of_two_files_counts() {
    let bench = Bench::new();
    let twice =
        [("w/train/1.jpg", FILE, &b"first, longer"[..]), ("w/train/1.jpg", FILE, b"second")];
    bench.works(&["--from", &bench.archive("a.tgz", &archive(&twice))]);
    assert_eq!(fs::read(bench.target().join("w/train/1.jpg")).unwrap(), b"second");
}

#[test]
fn names_that_are_kept_here_are_no_data_sets() {
    for name in [".unpacking-zz", ".fetch-data.lock", ".top", "other.tgz.part", "other.tgz.refused"]
    {
        let file = format!("{name}/train/1.jpg");
        let bytes = archive(&[(&file, FILE, b"x")]);
        hostile("kept", &bytes, "is kept for fetch-data; give the data set another");
        // Which helps.
        let bench = Bench::new();
        bench.works(&["zz", "--from", &bench.archive("a.tgz", &bytes)]);
        bench.works(&["--from", &bench.archive("small-wang.tgz", &pictures())]);
        assert_eq!(files(&bench.target()), [".fetch-data.lock", "small-wang", "zz"]);
    }
    for top in ["", "w/"] {
        let names = [".fetched/train/1.jpg", "train/1.jpg"].map(|name| format!("{top}{name}"));
        let entries = names.each_ref().map(|name| (name.as_str(), FILE, &b"x"[..]));
        hostile("note", &archive(&entries), "is a folder, where a note is written");
    }
}

/// Below their folder all names are the archive's, ours of an earlier fetch among them.
#[test]
fn names_of_ours_within_a_data_set_are_its_own() {
    for top in ["", "small/"] {
        let names =
            [".top/a", ".unpacking-zz/a", "train/a/.fetched/b", "all/a", ".fetched", "train/1"];
        let names = names.map(|name| format!("{top}{name}"));
        let bytes = archive(&names.each_ref().map(|name| (name.as_str(), FILE, &b"x"[..])));
        let bench = Bench::new();
        let file = bench.archive("small.tgz", &bytes);
        bench.works(&["--from", &file]);
        let folder = bench.target().join("small");
        let want = [".fetched", ".top", ".unpacking-zz", "all", "train"];
        assert_eq!(files(&folder), want);
        assert_eq!(fs::read_to_string(folder.join(".fetched")).unwrap().trim(), sha256(&bytes));
        assert!(bench.works(&["small", "--from", &file]).contains("already there"));
    }
}

#[test]
fn a_set_is_called_by_a_plain_name() {
    let bench = Bench::new();
    let file = bench.archive("a.tgz", &pictures());
    let absolute = bench.path("out").display().to_string();
    for name in ["../esc", "a/b", "..", ".", "", "a/", ".unpacking-a", &absolute, "a.tgz.part"] {
        bench.mistaken(&[name, "--from", &file], &["no data set can be called", name]);
    }
    assert_eq!(files(bench.folder.path()), ["a.tgz"], "nothing is written at all");
}

#[test]
fn members_of_gzip_are_read_one_after_the_other() {
    let bytes = pictures();
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
    let cut = tar.len() / 3;
    let bench = Bench::new();
    // In the middle of a picture, as bgzip cuts.
    let members = [&tar[..cut], &[], &tar[cut..]].map(gzip).concat();
    bench.works(&["--from", &bench.archive("a.tgz", &members)]);
    bench.is_whole();
    assert_eq!(fs::read(bench.target().join("small-wang/train/a/1.jpg")).unwrap(), noise(200_000));
    // Two archives, one behind the other.
    let bench = Bench::new();
    let more = archive(&[("small-wang/train/b/2.jpg", FILE, b"more")]);
    bench.works(&["--from", &bench.archive("a.tgz", &[bytes.clone(), more].concat())]);
    bench.is_whole();
    assert_eq!(fs::read(bench.target().join("small-wang/train/b/2.jpg")).unwrap(), b"more");
    // The limits are those of all members together, and each has to be whole.
    let zeros = archive(&[("w/train/1.jpg", FILE, &vec![0; 15 << 20])]);
    let bench = Bench::new();
    bench.works(&["--from", &bench.archive("a.tgz", &zeros)]);
    hostile("bombs", &[&zeros[..]; 3].concat(), "unpacks to more than");
    hostile("padding", &[bytes.clone(), gzip(&vec![0; 2 << 20])].concat(), "too much");
    hostile("half", &[&bytes[..], &gzip(&tar)[..1000]].concat(), "damaged");
    hostile("rest", &[&bytes[..], b"something else"].concat(), "damaged");
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
                .any(|name| bench.target().join(name).join("all/many-wang/train/a/0.jpg").exists())
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
