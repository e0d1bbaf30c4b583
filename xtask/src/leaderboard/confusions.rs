//! The page's part about mistakes: what each row takes for what, and the pictures it is surest and
//! wrong about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::binary::Pretext;
use super::chart::escape;
use super::plan::Matrix;
use super::records::{Board, Cell, Mistake, Record};
use super::rows::{self, Row};
use crate::short;

/// Pictures in a row of the sheet that `pretext show --mistakes` draws, and the space around them.
const COLUMNS: usize = 4;
const GAP: usize = 4;

/// How often each class was answered, by what was right; over all runs of a cell.
pub(super) type Confusions = BTreeMap<String, BTreeMap<String, usize>>;

/// The sum of a cell's confusion matrices; empty if its records are older than they.
pub(super) fn confusions(cell: &Cell) -> Confusions {
    let mut sum = Confusions::new();
    for class in cell.runs.iter().flat_map(|(_, record)| &record.result.per_class) {
        let row = sum.entry(class.class.clone()).or_default();
        for (answer, count) in &class.answers {
            *row.entry(answer.clone()).or_default() += count;
        }
    }
    sum.retain(|_, answers| !answers.is_empty());
    sum
}

fn sheet(folder: &Path) -> PathBuf {
    folder.join("mistakes.png")
}

/// The run whose mistakes stand for a cell: the first that noted some.
fn example(cell: &Cell) -> Option<&(PathBuf, Record)> {
    cell.runs.iter().find(|(_, record)| !record.result.mistakes.is_empty())
}

/// Draws the mistakes of one run a cell, where that is not done yet.
pub(super) fn draw(pretext: &mut Pretext, matrix: &Matrix, board: &Board) -> Result<()> {
    for cell in &board.cells {
        let Some((folder, _)) = example(cell) else { continue };
        let out = sheet(folder);
        if !out.exists() {
            let data = matrix.data_for(cell.size)?;
            let mut arguments = vec!["show".to_owned()];
            for (flag, path) in [("--mistakes", folder), ("--data", &data), ("--out", &out)] {
                arguments.extend([flag.into(), path.display().to_string()]);
            }
            pretext.run(&arguments)?;
        }
    }
    Ok(())
}

/// A part to open for each row that has something to tell.
pub(super) fn section(rows: &[Row<'_>]) -> Result<String> {
    let mut html = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cell = row.cell;
        let confusions = confusions(cell);
        if confusions.is_empty() {
            continue;
        }
        let name =
            format!("{}, {} px, {}", cell.init, cell.size, rows::counted(cell.epochs, "epoch"));
        let _ = writeln!(html, "<details><summary>{}</summary>", escape(&name));
        html.push_str(&table(&name, cell.runs.len(), &confusions));
        if let Some((folder, record)) = example(cell) {
            let path = sheet(folder);
            let png = fs::read(&path).with_context(|| format!("cannot read {}", short(&path)))?;
            html.push_str(&pictures(&format!("sheet-{i}"), &png, record));
        }
        html.push_str("</details>\n");
    }
    Ok(html)
}

/// Rows are what was right, columns what was answered; right answers lie on the diagonal.
fn table(name: &str, runs: usize, confusions: &Confusions) -> String {
    let mut answers: Vec<&String> = confusions.keys().collect();
    // Classes that are not scored can be answered all the same.
    let all: BTreeSet<&String> = confusions.values().flat_map(BTreeMap::keys).collect();
    answers.extend(all.into_iter().filter(|answer| !confusions.contains_key(*answer)));
    let runs = if runs == 1 { "one run".into() } else { format!("{runs} runs together") };
    let mut html = format!(
        "<div class=\"wide\" role=\"region\" aria-label=\"Confusion matrix of {name}\" tabindex=\"0\">\n\
         <table class=\"confusions\">\n<caption>Answers by class, {runs}</caption>\n\
         <thead><tr><th scope=\"col\">It was, and was taken for</th>",
        name = escape(name),
    );
    for answer in &answers {
        let _ = write!(html, "<th scope=\"col\"><span>{}</span></th>", escape(answer));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (class, row) in confusions {
        let total: usize = row.values().sum();
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(class));
        for answer in &answers {
            let count = row.get(*answer).copied().unwrap_or(0);
            let right = if *answer == class { " class=\"right\"" } else { "" };
            let share = count as f64 / total.max(1) as f64;
            let text = if count == 0 { String::new() } else { count.to_string() };
            let _ = write!(html, "<td{right} style=\"--share: {:.0}%\">{text}</td>", 100.0 * share);
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody>\n</table>\n</div>\n"
}

/// The sheet's pictures one by one, each with its words.
fn pictures(id: &str, png: &[u8], record: &Record) -> String {
    let mistakes = &record.result.mistakes;
    let side = record.result.size.unwrap_or(1) as usize;
    let (width, height) =
        (COLUMNS * (side + GAP) + GAP, mistakes.len().div_ceil(COLUMNS) * (side + GAP) + GAP);
    let mut html = format!(
        "<p class=\"note\">The pictures that the run of seed {} was surest and wrong about:</p>\n\
         <svg class=\"hidden\" aria-hidden=\"true\"><defs><image id=\"{id}\" width=\"{width}\" \
         height=\"{height}\" href=\"data:image/png;base64,{}\"/></defs></svg>\n<ul class=\"mistakes\">\n",
        record.seed,
        BASE64.encode(png),
    );
    for (i, Mistake { picture, class, answer, probability }) in mistakes.iter().enumerate() {
        let (x, y) = (i % COLUMNS * (side + GAP) + GAP, i / COLUMNS * (side + GAP) + GAP);
        let _ = writeln!(
            html,
            "<li><svg viewBox=\"{x} {y} {side} {side}\" role=\"img\" aria-label=\"{}\">\
             <use href=\"#{id}\"/></svg><b>{}</b> taken for {} ({})</li>",
            escape(picture),
            escape(class),
            escape(answer),
            rows::percent(*probability),
        );
    }
    html + "</ul>\n"
}
