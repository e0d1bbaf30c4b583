//! Views as tensors of candle.

use candle_core::{Device, Result, Tensor, WithDType};

use crate::{Element, Error, ImageRef, Layout, Normalise, Plan, Workspace};

/// A batch on the CPU: a view for each picture and its plan, `[N, 3, H, W]` or `[N, H, W, 3]`, in
/// `f32` or `bf16`.
///
/// ```
/// use candle_core::Tensor;
/// use pretext_augment::{
///     Image, Layout, Normalise, RandomResizedCrop, Size, Transform, Workspace, batch,
/// };
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let pictures = [[200, 0, 0], [0, 0, 200]]
///     .map(|colour| Image::filled(Size { width: 90, height: 70 }, colour));
/// let (crop, mut rng) = (RandomResizedCrop::fastai(64), StdRng::seed_from_u64(0));
/// let plans: Vec<_> = pictures.iter().map(|p| crop.sample(p.size(), &mut rng)).collect();
/// let views = pictures.iter().map(|picture| picture.view()).zip(&plans);
/// let workspace = &mut Workspace::new();
/// let batch: Tensor = batch::<f32>(views, &Normalise::IMAGENET, Layout::Chw, workspace)?;
/// assert_eq!(batch.dims(), [2, 3, 64, 64]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If there are no views, or they differ in size.
pub fn batch<'a, E: Element + WithDType>(
    views: impl IntoIterator<Item = (ImageRef<'a>, &'a Plan)>,
    normalise: &Normalise,
    layout: Layout,
    workspace: &mut Workspace,
) -> Result<Tensor> {
    let mut views = views.into_iter().peekable();
    let Some(size) = views.peek().map(|(picture, plan)| plan.output_size(picture.size())) else {
        candle_core::bail!("a batch of no views has no size")
    };
    let (mut numbers, mut count) = (vec![], 0);
    for (picture, plan) in views {
        let own = plan.output_size(picture.size());
        if own != size {
            let error = Error::Output { size: own, numbers: 3 * size.area() as usize };
            return Err(candle_core::Error::wrap(error));
        }
        let start = numbers.len();
        numbers.resize(start + 3 * size.area() as usize, E::from_f32(0.0));
        plan.write(picture, normalise, layout, workspace, &mut numbers[start..])
            .map_err(candle_core::Error::wrap)?;
        count += 1;
    }
    let (height, width) = (size.height as usize, size.width as usize);
    let shape = match layout {
        Layout::Chw => (count, 3, height, width),
        Layout::Hwc => (count, height, width, 3),
    };
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}
