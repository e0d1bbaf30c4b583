//! A server that behaves as a test tells it to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `GET /x.tgz HTTP/1.1` without the version.
    pub(crate) line: String,
    /// The lines below it, in small letters.
    pub(crate) header: Vec<String>,
    /// The byte that it wants to begin with.
    pub(crate) start: usize,
    /// How many requests came before.
    pub(crate) earlier: usize,
}

pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each connection on its own thread.
    pub(crate) fn new(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let Some(mut request) = read(&stream) else { return };
                    {
                        let mut seen = seen.lock().unwrap();
                        request.earlier = seen.len();
                        seen.push(request.clone());
                    }
                    answer(&request, &mut stream);
                });
            }
        });
        Self { address, requests }
    }

    /// Gives the body as it is asked for.
    pub(crate) fn good(body: Vec<u8>) -> Self {
        Self::new(move |request, stream| send(stream, &body, request.start, body.len()))
    }

    /// Gives a status and no body.
    pub(crate) fn says(status: &'static str) -> Self {
        Self::new(move |_, stream| head(stream, status, "content-length: 0"))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The byte that each request began with.
    pub(crate) fn starts(&self) -> Vec<usize> {
        self.requests().iter().map(|request| request.start).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let line = lines.next()?;
    let line = line.trim_end_matches(" HTTP/1.1").to_owned();
    let header: Vec<_> =
        lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let range = header.iter().find_map(|line| line.strip_prefix("range: bytes="));
    let start = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
    Some(Request { line, header, start, earlier: 0 })
}

pub(crate) fn head(stream: &mut TcpStream, status: &str, headers: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{headers}\r\nconnection: close\r\n\r\n");
}

/// Sends the bytes from `start` to `end`, and announces all from `start`.
pub(crate) fn send(stream: &mut TcpStream, body: &[u8], start: usize, end: usize) {
    let length = format!("content-length: {}", body.len() - start);
    if start > 0 {
        let range = format!("content-range: bytes {start}-{}/{}", body.len() - 1, body.len());
        head(stream, "206 Partial Content", &format!("{length}\r\n{range}"));
    } else {
        head(stream, "200 OK", &length);
    }
    let _ = stream.write_all(&body[start..end]);
}

/// Sends a part with this `Content-Range`.
pub(crate) fn send_part(stream: &mut TcpStream, part: &[u8], range: &str) {
    let header = format!("content-length: {}\r\ncontent-range: {range}", part.len());
    head(stream, "206 Partial Content", &header);
    let _ = stream.write_all(part);
}
