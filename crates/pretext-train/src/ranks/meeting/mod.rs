//! The processes of a run in touch over TCP: how they find each other, sums of a few numbers, and who
//! is gone. Nothing but sockets and threads.
//!
//! Each has a connection to process 0. A process that ends closes its own, which the others know at
//! once; one that falls silent, with its machine or its network, is taken for gone after the patience
//! that was given. Process 0 tells the others.

mod frame;
mod join;
mod place;
mod watch;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use frame::Frame;
pub(super) use place::Place;

use crate::error::{Error, Result};

/// A process's place among those that met.
pub(super) struct Meeting {
    rank: usize,
    patience: Duration,
    /// To process 0; in process 0 to all others, in their order.
    links: Vec<Link>,
    fate: Arc<Fate>,
    /// Dropped, it ends the heartbeat.
    _beating: mpsc::Sender<()>,
}

/// A connection to another process.
struct Link {
    /// Its rank.
    to: usize,
    wire: Arc<Wire>,
    /// The numbers that come over it.
    values: Mutex<mpsc::Receiver<Vec<f64>>>,
}

/// The writing end of a connection, which threads share.
struct Wire {
    stream: Mutex<TcpStream>,
    /// The same, for what must not wait for a writer.
    handle: TcpStream,
}

impl Wire {
    fn send(&self, frame: &Frame) -> io::Result<()> {
        frame.write(&mut *self.stream.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn close(&self) {
        // It may be closed already.
        let _ = self.handle.shutdown(Shutdown::Both);
    }
}

/// What is done when a process is gone, by the thread that notices.
type Alarm = Box<dyn Fn() + Send + Sync>;

/// Whether all processes are there.
#[derive(Default)]
struct Fate {
    /// Who is gone, in words.
    gone: OnceLock<String>,
    alarm: OnceLock<Alarm>,
    /// Whether somebody who asked knows it.
    told: AtomicBool,
    /// Whether all are about to part, after which the end of a connection is no news.
    parting: AtomicBool,
}

impl Fate {
    fn check(&self) -> Result<()> {
        match self.gone.get() {
            Some(who) => {
                self.told.store(true, Ordering::Relaxed);
                Err(Error::Peer { problem: format!("{who}; go on with --resume") })
            }
            None => Ok(()),
        }
    }
}

impl Meeting {
    /// This process's number.
    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    /// Refuses to go on without one of the processes.
    ///
    /// # Errors
    /// [`Error::Peer`] if one is gone.
    pub(super) fn check(&self) -> Result<()> {
        self.fate.check()
    }

    /// Whether a process is gone, and whether anybody was told so by [`check`](Self::check) or a sum.
    pub(super) fn loss(&self) -> (bool, bool) {
        (self.fate.gone.get().is_some(), self.fate.told.load(Ordering::Relaxed))
    }

    /// What is to be done at once, by another thread, when a process is gone, perhaps twice;
    /// [`check`](Self::check) knows it before.
    pub(super) fn on_loss(&self, alarm: impl Fn() + Send + Sync + 'static) {
        if self.fate.alarm.set(Box::new(alarm)).is_ok()
            && self.fate.gone.get().is_some()
            && let Some(alarm) = self.fate.alarm.get()
        {
            alarm();
        }
    }

    /// Takes a process for gone.
    pub(super) fn lose(&self, who: String) {
        watch::lose(&self.fate, &self.wires(), who);
    }

    /// Replaces `values` by their sums over all processes, added in the order of ranks: the same bits
    /// in each.
    ///
    /// # Errors
    /// [`Error::Peer`] if a process is gone, does not answer in time, or is at something else.
    pub(super) fn sum(&self, values: &mut [f64]) -> Result<()> {
        self.fate.check()?;
        let began = Instant::now();
        if self.rank > 0 {
            self.send(&self.links[0], Frame::Values(values.to_vec()))?;
            // Process 0 waits for all others, and is to say which one did not answer.
            let patience = self.patience + self.patience / 4;
            values.copy_from_slice(&self.receive(&self.links[0], values.len(), began, patience)?);
            return Ok(());
        }
        for link in &self.links {
            let parts = self.receive(link, values.len(), began, self.patience)?;
            values.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
        self.links.iter().try_for_each(|link| self.send(link, Frame::Values(values.to_vec())))
    }

    fn send(&self, link: &Link, frame: Frame) -> Result<()> {
        link.wire.send(&frame).or_else(|error| {
            // Whoever reads from the connection may know better.
            self.fate.check()?;
            self.lose(format!("process {} cannot be reached ({error})", link.to));
            self.fate.check()
        })
    }

    /// Waits for so many numbers for as long as the patience lasts from when the sum began.
    fn receive(
        &self,
        link: &Link,
        length: usize,
        began: Instant,
        patience: Duration,
    ) -> Result<Vec<f64>> {
        let values = link.values.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = match values.recv_timeout(patience.saturating_sub(began.elapsed())) {
            Ok(values) if values.len() == length => return Ok(values),
            Ok(_) => format!("process {} is at another step than this one", link.to),
            Err(RecvTimeoutError::Timeout) => format!(
                "process {} gave no answer for {} s: it hangs or is far slower (set {} to more \
                 seconds)",
                link.to,
                began.elapsed().as_secs_f64().round(),
                super::PATIENCE
            ),
            Err(RecvTimeoutError::Disconnected) => format!("process {} left", link.to),
        };
        self.fate.check()?;
        self.lose(problem);
        self.fate.check()?;
        Ok(Vec::new())
    }

    /// Parts from the others, who do so at the same time.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    pub(super) fn leave(&self) -> Result<()> {
        self.fate.parting.store(true, Ordering::Relaxed);
        self.sum(&mut [0.0])?;
        for link in &self.links {
            // The other one may have left before.
            let _ = link.wire.send(&Frame::Leave);
        }
        Ok(())
    }

    fn wires(&self) -> Vec<Arc<Wire>> {
        self.links.iter().map(|link| link.wire.clone()).collect()
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        self.fate.parting.store(true, Ordering::Relaxed);
        self.links.iter().for_each(|link| link.wire.close());
    }
}

#[cfg(test)]
mod tests;
