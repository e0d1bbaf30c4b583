//! A process that takes steps when it is told to, and says how long they took. What a step is, both
//! sides know: one of a training, a pass over a corpus.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// One such process, waiting.
pub(super) struct Stepper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Stepper {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {name}"))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => {
                Ok(Self { child, input, output: BufReader::new(output) })
            }
            _ => bail!("{name} has no pipes"),
        }
    }

    /// Takes steps; their seconds.
    pub(super) fn steps(&mut self, count: usize) -> Result<Vec<f64>> {
        self.tell(&count.to_string())?;
        self.seconds(count)
    }

    /// The seconds of steps that it was [told](Self::tell) to take.
    pub(super) fn seconds(&mut self, count: usize) -> Result<Vec<f64>> {
        let answer = self.answer()?;
        let seconds: Result<Vec<f64>, _> = answer.split_whitespace().map(str::parse).collect();
        match seconds {
            Ok(seconds) if seconds.len() == count => Ok(seconds),
            _ => bail!("asked for the seconds of {count} steps, the answer is {answer:?}"),
        }
    }

    /// The most memory it has held, in MiB.
    pub(super) fn peak(&mut self) -> Result<u64> {
        self.tell("peak")?;
        let answer = self.answer()?;
        answer.trim().parse().with_context(|| format!("the peak is {answer:?}"))
    }

    /// Gives it a line, without waiting for an answer.
    pub(super) fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("the process that takes steps has ended")
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the process that takes steps has ended; what it said stands above")
        }
        Ok(line)
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measured steps of a turn. One more comes before them, after which memory and caches are as they
/// are in the middle of many.
pub(super) const MEASURED: usize = 2;

/// Seconds of each process's measured steps: `rounds` turns each, one process after the other, so
/// that whatever else the machine does meets them all alike; `warm_up` steps of each come before.
pub(super) fn interleave(
    steppers: &mut [&mut Stepper],
    (warm_up, rounds): (usize, usize),
) -> Result<Vec<Vec<f64>>> {
    for stepper in &mut *steppers {
        stepper.steps(warm_up)?;
    }
    let mut seconds = vec![Vec::with_capacity(rounds * MEASURED); steppers.len()];
    for _ in 0..rounds {
        for (stepper, seconds) in steppers.iter_mut().zip(&mut seconds) {
            seconds.extend(stepper.steps(1 + MEASURED)?.split_off(1));
        }
    }
    Ok(seconds)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Answers every number by that many seconds of its first argument.
    fn fake(seconds: &str) -> Stepper {
        let script = "while read word; do case $word in
            train) ;;
            peak) echo 7 ;;
            *) for i in $(seq $word); do printf '%s ' $0; done; echo ;;
        esac; done";
        Stepper::start(Command::new("sh").args(["-c", script, seconds])).unwrap()
    }

    #[test]
    fn steps_in_turn() {
        let (mut a, mut b) = (fake("0.5"), fake("2"));
        a.tell("train").unwrap();
        let seconds = interleave(&mut [&mut a, &mut b], (2, 3)).unwrap();
        assert_eq!(seconds, [vec![0.5; 3 * MEASURED], vec![2.0; 3 * MEASURED]]);
        assert_eq!(a.peak().unwrap(), 7);
    }

    #[test]
    fn nonsense_is_named() {
        let mut stepper = fake("soon");
        let error = stepper.steps(2).unwrap_err().to_string();
        assert!(error.starts_with("asked for the seconds of 2 steps"), "{error}");
        let mut ended = Stepper::start(&mut Command::new("true")).unwrap();
        assert!(ended.steps(1).is_err());
    }
}
