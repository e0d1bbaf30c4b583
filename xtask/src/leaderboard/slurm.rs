//! The launchers for schedulers: `print` lists commands, `slurm` submits job arrays over the indices
//! of `cells.json`. A scheduler's state is only a hint: each job looks into its directory.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cells::Frozen;
use super::gpus::Device;
use super::shell;
use crate::{say, say_error, short, write_whole};

/// Seconds before the time limit at which Slurm asks a job to stop.
const WARNING: u32 = 120;

/// What runs one cell, but for its index.
pub(super) fn base(
    out: &Path,
    binary: &Path,
    threads: Option<usize>,
    device: Device,
) -> Result<Vec<String>> {
    let this = std::env::current_exe().context("cannot tell where xtask is")?;
    let mut words = vec![this.display().to_string(), "leaderboard".into()];
    words.extend(["--out".into(), out.display().to_string()]);
    words.extend(["--pretext".into(), binary.display().to_string()]);
    if let Some(threads) = threads {
        words.extend(["--threads".into(), threads.to_string()]);
    }
    words.extend(device.flag().into_iter().flatten());
    Ok(words)
}

/// Prints one command a cell that is not done, pretraining first.
pub(super) fn print(base: &[String], open: &[&Frozen], report: &[String]) {
    say(
        "# One command a line: first what begins with nothing, then what begins with one of those.",
    );
    say(
        "# In an indexed job, the index is --cell: $JOB_COMPLETION_INDEX, $SLURM_ARRAY_TASK_ID, ...",
    );
    say("# Exit codes: 0 done, 75 not yet (start it again later), 130 stopped with a checkpoint.");
    for dependent in [false, true] {
        for cell in open.iter().filter(|cell| cell.after.is_some() == dependent) {
            say(format!("{} --cell {}", shell::line(base), cell.index));
        }
    }
    say("# The table, once they ended:");
    say(shell::line(report));
}

/// Submits what is not done, and the report behind it.
pub(super) fn submit(
    out: &Path,
    base: &[String],
    report: &[String],
    open: &[&Frozen],
    jobs: Option<usize>,
    more: &[String],
) -> Result<()> {
    let folder = out.join("slurm");
    let (cell, table) = (folder.join("cell.sh"), folder.join("report.sh"));
    write_whole(&cell, script(base).as_bytes())?;
    let text = format!("#!/bin/bash\nexec {}\n", shell::line(report));
    write_whole(&table, text.as_bytes())?;
    let log = |name: &str| format!("--output={}", folder.join(name).display());
    let mut ids: Vec<String> = Vec::new();
    for dependent in [false, true] {
        let indices: Vec<String> = open
            .iter()
            .filter(|cell| cell.after.is_some() == dependent)
            .map(|cell| cell.index.to_string())
            .collect();
        if indices.is_empty() {
            continue;
        }
        let throttle = jobs.map_or(String::new(), |jobs| format!("%{jobs}"));
        let mut words: Vec<String> = [
            "--requeue",
            "--open-mode=append",
            "--job-name=pretext",
            &format!("--array={}{throttle}", indices.join(",")),
            &format!("--signal=B:USR1@{WARNING}"),
            &log("%A_%a.log"),
        ]
        .map(str::to_owned)
        .to_vec();
        // Behind a failed job, afterok would wait for ever; a cell looks for itself what is done.
        words.extend(
            ids.last().filter(|_| dependent).map(|id| format!("--dependency=afterany:{id}")),
        );
        words.extend(more.iter().cloned());
        words.push(cell.display().to_string());
        let id = sbatch(&words)?;
        say_error(&format!("job {id}: cells {}", indices.join(",")));
        ids.push(id);
    }
    if ids.is_empty() {
        say_error("every cell is done");
        return Ok(());
    }
    let mut words = vec![
        "--job-name=pretext-report".into(),
        format!("--dependency=afterany:{}", ids.join(":")),
        log("report.log"),
    ];
    words.extend(more.iter().cloned());
    words.push(table.display().to_string());
    say_error(&format!("job {}: the table, in {}", sbatch(&words)?, short(out)));
    Ok(())
}

fn sbatch(words: &[String]) -> Result<String> {
    let output = Command::new("sbatch").arg("--parsable").args(words).output();
    let output = output.context("cannot run sbatch; start this where Slurm's commands are")?;
    if !output.status.success() {
        bail!("sbatch: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().split(';').next().unwrap_or_default().into())
}

/// The batch script: passes signals on, and asks to be queued again when the time limit came.
fn script(base: &[String]) -> String {
    format!(
        r#"#!/bin/bash
# One cell. A time limit or a lost node costs the work since the last checkpoint; the job goes on
# when Slurm starts it again.
limit=0
trap 'limit=1; kill -USR1 "$child"' USR1
trap 'kill -TERM "$child"' TERM
{} --cell "$SLURM_ARRAY_TASK_ID" &
child=$!
wait "$child"
# A signal ends the wait, not the child.
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
wait "$child"
code=$?
if [ "$limit" = 1 ] && [ "$code" = 130 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"#,
        shell::line(base)
    )
}
