//! Two simple classifiers on frozen features: nearest neighbours and a softmax regression.

use candle_core::{D, Device, Tensor, Var};
use pretext_data::Dataset;

use crate::batch;
use crate::embed::Features;
use crate::error::{Error, Result};
use crate::record::Score;
use crate::tally::{self, Tally};

/// Neighbours that vote, as the usual protocol has it (Wu et al., "Unsupervised Feature Learning
/// via Non-Parametric Instance Discrimination", 2018; 20 for small data sets).
const NEIGHBOURS: usize = 20;
/// How sharply a vote falls with distance: its weight is `exp(similarity / TEMPERATURE)`.
const TEMPERATURE: f32 = 0.07;
/// Full-batch steps of the softmax regression.
const STEPS: usize = 300;
/// Its learning rate (Adam).
const RATE: f64 = 1e-2;
/// Its L2 penalty.
const PENALTY: f64 = 1e-3;

/// Features to learn from and features to answer for.
pub(crate) struct Task {
    train: Tensor,
    train_labels: Vec<u32>,
    val: Tensor,
    val_labels: Vec<u32>,
    classes: Vec<String>,
}

impl Task {
    pub(crate) fn new(data: &Dataset, train: Features, val: Features) -> Result<Self> {
        if train.ids.is_empty() || val.ids.is_empty() {
            let problem = "needs readable pictures in train/<class>/ and val/<class>/".into();
            return Err(Error::DataSet { path: data.root().to_owned(), problem });
        }
        Ok(Self {
            train_labels: train.ids.iter().map(|&id| data.train().label(id)).collect(),
            val_labels: val.ids.iter().map(|&id| data.val().label(id)).collect(),
            train: train.values,
            val: val.values,
            classes: data.classes().to_vec(),
        })
    }

    /// The score of the weighted vote of the nearest neighbours, by cosine similarity.
    pub(crate) fn nearest_neighbours(&self) -> Result<Score> {
        let similarity = unit(&self.val)?.matmul(&unit(&self.train)?.t()?)?.to_vec2::<f32>()?;
        let answers =
            similarity.iter().map(|row| vote(row, &self.train_labels, self.classes.len()));
        Ok(self.score(&answers.collect::<Vec<_>>()))
    }

    /// The score of a softmax regression on standardised features.
    pub(crate) fn linear(&self) -> Result<Score> {
        let mean = self.train.mean_keepdim(0)?;
        let centred = self.train.broadcast_sub(&mean)?;
        let scale = (centred.sqr()?.mean_keepdim(0)? + 1e-6)?.sqrt()?.recip()?;
        let standard =
            |x: &Tensor| -> Result<Tensor> { Ok(x.broadcast_sub(&mean)?.broadcast_mul(&scale)?) };
        let (train, val) = (standard(&self.train)?, standard(&self.val)?);
        let (classes, features) = (self.classes.len(), train.dim(1)?);
        let zeros = |shape: &[usize]| Var::zeros(shape, candle_core::DType::F32, &Device::Cpu);
        let (weight, bias) = (zeros(&[classes, features])?, zeros(&[classes])?);
        let labels = batch::labels(self.train_labels.clone())?;
        let mut moments = [Moments::default(), Moments::default()];
        for step in 1..=STEPS {
            let logits = pretext_ops::linear(&train, &weight, Some(bias.as_tensor()))?;
            let penalty = (weight.sqr()?.sum_all()? * PENALTY)?;
            let loss = (pretext_ops::cross_entropy(&logits, &labels, 0.0)? + penalty)?;
            let gradients = pretext_ops::backward(&loss)?;
            for (var, moments) in [&weight, &bias].into_iter().zip(&mut moments) {
                if let Some(gradient) = gradients.get(var.as_tensor()) {
                    moments.step(var, gradient, step)?;
                }
            }
        }
        let (weight, bias) = (weight.as_detached_tensor(), bias.as_detached_tensor());
        let logits = pretext_ops::linear(&val, &weight, Some(&bias))?;
        Ok(self.score(&tally::answers(&logits)?))
    }

    fn score(&self, answers: &[u32]) -> Score {
        let places: Vec<_> = self.val_labels.iter().map(|&label| Some(label)).collect();
        let mut tally = Tally::new(&self.classes, &self.classes);
        tally.answers(&self.val_labels, &places, answers);
        tally.score().unwrap_or_default()
    }
}

/// Adam's averages of one parameter.
#[derive(Default)]
struct Moments(Option<(Tensor, Tensor)>);

impl Moments {
    fn step(&mut self, var: &Var, gradient: &Tensor, step: usize) -> Result<()> {
        let (first, second) = match self.0.take() {
            Some(averages) => averages,
            None => (gradient.zeros_like()?, gradient.zeros_like()?),
        };
        let first = ((first * 0.9)? + (gradient * 0.1)?)?;
        let second = ((second * 0.999)? + (gradient.sqr()? * 0.001)?)?;
        let (debias1, debias2) =
            (1.0 - 0.9_f64.powi(step as i32), 1.0 - 0.999_f64.powi(step as i32));
        let denominator = ((&second / debias2)?.sqrt()? + 1e-8)?;
        var.set(&(var.as_tensor() - ((&first * (RATE / debias1))? / denominator)?)?)?;
        self.0 = Some((first, second));
        Ok(())
    }
}

/// Rows of length 1.
fn unit(rows: &Tensor) -> Result<Tensor> {
    let length = (rows.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    Ok(rows.broadcast_div(&length)?)
}

/// The class with the most weight among the nearest neighbours; the lower class wins a tie.
fn vote(similarity: &[f32], labels: &[u32], classes: usize) -> u32 {
    let mut order: Vec<usize> = (0..similarity.len()).collect();
    order.sort_by(|&a, &b| similarity[b].total_cmp(&similarity[a]).then(a.cmp(&b)));
    let mut votes = vec![0.0; classes];
    for &i in order.iter().take(NEIGHBOURS) {
        votes[labels[i] as usize] += (similarity[i] / TEMPERATURE).exp();
    }
    let best = (0..classes).rev().max_by(|&a, &b| f32::total_cmp(&votes[a], &votes[b]));
    best.unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_have_the_most_weight() {
        assert_eq!(vote(&[0.9, 0.1, 0.1, 0.1], &[2, 0, 0, 0], 3), 2);
        assert_eq!(vote(&[0.5, 0.5], &[1, 0], 2), 0);
    }
}
