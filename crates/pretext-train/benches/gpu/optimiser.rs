//! Steps of optimisers over parameters such as a ResNet-50 has.

use candle_core::{Device, Result, Tensor};
use pretext_models::{Kind, Parameters};
use pretext_train::optimisers::{ALL, Optimiser, Rule};

use super::timing::Case;

/// Parameters of several sizes, 25 million numbers in all.
const SIZES: &[(usize, usize)] =
    &[(53, 64), (53, 512), (16, 262_144), (16, 589_824), (6, 1_900_000)];

pub(crate) fn all(device: &Device) -> impl Iterator<Item = Result<Case>> {
    ALL.iter().map(move |(name, rule)| case(device, name, *rule))
}

fn case(device: &Device, name: &str, rule: Rule) -> Result<Case> {
    let parameters = Parameters::new(device);
    for (count, size) in SIZES {
        for i in 0..*count {
            let values = (Tensor::ones(*size, candle_core::DType::F32, device)? * 0.01)?;
            parameters.insert(&format!("{size}.{i}"), Kind::Weight, &values).map_err(wrap)?;
        }
    }
    let numbers: usize = SIZES.iter().map(|(count, size)| count * size).sum();
    let sums: Result<Vec<Tensor>> = parameters.iter().map(|p| p.var.sqr()?.sum_all()).collect();
    let gradients = Tensor::stack(&sums?, 0)?.sum_all()?.backward()?;
    let optimiser = Optimiser::new(rule, 1e-2, &parameters, |_| Some(0));
    let optimiser = std::cell::RefCell::new(optimiser);
    let nothing = Tensor::zeros((), candle_core::DType::F32, device)?;
    // Weights, gradients and what is remembered are read; all but gradients are written. For the two with
    // norms of their own that is not all: LARS reads the first two twice, LAMB everything but gradients.
    let streams = match rule {
        Rule::Sgd { .. } => 5,
        Rule::Adamw { .. } => 7,
        Rule::Ranger { .. } => 9,
        Rule::Lars { .. } => 7,
        Rule::Lamb { .. } => 13,
    };
    Ok(Case::new("optimiser", format!("{name}, {:.0} million numbers", numbers as f64 / 1e6))
        .bytes(streams * 4 * numbers)
        .launches(
            move || Ok(nothing.clone()),
            move |_| optimiser.borrow_mut().step(&gradients, &[1e-6], None),
        ))
}

fn wrap(error: impl std::fmt::Display) -> candle_core::Error {
    candle_core::Error::Msg(error.to_string())
}
