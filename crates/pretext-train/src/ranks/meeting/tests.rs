//! Threads and processes that meet, sum, part, die and fall silent.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::ranks::launch::Launch;

const PATIENCE: Duration = Duration::from_secs(2);

/// A port of this machine that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn place(port: u16) -> Place {
    // The first is no name at all, so that no server is asked for it.
    Place { hosts: vec!["x".repeat(64), "127.0.0.1".into()], port, run: 7 }
}

fn join(rank: usize, size: usize, place: &Place, patience: Duration) -> Result<(Meeting, Vec<u8>)> {
    let word: &[u8] = if rank == 0 { b"an id" } else { b"" };
    Meeting::join(Launch { rank, size, local: None }, place, patience, word)
}

/// Calls `work` in so many threads that met.
fn together<T: Send>(size: usize, work: impl Fn(Meeting) -> T + Sync) -> Vec<T> {
    let place = place(free_port());
    thread::scope(|scope| {
        // Process 0 comes last.
        let threads: Vec<_> = (0..size)
            .rev()
            .map(|rank| {
                let (place, work) = (&place, &work);
                scope.spawn(move || {
                    let (meeting, word) = join(rank, size, place, PATIENCE).unwrap();
                    assert_eq!((meeting.rank(), &*word), (rank, &b"an id"[..]));
                    work(meeting)
                })
            })
            .collect();
        threads.into_iter().rev().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn all_have_the_same_sums_of_all() {
    let sums = together(4, |meeting| {
        let own = [0.1 * (meeting.rank() as f64 + 1.0), 1e16, -1e16];
        let mut values = own;
        // Nobody gets ahead of the others.
        for _ in 0..100 {
            values = own;
            meeting.sum(&mut values).unwrap();
        }
        meeting.leave().unwrap();
        values.map(f64::to_bits)
    });
    let want = [0.1 + 0.1 * 2.0 + 0.1 * 3.0 + 0.1 * 4.0, 4e16, -4e16].map(f64::to_bits);
    assert_eq!(sums, [want; 4]);
}

#[test]
fn whoever_parts_is_not_gone() {
    let alarms = together(3, |meeting| {
        let rung = Arc::new(AtomicBool::new(false));
        let ring = rung.clone();
        meeting.on_loss(move || ring.store(true, Ordering::Relaxed));
        meeting.leave().unwrap();
        // The others are at different points of their end.
        thread::sleep(Duration::from_millis(50 * meeting.rank() as u64));
        drop(meeting);
        thread::sleep(Duration::from_millis(200));
        rung.load(Ordering::Relaxed)
    });
    assert_eq!(alarms, [false; 3]);
}

#[test]
fn processes_out_of_step_are_told() {
    for lengths in [[1, 2], [2, 1]] {
        let problems = together(2, |meeting| {
            let mut values = vec![1.0; lengths[meeting.rank()]];
            meeting.sum(&mut values).map_err(|error| error.to_string())
        });
        assert!(problems[0].as_ref().unwrap_err().contains("at another step"), "{problems:?}");
        assert!(problems[1].is_err(), "{problems:?}");
    }
}

#[test]
fn one_that_hangs_is_waited_for_as_long_as_was_said() {
    let ends = together(3, |meeting| {
        let began = Instant::now();
        assert_eq!(meeting.loss(), (false, false));
        if meeting.rank() == 1 {
            // It lives, but never comes to the sum; the others tell it.
            while !meeting.loss().0 {
                assert!(began.elapsed() < 3 * PATIENCE);
                thread::sleep(Duration::from_millis(10));
            }
        }
        let error = meeting.sum(&mut [1.0]).unwrap_err().to_string();
        assert_eq!(meeting.loss(), (true, true));
        assert_eq!(meeting.check().unwrap_err().to_string(), error);
        (error, began.elapsed())
    });
    for (error, took) in ends {
        assert!(error.starts_with("process 1 gave no answer for 2 s"), "{error}");
        assert!(
            !error.contains('\n') && took > PATIENCE * 9 / 10 && took < 2 * PATIENCE,
            "{took:?}"
        );
    }
}

#[test]
fn without_all_of_them_nobody_begins() {
    let place = place(free_port());
    let short = Duration::from_millis(400);
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| join(0, 4, &place, short).err().unwrap().to_string());
        let second = scope.spawn(|| join(2, 4, &place, short).err().unwrap().to_string());
        (first.join().unwrap(), second.join().unwrap())
    });
    let port = place.port;
    let want = format!("of 4 processes 2 did not come to port {port} within 0.4 s: 1, 3");
    assert_eq!(first, want);
    let name = &place.hosts[0];
    let told = format!("process 2 did not meet the others at {name} or 127.0.0.1, port {port}, ");
    assert!(second.starts_with(&told), "{second}");
    let began = Instant::now();
    assert!(join(1, 2, &place, short).is_err(), "nobody listens");
    assert!(began.elapsed() < Duration::from_secs(3));
}

/// A connection to process 0, as soon as it listens.
fn connect(place: &Place) -> TcpStream {
    loop {
        match TcpStream::connect(("127.0.0.1", place.port)) {
            Ok(stream) => break stream,
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn strangers_do_not_disturb() {
    let place = place(free_port());
    thread::scope(|scope| {
        let first = scope.spawn(|| join(0, 2, &place, PATIENCE).map(|(meeting, _)| meeting));
        connect(&place).write_all(b"GET / HTTP/1.1\r\nHost: somewhere else\r\n\r\n").unwrap();
        // One of another run, of another size, and one that comes twice.
        let hello = |run, size| frame::Hello { run, rank: 1, size };
        hello(8, 2).write(&mut connect(&place)).unwrap();
        hello(7, 3).write(&mut connect(&place)).unwrap();
        let second = join(1, 2, &place, PATIENCE).unwrap().0;
        let first = first.join().unwrap().unwrap();
        scope.spawn(move || first.leave().unwrap());
        second.leave().unwrap();
    });
}

#[test]
fn strangers_who_dawdle_are_not_waited_for() {
    let place = place(free_port());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            let began = Instant::now();
            let error = join(0, 2, &place, PATIENCE / 4).err().unwrap().to_string();
            over.store(true, Ordering::Relaxed);
            (error, began.elapsed())
        });
        // Each says a byte now and then, and takes 16 s for a greeting.
        let mut strangers: Vec<_> = (0..4).map(|_| connect(&place)).collect();
        while !over.load(Ordering::Relaxed) {
            // Whoever is sent away is gone.
            strangers.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
            thread::sleep(Duration::from_millis(500));
        }
        let (error, took) = first.join().unwrap();
        assert!(error.contains("of 2 processes 1 did not come"), "{error}");
        assert!(took < 5 * PATIENCE, "{took:?}");
    });
}

#[test]
fn two_of_the_same_number_are_refused() {
    let place = place(free_port());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| join(1, 3, &place, Duration::from_millis(800)).is_err());
        }
        let error = join(0, 3, &place, PATIENCE).err().unwrap().to_string();
        assert_eq!(error, "two processes say that they are process 1");
    });
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind(("::", 0)).unwrap();
    let error = join(0, 2, &place(taken.local_addr().unwrap().port()), PATIENCE).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("cannot listen at port") && error.contains("MASTER_PORT"), "{error}");
}

/// Says that a launcher started this process.
const LAUNCHED: &str = "PRETEXT_TEST_LAUNCHED";

/// What `mpirun` tells processes is enough for them to meet; skipped without one. Other launchers by
/// hand: `PRETEXT_TEST_LAUNCHED=1 srun -n 3 TEST as_a_launcher_says`, or `torchrun --no-python
/// --nproc-per-node 3` before TEST, the binary of these tests.
#[test]
fn as_a_launcher_says() {
    let variable = |name: &str| std::env::var(name).ok();
    if variable(LAUNCHED).is_none() {
        let mut command = Command::new("mpirun");
        command.args(["--oversubscribe", "--bind-to", "none", "-n", "3"]);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.arg(std::env::current_exe().unwrap()).arg("as_a_launcher_says");
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        let Ok(output) = command.env(LAUNCHED, "1").output() else {
            eprintln!("skipped: no mpirun");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.matches("1 passed").count(), 3, "{output:?}");
        return;
    }
    let launch = Launch::read(variable).unwrap();
    assert!(launch.size > 1 && launch.local.is_some(), "no launcher, but {launch:?}");
    let place = Place::read(launch, variable).unwrap();
    let (meeting, word) = Meeting::join(launch, &place, 5 * PATIENCE, b"of each").unwrap();
    let mut sum = [launch.rank as f64];
    meeting.sum(&mut sum).unwrap();
    assert_eq!(sum, [(launch.size * (launch.size - 1) / 2) as f64]);
    assert_eq!(word, b"of each");
    meeting.leave().unwrap();
}

/// What a process that this file starts does: sums until it cannot, then says why in a file.
#[test]
fn one_of_several_processes() {
    let variable = |name: &str| std::env::var(format!("PRETEXT_TEST_{name}"));
    let Ok(rank) = variable("RANK") else { return };
    let port = variable("PORT").unwrap().parse().unwrap();
    let (meeting, _) = join(rank.parse().unwrap(), 3, &place(port), PATIENCE).unwrap();
    let notes = variable("NOTES").unwrap();
    let alarm = format!("{notes}/alarm.{rank}");
    let (ring, rung) = mpsc::channel();
    meeting.on_loss(move || {
        std::fs::write(&alarm, "").unwrap();
        let _ = ring.send(());
    });
    let error = loop {
        match meeting.sum(&mut [1.0]) {
            Ok(()) => std::fs::write(format!("{notes}/sums.{rank}"), "").unwrap(),
            Err(error) => break error,
        }
    };
    // It is raised by another thread, which dies with the process.
    rung.recv_timeout(PATIENCE).unwrap();
    std::fs::write(format!("{notes}/part.{rank}"), error.to_string()).unwrap();
    std::fs::rename(format!("{notes}/part.{rank}"), format!("{notes}/ended.{rank}")).unwrap();
}

struct Several(Vec<Child>, tempfile::TempDir);

impl Several {
    /// Three processes that are at their sums.
    fn start() -> Self {
        let (notes, port) = (tempfile::tempdir().unwrap(), free_port());
        let child = |rank: usize| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "ranks::meeting::tests::one_of_several_processes"]);
            command.env("PRETEXT_TEST_RANK", rank.to_string());
            command.env("PRETEXT_TEST_PORT", port.to_string());
            command.env("PRETEXT_TEST_NOTES", notes.path());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let several = Self((0..3).map(child).collect(), notes);
        (0..3).for_each(|rank| drop(several.wait_for("sums", rank)));
        several
    }

    fn signal(&self, rank: usize, name: &str) {
        let id = self.0[rank].id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    #[track_caller]
    fn wait_for(&self, what: &str, rank: usize) -> String {
        let (path, began) = (self.1.path().join(format!("{what}.{rank}")), Instant::now());
        while !path.exists() {
            assert!(began.elapsed() < 10 * PATIENCE, "no {what} of {rank}");
            thread::sleep(Duration::from_millis(5));
        }
        std::fs::read_to_string(path).unwrap()
    }
}

impl Drop for Several {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_killed_process_ends_the_others_at_once() {
    for dead in 0..3 {
        let several = Several::start();
        several.signal(dead, "-KILL");
        let began = Instant::now();
        for rank in (0..3).filter(|rank| *rank != dead) {
            let error = several.wait_for("ended", rank);
            assert!(error.starts_with(&format!("process {dead} of this run ")), "{rank}: {error}");
            several.wait_for("alarm", rank);
        }
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    }
}

#[test]
fn a_process_that_falls_silent_ends_the_others_in_time() {
    for silent in [0, 2] {
        let several = Several::start();
        several.signal(silent, "-STOP");
        let began = Instant::now();
        for rank in (0..3).filter(|rank| *rank != silent) {
            let error = several.wait_for("ended", rank);
            assert!(error.starts_with(&format!("process {silent} ")), "{rank}: {error}");
            several.wait_for("alarm", rank);
        }
        let took = began.elapsed();
        assert!(took > PATIENCE / 2 && took < 2 * PATIENCE, "{took:?}");
    }
}
