//! Training steps of whole networks in `bf16`: ours and PyTorch's, in turn.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::super::peer::Peer;
use super::super::report::{cell, median};
use super::super::stepper::{Stepper, interleave};
use super::ready::Libraries;

/// The networks, as both sides know them; their names in the report; pictures a step at 128, 192 and
/// 256 px.
pub(super) const NETWORKS: &[(&str, &str, [usize; 3])] = &[
    ("xresnet34", "xresnet34", [256, 128, 64]),
    ("xresnet50", "xresnet50", [256, 128, 64]),
    ("resnet18", "ResNet-18", [256, 128, 64]),
    ("unet-xresnet34", "U-Net on xresnet34", [64, 32, 16]),
];

/// Sides of the pictures, in pixels.
pub(super) const SIDES: [usize; 3] = [128, 192, 256];

/// Groups of steps before the measured ones.
const WARM_UP: usize = 1;

/// How much is measured.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Steps that are queued before anyone waits for the GPU.
    pub(super) group: usize,
    /// Turns of each process.
    pub(super) rounds: usize,
}

/// Seconds of each measured step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) side: usize,
    pub(super) batch: usize,
    pub(super) ours: Vec<f64>,
    pub(super) eager: Option<Vec<f64>>,
    pub(super) compiled: Option<Vec<f64>>,
    /// Steps in each group.
    pub(super) group: usize,
}

impl Row {
    /// How many of our steps fit into one of PyTorch's, compiled where it can be.
    pub(super) fn ratio(&self) -> Option<f64> {
        let peer = self.compiled.as_ref().or(self.eager.as_ref())?;
        Some(median(peer) / median(&self.ours))
    }
}

/// Measures one network on pictures of one size.
pub(super) fn measure(
    (ours, libraries): (&Path, &Libraries),
    peer: Option<&Peer>,
    (name, batch): (&str, usize),
    side: usize,
    effort: Effort,
) -> Result<Row> {
    let arguments = [batch, side].map(|number| number.to_string());
    let group = effort.group.to_string();
    let mut command = libraries.command(ours);
    command.arg(name).args(&arguments).args(["bf16", &group]);
    let mut us = Stepper::start(&mut command)?;
    us.tell("train")?;
    let begun = |how: &str| {
        let Some(peer) = peer else { return Ok(None) };
        let mut command = peer.command();
        command.args(["step", name]).args(&arguments).args([&group, "cuda", how]);
        if how == "compile" {
            command.stderr(Stdio::null());
        }
        let mut stepper = Stepper::start(&mut command)?;
        stepper.tell("1")?;
        Ok(Some(stepper))
    };
    // Both prepare at the same time; compiled by its first steps, where it can be.
    let both = [begun("eager"), begun("compile")];
    let [eager, compiled] = both.map(|begun: Result<Option<Stepper>>| {
        let mut stepper = begun?;
        stepper.iter_mut().try_for_each(|stepper| stepper.seconds(1).map(drop))?;
        Ok::<_, anyhow::Error>(stepper)
    });
    let mut eager = eager.context("PyTorch")?;
    let mut compiled = compiled.unwrap_or_else(|_| {
        crate::say("torch.compile fails here; eager alone is measured");
        None
    });
    let there = [eager.is_some(), compiled.is_some()];
    let mut all = vec![&mut us];
    all.extend([&mut eager, &mut compiled].into_iter().flatten());
    let mut seconds = interleave(&mut all, (WARM_UP, effort.rounds))?.into_iter();
    let ours = seconds.next().context("nothing was measured")?;
    let [eager, compiled] = there.map(|there| if there { seconds.next() } else { None });
    let (name, group) = (name.to_owned(), effort.group);
    Ok(Row { name, side, batch, ours, eager, compiled, group })
}

/// What a network is called in the report.
pub(super) fn title(name: &str) -> &str {
    let known = NETWORKS.iter().find(|(known, ..)| *known == name);
    known.map_or(name, |(_, title, _)| title)
}

/// A table of them.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "### Training steps\n\n\
         Milliseconds a step, forward, backward and AdamW, in `bf16` on pictures that lie on the GPU: \
         {} steps are queued before anyone waits, all processes take turns. PyTorch is channels-last, with \
         autocast and its fused AdamW. The ratio is PyTorch's over ours, compiled where it can be: more \
         than 1 is faster than PyTorch. In brackets: fastest and slowest group.\n\n\
         | network | px | batch | ours | PyTorch | torch.compile | ratio | our pictures/s |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n",
        rows.first().map_or(0, |row| row.group)
    );
    for row in rows {
        let ms = |seconds: Option<&Vec<f64>>| seconds.map_or("–".into(), |s| cell(s, 1e-3, 2));
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {:.0} |\n",
            title(&row.name),
            row.side,
            row.batch,
            ms(Some(&row.ours)),
            ms(row.eager.as_ref()),
            ms(row.compiled.as_ref()),
            row.ratio().map_or("–".into(), |ratio| format!("{ratio:.2}")),
            row.batch as f64 / median(&row.ours),
        );
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(name: &str, ours: f64) -> Row {
        let (eager, compiled) = (Some(vec![0.03]), Some(vec![0.02]));
        let (name, ours) = (name.to_owned(), vec![ours]);
        Row { name, side: 128, batch: 256, ours, eager, compiled, group: 20 }
    }

    #[test]
    fn the_ratio_is_that_to_the_compiled_one() {
        let text = table(&[row("net", 0.01)]);
        let line = "| net | 128 | 256 | 10.00 (10.00–10.00) | 30.00 (30.00–30.00) | 20.00 \
                    (20.00–20.00) | 2.00 | 25600 |";
        assert!(text.contains(line), "{text}");
        let mut row = row("net", 0.01);
        row.compiled = None;
        assert_eq!(row.ratio().map(|ratio| ratio.round()), Some(3.0));
        row.eager = None;
        assert_eq!(row.ratio(), None);
    }
}
