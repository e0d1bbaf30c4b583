//! `cargo xtask fetch-data` against a server and archives made here.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

fn fetch_data(args: &[&str], into: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("fetch-data").args(args).arg("--into").arg(into);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

#[track_caller]
fn works(args: &[&str], into: &Path) -> String {
    let output = fetch_data(args, into);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must fail with one line that says `words`, and leave nothing unpacked.
#[track_caller]
fn refused(args: &[&str], into: &Path, words: &[&str]) {
    let output = fetch_data(args, into);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "it worked");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
    let folders = fs::read_dir(into).into_iter().flatten().flatten();
    let folders: Vec<_> = folders.filter(|entry| entry.path().is_dir()).collect();
    assert!(folders.is_empty(), "{folders:?} was left behind");
}

/// A gzipped tar archive of entries with any name and type.
fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for &(name, kind, bytes) in entries {
        let mut header = Header::new_ustar();
        // Written past the checks of the tar crate, as a wrong-doer would.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        if kind == EntryType::Symlink || kind == EntryType::Link {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn pictures() -> Vec<u8> {
    // Incompressible, so that the archive is long enough to be cut in the middle.
    let mut state = 1_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..200_000).map(|_| draw()).collect();
    archive(&[
        ("small-wang/train/a/", EntryType::Directory, b""),
        ("small-wang/train/a/1.jpg", EntryType::Regular, &noise),
        ("small-wang/val/a/1.jpg", EntryType::Regular, b"two"),
        ("small-wang/unsup/1.jpg", EntryType::Regular, b"three"),
    ])
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How the server treats a request.
#[derive(Clone, Copy)]
enum Manners {
    /// Sends what is asked for.
    Good,
    /// Sends half of what is asked for, twice, before it is good.
    Cuts,
    /// Sends half once, and from then on always the whole, as a server without ranges does.
    NoRanges,
    Missing,
}

struct Server {
    address: String,
    /// The byte each request began at.
    starts: Arc<Mutex<Vec<usize>>>,
}

fn serve(body: Vec<u8>, manners: Manners) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let starts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&starts);
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &body, manners, &seen);
        }
    });
    Server { address, starts }
}

fn answer(mut stream: TcpStream, body: &[u8], manners: Manners, seen: &Mutex<Vec<usize>>) {
    let mut asked = 0;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap_or_default().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            asked = range.trim_end_matches('-').parse().unwrap();
        }
    }
    let mut seen = seen.lock().unwrap();
    let earlier = seen.len();
    seen.push(asked);
    let (cut, ranges) = match manners {
        Manners::Good => (false, true),
        Manners::Cuts => (earlier < 2, true),
        Manners::NoRanges => (earlier < 1, false),
        Manners::Missing => {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
            return;
        }
    };
    let start = if ranges { asked } else { 0 };
    let rest = &body[start..];
    let head = if start > 0 {
        let last = body.len() - 1;
        format!("206 Partial Content\r\ncontent-range: bytes {start}-{last}/{}", body.len())
    } else {
        "200 OK".into()
    };
    let sent = if cut { &rest[..rest.len() / 2] } else { rest };
    let _ = write!(stream, "HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", rest.len());
    let _ = stream.write_all(sent);
}

#[test]
fn a_local_archive_is_unpacked_once() {
    let folder = tempfile::tempdir().unwrap();
    let (file, into) = (folder.path().join("small-wang.tgz"), folder.path().join("data"));
    let bytes = pictures();
    fs::write(&file, &bytes).unwrap();
    let from = ["--from", file.to_str().unwrap()];
    assert!(works(&from, &into).contains(&sha256(&bytes)));
    assert_eq!(fs::read(into.join("small-wang/unsup/1.jpg")).unwrap(), b"three");
    assert!(file.exists(), "somebody else's archive is not ours to delete");
    fs::write(into.join("small-wang/unsup/1.jpg"), "mine").unwrap();
    let again = [&["small-wang"], &from[..]].concat();
    assert!(works(&again, &into).contains("already there"));
    assert_eq!(fs::read(into.join("small-wang/unsup/1.jpg")).unwrap(), b"mine");
}

#[test]
fn the_hash_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (file, into) = (folder.path().join("a.tgz"), folder.path().join("data"));
    let bytes = pictures();
    fs::write(&file, &bytes).unwrap();
    let from = ["--from", file.to_str().unwrap(), "--sha256"];
    let other = "0".repeat(64);
    refused(&[&from[..], &[&other]].concat(), &into, &["a.tgz", &sha256(&bytes), &other]);
    refused(&[&from[..], &["abc"]].concat(), &into, &["64 hexadecimal digits"]);
    works(&[&from[..], &[&sha256(&bytes)]].concat(), &into);
    // A known set from a mirror has to be the known archive.
    refused(
        &["imagewang-160", "--from", file.to_str().unwrap()],
        &folder.path().join("other"),
        &["191498213", "bytes"],
    );
}

#[test]
fn a_cut_download_goes_on() {
    for (manners, resumes) in
        [(Manners::Good, false), (Manners::Cuts, true), (Manners::NoRanges, true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let server = serve(pictures(), manners);
        let from = format!("{}/mirror/small-wang.tgz", server.address);
        works(&["--from", &from], folder.path());
        assert!(folder.path().join("small-wang/train/a/1.jpg").exists());
        assert!(!folder.path().join("small-wang.tgz.part").exists());
        let starts = server.starts.lock().unwrap();
        assert_eq!(starts[0], 0);
        assert_eq!(starts.len() > 1 && starts[1] > 0, resumes, "{starts:?}");
    }
}

#[test]
fn what_an_earlier_download_left_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = pictures();
    fs::write(folder.path().join("small-wang.tgz.part"), &bytes[..1000]).unwrap();
    let server = serve(bytes, Manners::Good);
    works(&["--from", &format!("{}/small-wang.tgz", server.address)], folder.path());
    assert_eq!(*server.starts.lock().unwrap(), [1000]);
}

#[test]
fn mistakes_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("data");
    let server = serve(Vec::new(), Manners::Missing);
    refused(&["--from", &format!("{}/x.tgz", server.address)], &into, &["404", "x.tgz"]);
    refused(&["imagenet"], &into, &["imagenet", "imagewang-160", "imagewoof2"]);
    refused(&["--from", "/nowhere/x.tgz"], &into, &["/nowhere/x.tgz"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&["--from", &format!("http://{nobody}/x.tgz")], &into, &["x.tgz", "repeat"]);
}

#[test]
fn hostile_archives_write_nothing() {
    let file = EntryType::Regular;
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("parent", archive(&[("w/train/../../../out", file, b"x")]), "outside"),
        ("absolute", archive(&[("/tmp/pretext-out", file, b"x")]), "outside"),
        ("symlink", archive(&[("w/train/a", EntryType::Symlink, b"")]), "Symlink"),
        ("link", archive(&[("w/train/a", EntryType::Link, b"")]), "Link"),
        ("device", archive(&[("w/train/a", EntryType::Block, b"")]), "Block"),
        ("other", archive(&[("w/readme", file, b"x")]), "train/"),
        ("empty", archive(&[]), "empty"),
        ("text", b"not an archive".to_vec(), "damaged"),
        ("cut", pictures()[..100_000].to_vec(), "cut off"),
    ];
    for (name, bytes, word) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (path, into) = (folder.path().join(format!("{name}.tgz")), folder.path().join("data"));
        fs::write(&path, bytes).unwrap();
        refused(&["--from", path.to_str().unwrap()], &into, &[name, word]);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "{name}: something was written beside the target");
        assert!(!Path::new("/tmp/pretext-out").exists());
    }
}
