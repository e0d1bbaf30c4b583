//! `--watch`: how the cells stand, read from their directories alone.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::cells::{self, Frozen};
use super::rows::duration;
use crate::say;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// How one cell stands.
enum Standing {
    Done(Option<f64>),
    /// The share that is done, and what is said of it.
    UnderWay(f64, Option<f64>, String),
    Waiting,
}

/// Shows the cells that the last start asked for until all of them are done.
pub(super) fn run(out: &Path) -> Result<()> {
    let screen = std::io::stdout().is_terminal();
    let mut before = Vec::new();
    loop {
        let cells = cells::read(out)?;
        let wanted = cells::wanted(out, &cells)?;
        let standings: Vec<(&Frozen, Standing)> =
            wanted.iter().map(|&index| (&cells[index], standing(&cells[index], out))).collect();
        let done =
            standings.iter().filter(|(_, standing)| matches!(standing, Standing::Done(_))).count();
        let mut lines: Vec<String> = standings.iter().map(line).collect();
        lines.push(summary(&standings, done));
        if screen {
            // Home, then each line to its end, then what is left of the screen.
            let text = lines.join("\x1b[K\n");
            let _ = write!(std::io::stdout(), "\x1b[H{text}\x1b[K\n\x1b[J");
            let _ = std::io::stdout().flush();
        } else {
            lines.iter().filter(|line| !before.contains(*line)).for_each(say);
        }
        if done == standings.len() {
            return Ok(());
        }
        before = lines;
        thread::sleep(EVERY);
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn standing(cell: &Frozen, out: &Path) -> Standing {
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
    let (host, released) = holder(&folder);
    told += &if released { "  stopped".into() } else { format!("  on {host}") };
    Standing::UnderWay(
        number("share").unwrap_or(0.0),
        number("remaining").filter(|_| !released),
        told,
    )
}

/// The host of the highest lease, and whether it was let go of.
fn holder(folder: &Path) -> (String, bool) {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let number = |name: std::ffi::OsString| -> Option<u32> {
        name.to_str()?.strip_prefix("lease.")?.strip_suffix(".json")?.parse().ok()
    };
    let lease = names.filter_map(number).max();
    let lease = lease.and_then(|number| json(&folder.join(format!("lease.{number}.json"))));
    let lease = lease.unwrap_or_default();
    (
        lease["host"].as_str().unwrap_or("an unknown host").into(),
        lease["released"].as_bool().unwrap_or(false),
    )
}

fn line((cell, standing): &(&Frozen, Standing)) -> String {
    let told = match standing {
        Standing::Done(Some(accuracy)) => format!("done  val accuracy {:.2} %", 100.0 * accuracy),
        Standing::Done(None) => "done".into(),
        Standing::UnderWay(share, remaining, told) => {
            let eta =
                remaining.map_or(String::new(), |seconds| format!("  ETA {}", duration(seconds)));
            format!("{:3.0} %  {told}{eta}", 100.0 * share)
        }
        Standing::Waiting => "waits".into(),
    };
    format!("{:>4}  {}  {told}", cell.index, cell.name)
}

/// What is done, the mean accuracy of each kind of initial weights so far, and the time that is
/// left for what is under way.
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
    for (row, accuracies) in groups {
        let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        text += &format!("; {row} {:.2} % ({})", 100.0 * mean, accuracies.len());
    }
    let left = standings.iter().filter_map(|(_, standing)| match standing {
        Standing::UnderWay(_, remaining, _) => *remaining,
        _ => None,
    });
    if let Some(longest) = left.max_by(f64::total_cmp) {
        text += &format!("; ETA of what is under way {}", duration(longest));
    }
    text
}
