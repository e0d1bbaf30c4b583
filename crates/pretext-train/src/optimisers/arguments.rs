//! What the optimisers' kernels get: the same memory as `Arguments` in `kernels/optimisers.cuh`.

/// Parameters of one launch; the addresses of more do not fit into a launch's 4 KB.
pub(super) const TENSORS: usize = 224;
/// Layer groups that have a learning rate of their own.
pub(super) const GROUPS: usize = 16;
/// Numbers of a block.
pub(super) const CHUNK: usize = 4096;
/// Words of 4 bytes in `Constants`, for each parameter.
pub(super) const CONSTANTS: usize = 8;
/// Numbers in `Slot`, for each parameter.
pub(super) const SLOT: usize = 6;

/// Addresses and numbers of one launch; see `kernels/optimisers.cuh`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Arguments {
    pub(super) weights: [u64; TENSORS],
    pub(super) gradients: [u64; TENSORS],
    pub(super) rates: [f64; GROUPS],
    pub(super) weight_decay: f64,
    pub(super) momentum: f64,
    pub(super) squared_momentum: f64,
    pub(super) eps: f64,
    pub(super) pull: f64,
    pub(super) trust: f64,
    pub(super) most: f64,
    pub(super) clip: f64,
    pub(super) slots: u64,
    pub(super) owners: u64,
    pub(super) first: u64,
    pub(super) second: u64,
    pub(super) slow: u64,
    pub(super) constants: u64,
    pub(super) sums: u64,
    pub(super) total: u64,
    pub(super) loss_scale: u64,
    pub(super) finite: u64,
    pub(super) taken: u64,
    pub(super) rule: u32,
    pub(super) every: u32,
    pub(super) slot: u32,
    pub(super) chunk: u32,
    pub(super) count: u32,
    pub(super) turn: u32,
}

impl Arguments {
    /// The same for a launch over so many slots or chunks.
    pub(super) fn of(mut self, count: usize) -> Self {
        self.count = count as u32;
        self
    }

    /// Zeros, which is no address and no number.
    pub(super) fn none() -> Self {
        Self {
            weights: [0; TENSORS],
            gradients: [0; TENSORS],
            rates: [0.0; GROUPS],
            weight_decay: 0.0,
            momentum: 0.0,
            squared_momentum: 0.0,
            eps: 0.0,
            pull: 0.0,
            trust: 0.0,
            most: 0.0,
            clip: 0.0,
            slots: 0,
            owners: 0,
            first: 0,
            second: 0,
            slow: 0,
            constants: 0,
            sums: 0,
            total: 0,
            loss_scale: 0,
            finite: 0,
            taken: 0,
            rule: 0,
            every: 0,
            slot: 0,
            chunk: 0,
            count: 0,
            turn: 0,
        }
    }
}
