//! Decoded pictures that stay in a GPU's memory, and batches that are made of them there.
//!
//! Plans are drawn on the processor, from the same streams as ever; pixels never pass through it
//! again. What comes out is to the last bit what the loader's threads would have made.

use candle_core::{Device, Result as TensorResult, Tensor};
use pretext_augment::{Plan, Size};
use pretext_data::{Batch, Damaged, Decoder, Loader, Picture, Pictures, Rows};

use crate::batch;
use crate::control::{Control, Event};
use crate::error::Result;
use crate::lent::Values;

/// What pictures may have of a GPU's free memory: one part in so many. The rest is the network's.
const SHARE: usize = 2;
/// The most that they may have, for the processor holds them, too, while they are copied.
const MOST: usize = 16 << 30;
/// Pictures that are looked at to estimate what all of them take.
const SAMPLES: usize = 64;

/// Batches with their values, wherever they come from.
pub(crate) type Batches<'a, U, const K: usize> =
    Box<dyn Iterator<Item = Result<(Batch<U>, Values<K>)>> + 'a>;

/// A loader's batches.
pub(crate) fn lent<'a, U: 'a, const K: usize>(rows: Rows<f32, U, K>) -> Batches<'a, U, K> {
    Box::new(rows.map(|batch| {
        let (batch, values) = batch?;
        Ok((batch, Values::Lent(values)))
    }))
}

/// Memory that makes views of its pictures.
trait Views {
    /// `[N, 3, size, size]`, normalised, `f32`: one view for each place of a picture and plan.
    fn views(&self, views: &[(usize, Plan)]) -> TensorResult<Tensor>;
}

/// Pictures in a GPU's memory.
pub(crate) struct Resident {
    memory: Box<dyn Views>,
    /// Place in the memory and size of each picture, or what is wrong with it.
    pictures: Vec<Result<(usize, Size), Damaged>>,
}

impl Resident {
    /// Decodes all pictures as `loader` would, and copies them to the GPU if they fit; says which.
    /// `None` on the processor, too.
    ///
    /// # Errors
    /// If a picture is damaged and the loader is strict, or the GPU has less memory than it said.
    pub(crate) fn load(
        pictures: &Pictures,
        loader: &Loader,
        control: &mut Control<'_>,
    ) -> Result<Option<Self>> {
        let Some(free) = free_memory(control.device.tensors())? else { return Ok(None) };
        let room = (free / SHARE).min(MOST);
        let bytes = estimate(pictures, loader);
        if bytes > room {
            (control.report)(Event::Streamed { bytes, room });
            return Ok(None);
        }
        let decoded = decode(pictures, loader)?;
        let sound: Vec<&Picture> = decoded.iter().filter_map(|one| one.as_ref().ok()).collect();
        let bytes = sound.iter().map(|picture| picture.pixels.len()).sum();
        let memory = copy(control.device.tensors(), &sound)?;
        (control.report)(Event::Resident { pictures: sound.len(), bytes });
        Ok(memory.map(|memory| Self::new(memory, decoded)))
    }

    fn new(memory: Box<dyn Views>, decoded: Vec<Result<Picture, Damaged>>) -> Self {
        let mut next = 0..;
        let place = |one: Result<Picture, Damaged>| {
            one.map(|picture| (next.next().unwrap_or_default(), batch::size(&picture)))
        };
        Self { memory, pictures: decoded.into_iter().map(place).collect() }
    }

    /// The batches of an order, the last one perhaps shorter; see [`batch`](Self::batch).
    pub(crate) fn batches<'a, U: 'a, const K: usize>(
        &'a self,
        order: &'a [usize],
        batch_size: usize,
        plans: impl Fn(usize, Size) -> ([Option<Plan>; K], U) + 'a,
    ) -> Batches<'a, U, K> {
        Box::new(order.chunks(batch_size).map(move |ids| {
            let (batch, tensors) = self.batch(ids, &plans)?;
            Ok((batch, Values::There(tensors)))
        }))
    }

    /// The batch of the pictures of these indices. `plans` says of a picture's index and size which
    /// `K` views are wanted of it, the same for all, and what else is to be known of it.
    ///
    /// # Errors
    /// If the GPU is out of memory.
    fn batch<U, const K: usize>(
        &self,
        ids: &[usize],
        plans: impl Fn(usize, Size) -> ([Option<Plan>; K], U),
    ) -> Result<(Batch<U>, [Tensor; K])> {
        let mut batch = Batch { ids: Vec::new(), items: Vec::new(), damaged: Vec::new() };
        let mut views = [const { Vec::new() }; K];
        for &id in ids {
            match &self.pictures[id] {
                Ok((place, size)) => {
                    let (plans, item) = plans(id, *size);
                    for (views, plan) in views.iter_mut().zip(plans) {
                        views.extend(plan.map(|plan| (*place, plan)));
                    }
                    batch.ids.push(id);
                    batch.items.push(item);
                }
                Err(damaged) => batch.damaged.push(damaged.clone()),
            }
        }
        let mut tensors = Vec::with_capacity(K);
        for views in &views {
            tensors.push(match views.is_empty() {
                true => batch::tensor(Vec::new(), 1)?,
                false => self.memory.views(views)?,
            });
        }
        Ok((batch, tensors.try_into().expect("a tensor for each of the views")))
    }
}

/// About how many bytes all pictures take when they are decoded: by a sample of them, as far as they
/// can be read.
fn estimate(pictures: &Pictures, loader: &Loader) -> usize {
    let mut decoder = Decoder::reducing_to(loader.shortest_side);
    let step = pictures.len().div_ceil(SAMPLES).max(1);
    let sample = (0..pictures.len()).step_by(step);
    let sizes: Vec<usize> = sample
        .filter_map(|id| Some(pictures.read_with(id, &mut decoder).ok()?.pixels.len()))
        .collect();
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64;
    (mean * pictures.len() as f64) as usize
}

/// Every picture, as the loader decodes it.
fn decode(pictures: &Pictures, loader: &Loader) -> Result<Vec<Result<Picture, Damaged>>> {
    let loader = Loader { drop_last: false, ..loader.clone() };
    let mut decoded = Vec::with_capacity(pictures.len());
    for batch in loader.batches(pictures, (0..pictures.len()).collect(), |_, picture| picture) {
        let Batch { ids, items, damaged } = batch?;
        let (mut sound, mut damaged) = (ids.into_iter().zip(items).peekable(), damaged.into_iter());
        loop {
            let next = decoded.len();
            match sound.next_if(|(id, _)| *id == next) {
                Some((_, picture)) => decoded.push(Ok(picture)),
                // The one that is missing, in the order asked for.
                None => match damaged.next() {
                    Some(damaged) => decoded.push(Err(damaged)),
                    None => break,
                },
            }
        }
    }
    Ok(decoded)
}

/// Bytes of a GPU's memory that nobody has.
#[cfg(feature = "cuda")]
fn free_memory(device: &Device) -> Result<Option<usize>> {
    Ok(pretext_ops::cuda::free_memory(device)?)
}

#[cfg(not(feature = "cuda"))]
fn free_memory(_: &Device) -> Result<Option<usize>> {
    Ok(None)
}

#[cfg(feature = "cuda")]
fn copy(device: &Device, pictures: &[&Picture]) -> Result<Option<Box<dyn Views>>> {
    let images = pictures.iter().map(|picture| batch::borrowed(picture));
    Ok(Some(Box::new(pretext_augment::cuda::Pictures::new(device, images)?)))
}

#[cfg(feature = "cuda")]
impl Views for pretext_augment::cuda::Pictures {
    fn views(&self, views: &[(usize, Plan)]) -> TensorResult<Tensor> {
        let views = views.iter().map(|(place, plan)| (*place, plan));
        let (layout, dtype) = (pretext_augment::Layout::Chw, candle_core::DType::F32);
        self.views(views, &batch::NORMALISE, layout, dtype)
    }
}

#[cfg(not(feature = "cuda"))]
fn copy(_: &Device, _: &[&Picture]) -> Result<Option<Box<dyn Views>>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pretext_augment::{EvalCrop, Image, ImageRef, Transform as _};
    use pretext_data::{Buffers, Dataset};

    use super::*;
    use crate::streams::{Purpose, stream};

    /// What a GPU does, plainly.
    struct Plain(Vec<Image>);

    impl Views for Plain {
        fn views(&self, views: &[(usize, Plan)]) -> TensorResult<Tensor> {
            let mut values = Vec::new();
            let side = views[0].1.output_size(self.0[views[0].0].size()).width;
            for (place, plan) in views {
                let start = values.len();
                values.resize(start + batch::numbers(side), 0.0);
                let image: ImageRef<'_> = self.0[*place].view();
                batch::view(image, plan, &batch::NORMALISE, &mut values[start..]);
            }
            batch::tensor(values, side)
        }
    }

    #[test]
    fn batches_are_those_of_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..11_u8 {
            let class = folder.path().join(format!("train/{}", i % 2));
            fs::create_dir_all(&class).unwrap();
            let path = class.join(format!("{i:02}.png"));
            if i % 5 == 3 {
                fs::write(path, b"no picture").unwrap();
                continue;
            }
            let pixel = |x, y| image::Rgb([(9 * x) as u8, (7 * y) as u8, 20 * i]);
            image::RgbImage::from_fn(20 + u32::from(i), 24, pixel).save(path).unwrap();
        }
        let data = Dataset::open(folder.path()).unwrap();
        let pictures = data.train().pictures();
        let loader = Loader { batch_size: 4, shortest_side: Some(16), ..Loader::default() };
        let plans = |id: usize, size: Size| {
            let crop = EvalCrop::fastai(16).sample(size, &mut stream(1, 0, 0, Purpose::Augment));
            let mut flipped = crop.clone();
            flipped.0.push(pretext_augment::Op::Flip(pretext_augment::ops::Flip));
            ([Some(crop), (id < 100).then_some(flipped)], id as u32)
        };

        let decoded = decode(pictures, &loader).unwrap();
        assert_eq!(decoded.len(), 11);
        assert_eq!(decoded.iter().filter(|one| one.is_err()).count(), 2);
        let sound = decoded.iter().filter_map(|one| one.as_ref().ok());
        let images: Vec<Image> = sound.map(|p| batch::borrowed(p).to_image()).collect();
        let total: usize = images.iter().map(|image| image.pixels().len()).sum();
        let about = estimate(pictures, &loader);
        assert!(about.abs_diff(total * 11 / 9) <= 11, "{about} for {total}");
        let resident = Resident::new(Box::new(Plain(images)), decoded);

        let order: Vec<usize> = (0..11).rev().collect();
        let buffers = Buffers::new([batch::numbers(16); 2]);
        let write = move |id: usize, picture: Picture, rows: [&mut [f32]; 2]| {
            let (views, item) = plans(id, batch::size(&picture));
            for (plan, row) in views.into_iter().flatten().zip(rows) {
                batch::view(batch::borrowed(&picture), &plan, &batch::NORMALISE, row);
            }
            item
        };
        let rows = loader.rows(&buffers, pictures, order.clone(), write);
        for (ids, want) in order.chunks(4).zip(rows) {
            let (want, values) = want.unwrap();
            let (got, tensors) = resident.batch(ids, plans).unwrap();
            assert_eq!(got, want);
            for (tensor, values) in tensors.iter().zip(values) {
                assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
            }
        }
    }
}
