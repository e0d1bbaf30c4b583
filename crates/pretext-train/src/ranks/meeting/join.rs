//! How processes find each other: process 0 listens, the others come and say who they are, and all go
//! on when all are there.

use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::{Frame, Hello};
use super::{Fate, Link, Meeting, Place, Wire, watch};
use crate::error::{Error, Result};
use crate::ranks::launch::Launch;

/// How long somebody at the port may take to say who it is.
const HELLO: Duration = Duration::from_secs(2);
/// The time between two tries.
const NAP: Duration = Duration::from_millis(20);

impl Meeting {
    /// Meets the others at `place` within `patience`, which is also how long each waits for another
    /// from then on. Returns what process 0 has for all.
    ///
    /// # Errors
    /// [`Error::Processes`] or [`Error::Peer`] if not all come in time, or the place cannot be used.
    pub(in super::super) fn join(
        launch: Launch,
        place: &Place,
        patience: Duration,
        word: &[u8],
    ) -> Result<(Self, Vec<u8>)> {
        let until = Instant::now() + patience;
        let (streams, word) = match launch.rank {
            0 => (gather(launch, place, until, patience, word)?, word.to_vec()),
            _ => {
                let (stream, word) = reach(launch, place, until, patience)?;
                (vec![(0, stream)], word)
            }
        };
        Ok((
            Self::start(launch.rank, streams, patience).map_err(|error| cannot(place, &error))?,
            word,
        ))
    }

    fn start(
        rank: usize,
        streams: Vec<(usize, TcpStream)>,
        patience: Duration,
    ) -> io::Result<Self> {
        let fate = Arc::<Fate>::default();
        let (mut links, mut readers) = (Vec::new(), Vec::new());
        for (to, stream) in streams {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(None)?;
            stream.set_write_timeout(Some(patience))?;
            let (sender, values) = mpsc::channel();
            readers.push((to, stream.try_clone()?, sender));
            let wire = Arc::new(Wire { handle: stream.try_clone()?, stream: Mutex::new(stream) });
            links.push(Link { to, wire, values: Mutex::new(values) });
        }
        let wires: Vec<_> = links.iter().map(|link| link.wire.clone()).collect();
        let beating = watch::start(readers, &wires, &fate, patience);
        Ok(Self { rank, patience, links, fate, _beating: beating })
    }
}

/// Waits for all others, then gives them the word.
fn gather(
    launch: Launch,
    place: &Place,
    until: Instant,
    patience: Duration,
    word: &[u8],
) -> Result<Vec<(usize, TcpStream)>> {
    // Whatever name the others have for this machine.
    let listener = TcpListener::bind(("::", place.port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", place.port)))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| cannot(place, &error))?;
    let mut come: Vec<Option<TcpStream>> = (1..launch.size).map(|_| None).collect();
    while come.iter().any(Option::is_none) {
        // Looked at whoever comes: strangers may come without end.
        if Instant::now() >= until {
            let missing = come.iter().zip(1..).filter(|(one, _)| one.is_none());
            let missing: Vec<_> = missing.map(|(_, rank)| rank.to_string()).collect();
            return Err(Error::Peer {
                problem: format!(
                    "of {} processes {} did not come to port {} within {} s: {}",
                    launch.size,
                    missing.len(),
                    place.port,
                    patience.as_secs_f64(),
                    missing.join(", ")
                ),
            });
        }
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(NAP);
            continue;
        };
        // Who does not say hello, or is of another run, is sent away.
        let Ok(hello) = greeted(&stream) else { continue };
        if hello.run != place.run || hello.size != launch.size {
            continue;
        }
        match hello.rank.checked_sub(1).and_then(|at| come.get_mut(at)) {
            Some(seat @ None) => *seat = Some(stream),
            // It may have tried before and given that connection up.
            Some(Some(seat)) if is_closed(seat) => *seat = stream,
            _ => {
                let problem = format!("two processes say that they are process {}", hello.rank);
                return Err(Error::Processes { problem });
            }
        }
    }
    let come: Vec<(usize, TcpStream)> = (1..).zip(come.into_iter().flatten()).collect();
    let word = Frame::Welcome(word.to_vec());
    for (rank, stream) in &come {
        word.write(&mut &*stream).map_err(|error| Error::Peer {
            problem: format!("process {rank} is gone ({error})"),
        })?;
    }
    Ok(come)
}

fn greeted(stream: &TcpStream) -> io::Result<Hello> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(HELLO))?;
    Hello::read(&mut Until(stream, Instant::now() + HELLO))
}

/// Reads until a point in time, however slowly bytes come.
struct Until<'a>(&'a TcpStream, Instant);

impl io::Read for Until<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.1.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        self.0.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        let mut stream = self.0;
        stream.read(to)
    }
}

/// Whether the other end was closed. Nobody sends anything before all are there.
fn is_closed(stream: &TcpStream) -> bool {
    let waits = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let _ = stream.set_nonblocking(false);
    !matches!(waits, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Comes to process 0, which may not listen yet, and hears its word.
fn reach(
    launch: Launch,
    place: &Place,
    until: Instant,
    patience: Duration,
) -> Result<(TcpStream, Vec<u8>)> {
    let hello = Hello { run: place.run, rank: launch.rank, size: launch.size };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let problem = match visit(place, hello, left) {
            Ok(met) => return Ok(met),
            Err(error) => error,
        };
        if Instant::now() + NAP >= until {
            return Err(Error::Peer {
                problem: format!(
                    "process {} did not meet the others at {}, port {}, within {} s ({problem})",
                    launch.rank,
                    place.hosts.join(" or "),
                    place.port,
                    patience.as_secs_f64()
                ),
            });
        }
        thread::sleep(NAP);
    }
}

fn visit(place: &Place, hello: Hello, left: Duration) -> io::Result<(TcpStream, Vec<u8>)> {
    let left = left.max(NAP);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of that name");
    let mut addresses = Vec::new();
    for host in &place.hosts {
        match (&**host, place.port).to_socket_addrs() {
            Ok(found) => addresses.extend(found),
            Err(error) => last = error,
        }
    }
    for address in addresses {
        let talk = TcpStream::connect_timeout(&address, left).and_then(|stream| {
            stream.set_write_timeout(Some(left))?;
            stream.set_read_timeout(Some(left))?;
            hello.write(&mut &stream)?;
            match Frame::read(&mut &stream)? {
                Frame::Welcome(word) => Ok((stream, word)),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        });
        match talk {
            Ok(met) => return Ok(met),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn cannot(place: &Place, error: &io::Error) -> Error {
    let problem = format!(
        "process 0 cannot listen at port {} ({error}); set MASTER_PORT to another",
        place.port
    );
    Error::Processes { problem }
}
