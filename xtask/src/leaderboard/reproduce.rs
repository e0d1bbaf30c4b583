//! The page's parts that others act on: recipes, commands, and rows for the public leaderboard.

use std::fmt::Write as _;

use super::chart::escape;
use super::markdown;
use super::plan::{Matrix, Step};
use super::records::{Board, Record};
use super::rows::{self, Row};

/// Each row's recipe and the commands that make it.
pub(super) fn recipes(rows: &[Row<'_>], board: &Board, matrix: &Matrix) -> String {
    let steps = matrix.steps();
    let commit = rows.iter().find_map(|row| row.cell.runs.first()?.1.code.committed());
    let mut html = commit.map_or(String::new(), |(commit, changed)| {
        let first = format!("git checkout {commit}\ncargo install --path crates/pretext-cli");
        let changes = if changed { " (there were changes that were not committed)" } else { "" };
        format!("<p>Before the first of them{changes}:</p>\n{}", pre(&first))
    });
    for row in rows {
        let cell = row.cell;
        let belongs = |step: &&Step| match step {
            Step::Pretrain { task, size } => (task, *size) == (&cell.init, cell.size),
            Step::Finetune { init, size, epochs, .. } => {
                (init, *size, *epochs) == (&cell.init, cell.size, cell.epochs)
            }
        };
        let commands: Vec<String> =
            steps.iter().filter(belongs).map(|step| step.command_line(matrix)).collect();
        let pretraining =
            board.pretrainings.iter().find(|run| (&run.task, run.size) == (&cell.init, cell.size));
        let told = pretraining.map(|run| &run.record);
        let told = told.into_iter().chain(cell.runs.first().map(|(_, record)| record));
        let mut recipes = String::new();
        for line in told.filter_map(recipe_line) {
            let _ = write!(recipes, "<p class=\"note\">{}</p>", escape(line));
        }
        let shared = pretraining.map_or(String::new(), |run| {
            format!(", after pretraining in {}", rows::duration(run.record.seconds))
        });
        let _ = writeln!(
            html,
            "<details><summary>{}, {} px, {}</summary>\n{recipes}\
             <p class=\"note\">{} in {}{shared}.</p>\n{}</details>",
            escape(&cell.init),
            cell.size,
            rows::counted(cell.epochs, "epoch"),
            rows::counted(cell.runs.len() as u64, "run"),
            rows::duration(row.seconds())
                + &row
                    .joules()
                    .map_or(String::new(), |joules| format!(" and {}", rows::energy(joules))),
            pre(&commands.join("\n")),
        );
    }
    html
}

fn recipe_line(record: &Record) -> Option<&str> {
    record.recipe["line"].as_str()
}

/// Text as it is typed.
fn pre(text: &str) -> String {
    format!("<pre><code>{}</code></pre>\n", escape(text))
}

/// The table as the public leaderboard has it, where it is about the leaderboard's data.
pub(super) fn public(rows: &[Row<'_>], matrix: &Matrix) -> String {
    let text = markdown::public(rows);
    let left_out = rows.iter().filter(|row| !row.broken.is_empty()).count();
    let mut about = String::from("Rows as the table of Image网's leaderboard has them");
    if !matrix.is_imagewang() {
        about += "; these are of other pictures and only show the form";
    }
    if left_out > 0 {
        let _ = write!(about, "; left out for a broken rule: {left_out}");
    }
    format!(
        "<p><label for=\"rows\">{about}.</label></p>\n<textarea id=\"rows\" readonly wrap=\"off\" \
         spellcheck=\"false\" rows=\"{}\">{}</textarea>\n",
        text.lines().count() + 1,
        escape(&text),
    )
}
