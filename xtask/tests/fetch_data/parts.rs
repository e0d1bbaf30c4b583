//! Answers that hold a part of the archive, the right one or not.

use std::fs;
use std::io::Write as _;

use crate::Bench;
use crate::archives::pictures;
use crate::server::{Server, head, send, send_part};

/// Short answers that say so are legal; each goes on where the last one ended, without a wait.
#[test]
fn a_server_may_send_less_than_was_asked_for() {
    for knows_whole in [true, false] {
        let (bench, bytes) = (Bench::new(), pictures());
        fs::create_dir(bench.target()).unwrap();
        fs::write(bench.target().join("small-wang.tgz.part"), &bytes[..1000]).unwrap();
        let server = Server::new(move |request, stream| {
            let (start, all) = (request.start, bytes.len());
            let whole = if knows_whole { all.to_string() } else { "*".into() };
            if start == all {
                let range = format!("content-length: 0\r\ncontent-range: bytes */{all}");
                return head(stream, "416 Range Not Satisfiable", &range);
            }
            let end = (start + 50_000).min(all);
            let range = format!("bytes {start}-{}/{whole}", end - 1);
            send_part(stream, &bytes[start..end], &range);
        });
        let url = server.url("small-wang.tgz");
        let patience = ["--timeout", "5", "--attempts", "1", "--retry-wait", "600"];
        bench.works(&[&["--from", url.as_str()][..], &patience].concat());
        bench.is_whole();
        let mut want = vec![1000, 51_000, 101_000, 151_000];
        want.extend((!knows_whole).then(|| server.starts()[4]));
        assert_eq!(server.starts(), want);
    }
}

#[test]
fn a_part_may_be_short_and_cut_as_well() {
    let (bench, bytes) = (Bench::new(), pictures());
    let body = bytes.clone();
    let server = Server::new(move |request, stream| match request.earlier {
        0 => send(stream, &body, 0, 50_000),
        1 => {
            let header =
                format!("content-length: 50000\r\ncontent-range: bytes 50000-99999/{}", body.len());
            head(stream, "206 Partial Content", &header);
            let _ = stream.write_all(&body[50_000..70_000]);
        }
        // More than announced, in pieces of unknown number.
        2 => {
            let range = format!("bytes 70000-119999/{}", body.len());
            let header = format!("transfer-encoding: chunked\r\ncontent-range: {range}");
            head(stream, "206 Partial Content", &header);
            let _ = write!(stream, "{:x}\r\n", 60_000);
            let _ = stream.write_all(&[&body[70_000..120_000], &[0; 10_000]].concat());
            let _ = stream.write_all(b"\r\n0\r\n\r\n");
        }
        _ => send(stream, &body, request.start, body.len()),
    });
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
    assert_eq!(server.starts(), [0, 50_000, 70_000, 120_000]);
}

#[test]
fn another_part_than_asked_for_is_refused() {
    let bytes = pictures();
    let all = bytes.len();
    for range in [
        // Another beginning, another length than what comes, another unit, no end, no range.
        format!("bytes 0-{}/{all}", all - 1),
        format!("bytes 2000-2999/{all}"),
        format!("bytes 1000-1998/{all}"),
        "bytes 1000-1999/1500".into(),
        format!("lines 1000-1999/{all}"),
        format!("bytes */{all}"),
        "no".into(),
    ] {
        let (bench, body, sent) = (Bench::new(), bytes.clone(), range.clone());
        fs::create_dir(bench.target()).unwrap();
        let part = bench.target().join("small-wang.tgz.part");
        fs::write(&part, &bytes[..1000]).unwrap();
        let server = Server::new(move |_, stream| send_part(stream, &body[1000..2000], &sent));
        let url = server.url("small-wang.tgz");
        let words = ["another part", "--from or delete", "small-wang.tgz.part"];
        bench.refused(&["--from", &url], &words);
        assert_eq!(server.requests().len(), 1, "{range}");
        assert_eq!(fs::read(&part).unwrap(), bytes[..1000], "{range}");
    }
}

#[test]
fn an_archive_that_changes_is_fetched_anew() {
    let (bench, old, new) = (Bench::new(), vec![7; 5000], pictures());
    let server = Server::new(move |request, stream| match request.earlier {
        0 => send(stream, &old, 0, 3000),
        _ => send(stream, &new, request.start, new.len()),
    });
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
    assert_eq!(server.starts(), [0, 3000, 0]);
}

#[test]
fn an_archive_that_always_changes_is_given_up() {
    let server = Server::new(move |request, stream| {
        let (from, whole) = (request.start, 9000 + request.earlier % 2);
        send_part(stream, &[7; 1000], &format!("bytes {from}-{}/{whole}", from + 999));
    });
    Bench::new().refused(&["--from", &server.url("x.tgz")], &["has changed", "repeat"]);
}
