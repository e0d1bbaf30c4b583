//! The table as Markdown: with all statistics for people, and as the public leaderboard has it.

use std::fmt::Write as _;

use super::plan::Matrix;
use super::records::{Board, Pretraining, Record};
use super::rows::{self, Row};

/// The whole table and what a reader has to know about it.
pub(super) fn document(rows: &[Row<'_>], board: &Board, matrix: &Matrix) -> String {
    let published = rows.iter().any(|row| !row.published.is_empty());
    let footnotes = rows::footnotes(rows);
    let mut head =
        vec!["size", "epochs", "initial weights", "accuracy, %", "95 % interval", "runs"];
    head.extend(["gain, points", "95 % interval", "P(gain)"]);
    head.extend(published.then_some("published, %"));
    let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for row in rows {
        let gain = row.gain.as_ref();
        let certainty = gain.and_then(|gain| gain.certainty.as_ref().ok());
        let marks: String =
            row.marks(&footnotes).iter().map(|number| format!(" †{number}")).collect();
        let mut line = vec![
            row.cell.size.to_string(),
            row.cell.epochs.to_string(),
            row.cell.init.clone() + &marks,
            rows::spread(&row.accuracy),
            rows::interval(row.accuracy.interval),
            row.accuracy.runs.to_string(),
            gain.map_or("".into(), |gain| rows::points(gain.difference)),
            gain.map_or("".into(), rows::points_interval),
            certainty.map_or("".into(), |certainty| rows::percent(certainty.probability)),
        ];
        if published {
            line.push(row.published.iter().map(rows::cite).collect::<Vec<_>>().join("; "));
        }
        lines.push(line);
    }
    let mut text = aligned(&lines);
    for (number, rule) in (1..).zip(&footnotes) {
        let _ = write!(text, "\n†{number} breaks a rule of the leaderboard: {rule}.\n");
    }
    for note in notes(rows, board, matrix) {
        let _ = write!(text, "\n{note}\n");
    }
    text
}

/// The rows that keep all rules, in the public leaderboard's own format.
pub(super) fn public(rows: &[Row<'_>]) -> String {
    let mut text =
        String::from("| Size (px) | Epochs | URL | Accuracy | # Runs |\n|--|--|--|--|--|\n");
    for row in rows.iter().filter(|row| row.broken.is_empty()) {
        let Some((_, record)) = row.cell.runs.first() else { continue };
        let commit = record.code.committed();
        let tree = commit.map_or(String::new(), |(commit, _)| format!("/tree/{commit}"));
        let mean = if row.accuracy.runs > 1 { ", mean" } else { "" };
        let _ = writeln!(
            text,
            "|{}|{}|[pretext, {}]({}{tree})|{:.2}%|{}{mean}|",
            row.cell.size,
            row.cell.epochs,
            row.cell.init,
            env!("CARGO_PKG_REPOSITORY"),
            100.0 * row.accuracy.mean,
            row.accuracy.runs,
        );
    }
    text
}

/// What a reader has to know about the table, a paragraph each.
pub(super) fn notes(rows: &[Row<'_>], board: &Board, matrix: &Matrix) -> Vec<String> {
    let mut notes = Vec::new();
    let runs = board.cells.iter().flat_map(|cell| &cell.runs).map(|(_, record)| record);
    if let Some(record) = runs.clone().next() {
        let total = record.result.total.unwrap_or(0);
        notes.push(format!(
            "Accuracy on the {total} pictures of val/ of {} after the last epoch: mean ± standard \
             deviation over the runs, and where the true mean lies with 95 % confidence (Student's \
             t). One run has neither, and runs that score all the same no interval: no spread seen is \
             no proof of none. {}, batches of {}.",
            record.data.name, matrix.encoder, matrix.batch_size,
        ));
    }
    if rows.iter().any(|row| row.gain.is_some()) {
        let test = rows.iter().filter_map(|row| row.gain.as_ref()?.certainty.as_ref().ok()).next();
        notes.push(format!(
            "Gain over the same epochs from random weights{}. P(gain) is the probability that it \
             is above zero.",
            test.map_or(String::new(), |certainty| format!(
                ", by {} {}",
                certainty.test.name(),
                match certainty.test {
                    super::stats::Test::Paired => "over pairs of runs with the same seed",
                    super::stats::Test::Welch => "over runs with other seeds",
                }
            )),
        ));
    }
    if rows.iter().any(|row| !row.published.is_empty()) {
        notes.push(
            "Published figures are of Image网's public leaderboard. Its rule: a contribution has \
             to score above the published figure more than 80 % of the time. The percentage is the \
             probability that another run of the row does; it takes two runs that differ to tell."
                .into(),
        );
    }
    notes.extend(board.pretrainings.iter().map(pretraining));
    if let Some(record) = runs.clone().next() {
        let all = runs.chain(board.pretrainings.iter().map(|run| &run.record));
        let seconds: f64 = all.clone().map(|record| record.seconds).sum();
        // Cells say nothing of machines: several may have shared them.
        let mut machines: Vec<String> = all.map(machine).collect();
        machines.sort();
        machines.dedup();
        let commit = record.code.commit.as_ref();
        notes.push(format!(
            "Trained in {} on {}, by pretext {}{}.",
            rows::duration(seconds),
            machines.join("; "),
            record.code.version,
            commit.map_or(String::new(), |commit| format!(" at commit {commit}")),
        ));
    }
    notes
}

/// What computed a run.
fn machine(record: &Record) -> String {
    let device = record.machine.device.as_ref().filter(|device| *device != "cpu");
    format!(
        "{}{} with {}",
        device.map_or(String::new(), |device| format!("{device} and ")),
        record.machine.processor,
        rows::counted(record.machine.threads as u64, "thread"),
    )
}

fn pretraining(run: &Pretraining) -> String {
    let record = &run.record;
    let last = record.epochs.last();
    let val = last.and_then(|epoch| epoch.val_loss);
    format!(
        "{} was pretrained at {} px for {} on the pixels of {}: train loss {:.4}{}, {}.",
        run.task,
        run.size,
        rows::counted(record.epochs.len() as u64, "epoch"),
        record.data.pretrained_on.join(" and "),
        last.map_or(f64::NAN, |epoch| epoch.train_loss),
        val.map_or(String::new(), |loss| format!(", val loss {loss:.4}")),
        rows::duration(record.seconds),
    )
}

/// A Markdown table whose columns also line up as plain text.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if i == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up() {
        let lines = [["a", "bcd"], ["±20", ""]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(aligned(&lines), "| a   | bcd |\n|-----|-----|\n| ±20 |     |\n");
    }
}
