//! The table's rows: a cell's runs, summed up and compared.

use super::plan::RANDOM;
use super::published::{self, Published};
use super::records::{Board, Cell};
use super::rules;
use super::stats::{self, Gain, Interval, Summary};

/// A cell's row.
pub(super) struct Row<'a> {
    pub(super) cell: &'a Cell,
    pub(super) accuracy: Summary,
    /// Against the same cell from random weights, where that is in the matrix.
    pub(super) gain: Option<Gain>,
    pub(super) published: Vec<Beside>,
    /// The rules of the leaderboard that a run of it breaks, or does not prove to keep.
    pub(super) broken: Vec<String>,
}

/// A published figure beside a row.
pub(super) struct Beside {
    pub(super) figure: &'static Published,
    /// How likely another run of the row scores above it; unknown of one run, or without spread.
    pub(super) probability: Option<f64>,
}

/// The probability above which the public leaderboard takes a claim.
const CLAIM: f64 = 0.8;

impl Beside {
    /// Whether the row may claim to be better, where that is known.
    pub(super) fn beaten(&self) -> Option<bool> {
        self.probability.map(|probability| probability > CLAIM)
    }
}

/// The rows, in the matrix's order; those of Image网 beside what is published.
pub(super) fn rows<'a>(board: &'a Board, imagewang: bool) -> Vec<Row<'a>> {
    board.cells.iter().filter_map(|cell| row(cell, board, imagewang)).collect()
}

fn row<'a>(cell: &'a Cell, board: &Board, imagewang: bool) -> Option<Row<'a>> {
    let accuracies: Vec<f64> = cell.accuracies().iter().map(|(_, accuracy)| *accuracy).collect();
    let accuracy = stats::summary(&accuracies)?;
    let same = |other: &&Cell| (other.size, other.epochs) == (cell.size, cell.epochs);
    let random = board.cells.iter().filter(same).find(|other| other.init == RANDOM);
    let random = random.filter(|_| cell.init != RANDOM);
    let gain = random.and_then(|random| stats::gain(&cell.accuracies(), &random.accuracies()));
    let beside = |figure: &'static Published| Beside {
        figure,
        probability: stats::probability_of_beating(&accuracy, figure.accuracy / 100.0),
    };
    let published = if imagewang {
        published::of(cell.size, cell.epochs).map(beside).collect()
    } else {
        Vec::new()
    };
    let broken = rules::broken(cell, board);
    Some(Row { cell, accuracy, gain, published, broken })
}

/// Every broken rule once, in order of appearance; a row's marks are places in this list.
pub(super) fn footnotes<'a>(rows: &'a [Row<'_>]) -> Vec<&'a str> {
    let mut notes: Vec<&str> = Vec::new();
    for rule in rows.iter().flat_map(|row| &row.broken) {
        if !notes.contains(&rule.as_str()) {
            notes.push(rule);
        }
    }
    notes
}

impl Row<'_> {
    /// The numbers of its footnotes, from 1.
    pub(super) fn marks(&self, footnotes: &[&str]) -> Vec<usize> {
        (1..)
            .zip(footnotes)
            .filter(|(_, note)| self.broken.iter().any(|rule| rule == *note))
            .map(|(number, _)| number)
            .collect()
    }

    /// What its runs took together, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.cell.runs.iter().map(|(_, record)| record.seconds).sum()
    }

    /// What the processor took for its runs together, in joules, if all of them could tell.
    pub(super) fn joules(&self) -> Option<f64> {
        self.cell.runs.iter().map(|(_, record)| record.joules).sum()
    }
}

/// `38.63 ± 0.27`, and of one run `38.63`.
pub(super) fn spread(summary: &Summary) -> String {
    let mean = format!("{:.2}", 100.0 * summary.mean);
    summary.std.map_or(mean.clone(), |std| format!("{mean} ± {:.2}", 100.0 * std))
}

/// `38.10 to 39.17`.
pub(super) fn interval(interval: Option<Interval>) -> String {
    interval
        .map_or(String::new(), |(low, high)| format!("{:.2} to {:.2}", 100.0 * low, 100.0 * high))
}

/// `+2.31`, in points.
pub(super) fn points(difference: f64) -> String {
    format!("{:+.2}", 100.0 * difference)
}

/// `-0.40 to +5.02`, in points.
pub(super) fn points_interval(gain: &Gain) -> String {
    gain.certainty.as_ref().map_or(String::new(), |certainty| {
        let (low, high) = certainty.interval;
        format!("{} to {}", points(low), points(high))
    })
}

/// `1 run`, `2 runs`.
pub(super) fn counted(count: impl Into<u64>, what: &str) -> String {
    match count.into() {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// A probability in whole percent, never more certain than a handful of runs can make it.
pub(super) fn percent(probability: f64) -> String {
    match probability {
        p if p > 0.99 => "> 99 %".into(),
        p if p < 0.01 => "< 1 %".into(),
        p => format!("{:.0} %", 100.0 * p),
    }
}

/// One published figure in words, and how it stands against the row.
pub(super) fn cite(beside: &Beside) -> String {
    let Published { accuracy, method, runs, .. } = beside.figure;
    let runs = counted(*runs, "run");
    let beaten = match (beside.probability, beside.beaten()) {
        (Some(probability), Some(true)) => format!(", beaten: {}", percent(probability)),
        (Some(probability), _) => format!(", not beaten: {}", percent(probability)),
        _ => String::new(),
    };
    format!("{accuracy:.2} ({method}, {runs}{beaten})")
}

/// `12 s`, `3 min 20 s` or `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// `0.4 Wh` or `12 Wh`.
pub(super) fn energy(joules: f64) -> String {
    match joules / 3600.0 {
        hours if hours < 10.0 => format!("{hours:.1} Wh"),
        hours => format!("{hours:.0} Wh"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaderboard::stats::{Certainty, Test, Unknown};

    #[test]
    fn figures_as_people_read_them() {
        let summary = |std| Summary { runs: 3, mean: 0.38634, std, interval: None };
        assert_eq!(spread(&summary(Some(0.0027))), "38.63 ± 0.27");
        assert_eq!(spread(&summary(None)), "38.63");
        assert_eq!(interval(Some((0.381, 0.39174))), "38.10 to 39.17");
        assert_eq!(interval(None), "");
        assert_eq!(points(0.0231), "+2.31");
        assert_eq!(points(-0.004), "-0.40");
        let certainty =
            Certainty { test: Test::Paired, interval: (-0.004, 0.05), probability: 0.9 };
        let gain = |certainty| Gain { difference: 0.02, certainty };
        assert_eq!(points_interval(&gain(Ok(certainty))), "-0.40 to +5.00");
        assert_eq!(points_interval(&gain(Err(Unknown::OneRun))), "");
        assert_eq!(percent(0.8149), "81 %");
        assert_eq!([0, 1, 2].map(|runs: u32| counted(runs, "run")), ["0 runs", "1 run", "2 runs"]);
        assert_eq!(percent(0.999), "> 99 %");
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7500.0), "2 h 5 min");
        assert_eq!(energy(1440.0), "0.4 Wh");
        assert_eq!(energy(43_200.0), "12 Wh");
    }

    #[test]
    fn a_claim_needs_more_than_eighty_percent() {
        let figure = published::of(128, 5).next().unwrap();
        let cited = |probability| cite(&Beside { figure, probability });
        assert_eq!(cited(Some(0.81)), "34.72 (in-painting, 2020-03, 5 runs, beaten: 81 %)");
        assert_eq!(cited(Some(0.8)), "34.72 (in-painting, 2020-03, 5 runs, not beaten: 80 %)");
        assert_eq!(cited(None), "34.72 (in-painting, 2020-03, 5 runs)");
    }
}
