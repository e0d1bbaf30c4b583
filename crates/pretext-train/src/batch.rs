//! From decoded pictures to tensors: the only place that knows pictures, images and tensors.

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use pretext_augment::{Image, Normalise, Size};
use pretext_data::Picture;

use crate::error::{Error, Result};

/// What all networks see: each channel by ImageNet's mean and standard deviation.
pub(crate) const NORMALISE: Normalise = Normalise::IMAGENET;

/// A decoded picture as an image to augment.
pub(crate) fn image(picture: Picture) -> Image {
    let size = Size { width: picture.width, height: picture.height };
    // A decoded picture holds three bytes for each of its pixels, by its own contract.
    Image::new(size, picture.pixels.into_vec()).unwrap_or_else(|_| Image::filled(size, [0; 3]))
}

/// An image as a network sees it: normalised `[3, H, W]`.
pub(crate) fn view(image: &Image) -> Vec<f32> {
    view_with(&NORMALISE, image)
}

/// An image under a normalisation that is not ours: `[3, H, W]`.
pub(crate) fn view_with(normalise: &Normalise, image: &Image) -> Vec<f32> {
    let size = image.size();
    let mut out = vec![0.0; 3 * size.width as usize * size.height as usize];
    normalise.to_chw(image, &mut out);
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
