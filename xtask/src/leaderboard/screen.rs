//! As much of `--watch` as a terminal has room for.

use super::cells::Frozen;
use super::watch::{Standing, line};

/// The kinds of standing, in the order in which they are worth a look.
const RANKS: [&str; 4] = ["under way", "left behind", "waiting", "done"];

fn rank(standing: &Standing) -> usize {
    match standing {
        Standing::UnderWay(..) => 0,
        Standing::Left(..) => 1,
        Standing::Waiting => 2,
        Standing::Done(_) => 3,
    }
}

/// What replaces all that is on the terminal.
pub(super) fn frame(standings: &[(&Frozen, Standing)], summary: &str) -> String {
    let (rows, columns) = size();
    // Home, then each line to its end, then what is left of the screen.
    format!("\x1b[H{}\x1b[K\x1b[J", fitted(standings, summary, rows, columns).join("\x1b[K\n"))
}

/// Rows and columns of the terminal; without end where it does not tell.
fn size() -> (usize, usize) {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
        && size.ws_row > 0
        && size.ws_col > 0
    {
        return (size.ws_row.into(), size.ws_col.into());
    }
    (usize::MAX, usize::MAX)
}

/// Lines that fit above the cursor's. Where there are more cells than that: what is under way, what
/// was left behind, what waits and what is done, in this order, and how many more there are of each.
fn fitted(
    standings: &[(&Frozen, Standing)],
    summary: &str,
    rows: usize,
    columns: usize,
) -> Vec<String> {
    // A line that the terminal breaks is two, and one that fills it may be.
    let columns = columns.saturating_sub(1).max(1);
    let mut foot = broken(summary, columns);
    foot.truncate((rows / 4).max(1));
    let room = rows.saturating_sub(foot.len() + 1);
    let mut lines: Vec<String>;
    if standings.len() <= room {
        lines = standings.iter().map(line).collect();
    } else {
        let mut order: Vec<&(&Frozen, Standing)> = standings.iter().collect();
        order.sort_by_key(|(_, standing)| rank(standing));
        let hidden = order.split_off(room.saturating_sub(1));
        lines = order.into_iter().map(line).collect();
        let counts = RANKS.iter().enumerate().map(|(i, name)| {
            (hidden.iter().filter(|(_, standing)| rank(standing) == i).count(), name)
        });
        let counts = counts.filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
        lines.push(format!("      and {} more: {}", hidden.len(), counts.join(", ")));
    }
    lines.append(&mut foot);
    for line in &mut lines {
        if let Some((end, _)) = line.char_indices().nth(columns) {
            line.truncate(end);
        }
    }
    lines
}

/// A text of parts in lines of so many characters, as far as parts are no longer than that.
fn broken(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in text.split("; ") {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + part.chars().count() <= columns => {
                line.push_str("; ");
                line.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> Vec<Frozen> {
        let cell = |index| Frozen {
            index,
            name: format!("finetune-128px-5ep-random-s{index}-cafe"),
            after: None,
            arguments: Vec::new(),
            code: serde_json::Value::Null,
            fingerprint: String::new(),
        };
        (0..100).map(cell).collect()
    }

    fn standing(index: usize) -> Standing {
        match index {
            0..40 => Standing::Done(Some(0.3)),
            70 | 71 => Standing::UnderWay(0.5, Some(60.0), "epoch 3/5  on node7".into()),
            72 => Standing::Left(0.1, "epoch 1/5  stopped".into()),
            _ => Standing::Waiting,
        }
    }

    #[test]
    fn a_small_terminal_shows_what_goes_on_and_counts_the_rest() {
        let cells = cells();
        let standings: Vec<_> = cells.iter().map(|cell| (cell, standing(cell.index))).collect();
        let summary = "40 of 100 cells done; 128px-5ep-random 30.00 % (40); and so on for long";
        for (rows, columns) in [(24, 80), (10, 40), (2, 20), (1, 1), (99, 200)] {
            let lines = fitted(&standings, summary, rows, columns);
            assert!(lines.len() < rows.max(3), "{rows}: {lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() < columns.max(2)), "{lines:#?}");
        }
        let lines = fitted(&standings, summary, 10, 60);
        let begins: Vec<&str> = lines.iter().map(|line| &line[..line.len().min(6)]).collect();
        assert_eq!(begins[..6], ["  70  ", "  71  ", "  72  ", "  40  ", "  41  ", "  42  "]);
        assert_eq!(lines[6], "      and 94 more: 54 waiting, 40 done");
        assert_eq!(lines[7], "40 of 100 cells done; 128px-5ep-random 30.00 % (40)");
        // Where all of it has room, nothing is moved or left out.
        let lines = fitted(&standings, summary, usize::MAX, usize::MAX);
        assert_eq!((lines.len(), &lines[0][..6], &lines[100][..]), (101, "   0  ", summary));
    }
}
