//! The programs of many views in one buffer.

use super::numbers::Channel;
use super::{Memory, Program, Step, compile};
use crate::{Layout, Normalise, Plan, Size};

/// What numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F32 = 0,
    Bf16 = 1,
    F16 = 2,
}

/// Views of one size, of any pictures.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    views: Vec<[u32; 6]>,
    steps: Vec<Step>,
    /// For each step, where its program's data begins.
    starts: Vec<u32>,
    data: Vec<u32>,
    memory: Memory,
    size: Option<Size>,
}

/// Words before the views.
const HEAD: usize = 23;

impl Batch {
    /// Adds a view of a picture of this size that begins at a byte of the pictures.
    ///
    /// # Errors
    /// The view's size, if it is not that of the others.
    pub(crate) fn push(&mut self, picture: u64, size: Size, plan: &Plan) -> Result<(), Size> {
        let Program { steps, data, memory, size: out, .. } = compile(plan, size);
        if *self.size.get_or_insert(out) != out {
            return Err(out);
        }
        let [first, count] = [self.steps.len(), steps.len()].map(|number| number as u32);
        let (low, high) = (picture as u32, (picture >> 32) as u32);
        self.views.push([low, high, size.width, size.height, first, count]);
        self.starts.resize(self.starts.len() + steps.len(), self.data.len() as u32);
        self.steps.extend(steps);
        self.data.extend(data);
        self.memory = self.memory.most(memory);
        Ok(())
    }

    /// How many views there are.
    pub(crate) fn len(&self) -> usize {
        self.views.len()
    }

    /// The size of every view, if there is one.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size
    }

    /// What a block of threads needs for any of the views.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// All that the kernels read besides the pictures, for blocks with so much scratch memory; in
    /// words of 32 bits.
    pub(crate) fn words(
        &self,
        normalise: &Normalise,
        layout: Layout,
        number: Number,
        scratch: u32,
    ) -> Vec<u32> {
        let size = self.size.unwrap_or(Size { width: 0, height: 0 });
        let steps_at = HEAD + self.views.as_flattened().len();
        let data_at = (steps_at + super::step::WORDS * self.steps.len()).next_multiple_of(4);
        let channels_last = u32::from(layout == Layout::Hwc);
        let mut words = vec![self.len() as u32, steps_at as u32, data_at as u32];
        words.extend([size.width, size.height, number as u32, channels_last]);
        words.extend([self.memory.canvas as u32, scratch, self.memory.spill as u32]);
        let channels = Channel::all(normalise);
        let scaled = number == Number::Bf16 && channels.iter().all(Channel::is_scaled);
        words.push(u32::from(scaled));
        words.extend(channels.iter().flat_map(Channel::words));
        debug_assert_eq!(words.len(), HEAD);
        words.extend(self.views.as_flattened());
        for (step, &start) in self.steps.iter().zip(&self.starts) {
            words.extend(step.words(start));
        }
        words.resize(data_at, 0);
        words.extend(&self.data);
        words
    }
}
