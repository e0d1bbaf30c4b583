//! Decoded pictures that stay in a GPU's memory.

use candle_core::{Device, Result as TensorResult, Tensor};
use pretext_augment::{Plan, Size};
use pretext_data::{Batch, Damaged, Loader, Picture, Pictures};

use crate::batch::{self, Form};
use crate::error::Result;
use crate::source::{note, tensors};

/// Memory that makes views of its pictures.
pub(crate) trait Views {
    /// `[N, 3, size, size]` or `[N, size, size, 3]`, as the form has it, normalised: one view for each
    /// place of a picture and plan.
    fn views(&self, views: &[(usize, Plan)], form: Form) -> TensorResult<Tensor>;
}

/// The same while pictures go there.
trait Filling {
    fn push(&mut self, picture: &Picture) -> TensorResult<()>;

    /// All of them, once they are there.
    fn finish(self: Box<Self>) -> TensorResult<Box<dyn Views>>;
}

/// Pictures in a GPU's memory.
pub(crate) struct Resident {
    pub(crate) memory: Box<dyn Views>,
    /// Place in the memory and size of each picture, or what is wrong with it.
    pub(crate) pictures: Vec<Result<(usize, Size), Damaged>>,
}

impl Resident {
    /// The batch of the pictures of these indices.
    ///
    /// # Errors
    /// If the GPU is out of memory.
    pub(crate) fn batch<U, const K: usize>(
        &self,
        ids: &[usize],
        forms: [Form; K],
        plans: impl Fn(usize, Size) -> ([Option<Plan>; K], U),
    ) -> Result<(Batch<U>, [Tensor; K])> {
        let mut batch = Batch { ids: Vec::new(), items: Vec::new(), damaged: Vec::new() };
        let mut views = [const { Vec::new() }; K];
        for &id in ids {
            match &self.pictures[id] {
                Ok((place, size)) => {
                    batch.ids.push(id);
                    batch.items.push(note(&mut views, *place, plans(id, *size)));
                }
                Err(damaged) => batch.damaged.push(damaged.clone()),
            }
        }
        Ok((batch, tensors(views, forms, |views, form| self.memory.views(views, form))?))
    }
}

/// Calls `keep` with every sound picture, in order and as the loader decodes it, and lists the size of
/// each or what is wrong with it. The host holds no more of them than the loader reads ahead. `live` is
/// called with each batch.
pub(crate) fn decode(
    pictures: &Pictures,
    loader: &Loader,
    live: impl Fn() -> Result<()>,
    mut keep: impl FnMut(&Picture) -> Result<()>,
) -> Result<Vec<Result<(usize, Size), Damaged>>> {
    let loader = Loader { drop_last: false, ..loader.clone() };
    let mut listed = Vec::with_capacity(pictures.len());
    let mut sound = 0;
    for batch in loader.batches(pictures, (0..pictures.len()).collect(), |_, picture| picture) {
        live()?;
        let Batch { ids, items, damaged } = batch?;
        let mut damaged = damaged.into_iter();
        for (id, picture) in ids.into_iter().zip(items) {
            // Those that are missing, in the order asked for.
            listed.extend(damaged.by_ref().take(id - listed.len()).map(Err));
            keep(&picture)?;
            listed.push(Ok((sound, batch::size(&picture))));
            sound += 1;
        }
        listed.extend(damaged.map(Err));
    }
    Ok(listed)
}

/// All pictures in memory of a GPU, which has so many bytes for them; `None` if it is none. `live` is
/// called as by [`decode`].
pub(crate) fn load(
    device: &Device,
    (pictures, loader): (&Pictures, &Loader),
    bytes: usize,
    live: impl Fn() -> Result<()>,
) -> Result<Option<Resident>> {
    let Some(mut memory) = memory(device, bytes)? else { return Ok(None) };
    let pictures = decode(pictures, loader, live, |picture| Ok(memory.push(picture)?))?;
    Ok(Some(Resident { memory: memory.finish()?, pictures }))
}

#[cfg(feature = "cuda")]
fn memory(device: &Device, bytes: usize) -> TensorResult<Option<Box<dyn Filling>>> {
    let loading = pretext_augment::cuda::Pictures::load(device, bytes as u64)?;
    Ok(Some(Box::new(loading)))
}

#[cfg(not(feature = "cuda"))]
fn memory(_: &Device, _: usize) -> TensorResult<Option<Box<dyn Filling>>> {
    Ok(None)
}

#[cfg(feature = "cuda")]
impl Filling for pretext_augment::cuda::Loading {
    fn push(&mut self, picture: &Picture) -> TensorResult<()> {
        self.push(batch::borrowed(picture))
    }

    fn finish(self: Box<Self>) -> TensorResult<Box<dyn Views>> {
        Ok(Box::new((*self).finish()?))
    }
}

#[cfg(feature = "cuda")]
impl Views for pretext_augment::cuda::Pictures {
    fn views(&self, views: &[(usize, Plan)], (layout, dtype): Form) -> TensorResult<Tensor> {
        let views = views.iter().map(|(place, plan)| (*place, plan));
        self.views(views, &batch::NORMALISE, layout, dtype)
    }
}
