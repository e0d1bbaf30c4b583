//! One step of a view, as `kernels/params.cuh` has it.

use crate::Rect;

/// What a step does. The kernels know it by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// Copies a rectangle of the source to the canvas.
    #[default]
    Load = 0,
    /// Resizes a rectangle of the source to the canvas.
    Resample = 1,
    /// Makes the canvas the source.
    Interleave = 2,
    Flip = 3,
    /// Finds the mean luma for the contrast that follows.
    Mean = 4,
    Brightness = 5,
    Contrast = 6,
    Saturation = 7,
    Hue = 8,
    Grey = 9,
    Solarise = 10,
    /// The spare plane gets the canvas's luma.
    Luma = 11,
    /// The spare plane gets a channel of the canvas.
    Spare = 12,
    /// Blurs a rectangle of the spare plane to channels of the canvas.
    Blur = 13,
    Fill = 14,
    FillNoise = 15,
    AddNoise = 16,
    /// The three that move pixels of one channel, from the spare plane.
    Shuffle = 17,
    Swap = 18,
    Tiles = 19,
}

/// One operation on pixels, for a GPU; the fields are those of `kernels/params.cuh`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) value: f32,
    /// Where the step's data begins in that of its program, in words.
    pub(super) data: u32,
    pub(super) count: u32,
    pub(super) rect: Rect,
    pub(super) other: Rect,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) number: u32,
    pub(super) channels: u32,
}

/// Words of 32 bits that a step takes.
pub(super) const WORDS: usize = 16;

impl Step {
    /// A step that needs nothing but its kind.
    pub(super) const fn of(kind: Kind) -> Self {
        const NOTHING: Rect = Rect { x: 0, y: 0, width: 0, height: 0 };
        Self {
            kind,
            value: 0.0,
            data: 0,
            count: 0,
            rect: NOTHING,
            other: NOTHING,
            width: 0,
            height: 0,
            number: 0,
            channels: 0,
        }
    }

    /// The step as the kernels read it; the data of its program begins at this word of it.
    pub(super) fn words(&self, data: u32) -> [u32; WORDS] {
        let Rect { x, y, width, height } = self.rect;
        let other = self.other;
        [
            self.kind as u32,
            self.value.to_bits(),
            self.data + data,
            self.count,
            x,
            y,
            width,
            height,
            other.x,
            other.y,
            other.width,
            other.height,
            self.width,
            self.height,
            self.number,
            self.channels,
        ]
    }
}
