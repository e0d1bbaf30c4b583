//! Who is gone: a thread for each connection that reads from it, and one that gives signs of life and
//! looks for those of the others.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::Frame;
use super::{Fate, Wire};

/// The time between two signs of life, at most.
const BEAT: Duration = Duration::from_secs(1);
/// Signs of life within the patience, at least.
const BEATS: u32 = 6;

/// The last sign of life of one process; `None` once it parted.
type Heard = Arc<Mutex<Option<Instant>>>;

/// Starts the threads; they end with the connections, or when what is returned is dropped.
pub(super) fn start(
    readers: Vec<(usize, TcpStream, mpsc::Sender<Vec<f64>>)>,
    wires: &[Arc<Wire>],
    fate: &Arc<Fate>,
    patience: Duration,
) -> mpsc::Sender<()> {
    let mut heard: Vec<(usize, Heard)> = Vec::new();
    for (rank, stream, values) in readers {
        let last = Heard::new(Mutex::new(Some(Instant::now())));
        heard.push((rank, last.clone()));
        let (fate, wires) = (fate.clone(), wires.to_vec());
        thread::spawn(move || {
            if let Some(who) = listen(rank, stream, &values, &last) {
                lose(&fate, &wires, who);
            }
        });
    }
    let (beating, stop) = mpsc::channel();
    let (fate, wires) = (fate.clone(), wires.to_vec());
    thread::spawn(move || beat(&stop, &heard, &wires, &fate, patience));
    beating
}

/// Reads until the connection ends; says who is gone, unless it parted.
fn listen(
    rank: usize,
    mut stream: TcpStream,
    values: &mpsc::Sender<Vec<f64>>,
    heard: &Heard,
) -> Option<String> {
    let parted = |part: bool| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = heard.filter(|_| !part).map(|_| Instant::now());
        heard.is_none()
    };
    loop {
        let frame = Frame::read(&mut stream);
        if parted(matches!(frame, Ok(Frame::Leave))) {
            return None;
        }
        match frame {
            // Nobody takes them any more when the run is over.
            Ok(Frame::Values(sums)) => drop(values.send(sums)),
            Ok(Frame::Beat) => {}
            Ok(Frame::Gone(who)) => return Some(who),
            Ok(Frame::Leave | Frame::Welcome(_)) => {
                return Some(format!("process {rank} is of another version"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Some(format!("process {rank} of this run died or failed"));
            }
            Err(error) => return Some(format!("process {rank} of this run is gone ({error})")),
        }
    }
}

fn beat(
    stop: &mpsc::Receiver<()>,
    heard: &[(usize, Heard)],
    wires: &[Arc<Wire>],
    fate: &Fate,
    patience: Duration,
) {
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(BEAT.min(patience / BEATS)) {
        for ((rank, last), wire) in heard.iter().zip(wires) {
            let Some(last) = *last.lock().unwrap_or_else(PoisonError::into_inner) else { continue };
            if last.elapsed() > patience {
                lose(
                    fate,
                    wires,
                    format!(
                        "process {rank} of this run gave no sign of life for {} s",
                        patience.as_secs_f64()
                    ),
                );
                return;
            }
            // A connection that is closed ends its reader, who tells.
            let _ = wire.send(&Frame::Beat);
        }
    }
}

/// Takes a process for gone: raises the alarm, tells the others, and wakes whoever waits.
pub(super) fn lose(fate: &Fate, wires: &[Arc<Wire>], who: String) {
    if fate.gone.set(who.clone()).is_err() {
        return;
    }
    // First, for whoever is told may have stopped reading.
    if let Some(alarm) = fate.alarm.get()
        && !fate.parting.load(Ordering::Relaxed)
    {
        alarm();
    }
    for wire in wires {
        let _ = wire.send(&Frame::Gone(who.clone()));
    }
    wires.iter().for_each(|wire| wire.close());
}
