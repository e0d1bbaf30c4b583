//! The published rows of Image网's leaderboard: accuracy in percent and runs.
//!
//! From the README of fastai's imagenette repository and the notebooks of Varty's in-painting
//! entry. The first in-painting rows (2020-02) are left out: they began from a pretrained model by
//! mistake and were withdrawn.

/// One published figure.
pub(super) struct Published {
    pub(super) size: u32,
    pub(super) epochs: u32,
    pub(super) method: &'static str,
    pub(super) accuracy: f64,
    pub(super) runs: u32,
}

/// In-painting as corrected, and what stands today, for each cell.
pub(super) const ROWS: &[Published] = &[
    row(128, 5, INPAINT, 34.72, 5),
    row(128, 5, SWAV, 72.94, 5),
    row(128, 20, INPAINT, 59.02, 3),
    row(128, 20, SWAV, 72.18, 3),
    row(128, 80, INPAINT, 61.85, 1),
    row(128, 80, SWAV, 69.53, 1),
    row(128, 200, INPAINT, 60.22, 1),
    row(128, 200, SWAV, 66.04, 1),
    row(192, 5, INPAINT, 37.37, 5),
    row(192, 5, SWAV, 77.07, 5),
    row(192, 20, INPAINT, 62.80, 3),
    row(192, 20, SWAV, 77.81, 3),
    row(192, 80, INPAINT, 65.92, 1),
    row(192, 80, SWAV, 74.9, 1),
    row(192, 200, INPAINT, 65.87, 1),
    row(192, 200, SWAV, 71.77, 1),
    row(256, 5, CONTRASTIVE, 67.70, 5),
    row(256, 5, SWAV, 79.56, 5),
    row(256, 20, CONTRASTIVE, 70.03, 3),
    row(256, 20, SWAV, 79.2, 3),
    row(256, 80, CONTRASTIVE, 70.71, 1),
    row(256, 80, SESEMI, 78.41, 5),
    row(256, 200, CONTRASTIVE, 71.78, 1),
    row(256, 200, SESEMI, 79.27, 3),
];

const INPAINT: &str = "in-painting, 2020-03";
const CONTRASTIVE: &str = "contrastive, 2020-03";
const SWAV: &str = "SwAV, standing";
const SESEMI: &str = "SESEMI, standing";

const fn row(size: u32, epochs: u32, method: &'static str, accuracy: f64, runs: u32) -> Published {
    Published { size, epochs, method, accuracy, runs }
}

/// The published figures of one cell.
pub(super) fn of(size: u32, epochs: u32) -> impl Iterator<Item = &'static Published> {
    ROWS.iter().filter(move |row| (row.size, row.epochs) == (size, epochs))
}
