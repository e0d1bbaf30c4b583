//! Full disks and folders that may not be written.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::archives::pictures;
use crate::server::Server;
use crate::{Bench, files, refused};

/// The command again, run by a shell that first does something else.
fn after(first: &str, command: &Command, within: &[&str]) -> Command {
    let mut shell = match within {
        [] => Command::new("sh"),
        [program, rest @ ..] => {
            let mut outer = Command::new(program);
            outer.args(rest).arg("sh");
            outer
        }
    };
    shell.arg("-c").arg(format!("{first} && exec \"$0\" \"$@\""));
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// A process of ours may mount a file system of its own where user name spaces are allowed.
const OWN_MOUNTS: [&str; 2] = ["unshare", "--map-root-user"];

/// Whether a file system of limited size can be mounted without being anybody special.
fn can_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=64k tmpfs {}", folder.path().display());
    let done =
        Command::new(OWN_MOUNTS[0]).args([OWN_MOUNTS[1], "--mount", "sh", "-c", &mount]).output();
    done.is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_while_downloading() {
    let (bench, server) = (Bench::new(), Server::good(pictures()));
    let url = server.url("small-wang.tgz");
    fs::create_dir(bench.target()).unwrap();
    // Files may not grow beyond 50 blocks of 512 bytes; without the signal, writing fails.
    let limited = "trap '' XFSZ && ulimit -f 50";
    let words = ["cannot write", "small-wang.tgz.part", "free some space"];
    refused(&mut after(limited, &bench.command(&["--from", &url]), &[]), &words);
    assert_eq!(server.starts(), [0], "a full disk is not the server's fault");
    let part = fs::metadata(bench.target().join("small-wang.tgz.part")).unwrap().len() as usize;
    assert!(part > 0, "what fitted is kept");
    bench.works(&["--from", &url]);
    bench.is_whole();
    assert_eq!(server.starts(), [0, part]);
}

#[test]
fn a_full_disk_while_unpacking() {
    let bench = Bench::new();
    let file = bench.archive("small-wang.tgz", &pictures());
    let limited = "trap '' XFSZ && ulimit -f 50";
    let words = ["cannot write", "1.jpg", "free some space"];
    refused(&mut after(limited, &bench.command(&["--from", &file]), &[]), &words);
    assert_eq!(files(&bench.target()), [".fetch-data.lock"]);
    bench.works(&["--from", &file]);
    bench.is_whole();
}

/// The same on a disk that is full indeed; skipped where no file system can be mounted.
#[test]
fn a_disk_that_is_full_indeed() {
    if !can_mount() {
        return;
    }
    let (bench, server) = (Bench::new(), Server::good(pictures()));
    let url = server.url("small-wang.tgz");
    fs::create_dir(bench.target()).unwrap();
    // The archive fits, or does not; with its 200 kB of pictures it does not.
    for (size, name) in [("100k", "small-wang.tgz.part"), ("300k", "1.jpg")] {
        let mount = format!("mount -t tmpfs -o size={size} tmpfs {}", bench.target().display());
        let within = [OWN_MOUNTS[0], OWN_MOUNTS[1], "--mount"];
        let mut command = after(&mount, &bench.command(&["--from", &url]), &within);
        refused(&mut command, &["cannot write", name, "No space left", "free some space"]);
    }
}

#[test]
fn folders_that_may_not_be_written() {
    let bench = Bench::new();
    fs::set_permissions(bench.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let file = bench.archive("small-wang.tgz", &pictures());
    // For root nothing is forbidden: somebody else runs a copy that they can read.
    let program = bench.path("xtask");
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &program).unwrap();
    let nobody =
        fs::metadata(&program).is_ok_and(|copy| std::os::unix::fs::MetadataExt::uid(&copy) == 0);
    let run = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(bench.command(&["--from", &file]).get_args());
        if nobody {
            command.uid(65534).gid(65534);
        }
        let output = refused(&mut command, words);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    };
    let closed = |mode| Permissions::from_mode(mode);
    fs::create_dir(bench.target()).unwrap();
    fs::set_permissions(bench.target(), closed(0o555)).unwrap();
    run(&["cannot write into", "data", "Permission denied"]);
    fs::remove_dir(bench.target()).unwrap();
    fs::set_permissions(bench.folder.path(), closed(0o555)).unwrap();
    run(&["cannot create", "data", "Permission denied"]);
    fs::set_permissions(bench.folder.path(), closed(0o755)).unwrap();
    fs::set_permissions(&file, closed(0o000)).unwrap();
    fs::create_dir(bench.target()).unwrap();
    fs::set_permissions(bench.target(), closed(0o777)).unwrap();
    run(&["small-wang.tgz", "Permission denied"]);
    assert_eq!(files(&bench.target()), [".fetch-data.lock"]);
}
