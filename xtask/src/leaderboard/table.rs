//! The table: one row a cell, as Markdown for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::plan::{Matrix, RANDOM};
use super::published::{self, Published};
use super::records::{Board, Cell, Pretraining};
use super::stats::{self, Summary};

/// A cell's row.
pub(super) struct Row<'a> {
    pub(super) cell: &'a Cell,
    pub(super) accuracy: Summary,
    /// Against the same cell from random weights, where that is in the matrix.
    pub(super) gain: Option<Gain>,
    pub(super) published: Vec<&'static Published>,
}

/// What pretraining bought.
pub(super) struct Gain {
    /// Difference of the means, `-1..=1`.
    pub(super) difference: f64,
    /// How sure it is that there is a gain at all, `0..=1`; unknown without spreads.
    pub(super) probability: Option<f64>,
}

/// The rows, in the matrix's order.
pub(super) fn rows<'a>(board: &'a Board, matrix: &Matrix) -> Vec<Row<'a>> {
    let baseline = |cell: &Cell| {
        let same = |other: &&Cell| (other.size, other.epochs) == (cell.size, cell.epochs);
        let random = board.cells.iter().filter(same).find(|other| other.init == RANDOM)?;
        stats::summary(&random.accuracies())
    };
    board
        .cells
        .iter()
        .filter_map(|cell| {
            let accuracy = stats::summary(&cell.accuracies())?;
            let gain = match baseline(cell) {
                Some(base) if cell.init != RANDOM => Some(Gain {
                    difference: accuracy.mean - base.mean,
                    probability: stats::probability_above(&accuracy, &base),
                }),
                _ => None,
            };
            let published = if matrix.is_imagewang() {
                published::of(cell.size, cell.epochs).collect()
            } else {
                Vec::new()
            };
            Some(Row { cell, accuracy, gain, published })
        })
        .collect()
}

/// `38.63 ± 0.27`, and of one run `38.63`.
pub(super) fn spread(summary: &Summary) -> String {
    let mean = format!("{:.2}", 100.0 * summary.mean);
    summary.std.map_or(mean.clone(), |std| format!("{mean} ± {:.2}", 100.0 * std))
}

/// `+2.31`, in points.
pub(super) fn points(difference: f64) -> String {
    format!("{:+.2}", 100.0 * difference)
}

/// A probability in whole percent, never more certain than a handful of runs can make it.
pub(super) fn percent(probability: f64) -> String {
    match probability {
        p if p > 0.99 => "> 99 %".into(),
        p if p < 0.01 => "< 1 %".into(),
        p => format!("{:.0} %", 100.0 * p),
    }
}

/// One published figure in words.
pub(super) fn cite(row: &Published) -> String {
    let runs = if row.runs == 1 { "1 run".into() } else { format!("{} runs", row.runs) };
    format!("{:.2} ({}, {runs})", row.accuracy, row.method)
}

/// The whole table and what a reader has to know about it.
pub(super) fn markdown(board: &Board, matrix: &Matrix) -> String {
    let rows = rows(board, matrix);
    let published = rows.iter().any(|row| !row.published.is_empty());
    let mut head = vec!["size", "epochs", "initial weights", "accuracy, %", "runs"];
    head.extend(["gain, points", "P(gain)"]);
    head.extend(published.then_some("published, %"));
    let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for row in &rows {
        let gain = row.gain.as_ref();
        let probability = gain.and_then(|gain| gain.probability);
        let mut line = vec![
            row.cell.size.to_string(),
            row.cell.epochs.to_string(),
            row.cell.init.clone(),
            spread(&row.accuracy),
            row.accuracy.runs.to_string(),
            gain.map_or("".into(), |gain| points(gain.difference)),
            probability.map_or("".into(), percent),
        ];
        if published {
            line.push(row.published.iter().map(|row| cite(row)).collect::<Vec<_>>().join("; "));
        }
        lines.push(line);
    }
    let mut text = aligned(&lines);
    for note in notes(board, matrix) {
        let _ = write!(text, "\n{note}\n");
    }
    text
}

/// What a reader has to know about the table, a paragraph each.
pub(super) fn notes(board: &Board, matrix: &Matrix) -> Vec<String> {
    let mut notes = Vec::new();
    let runs = board.cells.iter().flat_map(|cell| &cell.runs).map(|(_, record)| record);
    if let Some(record) = runs.clone().next() {
        let total = record.result.total.unwrap_or(0);
        notes.push(format!(
            "Accuracy on the {total} pictures of val/ of {} after the last epoch: mean ± standard \
             deviation over the runs. Gain over the same epochs from random weights; P(gain) is the \
             probability that the gain is above zero, by Welch's t over the runs' seeds. {}, batches \
             of {}.",
            record.data.name, matrix.encoder, matrix.batch_size,
        ));
    }
    notes.extend(board.pretrainings.iter().map(pretraining));
    if let Some(record) = runs.clone().next() {
        let seconds: f64 = runs.map(|record| record.seconds).sum::<f64>()
            + board.pretrainings.iter().map(|run| run.record.seconds).sum::<f64>();
        let commit = record.code.commit.as_ref();
        notes.push(format!(
            "Trained in {} on {} with {} threads, by pretext {}{}.",
            duration(seconds),
            record.machine.processor,
            record.machine.threads,
            record.code.version,
            commit.map_or(String::new(), |commit| format!(" at commit {commit}")),
        ));
    }
    notes
}

fn pretraining(run: &Pretraining) -> String {
    let record = &run.record;
    let last = record.epochs.last();
    let val = last.and_then(|epoch| epoch.val_loss);
    format!(
        "{} was pretrained at {} px for {} epochs on the pixels of {}: train loss {:.4}{}, {}.",
        run.task,
        run.size,
        record.epochs.len(),
        record.data.pretrained_on.join(" and "),
        last.map_or(f64::NAN, |epoch| epoch.train_loss),
        val.map_or(String::new(), |loss| format!(", val loss {loss:.4}")),
        duration(record.seconds),
    )
}

/// `12 s`, `3 min 20 s` or `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// Everything in the table, for programs; accuracies are `0..=1`.
pub(super) fn json(board: &Board, matrix: &Matrix) -> Value {
    let rows = rows(board, matrix).into_iter().map(|row| {
        let runs = row.cell.runs.iter().map(|(_, record)| {
            json!({
                "seed": record.seed,
                "accuracy": record.result.accuracy,
                "seconds": record.seconds,
                "initial_weights": record.initial_weights,
                "fingerprint": record.data.fingerprint,
                "code": { "version": record.code.version, "commit": record.code.commit },
            })
        });
        json!({
            "size": row.cell.size,
            "epochs": row.cell.epochs,
            "initial_weights": row.cell.init,
            "accuracy": { "mean": row.accuracy.mean, "std": row.accuracy.std },
            "gain": row.gain.as_ref().map(|gain| json!({
                "difference": gain.difference,
                "probability": gain.probability,
            })),
            "published": row.published.iter().map(|row| json!({
                "method": row.method, "accuracy": row.accuracy / 100.0, "runs": row.runs,
            })).collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(),
        })
    });
    let pretrainings = board.pretrainings.iter().map(|run| {
        let last = run.record.epochs.last();
        json!({
            "task": run.task,
            "size": run.size,
            "epochs": run.record.epochs.len(),
            "seed": run.record.seed,
            "pretrained_on": run.record.data.pretrained_on,
            "train_loss": last.map(|epoch| epoch.train_loss),
            "val_loss": last.and_then(|epoch| epoch.val_loss),
            "seconds": run.record.seconds,
        })
    });
    json!({
        "format": 1,
        "encoder": matrix.encoder,
        "batch_size": matrix.batch_size,
        "rows": rows.collect::<Vec<_>>(),
        "pretrainings": pretrainings.collect::<Vec<_>>(),
    })
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
    fn figures_as_people_read_them() {
        let summary = |std| Summary { runs: 3, mean: 0.38634, std };
        assert_eq!(spread(&summary(Some(0.0027))), "38.63 ± 0.27");
        assert_eq!(spread(&summary(None)), "38.63");
        assert_eq!(points(0.0231), "+2.31");
        assert_eq!(points(-0.004), "-0.40");
        assert_eq!(percent(0.8149), "81 %");
        assert_eq!(percent(0.999), "> 99 %");
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7500.0), "2 h 5 min");
    }

    #[test]
    fn a_table_lines_up() {
        let lines = [["a", "bcd"], ["±20", ""]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(aligned(&lines), "| a   | bcd |\n|-----|-----|\n| ±20 |     |\n");
    }
}
