//! The launcher `local`: cells side by side on this machine, together with whoever else works on
//! the folder.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::cells::Frozen;
use super::gpus::{self, Device};
use super::memory::Memory;
use super::records;
use crate::{Ends, mistake, say_error, short};

/// Threads from which a second run beside the first gains more than a wider first.
const THREADS: usize = 4;
/// What the binary ends with when a signal stopped it, and when another process works on a run.
const STOPPED: i32 = 130;
const BUSY: i32 = 75;

/// What the cells of a folder run with.
pub(super) struct Local<'a> {
    pub(super) out: &'a Path,
    pub(super) cells: &'a [Frozen],
    pub(super) binary: PathBuf,
    /// Cells side by side; by default as many as cores, or GPUs, and memory allow.
    pub(super) jobs: Option<usize>,
    /// Threads of each.
    pub(super) threads: Option<usize>,
    pub(super) device: Device,
}

/// A run that goes on.
struct Running {
    /// Which of the cells' states is its own.
    at: usize,
    child: Child,
    /// The GPU that it was given.
    gpu: Option<String>,
}

/// Runs that go on side by side.
struct Runs(Vec<Running>);

/// A leaderboard that ends by an error leaves no run behind that nobody watches; all leave their
/// checkpoints at the same time.
impl Drop for Runs {
    fn drop(&mut self) {
        self.0.iter().for_each(|run| terminate(&run.child));
        for run in &mut self.0 {
            let _ = run.child.wait();
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Running,
    /// Another process works on it.
    Others,
    Done,
    Failed,
}

impl Local<'_> {
    /// Runs the cells that are not done, each after the one it begins with.
    ///
    /// A cell that fails does not keep the others from running; what another process works on is
    /// waited for. Signals stop it, and so does a reader of standard error that closed the pipe: runs
    /// under way get a TERM and leave a checkpoint, and none is started.
    pub(super) fn run(&self, wanted: &[usize]) -> Result<()> {
        let stop = stop_on_signals()?;
        let done = |&index: &usize| self.cells[index].is_done(self.out);
        let mut states: Vec<(usize, State)> = wanted
            .iter()
            .map(|index| (*index, if done(index) { State::Done } else { State::Open }))
            .collect();
        let open = states.iter().filter(|(_, state)| *state == State::Open).count();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let gpus = if self.device == Device::Cuda && open > 0 { gpus::find()? } else { Vec::new() };
        let jobs = self.jobs.unwrap_or(match gpus.len() {
            0 => cores / self.threads.unwrap_or(THREADS).max(1),
            gpus => gpus,
        });
        let jobs = jobs.clamp(1, open.max(1));
        let threads = self.threads.or((jobs > 1).then(|| (cores / jobs).max(1)));
        let mut runs = Runs(Vec::new());
        let running = &mut runs.0;
        let mut memory = Memory::default();
        let mut passed_on = false;
        'looks: loop {
            // A reader who closed the pipe asks for the same as a signal: stop with a checkpoint.
            stop.fetch_or(crate::is_unread(), Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) && !passed_on {
                passed_on = true;
                running.iter().for_each(|run| terminate(&run.child));
            }
            let mut i = 0;
            while i < running.len() {
                let Some(status) = running[i].child.try_wait()? else {
                    i += 1;
                    continue;
                };
                let Running { at, .. } = running.swap_remove(i);
                let cell = &self.cells[states[at].0];
                states[at].1 = match status.code() {
                    Some(0) if cell.is_done(self.out) => State::Done,
                    Some(BUSY) => State::Others,
                    Some(STOPPED) => {
                        stop.store(true, Ordering::Relaxed);
                        State::Open
                    }
                    code => {
                        let how = code.map_or("a signal".into(), |code| format!("code {code}"));
                        say_error(&format!("{} ended with {how}", cell.name));
                        State::Failed
                    }
                };
            }
            if stop.load(Ordering::Relaxed) {
                if running.is_empty() {
                    let told = "stopped; the same command goes on from there";
                    return Err(Ends { code: STOPPED as u8, told: told.into() }.into());
                }
            } else {
                while running.len() < jobs
                    && (self.jobs.is_some()
                        || memory.has_room(running.iter().map(|run| run.child.id())))
                {
                    let Some((at, wait)) = self.next(&states) else { break };
                    let index = states[at].0;
                    let number = wanted.iter().position(|other| *other == index).unwrap_or(at) + 1;
                    say_error(&format!(
                        "[{number}/{}] {}{}",
                        wanted.len(),
                        self.cells[index].name,
                        if wait { ", which another process works on" } else { "" }
                    ));
                    if crate::is_unread() {
                        continue 'looks;
                    }
                    let taken: Vec<_> = running.iter().map(|run| run.gpu.as_deref()).collect();
                    let gpu = gpus::next(&gpus, &taken).map(str::to_owned);
                    let child = self.start(index, wait, jobs > 1, threads, gpu.as_deref())?;
                    running.push(Running { at, child, gpu });
                    states[at].1 = State::Running;
                }
                if running.is_empty() {
                    break;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        let missing: Vec<&str> = states
            .iter()
            .filter(|(_, state)| *state != State::Done)
            .map(|(index, _)| self.cells[*index].name.as_str())
            .collect();
        if !missing.is_empty() {
            bail!(
                "{} did not finish in {}, see above; once mended, the same command goes on from there",
                missing.join(", "),
                short(self.out)
            )
        }
        Ok(())
    }

    /// The next cell to start, and whether to wait for the process that works on it.
    fn next(&self, states: &[(usize, State)]) -> Option<(usize, bool)> {
        let ready = |index: usize| {
            let after = self.cells[index].after;
            after.is_none_or(|after| self.cells[after].is_done(self.out))
        };
        let find = |wanted: State| {
            states.iter().position(|(index, state)| *state == wanted && ready(*index))
        };
        find(State::Open).map(|at| (at, false)).or(find(State::Others).map(|at| (at, true)))
    }

    fn start(
        &self,
        index: usize,
        wait: bool,
        shared: bool,
        threads: Option<usize>,
        gpu: Option<&str>,
    ) -> Result<Child> {
        let mut command = Command::new(&self.binary);
        command.args(self.cells[index].command(self.out, self.cells, threads, self.device));
        command.envs(gpu.map(|gpu| (gpus::VISIBLE, gpu)));
        if wait {
            command.arg("--wait");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if shared {
            command.stderr(Stdio::piped());
        }
        let child = command.spawn();
        let mut child = child.with_context(|| format!("cannot run {}", self.binary.display()))?;
        if let Some(stderr) = child.stderr.take() {
            // Lines of several runs: each says whose it is.
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    say_error(&format!("{index}: {line}"));
                }
            });
        }
        Ok(child)
    }

    /// Runs one cell: what a job of a scheduler does.
    pub(super) fn run_one(&self, index: usize) -> Result<()> {
        let Some(cell) = self.cells.get(index) else {
            return Err(mistake(format!(
                "--cell {index}: {} has cells 0 to {}",
                short(self.out),
                self.cells.len().saturating_sub(1)
            )));
        };
        if cell.is_done(self.out) {
            say_error(&format!("{} was finished before", cell.name));
            return Ok(());
        }
        if let Some(before) = cell.after.map(|after| &self.cells[after])
            && !before.is_done(self.out)
        {
            let told = format!(
                "{} begins with cell {}, {}, which is not finished: run that one first",
                cell.name, before.index, before.name
            );
            return Err(Ends { code: BUSY as u8, told }.into());
        }
        if let Some(after) = cell.after {
            records::check_encoder(&self.out.join(&self.cells[after].name))?;
        }
        let stop = stop_on_signals()?;
        // Its scheduler has given it a GPU, if any.
        let mut child = self.start(index, true, false, self.threads, None)?;
        let mut passed_on = false;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if stop.load(Ordering::Relaxed) && !passed_on {
                passed_on = true;
                terminate(&child);
            }
            thread::sleep(Duration::from_millis(20));
        };
        match status.code() {
            Some(0) if cell.is_done(self.out) => Ok(()),
            Some(STOPPED) => {
                let told = format!("{} was stopped, with a checkpoint", cell.name);
                Err(Ends { code: STOPPED as u8, told }.into())
            }
            _ => bail!("{} did not finish, see above", cell.name),
        }
    }
}

/// A flag that the signals set which ask a job to stop.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::<AtomicBool>::default();
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGUSR1] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// Asks a run to stop with a checkpoint.
fn terminate(child: &Child) {
    #[cfg(unix)]
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::TERM,
    );
    #[cfg(not(unix))]
    let _ = child;
}
