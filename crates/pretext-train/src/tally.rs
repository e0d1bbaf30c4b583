//! Right and wrong answers by class, and the pictures that were mistaken with most confidence.

use candle_core::Tensor;

use crate::batch;
use crate::error::Result;
use crate::record::{ClassScore, Mistake, Score};

/// Label smoothing plays no part in a score: the loss is plain cross-entropy.
const NO_SMOOTHING: f64 = 0.0;

/// How many mistaken pictures a score names.
const MISTAKES: usize = 12;

/// Answers, added up.
pub(crate) struct Tally<'a> {
    /// The data set's classes: what labels are places in.
    classes: &'a [String],
    /// The classes that can be answered.
    known: &'a [String],
    /// `[class][answer]`: how often.
    answers: Vec<Vec<usize>>,
    correct: Vec<usize>,
    /// The surest first; at most [`MISTAKES`].
    mistakes: Vec<Mistake>,
    loss: f64,
    losses: usize,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(classes: &'a [String], known: &'a [String]) -> Self {
        Self {
            classes,
            known,
            answers: vec![vec![0; known.len()]; classes.len()],
            correct: vec![0; classes.len()],
            mistakes: Vec::new(),
            loss: 0.0,
            losses: 0,
        }
    }

    /// Counts answers: `labels` are places in the data set's classes, `places` what would have been
    /// right in the known ones.
    pub(crate) fn answers(&mut self, labels: &[u32], places: &[Option<u32>], answers: &[u32]) {
        for ((&label, place), &answer) in labels.iter().zip(places).zip(answers) {
            let Some(row) = self.answers.get_mut(label as usize) else { continue };
            if let Some(count) = row.get_mut(answer as usize) {
                *count += 1;
                self.correct[label as usize] += usize::from(*place == Some(answer));
            }
        }
    }

    /// Adds the loss of `logits`, `[N, K]` on the processor, and keeps the surest mistakes; `ids` and `name` say
    /// which pictures they are of.
    pub(crate) fn logits(
        &mut self,
        logits: &Tensor,
        labels: &[u32],
        places: &[Option<u32>],
        ids: &[usize],
        name: impl Fn(usize) -> Option<String>,
    ) -> Result<()> {
        let rows = logits.to_vec2::<f32>()?;
        let answers: Vec<u32> = rows.iter().map(|row| first_largest(row)).collect();
        self.answers(labels, places, &answers);
        // A class that the classifier does not know has no loss.
        if let Some(places) = places.iter().copied().collect::<Option<Vec<u32>>>() {
            let count = places.len();
            let loss = pretext_ops::cross_entropy(logits, &batch::labels(places)?, NO_SMOOTHING)?;
            self.loss += f64::from(loss.to_scalar::<f32>()?) * count as f64;
            self.losses += count;
        }
        for (i, (row, &answer)) in rows.iter().zip(&answers).enumerate() {
            if places[i] == Some(answer) {
                continue;
            }
            let probability = probability(row, answer as usize);
            let surer = |other: &Mistake| other.probability >= probability;
            let place = self.mistakes.partition_point(surer);
            if place == MISTAKES {
                continue;
            }
            let class = |classes: &[String], i: u32| classes.get(i as usize).cloned();
            let (Some(class), Some(answer), Some(picture)) =
                (class(self.classes, labels[i]), class(self.known, answer), name(ids[i]))
            else {
                continue;
            };
            let mistake = Mistake { picture, index: ids[i], class, answer, probability };
            self.mistakes.insert(place, mistake);
            self.mistakes.truncate(MISTAKES);
        }
        Ok(())
    }

    /// The score, or `None` if nothing was counted.
    pub(crate) fn score(self) -> Option<Score> {
        let total: usize = self.answers.iter().flatten().sum();
        let correct = self.correct.iter().sum();
        let per_class = self.classes.iter().zip(self.correct.iter().zip(&self.answers));
        (total > 0).then(|| Score {
            val_loss: (self.losses > 0).then(|| self.loss / self.losses as f64),
            accuracy: Some(correct as f64 / total as f64),
            correct: Some(correct),
            total: Some(total),
            size: None,
            views: None,
            per_class: per_class
                .filter(|(_, (_, answers))| answers.iter().any(|&count| count > 0))
                .map(|(class, (&correct, answers))| ClassScore {
                    class: class.clone(),
                    correct,
                    total: answers.iter().sum(),
                    answers: self
                        .known
                        .iter()
                        .zip(answers)
                        .filter(|(_, count)| **count > 0)
                        .map(|(answer, &count)| (answer.clone(), count))
                        .collect(),
                })
                .collect(),
            mistakes: self.mistakes.clone(),
        })
    }
}

/// The classes that logits `[N, K]` answer. Of equal ones the first, on whichever device: GPUs, which
/// compare in another order, have no rule for them.
pub(crate) fn answers(logits: &Tensor) -> Result<Vec<u32>> {
    Ok(logits.to_vec2::<f32>()?.iter().map(|row| first_largest(row)).collect())
}

/// The place of the first of the largest numbers.
fn first_largest(logits: &[f32]) -> u32 {
    let larger = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).fold(0, larger) as u32
}

/// The softmax's share of one logit, `0..=1`.
fn probability(logits: &[f32], place: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from(logit - highest).exp();
    let all: f64 = logits.iter().copied().map(weight).sum();
    weight(logits[place]) / all
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn an_unknown_class_counts_as_wrong() {
        let (classes, known) = (names(&["cat", "dog"]), names(&["a", "b", "cat"]));
        let mut tally = Tally::new(&classes, &known);
        tally.answers(&[0, 0, 1], &[Some(2), Some(2), None], &[2, 1, 0]);
        let score = tally.score().unwrap();
        assert_eq!((score.correct, score.total), (Some(1), Some(3)));
        let [cat, dog] = &score.per_class[..] else { panic!("{score:?}") };
        assert_eq!((cat.correct, cat.total, dog.correct, dog.total), (1, 2, 0, 1));
        assert_eq!(cat.answers, [("b".to_owned(), 1), ("cat".to_owned(), 1)].into());
        assert_eq!(dog.answers, [("a".to_owned(), 1)].into());
    }

    #[test]
    fn the_surest_mistakes_come_first_and_are_few() {
        let classes = names(&["cat", "dog"]);
        let mut tally = Tally::new(&classes, &classes);
        // All are cats; picture i is taken for a dog by a margin of i, but every third is right.
        let count = 3 * MISTAKES;
        let logits: Vec<f32> = (0..count)
            .flat_map(|i| if i % 3 == 0 { [1.0, 0.0] } else { [0.0, i as f32] })
            .collect();
        let logits = Tensor::from_vec(logits, (count, 2), &Device::Cpu).unwrap();
        let ids: Vec<usize> = (0..count).collect();
        let (labels, places) = (vec![0; count], vec![Some(0); count]);
        tally
            .logits(&logits, &labels, &places, &ids, |id| Some(format!("val/cat/{id}.jpg")))
            .unwrap();
        let score = tally.score().unwrap();
        assert_eq!(score.correct, Some(MISTAKES));
        assert_eq!(score.mistakes.len(), MISTAKES);
        let surest = &score.mistakes[0];
        assert_eq!((surest.index, surest.picture.as_str()), (count - 1, "val/cat/35.jpg"));
        assert_eq!((surest.class.as_str(), surest.answer.as_str()), ("cat", "dog"));
        assert!(score.mistakes.is_sorted_by(|a, b| a.probability >= b.probability));
        assert!(score.mistakes.iter().all(|mistake| mistake.index % 3 != 0));
    }

    #[test]
    fn of_equal_logits_the_first_answers() {
        let logits = [[1.0_f32, 3.0, 3.0, 3.0], [2.0, 2.0, 2.0, 2.0], [0.0, -1.0, 5.0, 5.0]];
        let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
        assert_eq!(answers(&logits).unwrap(), [1, 0, 2]);
        let without_ties =
            Tensor::new(&[[0.5_f32, 1.5, -1.0], [3.0, 1.0, 2.0]], &Device::Cpu).unwrap();
        let plain = without_ties.argmax(1).unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(answers(&without_ties).unwrap(), plain);
    }

    #[test]
    fn probabilities_are_of_the_softmax() {
        assert!((probability(&[0.0, 3.0_f32.ln()], 1) - 0.75).abs() < 1e-6);
        assert!((probability(&[1e30, 0.0], 0) - 1.0).abs() < 1e-12);
    }
}
