//! The article's figure: rows of what the network sees, what it must give, and what it gives.

use std::path::Path;

use pretext_augment::{EvalCrop, Image, Plan, Transform as _};
use pretext_data::{Dataset, Pictures};
use pretext_models::Mode;
use rand::seq::SliceRandom as _;

use crate::batch::{self, NORMALISE};
use crate::error::{Error, Result};
use crate::network::PretextNetwork;
use crate::recipe::PretrainRecipe;
use crate::saved::{FileKind, WeightFile};
use crate::sheet::Sheet;
use crate::streams::{Purpose, stream};
use crate::tasks::{self, Goal};

/// What to show.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The task, its parameters, the size and the seed that picks the pictures.
    pub recipe: PretrainRecipe,
    /// Rows.
    pub count: usize,
}

/// One row of the figure.
struct Row {
    input: Image,
    clean: Image,
    /// For a task that classifies: the right class and the network's.
    classes: Option<(u32, Option<u32>)>,
    prediction: Option<Image>,
}

/// Draws rows of input, target and, with weights, the network's prediction, as a PNG.
///
/// The pictures come from `val/` where there is one (nothing was trained on it), else from all
/// others. With weights, their own recipe decides the task's parameters and the size; a task that
/// does not fit them is refused. Returns, for each row of a task that classifies, the right class
/// and the network's.
///
/// # Errors
/// If a file cannot be read or written, or the weights are not of a whole pretext network.
pub fn show(
    figure: &Figure,
    data: &Path,
    weights: Option<&Path>,
    out: &Path,
) -> Result<Vec<(u32, Option<u32>)>> {
    figure.recipe.check()?;
    let data = Dataset::open(data)?;
    let (recipe, network) = match weights {
        None => (figure.recipe.clone(), None),
        Some(path) => {
            let file = WeightFile::open(path)?;
            if file.kind() != FileKind::Pretext {
                return Err(file.refuse("give the pretext.safetensors of a pretraining run"));
            }
            let (recipe, network) = file.pretext()?;
            if recipe.task != figure.recipe.task {
                return Err(file.refuse(&format!("its task is {}: give --task {0}", recipe.task)));
            }
            (recipe, Some(network))
        }
    };
    let rows = rows(figure, &recipe, network.as_ref(), &data)?;
    let classes = rows.iter().filter_map(|row| row.classes).collect();
    draw(&rows, network.is_some()).write(out)?;
    Ok(classes)
}

fn rows(
    figure: &Figure,
    recipe: &PretrainRecipe,
    network: Option<&PretextNetwork>,
    data: &Dataset,
) -> Result<Vec<Row>> {
    let task = tasks::by_name(&recipe.task)?;
    let pose = task.poser(&recipe.puzzle)?;
    let seed = figure.recipe.common.seed;
    let pictures = if data.val().is_empty() {
        Pictures::concat(&[data.train().pictures().clone(), data.unsup().clone()])
    } else {
        data.val().pictures().clone()
    };
    let mut order: Vec<usize> = (0..pictures.len()).collect();
    order.shuffle(&mut stream(seed, 0, 0, Purpose::Show));
    let crop = EvalCrop::fastai(recipe.common.size);
    let mut rows = Vec::new();
    for id in order {
        if rows.len() == figure.count {
            break;
        }
        // A damaged picture makes room for the next one.
        let Ok(picture) = pictures.read(id) else { continue };
        let mut stream = stream(seed, 0, id as u64, Purpose::Show);
        let clean = crop.augment(batch::borrowed(&picture).to_image(), &mut stream);
        let puzzle = pose(clean.size(), &mut stream);
        let classifies = matches!(task.goal(&recipe.puzzle), Goal::Classify(_));
        let mut row = Row {
            classes: classifies.then_some((puzzle.class, None)),
            input: puzzle.plan.apply(clean.clone()),
            clean,
            prediction: None,
        };
        if let Some(network) = network {
            let mut view = vec![0.0; batch::numbers(recipe.common.size)];
            batch::view(row.input.view(), &Plan::nothing(), &NORMALISE, &mut view);
            let input = batch::tensor(view, recipe.common.size)?;
            match (&mut row.classes, network.classes(&input)?) {
                (Some((_, answer)), Some(classes)) => *answer = classes.first().copied(),
                _ => {
                    let output = network.restore(&input, Mode::Evaluate)?;
                    row.prediction = batch::images(&output)?.pop();
                }
            }
        }
        rows.push(row);
    }
    if rows.is_empty() {
        let problem = "holds no picture that can be read".into();
        return Err(Error::DataSet { path: data.root().to_owned(), problem });
    }
    Ok(rows)
}

fn draw(rows: &[Row], predictions: bool) -> Sheet {
    let side = rows.first().map_or(0, |row| row.clean.size().width);
    let columns =
        if predictions && rows.iter().any(|row| row.prediction.is_some()) { 3 } else { 2 };
    let mut sheet = Sheet::new(columns, rows.len(), side);
    for (y, row) in rows.iter().enumerate() {
        let pictures = [Some(&row.input), Some(&row.clean), row.prediction.as_ref()];
        for (x, picture) in pictures.into_iter().flatten().enumerate() {
            sheet.put(picture, x, y);
        }
    }
    sheet
}
