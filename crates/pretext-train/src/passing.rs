//! Decoded pictures that pass through a GPU's memory, batch by batch.
//!
//! Bytes go there rather than views: they are fewer, the processor only decodes, and the GPU makes views
//! faster than they could be copied.

use std::cell::RefCell;

use candle_core::{Device, Result as TensorResult, Tensor};
use pretext_augment::{Plan, Size};
use pretext_data::{Batch, Damaged, Picture};

use crate::batch::{self, Form};
use crate::error::Result;
use crate::lent::Values;
use crate::source::{note, tensors};

/// Memory that pictures pass through, batch by batch, and that makes views of those of the last two.
pub(crate) trait Passage {
    /// Lets pictures go there, while the GPU computes; returns the batch's number.
    fn send(&mut self, pictures: &[Picture]) -> TensorResult<usize>;

    /// As [`crate::resident::Views::views`], of a batch of pictures.
    fn views(&mut self, batch: usize, views: &[(usize, Plan)], form: Form) -> TensorResult<Tensor>;
}

/// Batches whose pictures pass through the GPU's memory, one ahead of the one that is handed out: it is
/// copied while the GPU works on that one.
pub(crate) struct Passing<'a, D, P, const K: usize> {
    pub(crate) passage: &'a RefCell<Box<dyn Passage>>,
    pub(crate) decoded: D,
    pub(crate) plans: P,
    pub(crate) forms: [Form; K],
    pub(crate) ahead: Option<Result<Ahead>>,
}

/// A batch that is on its way, or there.
pub(crate) struct Ahead {
    pub(crate) number: usize,
    ids: Vec<usize>,
    sizes: Vec<Size>,
    damaged: Vec<Damaged>,
}

impl<D, P, const K: usize> Passing<'_, D, P, K>
where
    D: Iterator<Item = Result<Batch<Picture>, pretext_data::Error>>,
{
    /// Sends the next batch, if there is one.
    fn look_ahead(&mut self) -> Option<Result<Ahead>> {
        let Batch { ids, items, damaged } = match self.decoded.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.into())),
        };
        let sizes = items.iter().map(batch::size).collect();
        let sent = self.passage.borrow_mut().send(&items);
        Some(sent.map(|number| Ahead { number, ids, sizes, damaged }).map_err(Into::into))
    }
}

impl<D, P, U, const K: usize> Iterator for Passing<'_, D, P, K>
where
    D: Iterator<Item = Result<Batch<Picture>, pretext_data::Error>>,
    P: Fn(usize, Size) -> ([Option<Plan>; K], U),
{
    type Item = Result<(Batch<U>, Values<K>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let now = self.ahead.take().or_else(|| self.look_ahead())?;
        let Ahead { number, ids, sizes, damaged } = match now {
            Ok(now) => now,
            Err(error) => return Some(Err(error)),
        };
        let mut views = [const { Vec::new() }; K];
        let items = ids.iter().zip(&sizes).enumerate();
        let items = items
            .map(|(place, (&id, &size))| note(&mut views, place, (self.plans)(id, size)))
            .collect();
        let made = tensors(views, self.forms, |views, form| {
            self.passage.borrow_mut().views(number, views, form)
        });
        // Behind this batch's views, which are the last to read the memory that it goes to.
        self.ahead = self.look_ahead();
        let batch = Batch { ids, items, damaged };
        Some(made.map(|tensors| (batch, Values::There(tensors))).map_err(Into::into))
    }
}

/// Nothing yet, on its way through a GPU's memory.
#[cfg(feature = "cuda")]
pub(crate) fn passage(device: &Device) -> Result<Option<Box<dyn Passage>>> {
    let passing = pretext_augment::cuda::Passing::new(device)?;
    Ok(Some(Box::new(Sendings { passing, sent: Vec::new(), count: 0 })))
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn passage(_: &Device) -> Result<Option<Box<dyn Passage>>> {
    Ok(None)
}

#[cfg(feature = "cuda")]
struct Sendings {
    passing: pretext_augment::cuda::Passing,
    /// The last two, with their numbers.
    sent: Vec<(usize, pretext_augment::cuda::Sent)>,
    count: usize,
}

#[cfg(feature = "cuda")]
impl Passage for Sendings {
    fn send(&mut self, pictures: &[Picture]) -> TensorResult<usize> {
        let sent = self.passing.send(pictures.iter().map(batch::borrowed))?;
        self.sent.retain(|(number, _)| number + 1 == self.count);
        self.sent.push((self.count, sent));
        self.count += 1;
        Ok(self.count - 1)
    }

    fn views(
        &mut self,
        batch: usize,
        views: &[(usize, Plan)],
        (layout, dtype): Form,
    ) -> TensorResult<Tensor> {
        let Some((_, sent)) = self.sent.iter().find(|(number, _)| *number == batch) else {
            candle_core::bail!("batch {batch} has left the GPU's memory")
        };
        let views = views.iter().map(|(place, plan)| (*place, plan));
        self.passing.views(sent, views, &batch::NORMALISE, layout, dtype)
    }
}
