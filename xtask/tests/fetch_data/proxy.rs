//! Proxies that the environment names.

use std::io;
use std::net::TcpStream;
use std::thread;

use crate::archives::pictures;
use crate::server::{Server, head};
use crate::{Bench, refused, works};

/// A proxy that tunnels to one server, whatever host it is asked for.
fn tunnel(to: &Server) -> Server {
    let to = to.address.trim_start_matches("http://").to_owned();
    Server::new(move |request, stream| {
        assert!(request.line.starts_with("CONNECT "), "{}", request.line);
        head(stream, "200 Connection established", "via: test");
        let mut up = TcpStream::connect(&to).unwrap();
        let (mut from, mut back) = (stream.try_clone().unwrap(), up.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut from, &mut up));
        let _ = io::copy(&mut back, stream);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    })
}

#[test]
fn a_proxy_fetches() {
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let server = Server::good(pictures());
        let (bench, proxy) = (Bench::new(), tunnel(&server));
        // Nobody has this name: without the proxy nothing would come.
        let args = ["--from", "http://mirror.invalid/small-wang.tgz"];
        works(bench.command(&args).env(name, &proxy.address));
        bench.is_whole();
        assert_eq!(proxy.requests()[0].line, "CONNECT mirror.invalid:80");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn some_hosts_go_past_the_proxy() {
    let server = Server::good(pictures());
    let (bench, proxy) = (Bench::new(), tunnel(&server));
    let url = server.url("small-wang.tgz");
    let mut command = bench.command(&["--from", &url]);
    command.env("HTTP_PROXY", &proxy.address).env("NO_PROXY", "example.org, 127.0.0.1");
    works(&mut command);
    bench.is_whole();
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn https_goes_through_its_own_proxy() {
    let (bench, plain) = (Bench::new(), Server::says("500 Wrong"));
    let proxy = Server::says("502 Bad Gateway");
    let mut command = bench.command(&["--from", "https://mirror.invalid/x.tgz"]);
    command.env("HTTP_PROXY", &plain.address).env("HTTPS_PROXY", &proxy.address);
    refused(&mut command, &["https://mirror.invalid/x.tgz", "proxy"]);
    assert!(proxy.requests().iter().all(|one| one.line == "CONNECT mirror.invalid:443"));
    assert_eq!(proxy.requests().len(), 3);
    assert_eq!(plain.requests().len(), 0);
}

#[test]
fn a_proxy_that_is_none_is_one_line() {
    let bench = Bench::new();
    for wrong in ["socks5://127.0.0.1:1", "http://:::"] {
        let mut command = bench.command(&["--from", "http://mirror.invalid/x.tgz"]);
        refused(command.env("ALL_PROXY", wrong), &["ALL_PROXY"]);
    }
}
