//! `--watch`: how the cells stand, read from their directories alone.

use std::fs;
use std::io::IsTerminal as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::cells::{self, Frozen};
use super::holders::{Holder, Leases};
use super::rows::duration;
use super::screen;
use crate::say;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// How one cell stands.
pub(super) enum Standing {
    Done(Option<f64>),
    /// The share that is done, the seconds that are left, and what is said of it.
    UnderWay(f64, Option<f64>, String),
    /// Begun, and nobody works on it.
    Left(f64, String),
    Waiting,
}

/// Shows the cells that the last start asked for until all of them are done, or nobody looks on.
pub(super) fn run(out: &Path) -> Result<()> {
    let screen = std::io::stdout().is_terminal();
    let (mut before, mut leases) = (Vec::new(), Leases::default());
    loop {
        let cells = cells::read(out)?;
        let wanted = cells::wanted(out, &cells)?.into_iter().map(|index| &cells[index]);
        let standings: Vec<(&Frozen, Standing)> =
            wanted.map(|cell| (cell, standing(cell, out, &mut leases))).collect();
        let done =
            standings.iter().filter(|(_, standing)| matches!(standing, Standing::Done(_))).count();
        let summary = summary(&standings, done);
        if screen {
            say(screen::frame(&standings, &summary));
        } else {
            let mut lines: Vec<String> = standings.iter().map(line).collect();
            lines.push(summary);
            lines.iter().filter(|line| !before.contains(*line)).for_each(say);
            before = lines;
        }
        if done == standings.len() || crate::is_unread() {
            return Ok(());
        }
        thread::sleep(EVERY);
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn standing(cell: &Frozen, out: &Path, leases: &mut Leases) -> Standing {
    let folder = out.join(&cell.name);
    if cell.is_done(out) {
        let record = json(&folder.join("record.json"));
        return Standing::Done(record.and_then(|record| record["result"]["accuracy"].as_f64()));
    }
    let Some(progress) = json(&folder.join("progress.json")) else { return Standing::Waiting };
    let number = |key: &str| progress[key].as_f64();
    let mut told = format!("epoch {}/{}", progress["epoch"], progress["epochs"]);
    if let Some(loss) = number("loss") {
        told += &format!("  loss {loss:.4}");
    }
    if let Some(accuracy) = number("val_accuracy") {
        told += &format!("  val accuracy {:.2} %", 100.0 * accuracy);
    }
    let share = number("share").unwrap_or(0.0);
    match leases.holder(&folder, Instant::now()) {
        Holder::Lives(host) => {
            Standing::UnderWay(share, number("remaining"), told + &format!("  on {host}"))
        }
        Holder::Nobody => Standing::Left(share, format!("stopped  {told}")),
        Holder::Silent(host, since) => {
            Standing::Left(share, format!("no sign of life from {host} since {since}  {told}"))
        }
    }
}

pub(super) fn line((cell, standing): &(&Frozen, Standing)) -> String {
    let told = match standing {
        Standing::Done(Some(accuracy)) => format!("done  val accuracy {:.2} %", 100.0 * accuracy),
        Standing::Done(None) => "done".into(),
        Standing::UnderWay(share, remaining, told) => {
            let eta =
                remaining.map_or(String::new(), |seconds| format!("  ETA {}", duration(seconds)));
            format!("{:3.0} %  {told}{eta}", 100.0 * share)
        }
        Standing::Left(share, told) => format!("{:3.0} %  {told}", 100.0 * share),
        Standing::Waiting => "waits".into(),
    };
    format!("{:>4}  {}  {told}", cell.index, cell.name)
}

/// What is done, the time that is left for what is under way, and the mean accuracy of each kind of
/// initial weights so far.
fn summary(standings: &[(&Frozen, Standing)], done: usize) -> String {
    let mut groups: Vec<(&str, Vec<f64>)> = Vec::new();
    for (cell, standing) in standings {
        let Standing::Done(Some(accuracy)) = standing else { continue };
        // The name without seed and hash is the row.
        let row = cell.name.rsplitn(3, '-').nth(2).unwrap_or(&cell.name);
        let row = row.trim_start_matches("finetune-");
        match groups.iter_mut().find(|(name, _)| *name == row) {
            Some((_, accuracies)) => accuracies.push(*accuracy),
            None => groups.push((row, vec![*accuracy])),
        }
    }
    let mut text = format!("{done} of {} cells done", standings.len());
    let left = standings.iter().filter_map(|(_, standing)| match standing {
        Standing::UnderWay(_, remaining, _) => *remaining,
        _ => None,
    });
    if let Some(longest) = left.max_by(f64::total_cmp) {
        text += &format!("; ETA of what is under way {}", duration(longest));
    }
    for (row, accuracies) in groups {
        let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        text += &format!("; {row} {:.2} % ({})", 100.0 * mean, accuracies.len());
    }
    text
}
