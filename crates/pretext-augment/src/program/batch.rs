//! The programs of many views in one buffer.

use super::numbers::Channel;
use super::{Memory, Program, compile};
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
    views: Vec<[u32; VIEW]>,
    /// For each view its steps and behind them their data, from a multiple of 16 bytes on.
    programs: Vec<u32>,
    memory: Memory,
    size: Option<Size>,
}

/// Words before the views.
const HEAD: usize = 23;
/// Words of a view.
const VIEW: usize = 7;

/// What blocks of threads work with, of what a batch [needs](Batch::memory).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// Bytes for a copy of a view's program; with none it is read where it lies.
    pub(crate) program: u64,
    pub(crate) scratch: u64,
}

impl Batch {
    /// Adds a view of a picture of this size that begins at a byte of the pictures.
    ///
    /// # Errors
    /// The view's size, if it is not that of the others.
    pub(crate) fn push(&mut self, picture: u64, size: Size, plan: &Plan) -> Result<(), Size> {
        let program = compile(plan, size);
        let Program { steps, memory, size: out, .. } = &program;
        let out = *out;
        if *self.size.get_or_insert(out) != out {
            return Err(out);
        }
        let (low, high) = (picture as u32, (picture >> 32) as u32);
        let [begin, steps, words] =
            [self.programs.len(), steps.len(), program.len()].map(|number| number as u32);
        self.views.push([low, high, size.width, size.height, begin, steps, words]);
        self.memory = self.memory.most(*memory);
        program.write(&mut self.programs);
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

    /// All that the kernels read besides the pictures, in words of 32 bits.
    pub(crate) fn words(
        &self,
        normalise: &Normalise,
        layout: Layout,
        number: Number,
        Room { program, scratch }: Room,
    ) -> Vec<u32> {
        let size = self.size.unwrap_or(Size { width: 0, height: 0 });
        let programs_at = (HEAD + self.views.as_flattened().len()).next_multiple_of(4);
        let channels_last = u32::from(layout == Layout::Hwc);
        let mut words = Vec::with_capacity(programs_at + self.programs.len());
        words.extend([self.len() as u32, programs_at as u32, program as u32]);
        words.extend([size.width, size.height, number as u32, channels_last]);
        words.extend([self.memory.canvas as u32, scratch as u32, self.memory.spill as u32]);
        let channels = Channel::all(normalise);
        let scaled = number == Number::Bf16 && channels.iter().all(Channel::is_scaled);
        words.push(u32::from(scaled));
        words.extend(channels.iter().flat_map(Channel::words));
        debug_assert_eq!(words.len(), HEAD);
        words.extend(self.views.as_flattened());
        words.resize(programs_at, 0);
        words.extend(&self.programs);
        words
    }
}
