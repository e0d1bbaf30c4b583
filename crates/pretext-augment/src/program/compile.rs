//! From a plan to steps.

use super::memory::{Memory, Reach};
use super::step::{Kind, Step, WORDS};
use crate::ops::weights::gaussian;
use crate::ops::{Blur, Colour, Corrupt, Fill, GreyBlur, Paint, Tiles};
use crate::{Op, Plan, Rect, Size};

/// What happens to one picture, for a GPU.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    /// Weights, noise, orders: what the steps refer to.
    pub(super) data: Vec<u32>,
    pub(super) memory: Memory,
    /// The size of what comes out.
    pub(super) size: Size,
    /// Whether the pixels are on the canvas, and no longer in the picture.
    loaded: bool,
}

/// Makes the steps of a plan for a picture of this size.
pub(super) fn compile(plan: &Plan, size: Size) -> Program {
    let (steps, data, memory) = (vec![], vec![], Memory::default());
    let mut program = Program { steps, data, memory, size, loaded: false };
    let mut ops = &plan.0[..];
    while !ops.is_empty() {
        let done = program.add_first(ops);
        ops = &ops[done..];
    }
    program.load();
    program.align();
    program.need(Memory::program(program.len()));
    program
}

impl Program {
    /// Words that it takes.
    pub(super) fn len(&self) -> usize {
        WORDS * self.steps.len() + self.data.len()
    }

    /// Adds it to others: its steps, and behind them its data.
    pub(super) fn write(&self, to: &mut Vec<u32>) {
        let data = (WORDS * self.steps.len()) as u32;
        to.extend(self.steps.iter().flat_map(|step| step.words(data)));
        to.extend(&self.data);
    }

    /// Adds the first operation of some and perhaps what follows; returns how many.
    fn add_first(&mut self, ops: &[Op]) -> usize {
        let mirrored = matches!(ops, [_, Op::Flip(_), ..]);
        match &ops[0] {
            Op::CropResize(op) => {
                let (crop, size) = (op.crop.clipped_or_whole(self.size), op.output_size());
                let done = 1 + usize::from(mirrored);
                self.resize(crop, size, Rect::whole(size), mirrored, done == ops.len());
                return done;
            }
            Op::ResizeCrop(op) => {
                let (size, part) = op.resized();
                let done = 1 + usize::from(mirrored);
                self.resize(Rect::whole(self.size), size, part, mirrored, done == ops.len());
                return done;
            }
            Op::Flip(_) if !self.loaded => {
                self.add_load(Rect::whole(self.size), true);
                return 1;
            }
            _ => self.load(),
        }
        match &ops[0] {
            Op::CropResize(_) | Op::ResizeCrop(_) => {}
            Op::Flip(_) => self.steps.push(Step::of(Kind::Flip)),
            Op::Colour(op) => self.colour(*op),
            Op::Grey(_) => self.steps.push(Step::of(Kind::Grey)),
            Op::Solarise(op) => {
                let number = u32::from(op.threshold);
                self.steps.push(Step { number, ..Step::of(Kind::Solarise) });
            }
            Op::Blur(op) => self.blur(Rect::whole(self.size), *op),
            Op::GreyBlur(op) => self.grey_blur(op),
            Op::Fill(op) => self.fill(op),
            Op::Corrupt(op) => self.corrupt(op),
            Op::Tiles(op) => self.tiles(op),
        }
        1
    }

    /// Brings the picture to the canvas.
    fn load(&mut self) {
        if !self.loaded {
            self.add_load(Rect::whole(self.size), false);
        }
    }

    fn add_load(&mut self, rect: Rect, mirrored: bool) {
        let number = u32::from(mirrored);
        self.steps.push(Step { rect, number, ..Step::of(Kind::Load) });
        self.show(rect.size());
    }

    /// What is on the canvas from here on.
    fn show(&mut self, size: Size) {
        self.size = size;
        self.loaded = true;
        self.need(Memory::canvas(size));
    }

    fn need(&mut self, memory: Memory) {
        self.memory = self.memory.most(memory);
    }

    /// Brings a rectangle to a size and takes a part of that, mirrored or not; if it is the `last` thing
    /// to do, it writes the view.
    fn resize(&mut self, crop: Rect, size: Size, part: Rect, mirrored: bool, last: bool) {
        let copies = size == crop.size();
        let part_of_crop = Rect { x: crop.x + part.x, y: crop.y + part.y, ..part };
        if self.loaded {
            if copies && part_of_crop == Rect::whole(self.size) {
                self.steps.extend(mirrored.then_some(Step::of(Kind::Flip)));
                return;
            }
            self.steps.push(Step::of(Kind::Interleave));
            self.need(Memory::spill(self.size));
        }
        if copies {
            return self.add_load(part_of_crop, mirrored);
        }
        self.steps.push(Step {
            rect: crop,
            other: part,
            width: size.width,
            height: size.height,
            number: u32::from(mirrored),
            channels: u32::from(last),
            ..Step::of(Kind::Resample)
        });
        self.need(Memory::resample(crop.size(), size, part, last));
        (self.size, self.loaded) = (part.size(), true);
    }

    fn colour(&mut self, op: Colour) {
        let (kind, value) = match op {
            Colour::Brightness(factor) => (Kind::Brightness, factor),
            Colour::Contrast(factor) => {
                self.steps.push(Step::of(Kind::Mean));
                (Kind::Contrast, factor)
            }
            Colour::Saturation(factor) => (Kind::Saturation, factor),
            Colour::Hue(shift) => (Kind::Hue, shift),
        };
        self.steps.push(Step { value, ..Step::of(kind) });
    }

    /// Blurs what a rectangle covers, channel by channel.
    fn blur(&mut self, rect: Rect, op: Blur) {
        let rect = rect.clipped(self.size);
        let Some(blur) = self.blur_step(rect, op).filter(|blur| blur.count > 1) else { return };
        for channels in [1, 2, 4] {
            self.steps.push(Step { channels, ..Step::of(Kind::Spare) });
            self.steps.push(Step { channels, ..blur });
        }
    }

    /// A blur of the spare plane, unless there is nothing to blur.
    fn blur_step(&mut self, rect: Rect, op: Blur) -> Option<Step> {
        if rect.is_empty() {
            return None;
        }
        let mut taps = vec![];
        gaussian(op.kernel, op.sigma, &mut taps);
        let count = taps.len() as u32;
        self.need(Memory::blur(self.size, rect, count));
        let data = self.weights(&taps);
        Some(Step { data, count, rect, ..Step::of(Kind::Blur) })
    }

    fn grey_blur(&mut self, op: &GreyBlur) {
        self.steps.push(Step::of(Kind::Luma));
        self.need(Memory::spare(self.size));
        let first = self.steps.len();
        for region in &op.regions {
            let step = self.blur_step(region.rect.clipped(self.size), region.blur());
            self.steps.extend(step.map(|blur| Step { channels: 7, ..blur }));
        }
        let blurs = self.steps[first..].iter().map(|blur| (blur.rect, blur.count));
        let all = Memory::blurs(self.size, blurs);
        self.need(all);
    }

    fn fill(&mut self, op: &Fill) {
        let (step, length) = match &op.paint {
            Paint::Colour([red, green, blue]) => {
                let number = u32::from_le_bytes([*red, *green, *blue, 0]);
                (Step { number, ..Step::of(Kind::Fill) }, 1)
            }
            Paint::Noise(bytes) if bytes.is_empty() => return,
            Paint::Noise(bytes) => {
                let (data, count) = (self.bytes(bytes), bytes.len() as u32);
                (Step { data, count, ..Step::of(Kind::FillNoise) }, bytes.len() as u64)
            }
        };
        let mut start = 0;
        for rect in &op.rects {
            let rect = rect.clipped(self.size);
            if rect.is_empty() {
                continue;
            }
            let number = if step.kind == Kind::Fill { step.number } else { start as u32 };
            self.steps.push(Step { rect, number, ..step });
            start = (start + 3 * rect.size().area()) % length;
        }
    }

    fn corrupt(&mut self, op: &Corrupt) {
        match op {
            Corrupt::Blur { rect, sigma } => self.blur(*rect, Blur::of_sigma(*sigma)),
            Corrupt::Noise { rect, noise } => {
                let rect = rect.clipped(self.size);
                if !rect.is_empty() {
                    let (data, count) = (self.halves(noise), noise.len() as u32);
                    self.steps.push(Step { data, count, rect, ..Step::of(Kind::AddNoise) });
                }
            }
            Corrupt::Shuffle { rect, order } => {
                let (data, count) = (self.data.len() as u32, order.len() as u32);
                self.data.extend(order);
                let rect = rect.clipped(self.size);
                self.moves(Step { data, count, rect, ..Step::of(Kind::Shuffle) });
            }
            Corrupt::Swap { rect, with: (x, y) } => {
                let first = rect.clipped(self.size);
                let other = Rect { x: *x, y: *y, ..first }.clipped(self.size);
                let rect = Rect { x: first.x, y: first.y, ..other };
                self.moves(Step { rect, other, ..Step::of(Kind::Swap) });
            }
        }
    }

    fn tiles(&mut self, op: &Tiles) {
        let side = op.side.max(1);
        let (width, height) = (self.size.width / side * side, self.size.height / side * side);
        let (data, count) = (self.bytes(&op.order), op.order.len() as u32);
        let rect = Rect { x: 0, y: 0, width, height };
        self.moves(Step { data, count, rect, number: side, ..Step::of(Kind::Tiles) });
    }

    /// A step that moves pixels, for each channel from a copy of it.
    fn moves(&mut self, step: Step) {
        if step.rect.is_empty() {
            return;
        }
        self.need(Memory::spare(self.size));
        for channels in [1, 2, 4] {
            self.steps.push(Step { channels, ..Step::of(Kind::Spare) });
            self.steps.push(Step { channels, ..step });
        }
    }

    /// Adds a blur's taps to the data, at a multiple of 16 bytes: doubled and in numbers of 16 bits for
    /// the first pass, in whole words with zeros around them for the second. Returns where.
    fn weights(&mut self, taps: &[i16]) -> u32 {
        self.align();
        let doubled = taps.iter().flat_map(|&tap| (2 * tap.unsigned_abs()).to_le_bytes());
        let data = self.bytes(&doubled.collect::<Vec<u8>>());
        let Reach { rows, before, length } = Reach::of(taps.len() as u32);
        self.data.resize(data as usize + rows / 2, 0);
        self.align();
        let end = self.data.len() + length;
        self.data.resize(self.data.len() + before, 0);
        self.data.extend(taps.iter().map(|&tap| u32::from(tap.unsigned_abs())));
        self.data.resize(end, 0);
        data
    }

    /// What is added to the data next begins at a multiple of 16 bytes.
    fn align(&mut self) {
        self.data.resize(self.data.len().next_multiple_of(4), 0);
    }

    /// Adds bytes to the data, filled up with zeros; returns where.
    fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let at = self.data.len() as u32;
        self.data.extend(bytes.chunks(4).map(|four| {
            let mut word = [0; 4];
            word[..four.len()].copy_from_slice(four);
            u32::from_le_bytes(word)
        }));
        at
    }

    /// The same with numbers of 16 bits.
    fn halves(&mut self, numbers: &[i16]) -> u32 {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.bytes(&bytes)
    }
}
