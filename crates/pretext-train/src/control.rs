//! What a caller says about a run that does not decide its result, and what it hears.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::device::Device;
use crate::ranks::Ranks;
use crate::record::{Epoch, Record};

/// How to run: nothing here changes a result, but for the rounding of a device and the rounding and
/// the batch normalisation of several processes.
pub struct Control<'a> {
    /// Where to compute.
    pub device: Device,
    /// Threads to compute and to load with; at least 1.
    pub threads: usize,
    /// Whether a damaged picture ends the run instead of being left out.
    pub strict: bool,
    /// Whether to go on from the out folder's checkpoint, if there is one.
    pub resume: bool,
    /// Whether to wait while another process works on the out folder, instead of giving up.
    pub wait: bool,
    /// The job of a cluster's scheduler that this is, for the folder's lease.
    pub job: Option<String>,
    /// Set from outside to stop after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
    /// The longest time between two checkpoints; there is always one after an epoch.
    pub checkpoint_every: Duration,
    /// The processes that share the run, and which of them this is.
    pub ranks: &'a Ranks,
    /// Hears of everything that happens; but for damaged pictures, in process 0 alone.
    pub report: &'a mut (dyn FnMut(Event<'_>) + Send),
}

impl Control<'_> {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Calls `work` with the same, of which `hear` hears first; it passes on what it wants to. The lease
    /// has taken the job.
    pub(crate) fn heard<R>(
        &mut self,
        mut hear: impl FnMut(Event<'_>, &mut dyn FnMut(Event<'_>)) + Send,
        work: impl FnOnce(&mut Control<'_>) -> R,
    ) -> R {
        let report = &mut *self.report;
        let mut report = |event: Event<'_>| hear(event, report);
        work(&mut Control { device: self.device.clone(), job: None, report: &mut report, ..*self })
    }
}

/// Something that happened in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run is about to take its first step of this sitting.
    Begin {
        /// The recipe as one line.
        recipe: &'a str,
        /// Epochs in all.
        epochs: u32,
        /// Steps in each.
        steps: usize,
        /// Pictures to train on.
        pictures: usize,
        /// Trained numbers in the network.
        parameters: usize,
    },
    /// The run goes on from a checkpoint.
    Resume {
        /// The epoch it goes on in, from 1.
        epoch: u32,
        /// Steps of that epoch that are done.
        step: usize,
    },
    /// Decoded pictures lie in the GPU's memory, and views of them are made there.
    Resident {
        /// Which they are, in a few words.
        which: &'a str,
        /// How many.
        pictures: usize,
        /// What they take.
        bytes: usize,
    },
    /// They do not fit there: batch by batch they are decoded on the processor and go to the GPU while
    /// it computes, and views are made there.
    Streamed {
        /// Which they are, in a few words.
        which: &'a str,
        /// What they would take, about.
        bytes: usize,
        /// What they might have: half of the memory that was free, less what others have of that.
        room: usize,
    },
    /// There is a GPU, and it was not insisted on: this is computed on the processor all the same.
    Processor {
        /// Why, in a few words.
        why: &'a str,
    },
    /// A step was taken.
    Step {
        /// The epoch, from 1.
        epoch: u32,
        /// The step in the epoch, from 1.
        step: usize,
        /// The mean loss of the epoch so far.
        loss: f64,
        /// Pictures a second, in this epoch.
        images_per_second: f64,
        /// The share of time spent waiting for data, `0..=1`, in this epoch.
        data_wait: f64,
    },
    /// An epoch ended.
    Epoch(&'a Epoch),
    /// A damaged picture was left out.
    Damaged {
        /// The file.
        name: &'a str,
        /// What is wrong with it.
        reason: &'a str,
    },
    /// A checkpoint was written.
    Checkpoint(&'a Path),
    /// Another process works on the out folder, or did until it fell silent.
    Waiting {
        /// The folder.
        path: &'a Path,
        /// Who it is, in words.
        who: &'a str,
    },
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is finished; this is its record.
    Finished(Box<Record>),
    /// It was finished before and nothing was done.
    WasFinished(Box<Record>),
    /// It is finished; process 0 has the record.
    FinishedByFirst,
    /// It was stopped and can be resumed.
    Stopped,
}
