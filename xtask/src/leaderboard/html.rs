//! The page: table, charts, pictures and commands in one file that needs no network and no script.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::chart::{self, Line, chart, escape};
use super::plan::Matrix;
use super::records::{Board, Epoch};
use super::rows::{self, Row};
use super::{confusions, gains, markdown, reproduce};
use crate::short;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(rows: &[Row<'_>], board: &Board, matrix: &Matrix) -> Result<String> {
    let title = escape(&format!("pretext on {}", matrix.name()));
    let sections = [
        ("results", "Results", results(rows, board, matrix)),
        ("gains", "What pretraining brought", gain_chart(rows)),
        ("curves", "Learning curves", learning_curves(board)),
        ("mistakes", "What is taken for what", confusions::section(rows)?),
        ("tasks", "Pretext tasks", pictures(board)?),
        ("reproduce", "Recipes and commands", reproduce::recipes(rows, board, matrix)),
        ("public", "For the public leaderboard", reproduce::public(rows, matrix)),
    ];
    let sections: Vec<_> = sections.iter().filter(|(_, _, html)| !html.is_empty()).collect();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the results</a>\n\
         <header>\n<h1>{title}</h1>\n<p class=\"lead\">{}</p>\n\
         <nav aria-label=\"Sections\"><ul>\n",
        escape(&lead(rows, board)),
    );
    for (id, heading, _) in &sections {
        let _ = writeln!(html, "<li><a href=\"#{id}\">{heading}</a></li>");
    }
    html.push_str("</ul></nav>\n</header>\n<main id=\"main\" tabindex=\"-1\">\n");
    for (id, heading, content) in &sections {
        let _ = writeln!(
            html,
            "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n\
             <h2 id=\"{id}-heading\">{heading}</h2>\n{content}</section>"
        );
    }
    html.push_str("</main>\n</body>\n</html>\n");
    Ok(html)
}

/// What the page is about, in a sentence.
fn lead(rows: &[Row<'_>], board: &Board) -> String {
    let runs: usize = rows.iter().map(|row| row.cell.runs.len()).sum();
    let tasks = board.pretrainings.len();
    let honest = rows.iter().filter(|row| row.broken.is_empty());
    let best = honest.filter_map(|row| Some((row, row.gain.as_ref()?)));
    let best = best.max_by(|(_, a), (_, b)| a.difference.total_cmp(&b.difference));
    let gain = best.map_or(String::new(), |(row, gain)| {
        format!(
            " The largest gain over random weights is {} points, by {}.",
            rows::points(gain.difference),
            row.cell.init
        )
    });
    format!(
        "{} in {}, {}.{gain}",
        rows::counted(runs as u64, "run"),
        rows::counted(rows.len() as u64, "row"),
        rows::counted(tasks as u64, "pretraining")
    )
}

fn results(rows: &[Row<'_>], board: &Board, matrix: &Matrix) -> String {
    let footnotes = rows::footnotes(rows);
    let mut html = accuracies(rows, &footnotes);
    if !footnotes.is_empty() {
        html.push_str("<ul class=\"rules\">\n");
        for (number, rule) in (1..).zip(&footnotes) {
            let _ = writeln!(
                html,
                "<li id=\"rule-{number}\"><b>†{number}</b> breaks a rule of the leaderboard: {}.</li>",
                escape(rule)
            );
        }
        html.push_str("</ul>\n");
    }
    for note in markdown::notes(rows, board, matrix) {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(&note));
    }
    html
}

fn accuracies(rows: &[Row<'_>], footnotes: &[&str]) -> String {
    let published = rows.iter().any(|row| !row.published.is_empty());
    let mut html = String::from(
        "<div class=\"wide\" role=\"region\" aria-label=\"Table of results\" tabindex=\"0\">\n\
         <table>\n<caption>Accuracy by size, epochs and initial weights</caption>\n<thead><tr>",
    );
    let columns = [
        "Size, px",
        "Epochs",
        "Initial weights",
        "Accuracy, %",
        "95 % interval of the mean",
        "Runs",
        "Gain, points",
        "95 % interval of the gain",
        "P(gain)",
    ];
    for column in columns.into_iter().chain(published.then_some("Published, %")) {
        let _ = write!(html, "<th scope=\"col\">{column}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let gain = row.gain.as_ref();
        let probability = gain
            .and_then(|gain| gain.certainty.as_ref().ok())
            .map(|certainty| rows::percent(certainty.probability));
        let marks = row.marks(footnotes).into_iter().fold(String::new(), |marks, number| {
            marks + &format!(" <sup><a href=\"#rule-{number}\">†{number}</a></sup>")
        });
        let class = if row.broken.is_empty() { "" } else { " class=\"broken\"" };
        let _ = write!(
            html,
            "<tr{class}><td>{}</td><td>{}</td><th scope=\"row\">{}{marks}</th>\
             <td class=\"main\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            row.cell.size,
            row.cell.epochs,
            escape(&row.cell.init),
            rows::spread(&row.accuracy),
            rows::interval(row.accuracy.interval),
            row.accuracy.runs,
            gain.map_or(String::new(), |gain| rows::points(gain.difference)),
            gain.map_or(String::new(), rows::points_interval),
            escape(&probability.unwrap_or_default()),
        );
        if published {
            let cited: Vec<_> = row.published.iter().map(|one| escape(&rows::cite(one))).collect();
            let _ = write!(html, "<td class=\"cited\">{}</td>", cited.join("<br>"));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody>\n</table>\n</div>\n"
}

fn gain_chart(rows: &[Row<'_>]) -> String {
    let mut series: Vec<&str> = Vec::new();
    for row in rows {
        if !series.contains(&row.cell.init.as_str()) {
            series.push(&row.cell.init);
        }
    }
    gains::chart(rows, &series).map_or(String::new(), |svg| {
        format!(
            "<figure><div class=\"wide\" role=\"region\" aria-label=\"Chart of gains\" \
             tabindex=\"0\">{svg}</div><figcaption>Gain in accuracy over the same epochs from random weights; \
             the line is the 95 % interval. A line across zero leaves it open whether there is a \
             gain.</figcaption></figure>\n"
        )
    })
}

fn learning_curves(board: &Board) -> String {
    let mut html = String::new();
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
        let charts =
            [chart("Accuracy on val/", " %", &accuracy), chart("Training loss", "", &loss)];
        html.push_str(&figure(
            &format!("{size} px, {}", rows::counted(epochs, "epoch")),
            &charts,
            &accuracy,
        ));
    }
    let losses = |value: fn(&Epoch) -> Option<f64>| -> Vec<Line> {
        let runs = board.pretrainings.iter();
        runs.map(|run| Line {
            series: format!("{}, {} px", run.task, run.size),
            title: format!("{}, {} px", run.task, run.size),
            values: run.record.epochs.iter().map(value).collect(),
        })
        .collect()
    };
    let (train, val) = (losses(|epoch| Some(epoch.train_loss)), losses(|epoch| epoch.val_loss));
    let charts = [chart("Training loss", "", &train), chart("Loss on held-out pictures", "", &val)];
    html + &figure("Pretraining", &charts, &train)
}

/// Charts side by side under their heading and above their legend.
fn figure(heading: &str, charts: &[Option<String>], lines: &[Line]) -> String {
    if charts.iter().all(Option::is_none) {
        return String::new();
    }
    let mut html = format!("<h3>{heading}</h3>\n<figure><div class=\"charts\">\n");
    for chart in charts.iter().flatten() {
        html.push_str(chart);
        html.push('\n');
    }
    html.push_str("</div><figcaption class=\"legend\">");
    let series = chart::series(lines);
    for name in &series {
        let _ = write!(
            html,
            "<span><svg class=\"key\" viewBox=\"0 0 28 8\" aria-hidden=\"true\"><g class=\"series {}\">\
             <polyline points=\"1,4 27,4\"/></g></svg> {}</span>",
            chart::class(&series, name),
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
            "<figure><img alt=\"Pictures of the pretext task {task} in a grid. From left to right: \
             {columns}.\" src=\"data:image/png;base64,{}\"><figcaption><b>{task}</b> at {} px. From \
             left to right: {columns}.</figcaption></figure>",
            BASE64.encode(bytes),
            run.size,
            task = escape(&run.task),
        );
    }
    Ok(if html.is_empty() { html } else { format!("<div class=\"charts\">\n{html}</div>\n") })
}
