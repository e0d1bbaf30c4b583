//! Plans: what happens to one image, as plain data.

use crate::ops::{
    Blur, Colour, Corrupt, CropResize, Fill, Flip, Grey, GreyBlur, ResizeCrop, Solarise, Tiles,
};
use crate::{Element, Error, Image, ImageRef, Layout, Normalise, Size, Workspace};

/// One operation on pixels, with every decision already taken.
///
/// This is a closed set: all that the transforms of this crate do is made of these.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Cut a rectangle out and bring it to a size.
    CropResize(CropResize),
    /// Bring to a size and cut a rectangle out of that.
    ResizeCrop(ResizeCrop),
    /// Mirror left and right.
    Flip(Flip),
    /// Change brightness, contrast, saturation or hue.
    Colour(Colour),
    /// Turn grey.
    Grey(Grey),
    /// Blur all of it.
    Blur(Blur),
    /// Invert bright values.
    Solarise(Solarise),
    /// Fill rectangles with a colour or noise.
    Fill(Fill),
    /// Blur rectangles and turn them grey.
    GreyBlur(GreyBlur),
    /// Corrupt one patch.
    Corrupt(Corrupt),
    /// Lay the image's tiles in another order.
    Tiles(Tiles),
}

impl Op {
    /// Carries the operation out. No chance is left here: equal inputs give equal outputs.
    pub fn apply(&self, image: Image) -> Image {
        match self {
            Self::CropResize(op) => op.apply(image),
            Self::ResizeCrop(op) => op.apply(image),
            Self::Flip(op) => op.apply(image),
            Self::Colour(op) => op.apply(image),
            Self::Grey(op) => op.apply(image),
            Self::Blur(op) => op.apply(image),
            Self::Solarise(op) => op.apply(image),
            Self::Fill(op) => op.apply(image),
            Self::GreyBlur(op) => op.apply(image),
            Self::Corrupt(op) => op.apply(image),
            Self::Tiles(op) => op.apply(image),
        }
    }

    /// The size of what comes out for an image of this size.
    pub fn output_size(&self, input: Size) -> Size {
        match self {
            Self::CropResize(op) => op.output_size(),
            Self::ResizeCrop(op) => op.output_size(),
            _ => input,
        }
    }
}

/// What happens to one image: operations, first to last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan(pub Vec<Op>);

impl Plan {
    /// Nothing happens.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Carries the plan out.
    pub fn apply(&self, image: Image) -> Image {
        self.0.iter().fold(image, |image, op| op.apply(image))
    }

    /// Carries the plan out on borrowed pixels and writes the result normalised: bit for bit what
    /// [`apply`](Self::apply) and [`Normalise::to_chw`] give, in vectors and without an allocation
    /// once the workspace has room ([`Op::Corrupt`] and noise, which take the plain way, allocate).
    /// [`Workspace`] has an example.
    ///
    /// # Errors
    /// If `out` does not hold three numbers for each pixel of
    /// [`output_size`](Self::output_size).
    pub fn write<E: Element>(
        &self,
        picture: ImageRef<'_>,
        normalise: &Normalise,
        layout: Layout,
        workspace: &mut Workspace,
        out: &mut [E],
    ) -> Result<(), Error> {
        let size = self.output_size(picture.size());
        if out.len() as u64 != 3 * size.area() {
            return Err(Error::Output { size, numbers: out.len() });
        }
        let mut canvas = workspace.open(picture);
        canvas.apply(self);
        canvas.write(normalise, layout, out)
    }

    /// Carries the plan out on borrowed pixels: byte for byte what [`apply`](Self::apply) gives, in
    /// vectors.
    pub fn view(&self, picture: ImageRef<'_>, workspace: &mut Workspace) -> Image {
        let mut canvas = workspace.open(picture);
        canvas.apply(self);
        canvas.image()
    }

    /// The size of what comes out for an image of this size.
    pub fn output_size(&self, input: Size) -> Size {
        self.0.iter().fold(input, |size, op| op.output_size(size))
    }
}

impl From<Op> for Plan {
    fn from(op: Op) -> Self {
        Self(vec![op])
    }
}
