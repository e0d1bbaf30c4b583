//! Broken, slow, wrong and busy servers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use crate::archives::{archive, pictures, sha256};
use crate::server::{Server, head, send};
use crate::{Bench, files, works};

/// A server that stays silent until it is dropped with the test.
fn silence() {
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_good_server_is_asked_once() {
    let (bench, server) = (Bench::new(), Server::good(pictures()));
    bench.works(&["--from", &server.url("mirror/small-wang.tgz")]);
    bench.is_whole();
    assert_eq!(server.starts(), [0]);
    bench.works(&["--from", &server.url("mirror/small-wang.tgz")]);
    assert_eq!(server.starts(), [0], "it was there already");
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let bytes = pictures();
    let eighth = bytes.len() / 8;
    let body = bytes.clone();
    // Seven cuts, more than there are attempts: each brings something new.
    let server = Server::new(move |request, stream| {
        let end = (request.start + eighth).min(body.len());
        send(stream, &body, request.start, end);
    });
    let bench = Bench::new();
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
    let want: Vec<usize> = (0..=8).map(|i| i * eighth).filter(|at| *at < bytes.len()).collect();
    assert_eq!(server.starts(), want);
}

#[test]
fn a_server_that_always_breaks_at_one_place_is_given_up() {
    let body = pictures();
    let server = Server::new(move |request, stream| {
        send(stream, &body, request.start, request.start.max(1000));
    });
    let bench = Bench::new();
    let url = server.url("small-wang.tgz");
    bench.refused(&["--from", &url], &[&url, "1000", "kept in", "small-wang.tgz.part", "repeat"]);
    assert_eq!(server.starts(), [0, 1000, 1000, 1000], "three attempts brought nothing new");
    assert_eq!(fs::read(bench.target().join("small-wang.tgz.part")).unwrap().len(), 1000);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let body = pictures();
    let server = Server::new(move |request, stream| {
        let end = if request.earlier == 0 { body.len() / 2 } else { body.len() };
        send(stream, &body, 0, end);
    });
    let bench = Bench::new();
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
    assert_eq!(server.starts()[0], 0);
    assert!(server.starts()[1] > 0, "it was asked for the rest");
    assert_eq!(server.starts().len(), 2);
}

#[test]
fn a_server_without_ranges_that_always_breaks_is_given_up() {
    let body = pictures();
    let server = Server::new(move |_, stream| send(stream, &body, 0, body.len() / 2));
    Bench::new().refused(&["--from", &server.url("small-wang.tgz")], &["cut off", "repeat"]);
    assert_eq!(server.starts().len(), 1 + 3);
}

#[test]
fn what_an_earlier_download_left_is_used() {
    let (bench, bytes) = (Bench::new(), pictures());
    fs::create_dir(bench.target()).unwrap();
    fs::write(bench.target().join("small-wang.tgz.part"), &bytes[..1000]).unwrap();
    let server = Server::good(bytes);
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
    assert_eq!(server.starts(), [1000]);
}

#[test]
fn a_whole_part_needs_no_byte_more() {
    let (bench, bytes) = (Bench::new(), pictures());
    fs::create_dir(bench.target()).unwrap();
    fs::write(bench.target().join("small-wang.tgz.part"), &bytes).unwrap();
    let range = format!("content-length: 0\r\ncontent-range: bytes */{}", bytes.len());
    let server = Server::new(move |_, stream| head(stream, "416 Range Not Satisfiable", &range));
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
}

#[test]
fn a_part_of_something_longer_is_dropped() {
    let (bench, bytes) = (Bench::new(), pictures());
    fs::create_dir(bench.target()).unwrap();
    fs::write(bench.target().join("small-wang.tgz.part"), vec![0; bytes.len() + 1]).unwrap();
    let server = Server::new(move |request, stream| {
        if request.start > bytes.len() {
            let range = format!("content-length: 0\r\ncontent-range: bytes */{}", bytes.len());
            head(stream, "416 Range Not Satisfiable", &range);
        } else {
            send(stream, &bytes, request.start, bytes.len());
        }
    });
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
}

#[test]
fn what_is_said_before_the_answer_is_passed_over() {
    let body = pictures();
    let server = Server::new(move |_, stream| {
        let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: <{}", "a".repeat(30_000));
        let _ =
            stream.write_all(("HTTP/1.1 102 Processing\r\n\r\n".to_owned() + &hints).as_bytes());
        // The rest is read in one piece with its answer and some of the body: together they are longer
        // than a header may be.
        thread::sleep(Duration::from_millis(200));
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let rest = format!(">\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <b>\r\n\r\n{answer}");
        let _ = stream.write_all(&[rest.as_bytes(), &body[..]].concat());
    });
    let bench = Bench::new();
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
    assert_eq!(server.starts(), [0]);
}

#[test]
fn redirects_are_followed() {
    let bytes = pictures();
    let target = Server::good(bytes);
    let to = target.url("elsewhere/file");
    let server = Server::new(move |request, stream| match request.line.as_str() {
        "GET /small-wang.tgz" => {
            head(stream, "302 Found", "location: /second\r\ncontent-length: 0")
        }
        _ => {
            head(stream, "307 Temporary Redirect", &format!("location: {to}\r\ncontent-length: 0"))
        }
    });
    let bench = Bench::new();
    fs::create_dir(bench.target()).unwrap();
    fs::write(bench.target().join("small-wang.tgz.part"), &pictures()[..500]).unwrap();
    bench.works(&["--from", &server.url("small-wang.tgz")]);
    bench.is_whole();
    assert_eq!(target.starts(), [500], "the range goes with the redirect");
}

#[test]
fn redirects_in_a_circle_are_refused() {
    let server = Server::new(|_, stream| {
        head(stream, "302 Found", "location: /x.tgz\r\ncontent-length: 0");
    });
    Bench::new().refused(&["--from", &server.url("x.tgz")], &["x.tgz", "redirect"]);
}

#[test]
fn a_busy_server_is_asked_again() {
    for status in ["503 Service Unavailable", "429 Too Many Requests", "500 Oops"] {
        let body = pictures();
        let server = Server::new(move |request, stream| match request.earlier {
            0 | 1 => head(stream, status, "content-length: 0\r\nretry-after: 0"),
            _ => send(stream, &body, request.start, body.len()),
        });
        let bench = Bench::new();
        bench.works(&["--from", &server.url("small-wang.tgz")]);
        bench.is_whole();
    }
    let server = Server::says("503 Service Unavailable");
    Bench::new().refused(&["--from", &server.url("x.tgz")], &["503", "repeat"]);
    assert_eq!(server.requests().len(), 3);
    let server = Server::says("403 Forbidden");
    Bench::new().refused(&["--from", &server.url("x.tgz")], &["403"]);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn nobody_there_is_one_line() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Bench::new().refused(&["--from", &format!("http://{nobody}/x.tgz")], &["x.tgz", "repeat"]);
}

#[test]
fn a_silent_server_is_given_up() {
    let server = Server::new(|_, _| silence());
    let impatient = ["--timeout", "0.2", "--attempts", "2", "--retry-wait", "0.01"];
    let url = server.url("x.tgz");
    Bench::new().refused(
        &[&["--from", url.as_str()][..], &impatient].concat(),
        &["no answer came in 0.2 s"],
    );
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_stalled_download_goes_on() {
    let body = pictures();
    let server = Server::new(move |request, stream| match request.earlier {
        0 => {
            send(stream, &body, 0, body.len() / 2);
            silence();
        }
        _ => send(stream, &body, request.start, body.len()),
    });
    let bench = Bench::new();
    bench.works(&["--from", &server.url("small-wang.tgz"), "--timeout", "0.5"]);
    bench.is_whole();
    assert_eq!(server.starts().len(), 2);
    assert!(server.starts()[1] > 0);
}

#[test]
fn a_wrong_length_is_refused_before_it_is_fetched() {
    let (bench, server) = (Bench::new(), Server::good(pictures()));
    let mirror = server.url("mirror");
    bench.refused(&["imagewang-160", "--from", &mirror], &["191498213", "bytes", "--from"]);
    assert_eq!(files(&bench.target()), [".fetch-data.lock"]);
    assert_eq!(server.requests()[0].line, "GET /mirror/imagewang-160.tgz");
}

#[test]
fn a_wrong_length_is_kept_aside() {
    // Without a length in the answer, the end of the connection ends the archive.
    let server = Server::new(|_, stream| {
        head(stream, "200 OK", "content-type: text/html");
        let _ = stream.write_all(b"please log in");
    });
    let bench = Bench::new();
    let from = server.url("mirror");
    let words = ["13 bytes", "191498213", "imagewang-160.tgz.refused", "fetch again"];
    bench.refused(&["imagewang-160", "--from", &from], &words);
    let aside = bench.target().join("imagewang-160.tgz.refused");
    assert_eq!(fs::read(aside).unwrap(), b"please log in");
    assert_eq!(files(&bench.target()), [".fetch-data.lock", "imagewang-160.tgz.refused"]);
}

#[test]
fn a_wrong_hash_is_kept_aside() {
    let (bench, bytes) = (Bench::new(), pictures());
    let wrong = archive(&[("small-wang/train/1.jpg", crate::archives::FILE, b"other")]);
    let (first, second) = (wrong.clone(), bytes.clone());
    let server = Server::new(move |request, stream| {
        let body = if request.earlier == 0 { &first } else { &second };
        send(stream, body, request.start, body.len());
    });
    let from = server.url("small-wang.tgz");
    let (got, want) = (sha256(&wrong), sha256(&bytes));
    let args = ["--from", &from, "--sha256", &want];
    bench.refused(&args, &[&got, &want, "small-wang.tgz.refused"]);
    assert_eq!(fs::read(bench.target().join("small-wang.tgz.refused")).unwrap(), wrong);
    // The next fetch begins anew.
    bench.works(&args);
    assert_eq!(server.starts(), [0, 0]);
    assert_eq!(
        files(&bench.target()),
        [".fetch-data.lock", "small-wang", "small-wang.tgz.refused"]
    );
}

#[test]
fn a_damaged_download_is_kept_aside() {
    let mut bytes = pictures();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    let (bench, server) = (Bench::new(), Server::good(bytes));
    bench.refused(&["--from", &server.url("small-wang.tgz")], &["small-wang.tgz.refused"]);
}

#[test]
fn a_killed_download_goes_on() {
    let body = pictures();
    let server = Server::new(move |request, stream| match request.earlier {
        0 => {
            send(stream, &body, 0, 100_000);
            silence();
        }
        _ => send(stream, &body, request.start, body.len()),
    });
    let bench = Bench::new();
    let url = server.url("small-wang.tgz");
    let part = bench.target().join("small-wang.tgz.part");
    let mut child = bench.command(&["--from", &url, "--timeout", "600"]).spawn().unwrap();
    while fs::metadata(&part).map_or(0, |part| part.len()) < 100_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    bench.works(&["--from", &url]);
    bench.is_whole();
    assert_eq!(server.starts(), [0, 100_000]);
}

#[test]
fn the_second_of_two_fetches_waits() {
    static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    let body = pictures();
    let server = Server::new(move |request, stream| {
        let (released, bell) = &RELEASED;
        let mut go = released.lock().unwrap_or_else(PoisonError::into_inner);
        while !*go {
            go = bell.wait(go).unwrap();
        }
        send(stream, &body, request.start, body.len());
    });
    let bench = Bench::new();
    let url = server.url("small-wang.tgz");
    let args = ["--from", &url, "--timeout", "600"];
    let first = bench.command(&args).spawn().unwrap();
    while server.requests().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    let mut second = bench.command(&args).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(second.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("another fetch-data works in") && line.contains("waiting"), "{line}");
    *RELEASED.0.lock().unwrap() = true;
    RELEASED.1.notify_all();
    assert!(first.wait_with_output().unwrap().status.success());
    let second = second.wait_with_output().unwrap();
    assert!(second.status.success());
    assert!(String::from_utf8(second.stdout).unwrap().contains("already there"));
    assert_eq!(server.starts(), [0]);
    bench.is_whole();
    assert!(works(&mut bench.command(&args)).contains("already there"));
}
