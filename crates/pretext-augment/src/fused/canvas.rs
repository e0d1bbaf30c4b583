//! The fused path: plans carried out on planes, and views written from there.

use super::blur::{self, BlurPlane};
use super::isa::Isa;
use super::planes::{Load, Luma, Planes, room};
use super::points::{Points, is_point};
use super::resample::{self, Resample};
use super::write::{Element, Layout, Scale, Write};
use crate::ops::weights::gaussian;
use crate::ops::{Blur, Fill, GreyBlur, Paint, Tiles, grown};
use crate::{Error, Image, ImageRef, Normalise, Op, Plan, Rect, Size};

/// Memory of the fused path, and the instruction set that it takes. One for each thread: what comes
/// out does not depend on what it was used for before.
///
/// ```
/// use pretext_augment::{
///     ImageRef, Layout, Normalise, RandomResizedCrop, Size, Transform, Workspace,
/// };
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let bytes = vec![127; 3 * 213 * 160]; // from a decoder, a camera, a memory-mapped file
/// let picture = ImageRef::new(Size { width: 213, height: 160 }, &bytes)?;
/// let crop = RandomResizedCrop::fastai(64);
/// let mut workspace = Workspace::new();
/// let mut view = vec![0.0; 3 * 64 * 64]; // `f32`, [3, H, W]
/// for seed in 0..3 {
///     let plan = crop.sample(picture.size(), &mut StdRng::seed_from_u64(seed));
///     plan.write(picture, &Normalise::IMAGENET, Layout::Chw, &mut workspace, &mut view)?;
/// }
/// # Ok::<(), pretext_augment::Error>(())
/// ```
#[derive(Default)]
pub struct Workspace {
    isa: Option<Isa>,
    planes: Planes,
    /// Where an operation writes that cannot work in place.
    spare: Planes,
    resample: resample::Scratch,
    taps: Vec<i16>,
    blur: blur::Scratch,
    bytes: Vec<u8>,
    scale: Option<Scale>,
    streaming: bool,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workspace({})", self.isa())
    }
}

impl Workspace {
    /// For the fastest instruction set there is, or the one that [`ISA_VARIABLE`] names.
    ///
    /// [`ISA_VARIABLE`]: crate::ISA_VARIABLE
    pub fn new() -> Self {
        Self::default()
    }

    /// For one instruction set, or the portable one if the processor lacks it.
    pub fn with_isa(isa: Isa) -> Self {
        let isa = if isa.is_available() { isa } else { Isa::Portable };
        Self { isa: Some(isa), ..Self::default() }
    }

    /// Whether `[3, H, W]` is written past the processor's caches (off by default). That is quicker for
    /// batches which are larger than these, and slower for a view that is read at once.
    #[must_use]
    pub fn streaming(self, streaming: bool) -> Self {
        Self { streaming, ..self }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::current)
    }

    /// Begins with a picture, of which nothing is copied yet.
    pub fn open<'a>(&'a mut self, picture: ImageRef<'a>) -> Canvas<'a> {
        Canvas { picture: Some(picture), workspace: self }
    }
}

/// A picture on its way through plans.
///
/// A puzzle and its answer share their crop:
///
/// ```
/// use pretext_augment::{
///     Image, Layout, Normalise, RandomGreyBlur, RandomResizedCrop, Size, Transform, Workspace,
/// };
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let picture = Image::filled(Size { width: 90, height: 70 }, [200, 10, 10]);
/// let rng = &mut StdRng::seed_from_u64(0);
/// let [mut answer, mut puzzle] = [(); 2].map(|()| vec![0.0_f32; 3 * 32 * 32]);
/// let mut workspace = Workspace::new();
/// let mut canvas = workspace.open(picture.view());
/// canvas.apply(&RandomResizedCrop::fastai(32).sample(picture.size(), rng));
/// canvas.write(&Normalise::IMAGENET, Layout::Chw, &mut answer)?;
/// canvas.apply(&RandomGreyBlur::default().sample(canvas.size(), rng));
/// canvas.write(&Normalise::IMAGENET, Layout::Chw, &mut puzzle)?;
/// assert_ne!(answer, puzzle);
/// # Ok::<(), pretext_augment::Error>(())
/// ```
pub struct Canvas<'a> {
    /// Where the pixels are, until they are in the planes.
    picture: Option<ImageRef<'a>>,
    workspace: &'a mut Workspace,
}

impl std::fmt::Debug for Canvas<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Canvas({} x {})", self.size().width, self.size().height)
    }
}

impl Canvas<'_> {
    /// The size of what is on it.
    pub fn size(&self) -> Size {
        self.picture.map_or(self.workspace.planes.size, |picture| picture.size())
    }

    /// Carries a plan out: byte for byte what [`Plan::apply`] gives.
    pub fn apply(&mut self, plan: &Plan) {
        let mut ops = &plan.0[..];
        while !ops.is_empty() {
            let done = self.apply_first(ops);
            ops = &ops[done..];
        }
    }

    /// Writes what is on it as three numbers for each pixel, normalised: bit for bit what
    /// [`Normalise::to_chw`] gives, in the order that `layout` says.
    ///
    /// # Errors
    /// If `out` does not hold three numbers for each pixel.
    pub fn write<E: Element>(
        &mut self,
        normalise: &Normalise,
        layout: Layout,
        out: &mut [E],
    ) -> Result<(), Error> {
        let size = self.size();
        if out.len() as u64 != 3 * size.area() {
            return Err(Error::Output { size, numbers: out.len() });
        }
        self.load();
        let isa = self.workspace.isa();
        let Workspace { planes, scale, streaming, .. } = &mut *self.workspace;
        let scale = Scale::of(scale, *normalise);
        isa.run(Write { planes, scale, layout, streaming: *streaming, out });
        Ok(())
    }

    /// A copy of what is on it.
    pub fn image(&self) -> Image {
        self.picture.map_or_else(
            || {
                let mut image = Image::filled(self.size(), [0; 3]);
                self.workspace.planes.interleave(image.pixels_mut());
                image
            },
            |picture| picture.to_image(),
        )
    }

    /// Brings the pixels to the planes.
    fn load(&mut self) {
        if let Some(image) = self.picture.take() {
            let isa = self.workspace.isa();
            isa.run(Load { image, planes: &mut self.workspace.planes });
        }
    }

    /// Carries out the first operation of some and perhaps what follows; returns how many.
    fn apply_first(&mut self, ops: &[Op]) -> usize {
        let mirrored = matches!(ops, [_, Op::Flip(_), ..]);
        match &ops[0] {
            Op::CropResize(op) => {
                let crop = op.crop.clipped_or_whole(self.size());
                self.resize(crop, op.output_size(), Rect::whole(op.output_size()), mirrored);
                1 + usize::from(mirrored)
            }
            Op::ResizeCrop(op) => {
                let (size, part) = op.resized();
                self.resize(Rect::whole(self.size()), size, part, mirrored);
                1 + usize::from(mirrored)
            }
            op if is_point(op) => {
                let count = ops.iter().take_while(|op| is_point(op)).count();
                self.load();
                let isa = self.workspace.isa();
                isa.run(Points { ops: &ops[..count], planes: &mut self.workspace.planes });
                count
            }
            op => {
                self.load();
                let isa = self.workspace.isa();
                match op {
                    Op::Flip(_) => self.workspace.planes.flip(),
                    Op::Blur(op) => self.workspace.blur(isa, *op),
                    Op::GreyBlur(op) => self.workspace.grey_blur(isa, op),
                    Op::Fill(Fill { rects, paint: Paint::Colour(colour) }) => {
                        self.workspace.fill(rects, *colour);
                    }
                    Op::Tiles(op) => self.workspace.tiles(op),
                    other => self.workspace.plain(isa, other),
                }
                1
            }
        }
    }

    /// Brings a rectangle to a size and takes a part of that, mirrored or not.
    fn resize(&mut self, crop: Rect, size: Size, part: Rect, mirrored: bool) {
        // A copy of the rectangle's pixels, of which only a part is wanted.
        let copies = size == crop.size();
        let part_of_crop = Rect { x: crop.x + part.x, y: crop.y + part.y, ..part };
        match self.picture {
            Some(picture) if copies && !mirrored => {
                self.picture = picture.crop(part_of_crop);
                return;
            }
            None if copies && part_of_crop == Rect::whole(self.size()) => {
                if mirrored {
                    self.workspace.planes.flip();
                }
                return;
            }
            _ => {}
        }
        let isa = self.workspace.isa();
        let Workspace { planes, resample: scratch, bytes, .. } = &mut *self.workspace;
        let image = match self.picture.take() {
            Some(picture) => picture,
            None => {
                room(bytes, 3 * planes.len());
                planes.interleave(&mut bytes[..3 * planes.len()]);
                ImageRef::of_bytes(planes.size, bytes)
            }
        };
        if copies {
            isa.run(Load { image: image.crop(part_of_crop).unwrap_or(image), planes });
            if mirrored {
                planes.flip();
            }
        } else {
            let image = image.crop(crop).unwrap_or(image);
            isa.run(Resample { image, size, part, mirrored, scratch, planes });
        }
    }
}

impl Workspace {
    fn blur(&mut self, isa: Isa, op: Blur) {
        let Self { planes, spare, taps, blur: scratch, .. } = self;
        gaussian(op.kernel, op.sigma, taps);
        if taps.len() == 1 {
            return;
        }
        let (size, rect) = (planes.size, Rect::whole(planes.size));
        spare.reset(size);
        for (plane, out) in planes.channels.iter().zip(&mut spare.channels) {
            isa.run(BlurPlane { plane, size, rect, taps, scratch, out });
        }
        std::mem::swap(planes, spare);
    }

    fn grey_blur(&mut self, isa: Isa, op: &GreyBlur) {
        let Self { planes, spare, taps, blur: scratch, .. } = self;
        let size = planes.size;
        spare.reset(size);
        let [luma, patch, _] = &mut spare.channels;
        let regions = op.regions.iter().filter_map(|region| {
            let rect = region.rect.clipped(size);
            (!rect.is_empty()).then_some((rect, region.blur()))
        });
        // All luma is computed before the first pixel is written: what was done to one region must
        // not shine through in another.
        for (rect, blur) in regions.clone() {
            gaussian(blur.kernel, blur.sigma, taps);
            let rect = grown(rect, (taps.len() / 2) as u32).clipped(size);
            isa.run(Luma { planes, rect, luma });
        }
        for (rect, blur) in regions {
            gaussian(blur.kernel, blur.sigma, taps);
            let width = rect.width as usize;
            isa.run(BlurPlane { plane: luma, size, rect, taps, scratch, out: patch });
            for (row, y) in patch.chunks_exact(width).zip(rect.y..rect.y + rect.height) {
                for channel in 0..3 {
                    planes.row_mut(channel, rect, y).copy_from_slice(row);
                }
            }
        }
    }

    fn fill(&mut self, rects: &[Rect], colour: [u8; 3]) {
        for rect in rects {
            let rect = rect.clipped(self.planes.size);
            for y in rect.y..rect.y + rect.height {
                for (channel, value) in colour.into_iter().enumerate() {
                    self.planes.row_mut(channel, rect, y).fill(value);
                }
            }
        }
    }

    fn tiles(&mut self, op: &Tiles) {
        let Self { planes, spare, .. } = self;
        let size = planes.size;
        spare.reset(size);
        for (out, plane) in spare.channels.iter_mut().zip(&planes.channels) {
            out[..planes.len()].copy_from_slice(&plane[..planes.len()]);
        }
        for (from, to) in op.moves(size) {
            for row in 0..to.height {
                for channel in 0..3 {
                    let source = planes.row_mut(channel, from, from.y + row);
                    spare.row_mut(channel, to, to.y + row).copy_from_slice(source);
                }
            }
        }
        std::mem::swap(planes, spare);
    }

    /// An operation that has no fast form here.
    fn plain(&mut self, isa: Isa, op: &Op) {
        let Self { planes, bytes, .. } = self;
        let mut pixels = std::mem::take(bytes);
        pixels.resize(3 * planes.len(), 0);
        planes.interleave(&mut pixels);
        let image = op.apply(Image::of_bytes(planes.size, pixels));
        isa.run(Load { image: image.view(), planes });
        *bytes = image.into_pixels();
    }
}
