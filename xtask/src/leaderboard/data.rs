//! The table for programs: JSON and CSV. Accuracies and gains are shares, `0..=1` and `-1..=1`.

use serde_json::{Value, json};

use super::confusions;
use super::plan::Matrix;
use super::records::Board;
use super::rows::Row;

/// Everything in the table, and each run of it.
pub(super) fn json(rows: &[Row<'_>], board: &Board, matrix: &Matrix) -> Value {
    let rows = rows.iter().map(|row| {
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
            "accuracy": {
                "mean": row.accuracy.mean,
                "std": row.accuracy.std,
                "interval": row.accuracy.interval,
                "runs": row.accuracy.runs,
            },
            "gain": row.gain.as_ref().map(|gain| {
                let certainty = gain.certainty.as_ref().ok();
                json!({
                    "difference": gain.difference,
                    "interval": certainty.map(|certainty| certainty.interval),
                    "probability": certainty.map(|certainty| certainty.probability),
                    "test": certainty.map(|certainty| certainty.test.name()),
                })
            }),
            "published": row.published.iter().map(|beside| json!({
                "method": beside.figure.method,
                "accuracy": beside.figure.accuracy / 100.0,
                "runs": beside.figure.runs,
                "probability_of_beating": beside.probability,
                "beaten": beside.beaten(),
            })).collect::<Vec<_>>(),
            "broken_rules": row.broken,
            "seconds": row.seconds(),
            "joules": row.joules(),
            "confusions": confusions::confusions(row.cell),
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
            "joules": run.record.joules,
        })
    });
    json!({
        "format": 2,
        "encoder": matrix.encoder,
        "batch_size": matrix.batch_size,
        "rows": rows.collect::<Vec<_>>(),
        "pretrainings": pretrainings.collect::<Vec<_>>(),
    })
}

/// One line a row; what is not known is empty (RFC 4180).
pub(super) fn csv(rows: &[Row<'_>]) -> String {
    const COLUMNS: [&str; 20] = [
        "size",
        "epochs",
        "initial_weights",
        "runs",
        "seeds",
        "accuracy",
        "std",
        "interval_low",
        "interval_high",
        "gain",
        "gain_low",
        "gain_high",
        "gain_probability",
        "gain_test",
        "standing",
        "standing_accuracy",
        "probability_of_beating_standing",
        "seconds",
        "joules",
        "broken_rules",
    ];
    let mut text = COLUMNS.join(",") + "\r\n";
    for row in rows {
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let seeds: Vec<_> =
            row.cell.accuracies().iter().map(|(seed, _)| seed.to_string()).collect();
        let certainty = row.gain.as_ref().and_then(|gain| gain.certainty.as_ref().ok());
        // The last of the published figures is the one that stands.
        let standing = row.published.last();
        let fields: [String; COLUMNS.len()] = [
            row.cell.size.to_string(),
            row.cell.epochs.to_string(),
            row.cell.init.clone(),
            row.accuracy.runs.to_string(),
            seeds.join(" "),
            row.accuracy.mean.to_string(),
            number(row.accuracy.std),
            number(row.accuracy.interval.map(|(low, _)| low)),
            number(row.accuracy.interval.map(|(_, high)| high)),
            number(row.gain.as_ref().map(|gain| gain.difference)),
            number(certainty.map(|certainty| certainty.interval.0)),
            number(certainty.map(|certainty| certainty.interval.1)),
            number(certainty.map(|certainty| certainty.probability)),
            certainty.map_or(String::new(), |certainty| certainty.test.name().into()),
            standing.map_or(String::new(), |beside| beside.figure.method.into()),
            number(standing.map(|beside| beside.figure.accuracy / 100.0)),
            number(standing.and_then(|beside| beside.probability)),
            row.seconds().to_string(),
            number(row.joules()),
            row.broken.join("; "),
        ];
        text += &(fields.map(|field| quoted(&field)).join(",") + "\r\n");
    }
    text
}

/// A field that may hold commas, quotes and line breaks.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaderboard::records::Cell;
    use crate::leaderboard::rows;

    #[test]
    fn a_claim_stands_beside_the_published_figure() {
        let run = |seed: u64, accuracy: f64| {
            let record = json!({
                "kind": "finetune", "seed": seed, "seconds": 1.5, "recipe": {}, "epochs": [],
                "data": {"name": "imagewang-160", "fingerprint": "f", "pretrained_on": []},
                "code": {"version": "0", "commit": null},
                "machine": {"processor": "abacus", "threads": 1},
                "initial_weights": {"kind": "random"},
                "result": {"accuracy": accuracy},
            });
            ("run".into(), serde_json::from_value(record).unwrap())
        };
        let cell = |init: &str, accuracies: [f64; 2]| Cell {
            size: 128,
            epochs: 5,
            init: init.into(),
            runs: (0..).zip(accuracies).map(|(seed, accuracy)| run(seed, accuracy)).collect(),
        };
        // In-painting has 34.72 % there, SwAV 72.94 %.
        let cells = vec![cell("random", [0.35, 0.3502]), cell("jigsaw", [0.73, 0.732])];
        let board = Board { cells, pretrainings: Vec::new() };
        let rows = rows::rows(&board, true);
        let text = csv(&rows);
        let standing = "\"SwAV, standing\",0.729";
        assert_eq!(text.matches(standing).count(), 2, "{text}");
        let beaten = |row: usize| -> Vec<_> {
            rows[row].published.iter().map(|beside| beside.beaten().unwrap()).collect()
        };
        assert_eq!(beaten(0), [true, false]);
        // A mean above the published figure is no claim yet: another run may fall below it.
        assert!(rows[1].accuracy.mean > 0.7294);
        let chance = rows[1].published[1].probability.unwrap();
        assert!(chance > 0.5 && chance < 0.8, "{chance}");
        assert_eq!(beaten(1), [true, false]);
        assert_eq!(rows::rows(&board, false)[1].published.len(), 0);
    }

    #[test]
    fn fields_stay_apart() {
        assert_eq!(quoted("plain text"), "plain text");
        assert_eq!(quoted("SwAV, standing"), "\"SwAV, standing\"");
        assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
    }
}
