//! The page: table, learning curves and pictures in one file that needs no network.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::chart::{self, Line, chart, escape};
use super::plan::Matrix;
use super::records::{Board, Epoch};
use super::table::{self, Row};
use crate::short;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(board: &Board, matrix: &Matrix) -> Result<String> {
    let rows = table::rows(board, matrix);
    let title = format!("pretext on {}", matrix.name());
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n<h1>{title}</h1>\n",
        title = escape(&title)
    );
    html.push_str(&accuracies(&rows));
    for note in table::notes(board, matrix) {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(&note));
    }
    html.push_str(&learning_curves(board));
    html.push_str(&pictures(board)?);
    html.push_str(&commands(matrix));
    html.push_str("</html>\n");
    Ok(html)
}

fn accuracies(rows: &[Row<'_>]) -> String {
    let published = rows.iter().any(|row| !row.published.is_empty());
    let mut html = String::from(
        "<table>\n<thead><tr><th scope=\"col\">Size, px<th scope=\"col\">Epochs\
         <th scope=\"col\">Initial weights<th scope=\"col\">Accuracy, %<th scope=\"col\">Runs\
         <th scope=\"col\">Gain, points<th scope=\"col\">P(gain)",
    );
    if published {
        html.push_str("<th scope=\"col\">Published, %");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let gain = row.gain.as_ref();
        let probability = gain.and_then(|gain| gain.probability).map(table::percent);
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<th scope=\"row\">{}<td>{}<td>{}<td>{}<td>{}",
            row.cell.size,
            row.cell.epochs,
            escape(&row.cell.init),
            table::spread(&row.accuracy),
            row.accuracy.runs,
            gain.map_or(String::new(), |gain| table::points(gain.difference)),
            escape(&probability.unwrap_or_default()),
        );
        if published {
            let cited: Vec<_> = row.published.iter().map(|row| escape(&table::cite(row))).collect();
            let _ = write!(html, "<td>{}", cited.join("<br>"));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table>\n"
}

fn learning_curves(board: &Board) -> String {
    let mut html = String::from("<h2>Learning curves</h2>\n");
    let mut shown: Vec<(u32, u32)> = Vec::new();
    for cell in &board.cells {
        let group = (cell.size, cell.epochs);
        if shown.contains(&group) {
            continue;
        }
        shown.push(group);
        let lines = |value: fn(&Epoch) -> Option<f64>| -> Vec<Line> {
            let cells = board.cells.iter().filter(|cell| (cell.size, cell.epochs) == group);
            let runs = cells.flat_map(|cell| cell.runs.iter().map(move |run| (cell, &run.1)));
            runs.map(|(cell, record)| Line {
                series: cell.init.clone(),
                title: format!("{}, seed {}", cell.init, record.seed),
                values: record.epochs.iter().map(value).collect(),
            })
            .collect()
        };
        let (size, epochs) = group;
        let accuracy = lines(|epoch| epoch.val_accuracy.map(|accuracy| 100.0 * accuracy));
        let loss = lines(|epoch| Some(epoch.train_loss));
        let titled = |what: &str| format!("{what}, {size} px, {epochs} epochs");
        let charts = [
            chart(&titled("Accuracy on val"), " %", &accuracy),
            chart(&titled("Training loss"), "", &loss),
        ];
        html.push_str(&figure(&charts, &accuracy));
    }
    let lines: Vec<Line> = board
        .pretrainings
        .iter()
        .map(|run| Line {
            series: format!("{}, {} px", run.task, run.size),
            title: format!("{}, {} px", run.task, run.size),
            values: run.record.epochs.iter().map(|epoch| Some(epoch.train_loss)).collect(),
        })
        .collect();
    html + &figure(&[chart("Pretraining loss", "", &lines)], &lines)
}

/// Charts side by side above their legend.
fn figure(charts: &[Option<String>], lines: &[Line]) -> String {
    if charts.iter().all(Option::is_none) {
        return String::new();
    }
    let mut html = String::from("<figure><div class=\"charts\">\n");
    for chart in charts.iter().flatten() {
        html.push_str(chart);
        html.push('\n');
    }
    html.push_str("</div><figcaption>");
    let series = chart::series(lines);
    for name in &series {
        let colour = chart::colour(&series, name);
        let _ = write!(
            html,
            "<span class=\"key\" style=\"background:{colour}\"></span>{} ",
            escape(name)
        );
    }
    html + "</figcaption></figure>\n"
}

fn pictures(board: &Board) -> Result<String> {
    let mut html = String::new();
    for run in &board.pretrainings {
        let path = run.folder.join("show.png");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", short(&path)))?;
        let puzzle = matches!(run.task.as_str(), "corrupted" | "jigsaw");
        let columns = if puzzle {
            "what the network saw, and the original"
        } else {
            "what the network saw, the original, and what it made of it"
        };
        let _ = writeln!(
            html,
            "<figure><img alt=\"Pictures of the pretext task {task}\" \
             src=\"data:image/png;base64,{}\"><figcaption>{task} at {} px. From left to right: \
             {columns}.</figcaption></figure>",
            BASE64.encode(bytes),
            run.size,
            task = escape(&run.task),
        );
    }
    Ok(if html.is_empty() {
        html
    } else {
        format!("<h2>Pretext tasks</h2>\n<div class=\"charts\">\n{html}</div>\n")
    })
}

fn commands(matrix: &Matrix) -> String {
    let commands: Vec<String> = matrix
        .steps()
        .iter()
        .map(|step| format!("pretext {}", step.arguments(matrix).join(" ")))
        .collect();
    format!(
        "<h2>Commands</h2>\n<details><summary>The {} runs behind this page</summary><pre>{}</pre></details>\n",
        commands.len(),
        escape(&commands.join("\n"))
    )
}
