//! Servers that bring something, and hardly anything.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use crate::archives::pictures;
use crate::server::{Server, head, send};
use crate::{Bench, is_retry};

/// One byte at a time, each well within the time-out of one.
fn trickle(stream: &mut std::net::TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_trickle_is_given_up() {
    let patience = ["--timeout", "0.4", "--attempts", "2", "--retry-wait", "0.01"];
    for in_header in [true, false] {
        let server = Server::new(move |request, stream| match in_header {
            true => trickle(stream, &[b"HTTP/1.1 200 OK\r\nx: ", &[b'x'; 600][..]].concat()),
            false => {
                let range = format!("content-range: bytes {}-99999/100000", request.start);
                let length = format!("content-length: {}", 100_000 - request.start);
                let status = if request.start > 0 { "206 Partial Content" } else { "200 OK" };
                head(stream, status, &format!("{length}\r\n{range}"));
                trickle(stream, &[0; 600]);
            }
        });
        let url = server.url("x.tgz");
        let words = if in_header {
            "no answer came in 0.4 s"
        } else {
            "less than 1000 bytes a second for 0.4 s"
        };
        Bench::new()
            .refused(&[&["--from", url.as_str()][..], &patience].concat(), &[words, "repeat"]);
        assert_eq!(server.requests().len(), 2, "what trickled in is no progress");
        assert_eq!(server.starts()[1] > 0, !in_header, "and is used all the same");
    }
}

#[test]
fn a_download_that_becomes_a_trickle_goes_on() {
    let body = pictures();
    let server = Server::new(move |request, stream| match request.earlier {
        0 => {
            send(stream, &body, 0, 1000);
            trickle(stream, &body[1000..]);
        }
        _ => send(stream, &body, request.start, body.len()),
    });
    let bench = Bench::new();
    let args = ["--from", &server.url("small-wang.tgz"), "--timeout", "0.5"];
    let output = bench.command(&args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    bench.is_whole();
    assert!(server.starts().len() == 2 && server.starts()[1] > 1000, "{:?}", server.starts());
    // Who waits is told what for, and how long.
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().count() == 1 && is_retry(said.trim_end()), "{said}");
    assert!(said.contains("too slow after") && said.ends_with("asked again in 1 s\n"), "{said}");
}

#[test]
fn a_slow_download_is_not_a_stalled_one() {
    let body = pictures();
    // Two seconds in all, each piece well within the time-out of one.
    let server = Server::new(move |_, stream| {
        head(stream, "200 OK", &format!("content-length: {}", body.len()));
        for piece in body.chunks(body.len().div_ceil(40)) {
            let _ = stream.write_all(piece);
            thread::sleep(Duration::from_millis(50));
        }
    });
    let bench = Bench::new();
    bench.works(&["--from", &server.url("small-wang.tgz"), "--timeout", "1"]);
    bench.is_whole();
    assert_eq!(server.starts(), [0]);
}
