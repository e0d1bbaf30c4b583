//! The pictures that a fine-tuned classifier was most wrong about, from its run's record.

use std::path::Path;

use pretext_augment::{EvalCrop, Transform as _};
use pretext_data::{Dataset, Decoder};

use crate::error::{Error, Result};
use crate::record::{self, Mistake, Record};
use crate::sheet::Sheet;
use crate::streams::{Purpose, stream};
use crate::{batch, run};

/// Pictures in a row of the sheet.
pub const COLUMNS: usize = 4;

/// Draws the mistakes of a run's record as the network saw them, the surest first, [`COLUMNS`] in
/// a row, as a PNG; returns them in this order.
///
/// # Errors
/// If the run is not finished, noted no mistakes, or `data` is not what it was scored on; if a
/// file cannot be read or written.
pub fn show(folder: &Path, data: &Path, out: &Path) -> Result<Vec<Mistake>> {
    let refuse = |problem: &str| Error::Out { path: folder.to_owned(), problem: problem.into() };
    let record = Record::read(folder)?.ok_or_else(|| {
        refuse(&format!("holds no {}; give the folder of a finished fine-tuning run", record::FILE))
    })?;
    let size = match (record.result.size, record.result.mistakes.is_empty()) {
        (Some(size), false) => size,
        _ => return Err(refuse("has a record without mistakes; nothing can be drawn")),
    };
    let data = Dataset::open(data)?;
    let pictures = data.val().pictures();
    let crop = EvalCrop::fastai(size);
    let mut decoder = Decoder::reducing_to(Some(run::evaluation_side(size)));
    let mistakes = record.result.mistakes;
    let mut sheet = Sheet::new(COLUMNS, mistakes.len().div_ceil(COLUMNS), size);
    for (i, mistake) in mistakes.iter().enumerate() {
        if pictures.name(mistake.index).ok().as_ref() != Some(&mistake.picture) {
            let problem = format!("has no {} in its place; give the run's data", mistake.picture);
            return Err(Error::DataSet { path: data.root().to_owned(), problem });
        }
        let picture = pictures.read_with(mistake.index, &mut decoder)?;
        // The centre crop draws nothing; the trait wants a stream all the same.
        let mut none = stream(0, 0, 0, Purpose::Show);
        let seen = crop.augment(batch::borrowed(&picture).to_image(), &mut none);
        sheet.put(&seen, i % COLUMNS, i / COLUMNS);
    }
    sheet.write(out)?;
    Ok(mistakes)
}
