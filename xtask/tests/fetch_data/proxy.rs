//! Proxies that the environment names.

use crate::archives::pictures;
use crate::server::{Server, head, send};
use crate::{Bench, refused, works};

#[test]
fn a_proxy_fetches() {
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        // Proxies refuse tunnels to port 80. They are told the whole address, and of the server.
        let bytes = pictures();
        let proxy = Server::new(move |request, stream| match request.line.as_str() {
            "GET http://mirror.invalid:81/small-wang.tgz?a=b" => {
                send(stream, &bytes, request.start, bytes.len().min(request.start + 150_000));
            }
            _ => head(stream, "403 Forbidden", "content-length: 0"),
        });
        let bench = Bench::new();
        // Nobody has this name: without the proxy nothing would come.
        let args = ["--from", "http://me:secret@mirror.invalid:81/small-wang.tgz?a=b"];
        works(bench.command(&args).env(name, &proxy.address));
        bench.is_whole();
        assert_eq!(proxy.starts(), [0, 150_000]);
        let header = &proxy.requests()[1].header;
        assert!(header.contains(&"host: mirror.invalid:81".into()), "{header:?}");
        // me:secret
        assert!(header.contains(&"authorization: basic bwu6c2vjcmv0".into()), "{header:?}");
        assert!(!header.iter().any(|line| line.starts_with("proxy-")), "{header:?}");
    }
}

#[test]
fn a_proxy_learns_who_asks() {
    let (bench, proxy) = (Bench::new(), Server::good(pictures()));
    let named = proxy.address.replace("http://", "http://me:%40home@");
    let args = ["--from", "http://mirror.invalid/small-wang.tgz"];
    works(bench.command(&args).env("HTTP_PROXY", named));
    bench.is_whole();
    // me:@home
    let want = "proxy-authorization: basic bwu6qghvbwu=";
    assert!(proxy.requests()[0].header.contains(&want.into()), "{:?}", proxy.requests());
    let proxy = Server::says("407 Proxy Authentication Required");
    let words = ["the proxy wants to know who asks", "http://USER:PASSWORD@HOST:PORT"];
    refused(
        bench.command(&["--from", "http://mirror.invalid/x.tgz"]).env("HTTP_PROXY", &proxy.address),
        &words,
    );
}

#[test]
fn each_redirect_finds_its_own_way() {
    let server = Server::good(pictures());
    let to = server.url("small-wang.tgz");
    let proxy = Server::new(move |_, stream| {
        head(stream, "302 Found", &format!("location: {to}\r\ncontent-length: 0"));
    });
    let bench = Bench::new();
    let mut command = bench.command(&["--from", "http://mirror.invalid/small-wang.tgz"]);
    let secret = proxy.address.replace("http://", "http://me:secret@");
    works(command.env("HTTP_PROXY", secret).env("NO_PROXY", "10.0.0.0/8,127.0.0.0/8"));
    bench.is_whole();
    assert_eq!(proxy.requests().len(), 1);
    let header = &server.requests()[0].header;
    assert!(
        !header.iter().any(|line| line.starts_with("proxy-")),
        "not the server's to know: {header:?}"
    );
}

#[test]
fn some_hosts_go_past_the_proxy() {
    let server = Server::good(pictures());
    let (bench, proxy) = (Bench::new(), Server::says("500 Wrong"));
    let url = server.url("small-wang.tgz");
    let mut command = bench.command(&["--from", &url]);
    command.env("HTTP_PROXY", &proxy.address).env("NO_PROXY", "example.org, 127.0.0.1");
    works(&mut command);
    bench.is_whole();
    assert_eq!(proxy.requests().len(), 0);
    // Elsewhere it would be asked.
    let mut command = bench.command(&["--from", &server.url("x.tgz")]);
    command.env("HTTP_PROXY", &proxy.address).env("NO_PROXY", "128.0.0.0/8");
    refused(&mut command, &["answered 500"]);
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
