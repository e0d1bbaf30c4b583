//! `cargo xtask fetch-data` against servers and archives made here.

mod archives;
mod disk;
mod download;
mod parts;
mod proxy;
mod server;
mod slow;
mod unpack;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use archives::{pictures, sha256};
use server::Server;
use tempfile::TempDir;

/// Time-outs and waits that suit a server on the same machine.
const QUICK: [&str; 6] = ["--timeout", "5", "--attempts", "3", "--retry-wait", "0.01"];

/// A folder to fetch into, with nothing in it.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes a local archive.
    fn archive(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("fetch-data").args(args).arg("--into").arg(self.target());
        if !args.contains(&"--timeout") {
            command.args(QUICK);
        }
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs what must work, and gives what it printed.
    #[track_caller]
    fn works(&self, args: &[&str]) -> String {
        works(&mut self.command(args))
    }

    /// Runs what must fail as a mistake of the user's, and leave nothing unpacked.
    #[track_caller]
    fn mistaken(&self, args: &[&str], words: &[&str]) {
        let output = refused(&mut self.command(args), words);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(folders(&self.target()), [""; 0], "a folder was left behind");
    }

    /// Runs what must fail with one line that says `words`, and leave nothing unpacked.
    #[track_caller]
    fn refused(&self, args: &[&str], words: &[&str]) {
        refused(&mut self.command(args), words);
        assert_eq!(folders(&self.target()), [""; 0], "a folder was left behind");
    }

    /// That the small data set is there, and nothing besides it.
    #[track_caller]
    fn is_whole(&self) {
        assert_eq!(fs::read(self.target().join("small-wang/unsup/1.jpg")).unwrap(), b"three");
        assert_eq!(files(&self.target()), [".fetch-data.lock", "small-wang"]);
    }
}

#[track_caller]
fn works(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(command: &mut Command, words: &[&str]) -> Output {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "it worked");
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    let (retries, ends): (Vec<_>, Vec<_>) = errors.lines().partition(|line| is_retry(line));
    assert_eq!(ends.len(), 1, "{errors}");
    assert!(retries.is_empty() || !is_retry(errors.lines().last().unwrap()), "{errors}");
    for word in words {
        assert!(ends[0].contains(word), "{word:?} is not in: {}", ends[0]);
    }
    output
}

/// Whether a line says that the server is asked again, and when.
fn is_retry(line: &str) -> bool {
    line.contains("; asked again in ") && line.ends_with(" s")
}

/// The names in a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn folders(folder: &Path) -> Vec<String> {
    files(folder).into_iter().filter(|name| folder.join(name).is_dir()).collect()
}

#[test]
fn a_local_archive_is_unpacked_once() {
    let bench = Bench::new();
    let bytes = pictures();
    let file = bench.archive("small-wang.tgz", &bytes);
    assert!(bench.works(&["--from", &file]).contains(&sha256(&bytes)));
    bench.is_whole();
    assert!(Path::new(&file).exists(), "somebody else's archive is not ours to delete");
    fs::write(bench.target().join("small-wang/unsup/1.jpg"), "mine").unwrap();
    assert!(bench.works(&["small-wang", "--from", &file]).contains("already there"));
    bench.works(&["--from", &file]);
    assert_eq!(fs::read(bench.target().join("small-wang/unsup/1.jpg")).unwrap(), b"mine");
}

#[test]
fn mistakes_are_one_line() {
    let bench = Bench::new();
    bench.mistaken(&["imagenet"], &["imagenet", "imagewang-160", "imagewoof2"]);
    bench.mistaken(&["--from", "/nowhere/x.tgz"], &["/nowhere/x.tgz"]);
    for nameless in ["http://127.0.0.1:1/.tgz", "http://127.0.0.1:1/...tgz"] {
        bench.mistaken(&["--from", nameless], &[nameless, "NAME.tgz"]);
    }
    bench.mistaken(&["--timeout", "0"], &["--timeout", "above 0"]);
    bench.mistaken(&["--from", "http://[/x.tgz"], &["x.tgz", "--from"]);
    let file = bench.archive("a.tgz", &pictures());
    bench.mistaken(&["--from", &file, "--sha256", "abc"], &["64 hexadecimal digits"]);
    bench.mistaken(&["a", "b", "--from", &file], &["2 sets", "name one"]);
    bench.mistaken(&["--from", &bench.archive("b.tgz", b"text")], &["b.tgz", "damaged"]);
    let server = Server::says("404 Not Found");
    bench.refused(&["--from", &server.url("x.tgz")], &["404", "x.tgz"]);
    assert_eq!(server.requests().len(), 1, "what is not there need not be asked for again");
}

#[test]
fn what_is_in_the_way_stays() {
    let bench = Bench::new();
    let mine = bench.target().join("small-wang");
    fs::create_dir_all(&mine).unwrap();
    fs::write(mine.join("mine"), "mine").unwrap();
    let server = Server::good(pictures());
    refused(&mut bench.command(&["--from", &server.url("small-wang.tgz")]), &["in the way"]);
    assert_eq!(server.requests().len(), 0, "a download that cannot be unpacked is in vain");
    assert_eq!(files(&mine), ["mine"]);
}
