//! Where the batches of a GPU come from: decoded pictures that stay in its memory, or pass through it.
//!
//! Either way views are made there, in the order and the numbers that the network computes with. Plans
//! are drawn on the processor, from the same streams as ever, and what comes out is to the last bit what
//! the loader's threads would have made and [`Precision::cast`](crate::precision::Precision::cast) of it.

use std::cell::RefCell;

use candle_core::{Device, Result as TensorResult, Tensor};
use pretext_augment::{Plan, Size};
use pretext_data::{Batch, Decoder, Loader, Pictures, Rows};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use crate::batch::{self, Form};
use crate::control::{Control, Event};
use crate::error::Result;
use crate::lent::Values;
use crate::passing::{self, Passage, Passing};
use crate::resident::{self, Resident};

/// What pictures may have of a GPU's free memory, all of them together: one part in so many. The rest is
/// kept for the network, whose feature maps are not there yet.
const SHARE: usize = 2;
/// Pictures whose sizes are added up before it is asked whether they are too many already.
const SIZES: usize = 1 << 12;

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

/// Bytes that pictures may still have of a GPU's memory; none on the processor.
pub(crate) struct Room(Option<usize>);

impl Room {
    /// Before any pictures are there.
    ///
    /// # Errors
    /// If the driver does not tell.
    pub(crate) fn of(device: &Device) -> Result<Self> {
        Ok(Self(free_memory(device)?.map(|free| free / SHARE)))
    }
}

/// Where a GPU's batches come from.
pub(crate) enum Source {
    Resident(Resident),
    Passing(RefCell<Box<dyn Passage>>),
}

impl Source {
    /// On a GPU: its memory, with all pictures in it as `loader` decodes them if there is room; says
    /// whether there is, and takes it. `None` on the processor, and where there are no pictures. `which`
    /// names them; `live` is called with each batch that is decoded.
    ///
    /// # Errors
    /// If a picture is damaged and the loader is strict, or the GPU has less memory than it said.
    pub(crate) fn open(
        which: &str,
        (pictures, loader): (&Pictures, &Loader),
        Room(room): &mut Room,
        control: &mut Control<'_>,
        live: impl Fn() -> Result<()>,
    ) -> Result<Option<Self>> {
        let (Some(room), false) = (room, pictures.is_empty()) else { return Ok(None) };
        let device = control.device.tensors().clone();
        let bytes = sum(pictures, loader, *room);
        if bytes > *room {
            (control.report)(Event::Streamed { which, bytes, room: *room });
            return Self::once(&device);
        }
        let Some(resident) = resident::load(&device, (pictures, loader), bytes, live)? else {
            return Ok(None);
        };
        *room -= bytes;
        let sound = resident.pictures.iter().filter(|one| one.is_ok()).count();
        (control.report)(Event::Resident { which, pictures: sound, bytes });
        Ok(Some(Self::Resident(resident)))
    }

    /// On a GPU: its memory for pictures that pass through it. `None` on the processor.
    ///
    /// # Errors
    /// If the GPU fails.
    pub(crate) fn once(device: &Device) -> Result<Option<Self>> {
        if device.is_cpu() {
            return Ok(None);
        }
        Ok(passing::passage(device)?.map(|passage| Self::Passing(RefCell::new(passage))))
    }

    /// The batches of an order, the last one perhaps shorter. `plans` says of a picture's index and size
    /// which `K` views are wanted of it, the same for all, and what else is to be known of it; `forms`, how
    /// those are written: `[N, 3, size, size]` each, wherever its numbers lie. `pictures` and `loader` are
    /// those that this was opened with.
    pub(crate) fn batches<'a, U: 'a, const K: usize>(
        &'a self,
        (pictures, loader): (&Pictures, &Loader),
        order: &'a [usize],
        forms: [Form; K],
        plans: impl Fn(usize, Size) -> ([Option<Plan>; K], U) + 'a,
    ) -> Batches<'a, U, K> {
        match self {
            Self::Resident(resident) => Box::new(order.chunks(loader.batch_size).map(move |ids| {
                let (batch, tensors) = resident.batch(ids, forms, &plans)?;
                Ok((batch, Values::There(tensors)))
            })),
            Self::Passing(passage) => {
                let decoded = loader.batches(pictures, order.to_vec(), |_, picture| picture);
                Box::new(Passing { passage, decoded, plans, forms, ahead: None })
            }
        }
    }
}

/// Adds the plans of the picture at a place to those of the batch.
pub(crate) fn note<U, const K: usize>(
    views: &mut [Vec<(usize, Plan)>; K],
    place: usize,
    (plans, item): ([Option<Plan>; K], U),
) -> U {
    for (views, plan) in views.iter_mut().zip(plans) {
        views.extend(plan.map(|plan| (place, plan)));
    }
    item
}

/// A tensor for each of the `K` views.
pub(crate) fn tensors<const K: usize>(
    views: [Vec<(usize, Plan)>; K],
    forms: [Form; K],
    mut make: impl FnMut(&[(usize, Plan)], Form) -> TensorResult<Tensor>,
) -> TensorResult<[Tensor; K]> {
    let mut tensors = Vec::with_capacity(K);
    for (views, form) in views.iter().zip(forms) {
        tensors.push(match views.is_empty() {
            true => batch::tensor(Vec::new(), 1)?,
            false => batch::as_pictures(&make(views, form)?, form)?,
        });
    }
    Ok(tensors.try_into().expect("a tensor for each of the views"))
}

/// What all pictures take when they are decoded, by a cache's list or the files' headers; if that is
/// more than `room`, about what they take, by those that were looked at until then. What cannot be read
/// takes nothing.
fn sum(pictures: &Pictures, loader: &Loader, room: usize) -> usize {
    let mut sum = 0;
    for start in (0..pictures.len()).step_by(SIZES) {
        let end = (start + SIZES).min(pictures.len());
        let bytes = (start..end).into_par_iter().map_init(
            || Decoder::reducing_to(loader.shortest_side),
            |decoder, id| pictures.decoded_bytes(id, decoder).unwrap_or_default() as usize,
        );
        sum += bytes.sum::<usize>();
        if sum > room {
            return (sum as f64 / end as f64 * pictures.len() as f64) as usize;
        }
    }
    sum
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

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use candle_core::DType;
    use pretext_augment::{EvalCrop, Image, ImageRef, Layout, Transform as _};
    use pretext_data::{Buffers, Dataset, Picture};

    use super::*;
    use crate::precision::Precision;
    use crate::resident::{Views, decode};
    use crate::streams::{Purpose, stream};

    pub(crate) const SIDE: u32 = 16;

    /// What a GPU does, plainly.
    struct Plain(Vec<Image>);

    impl Views for Plain {
        fn views(&self, views: &[(usize, Plan)], (layout, dtype): Form) -> TensorResult<Tensor> {
            let mut values = vec![0.0; views.len() * batch::numbers(SIDE)];
            for ((place, plan), values) in views.iter().zip(values.chunks_mut(batch::numbers(SIDE)))
            {
                let image: ImageRef<'_> = self.0[*place].view();
                batch::view(image, plan, &batch::NORMALISE, values);
            }
            let views = batch::tensor(values, SIDE)?.to_dtype(dtype)?;
            if layout == Layout::Chw {
                return Ok(views);
            }
            views.permute((0, 2, 3, 1))?.contiguous()
        }
    }

    /// Memory for two batches.
    #[derive(Default)]
    struct PlainPassage {
        batches: [Option<Plain>; 2],
        sent: usize,
    }

    impl Passage for PlainPassage {
        fn send(&mut self, pictures: &[Picture]) -> TensorResult<usize> {
            let images = pictures.iter().map(|picture| batch::borrowed(picture).to_image());
            self.batches[self.sent % 2] = Some(Plain(images.collect()));
            self.sent += 1;
            Ok(self.sent - 1)
        }

        fn views(
            &mut self,
            batch: usize,
            views: &[(usize, Plan)],
            form: Form,
        ) -> TensorResult<Tensor> {
            assert!(batch + 2 >= self.sent, "batch {batch} was written over");
            self.batches[batch % 2].as_ref().unwrap().views(views, form)
        }
    }

    /// Eleven pictures, of which two are damaged, and how to load them.
    fn data(folder: &std::path::Path) -> (Dataset, Loader) {
        for i in 0..11_u8 {
            let class = folder.join(format!("train/{}", i % 2));
            fs::create_dir_all(&class).unwrap();
            let path = class.join(format!("{i:02}.png"));
            if i % 5 == 3 {
                fs::write(path, b"no picture").unwrap();
                continue;
            }
            let pixel = |x, y| image::Rgb([(9 * x) as u8, (7 * y) as u8, 20 * i]);
            image::RgbImage::from_fn(20 + u32::from(i), 24, pixel).save(path).unwrap();
        }
        let loader = Loader { batch_size: 4, shortest_side: Some(SIDE), ..Loader::default() };
        (Dataset::open(folder).unwrap(), loader)
    }

    /// Two views of each picture, which know it.
    fn plans(id: usize, size: Size) -> ([Option<Plan>; 2], u32) {
        let mut stream = stream(1, 0, id as u64, Purpose::Augment);
        let crop = EvalCrop::fastai(SIDE).sample(size, &mut stream);
        let mut flipped = crop.clone();
        flipped.0.push(pretext_augment::Op::Flip(pretext_augment::ops::Flip));
        ([Some(crop), Some(flipped)], id as u32)
    }

    /// All pictures in such memory.
    pub(crate) fn resident(pictures: &Pictures, loader: &Loader) -> Source {
        let mut images = Vec::new();
        let pictures = decode(
            pictures,
            loader,
            || Ok(()),
            |picture| {
                images.push(batch::borrowed(picture).to_image());
                Ok(())
            },
        );
        let (memory, pictures) = (Box::new(Plain(images)), pictures.unwrap());
        Source::Resident(Resident { memory, pictures })
    }

    /// Holds a source's batches against the loader's: the first views as a network takes them, the others
    /// as its results are compared with them.
    #[track_caller]
    fn check(source: &Source, data: &Dataset, loader: &Loader) {
        for (_, precision) in Precision::ALL {
            check_in(*precision, source, data, loader);
        }
    }

    #[track_caller]
    fn check_in(precision: Precision, source: &Source, data: &Dataset, loader: &Loader) {
        let forms = [batch::seen(precision), batch::CLEAN];
        let pictures = data.train().pictures();
        let order: Vec<usize> = (0..11).rev().collect();
        let buffers = Buffers::new([batch::numbers(SIDE); 2]);
        let write = move |id: usize, picture: Picture, rows: [&mut [f32]; 2]| {
            let (views, item) = plans(id, batch::size(&picture));
            for (plan, row) in views.into_iter().flatten().zip(rows) {
                batch::view(batch::borrowed(&picture), &plan, &batch::NORMALISE, row);
            }
            item
        };
        let rows: Vec<_> = loader.rows(&buffers, pictures, order.clone(), write).collect();
        let batches: Vec<_> = source.batches((pictures, loader), &order, forms, plans).collect();
        assert_eq!((batches.len(), rows.len()), (3, 3));
        for (got, want) in batches.into_iter().zip(rows) {
            let ((got, tensors), (want, values)) = (got.unwrap(), want.unwrap());
            assert_eq!(got, want);
            let Values::There(tensors) = tensors else { panic!("not there") };
            for ((tensor, values), (layout, dtype)) in tensors.iter().zip(values).zip(forms) {
                let want = batch::tensor(values, SIDE).unwrap().to_dtype(dtype).unwrap();
                assert_eq!((tensor.shape(), tensor.dtype()), (want.shape(), dtype));
                let (last, turned) = (layout == Layout::Hwc, tensor.permute((0, 2, 3, 1)).unwrap());
                assert_eq!((tensor.is_contiguous(), turned.is_contiguous()), (!last, last));
                let numbers = |tensor: &Tensor| {
                    let flat = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
                    flat.to_vec1::<f32>().unwrap()
                };
                assert_eq!(numbers(tensor), numbers(&want));
            }
        }
    }

    #[test]
    fn batches_of_pictures_that_stay_are_those_of_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        let (data, loader) = data(folder.path());
        let source = resident(data.train().pictures(), &loader);
        let Source::Resident(Resident { pictures, .. }) = &source else { panic!("passing") };
        assert_eq!(pictures.len(), 11);
        assert_eq!(pictures.iter().filter(|one| one.is_err()).count(), 2);
        check(&source, &data, &loader);
    }

    #[test]
    fn batches_of_pictures_that_pass_are_those_of_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        let (data, loader) = data(folder.path());
        check(&Source::Passing(RefCell::new(Box::<PlainPassage>::default())), &data, &loader);
    }

    #[test]
    fn the_next_batch_is_on_its_way_before_this_one_is_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let (data, loader) = data(folder.path());
        let decoded = loader.batches(data.train().pictures(), (0..11).collect(), |_, one| one);
        let passage: RefCell<Box<dyn Passage>> = RefCell::new(Box::<PlainPassage>::default());
        let forms = [batch::CLEAN; 2];
        let mut batches = Passing { passage: &passage, decoded, plans, forms, ahead: None };
        assert!(batches.next().unwrap().is_ok());
        assert_eq!(batches.ahead.unwrap().unwrap().number, 1);
    }

    #[test]
    fn a_damaged_picture_ends_strict_batches() {
        let folder = tempfile::tempdir().unwrap();
        let (data, loader) = data(folder.path());
        let strict = Loader { strict: true, ..loader };
        let pictures = data.train().pictures();
        assert!(decode(pictures, &strict, || Ok(()), |_| Ok(())).is_err());
        let source = Source::Passing(RefCell::new(Box::<PlainPassage>::default()));
        let order: Vec<usize> = (0..11).collect();
        let forms = [batch::CLEAN; 2];
        let mut batches = source.batches((pictures, &strict), &order, forms, plans);
        assert!(batches.any(|batch| batch.is_err()));
    }

    #[test]
    fn the_sum_is_known_before_anything_is_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let (data, loader) = data(folder.path());
        let pictures = data.train().pictures();
        let mut total = 0;
        decode(
            pictures,
            &loader,
            || Ok(()),
            |picture| {
                total += picture.pixels.len();
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(sum(pictures, &loader, usize::MAX), total);
        // All are looked at at once: that they are too many is then known exactly, too.
        assert_eq!(sum(pictures, &loader, 1), total);
    }
}
