//! The kinds of work, each in one place: what a pass over the pictures does.

use std::cell::RefCell;
use std::error::Error;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;
use pretext_augment::{
    ColourJitter, Compose, GaussianBlur, Greyscale, HorizontalFlip, Image, ImageRef, Layout,
    Normalise, Probability, RandomGreyBlur, RandomResizedCrop, Rect, Size, Transform as _,
    Workspace,
};
use pretext_data::{Buffers, Dataset, Loader, Picture, Pictures, cache};
use pretext_train::lent::lend;
use pretext_train::streams::{Purpose, stream};

/// One pass over all pictures.
pub(crate) type Pass = Box<dyn FnMut() -> Result<(), Box<dyn Error>>>;

type Start = fn(&Dataset, usize) -> Result<Pass, Box<dyn Error>>;

/// Every kind of work by its name.
pub(crate) const ALL: &[(&str, Start)] =
    &[("loader", loader), ("cached", cached), ("simclr", simclr), ("grey-blur", grey_blur)];

/// The side of what comes out, in pixels.
const SIDE: u32 = 128;
/// Numbers in one view: `[3, 128, 128]`.
const VALUES: usize = 3 * (SIDE * SIDE) as usize;

/// Prepares a kind of work on a flat folder of pictures.
pub(crate) fn start(name: &str, folder: &Path, threads: usize) -> Result<Pass, Box<dyn Error>> {
    let (_, start) = ALL.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|(known, _)| *known).collect();
        format!("there is no work {name}; choose of {}", known.join(", "))
    })?;
    start(&Dataset::open(folder)?, threads)
}

/// Files to batches `[N, 3, 128, 128]`: read, decode, crop, flip, normalise.
fn loader(data: &Dataset, threads: usize) -> Result<Pass, Box<dyn Error>> {
    let loader = Loader { threads, strict: true, ..Loader::default() };
    let (pictures, buffers, mut epoch) = (data.unsup().clone(), Buffers::new([VALUES]), 0);
    Ok(Box::new(move || {
        epoch += 1;
        let augment = crop_and_flip();
        let prepare = move |id: usize, picture: Picture, [out]: [&mut [f32]; 1]| {
            WORKSPACE.with_borrow_mut(|workspace| {
                write(&augment, borrowed(&picture), (epoch, id), workspace, out);
            });
        };
        for batch in loader.rows(&buffers, &pictures, (0..pictures.len()).collect(), prepare) {
            let (_, views) = batch?;
            lend(views, SIDE, &buffers, &Device::Cpu, |[input]| {
                black_box(input);
                Ok::<_, pretext_train::Error>(())
            })?;
        }
        Ok(())
    }))
}

/// The same from a decoded cache.
fn cached(data: &Dataset, threads: usize) -> Result<Pass, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cache.safetensors");
    cache::write(data, &path, &cache::Options::default(), |_| ControlFlow::Continue(()))?;
    // The file stays mapped when its name is gone, and nothing is left behind when we are stopped.
    loader(&Dataset::open(&path)?, threads)
}

/// Decoded pictures to SimCLR's views (Chen et al., 2020), normalised.
fn simclr(data: &Dataset, _: usize) -> Result<Pass, Box<dyn Error>> {
    let images = decoded(data.unsup())?;
    let augment = Compose::new(vec![
        Box::new(crop_and_flip()),
        Box::new(Probability { p: 0.8, transform: ColourJitter::new(0.8, 0.8, 0.8, 0.2) }),
        Box::new(Greyscale { p: 0.2 }),
        Box::new(Probability { p: 0.5, transform: GaussianBlur::new(13, 0.1..=2.0) }),
    ]);
    let (mut epoch, mut workspace, mut out) = (0, Workspace::new(), vec![0.0; VALUES]);
    Ok(Box::new(move || {
        epoch += 1;
        for (id, image) in images.iter().enumerate() {
            write(&augment, image.view(), (epoch, id), &mut workspace, &mut out);
            black_box(&mut out);
        }
        Ok(())
    }))
}

/// Four rectangles of the middle of a decoded picture, blurred and turned grey.
fn grey_blur(data: &Dataset, _: usize) -> Result<Pass, Box<dyn Error>> {
    let middle = |image: &Image| {
        let Size { width, height } = image.size();
        let (x, y) = (width.saturating_sub(SIDE) / 2, height.saturating_sub(SIDE) / 2);
        image.crop(Rect { x, y, width: SIDE, height: SIDE })
    };
    let images: Vec<Image> = decoded(data.unsup())?.iter().filter_map(middle).collect();
    let transform = RandomGreyBlur { count: 4..=4, ..RandomGreyBlur::default() };
    let (mut epoch, mut workspace) = (0, Workspace::new());
    Ok(Box::new(move || {
        epoch += 1;
        for (image, id) in images.iter().zip(0..) {
            let plan = transform.sample(image.size(), &mut stream(0, epoch, id, Purpose::Pose));
            black_box(plan.view(image.view(), &mut workspace));
        }
        Ok(())
    }))
}

fn crop_and_flip() -> Compose {
    let crop = RandomResizedCrop::torchvision(SIDE);
    Compose::new(vec![Box::new(crop), Box::new(HorizontalFlip::default())])
}

thread_local! {
    /// As in `pretext_train`.
    static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new().streaming(true));
}

/// A view of one picture as a network sees it: normalised `[3, 128, 128]`.
fn write(
    augment: &Compose,
    image: ImageRef<'_>,
    (epoch, id): (u64, usize),
    workspace: &mut Workspace,
    out: &mut [f32],
) {
    let mut rng = stream(0, epoch, id as u64, Purpose::Augment);
    let plan = augment.sample(image.size(), &mut rng);
    plan.write(image, &Normalise::IMAGENET, Layout::Chw, workspace, out)
        .expect("room for 128 x 128 pixels");
}

fn decoded(pictures: &Pictures) -> Result<Vec<Image>, Box<dyn Error>> {
    (0..pictures.len()).map(|id| Ok(borrowed(&pictures.read(id)?).to_image())).collect()
}

fn borrowed(picture: &Picture) -> ImageRef<'_> {
    let size = Size { width: picture.width, height: picture.height };
    ImageRef::new(size, &picture.pixels).expect("three bytes for each pixel of a picture")
}
