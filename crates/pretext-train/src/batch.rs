//! From decoded pictures to tensors: the only place that knows pictures, images and tensors.

use std::cell::RefCell;

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use pretext_augment::{Canvas, Image, ImageRef, Layout, Normalise, Plan, Size, Workspace};
use pretext_data::Picture;

use crate::error::{Error, Result};
use crate::precision::Precision;

/// What all networks see: each channel by ImageNet's mean and standard deviation.
pub(crate) const NORMALISE: Normalise = Normalise::IMAGENET;

/// How a GPU writes views: the order of their numbers, and which numbers.
pub(crate) type Form = (Layout, DType);

/// As a network computes with them.
pub(crate) fn seen(precision: Precision) -> Form {
    (Layout::Hwc, precision.dtype())
}

/// As what a network gives is compared with them.
pub(crate) const CLEAN: Form = (Layout::Chw, DType::F32);

/// Views in whichever order their numbers lie, as `[N, 3, H, W]`. To turn those of [`seen`] back takes
/// no copy, and so a network takes them as they are.
pub(crate) fn as_pictures(views: &Tensor, (layout, _): Form) -> TensorResult<Tensor> {
    if layout == Layout::Hwc { views.permute((0, 3, 1, 2)) } else { Ok(views.clone()) }
}

/// So many blank pictures `[N, 3, side, side]` on a device, as a GPU writes them for a network.
pub(crate) fn blank(
    count: usize,
    side: u32,
    precision: Precision,
    device: &Device,
) -> TensorResult<Tensor> {
    let (side, form) = (side as usize, seen(precision));
    as_pictures(&Tensor::zeros((count, side, side, 3), form.1, device)?, form)
}

thread_local! {
    /// Memory of augmentations, which each of the loader's threads keeps from picture to picture.
    /// Several batches are under way at a time: more than caches hold.
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new().streaming(true));
}

/// The size of a decoded picture.
pub(crate) fn size(picture: &Picture) -> Size {
    Size { width: picture.width, height: picture.height }
}

/// A decoded picture to augment, where it lies.
pub(crate) fn borrowed(picture: &Picture) -> ImageRef<'_> {
    ImageRef::new(size(picture), &picture.pixels)
        .expect("a decoded picture holds three bytes for each of its pixels")
}

/// Calls `f` with an image on a canvas.
pub(crate) fn on_canvas<R>(image: ImageRef<'_>, f: impl FnOnce(&mut Canvas<'_>) -> R) -> R {
    WORKSPACE.with_borrow_mut(|workspace| f(&mut workspace.open(image)))
}

/// Numbers in one picture as a network sees it: `[3, size, size]`.
pub(crate) fn numbers(size: u32) -> usize {
    3 * size as usize * size as usize
}

/// Writes what a plan makes of an image, as a network sees it: normalised `[3, H, W]`.
pub(crate) fn view(image: ImageRef<'_>, plan: &Plan, normalise: &Normalise, out: &mut [f32]) {
    on_canvas(image, |canvas| {
        canvas.apply(plan);
        write(canvas, normalise, out);
    });
}

/// Writes what is on a canvas, as a network sees it: normalised `[3, H, W]`.
pub(crate) fn write(canvas: &mut Canvas<'_>, normalise: &Normalise, out: &mut [f32]) {
    canvas.write(normalise, Layout::Chw, out).expect("room for three numbers a pixel");
}

/// Views of one size, one after the other, as `[N, 3, size, size]`.
pub(crate) fn tensor(views: Vec<f32>, size: u32) -> TensorResult<Tensor> {
    let (count, side) = (views.len() / numbers(size).max(1), size as usize);
    Tensor::from_vec(views, (count, 3, side, side), &Device::Cpu)
}

/// Labels as `[N]`.
pub(crate) fn labels(labels: Vec<u32>) -> TensorResult<Tensor> {
    let count = labels.len();
    Tensor::from_vec(labels, count, &Device::Cpu)
}

/// [`NORMALISE`] where a network lies, `[1, 3, 1, 1]` each: numbers of the host's would be copied there
/// in each step.
pub(crate) struct Normalising {
    mean: Tensor,
    std: Tensor,
}

impl Normalising {
    pub(crate) fn on(device: &Device) -> TensorResult<Self> {
        let channel = |values: [f32; 3]| Tensor::from_slice(&values, (1, 3, 1, 1), device);
        Ok(Self { mean: channel(NORMALISE.mean)?, std: channel(NORMALISE.std)? })
    }

    /// What comes out of a sigmoid, `0..=1`, as normalised values: `[N, 3, H, W]` both.
    pub(crate) fn of(&self, unit: &Tensor) -> TensorResult<Tensor> {
        unit.broadcast_sub(&self.mean)?.broadcast_div(&self.std)
    }
}

/// Each picture of a normalised `[N, 3, H, W]` batch as an image, clipped to `0..=255`.
pub(crate) fn images(batch: &Tensor) -> Result<Vec<Image>> {
    let (count, _, height, width) = batch.dims4()?;
    let size = Size { width: width as u32, height: height as u32 };
    (0..count)
        .map(|i| {
            let values = batch.get(i)?.flatten_all()?.to_vec1::<f32>()?;
            Ok::<_, Error>(NORMALISE.to_image(&values, size))
        })
        .collect()
}
