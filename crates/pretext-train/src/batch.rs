//! From decoded pictures to tensors: the only place that knows pictures, images and tensors.

use std::cell::RefCell;

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use pretext_augment::{Canvas, Image, ImageRef, Layout, Normalise, Plan, Size, Workspace};
use pretext_data::Picture;

use crate::error::{Error, Result};

/// What all networks see: each channel by ImageNet's mean and standard deviation.
pub(crate) const NORMALISE: Normalise = Normalise::IMAGENET;

thread_local! {
    /// Memory of augmentations, which each of the loader's threads keeps from picture to picture.
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new());
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

/// What a plan makes of an image, as a network sees it: normalised `[3, H, W]`.
pub(crate) fn view(image: ImageRef<'_>, plan: &Plan, normalise: &Normalise) -> Vec<f32> {
    on_canvas(image, |canvas| {
        canvas.apply(plan);
        numbers(canvas, normalise)
    })
}

/// What is on a canvas, as a network sees it: normalised `[3, H, W]`.
pub(crate) fn numbers(canvas: &mut Canvas<'_>, normalise: &Normalise) -> Vec<f32> {
    let mut out = vec![0.0; 3 * canvas.size().area() as usize];
    canvas.write(normalise, Layout::Chw, &mut out).expect("room for three numbers a pixel");
    out
}

/// Views of one size as `[N, 3, size, size]`.
pub(crate) fn stack(views: &[&[f32]], size: u32) -> TensorResult<Tensor> {
    let side = size as usize;
    Tensor::from_vec(views.concat(), (views.len(), 3, side, side), &Device::Cpu)
}

/// Labels as `[N]`.
pub(crate) fn labels(labels: Vec<u32>) -> TensorResult<Tensor> {
    let count = labels.len();
    Tensor::from_vec(labels, count, &Device::Cpu)
}

/// What comes out of a sigmoid, `0..=1`, as normalised values: `[N, 3, H, W]` both.
pub(crate) fn normalised(unit: &Tensor) -> TensorResult<Tensor> {
    let channel = |values: [f32; 3]| Tensor::from_slice(&values, (1, 3, 1, 1), unit.device());
    let std = channel(NORMALISE.std)?.to_dtype(DType::F32)?;
    unit.broadcast_sub(&channel(NORMALISE.mean)?)?.broadcast_div(&std)
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
