//! Where a block's memory lies, and how many blocks a multiprocessor holds by that.

use crate::program::Memory;

/// Threads of a multiprocessor. The kernels are compiled for no more: with these, they hardly spill.
const THREADS: u32 = 768;
/// Bytes of shared memory that a block has besides what it asks for: the kernels' own, and the driver's.
const KEPT: u64 = 3 * 256 * 4 + 64 + DRIVERS;
/// The driver's.
const DRIVERS: u64 = 1024;
/// More scratch memory than this brings nothing.
const ROOM: u64 = 1 << 20;
/// Less than this part of the scratch memory that helps costs more than another block brings.
const FEW: u64 = 16;
/// Parts of a block's memory begin at multiples of this.
const PART: u64 = 16;
/// Programs that take more than this are read where they lie.
const PROGRAM: u64 = 1 << 13;
/// What threads write a view by, in order: 48 bytes each.
const STAGE: u64 = 48 * THREADS as u64 / 2;

/// Where a block's memory lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kernel: &'static str,
    /// Bytes of shared memory.
    pub(super) shared: u64,
    /// Bytes of the GPU's own memory.
    pub(super) global: u64,
    /// Bytes for a copy of a view's program, of those in shared memory.
    pub(super) program: u64,
    /// Bytes for scratch, in either.
    pub(super) scratch: u64,
    /// Blocks that a multiprocessor holds at a time: while one waits, another one works.
    pub(super) blocks: u64,
}

impl Place {
    /// As near as it fits, and several to a multiprocessor; `most` is what a block can have of shared
    /// memory.
    pub(super) fn choose(memory: Memory, most: u64) -> Self {
        let Memory { canvas, scratch, roomy, spill, program } = memory;
        let program = if program <= PROGRAM { program } else { 0 };
        let roomy = roomy.max(STAGE).min(scratch.max(ROOM));
        let kept = KEPT + program;
        let share = |blocks: u64| ((most + DRIVERS) / blocks).saturating_sub(kept) / PART * PART;
        let all_shared = |blocks, least: u64| {
            let room = share(blocks).checked_sub(canvas).filter(|&room| room >= least)?;
            let scratch = roomy.min(room);
            let (kernel, shared) = ("augment_shared", program + canvas + scratch);
            Some(Self { kernel, shared, global: spill, program, scratch, blocks })
        };
        let canvas_shared = |blocks| {
            let (kernel, global) = ("augment_canvas_shared", roomy + spill);
            let shared = program + canvas;
            let place = Self { kernel, shared, global, program, scratch: roomy, blocks };
            (canvas <= share(blocks)).then_some(place)
        };
        let helpful = scratch.max(roomy / FEW);
        all_shared(3, helpful)
            .or_else(|| all_shared(2, helpful))
            .or_else(|| canvas_shared(2))
            .or_else(|| all_shared(1, scratch))
            .or_else(|| canvas_shared(1))
            .unwrap_or(Self {
                kernel: "augment_global",
                shared: program,
                global: canvas + roomy + spill,
                program,
                scratch: roomy,
                blocks: 2,
            })
    }

    /// Threads of a block.
    pub(super) fn threads(&self) -> u32 {
        THREADS / (self.blocks as u32).max(2)
    }
}

/// Whether the kernels, which count a block's bytes in 32 bits, can work in so much memory.
pub(super) fn fits(memory: Memory) -> bool {
    let Memory { canvas, scratch, spill, .. } = memory;
    [canvas, scratch, spill].iter().all(|&bytes| bytes <= u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(canvas: u64, scratch: u64, roomy: u64) -> Memory {
        Memory { canvas, scratch, roomy, spill: 160, program: 2048 }
    }

    #[test]
    fn memory_lies_as_near_as_it_fits() {
        let most = 100 * 1024;
        let place = |memory| {
            let Place { kernel, blocks, .. } = Place::choose(memory, most);
            (kernel, blocks)
        };
        assert_eq!(place(memory(0, 4096, 400_000)), ("augment_shared", 3));
        assert_eq!(place(memory(20_000, 16, 4096)), ("augment_shared", 3));
        assert_eq!(place(memory(40_000, 16, 4096)), ("augment_shared", 2));
        assert_eq!(place(memory(40_000, 40_000, 60_000)), ("augment_canvas_shared", 2));
        assert_eq!(place(memory(49_152, 16, 4096)), ("augment_shared", 1));
        assert_eq!(place(memory(49_152, 60_000, 60_000)), ("augment_canvas_shared", 1));
        assert_eq!(place(memory(200_000, 16, 16)), ("augment_global", 2));
        for (canvas, scratch, roomy) in
            [(0, 0, 0), (49_152, 16, 400_000), (90_000, 4_000, 9_000), (1 << 33, 16, 1 << 20)]
        {
            let place = Place::choose(memory(canvas, scratch, roomy), most);
            assert!(place.shared <= most && place.scratch >= scratch && place.scratch <= roomy);
            assert!(place.shared + place.global >= canvas + scratch + 160, "{place:?}");
        }
    }

    #[test]
    fn so_many_blocks_fit_on_a_multiprocessor() {
        // Of compute capability 7.5, 8.0, 8.6, 9.0: what a block and what all of them can have.
        for (most, all) in [(64, 64), (163, 164), (99, 100), (227, 228)] {
            for canvas in (0..120_000).step_by(1000) {
                for roomy in [100, 10_000, 300_000] {
                    let Place { shared, blocks, .. } =
                        Place::choose(memory(canvas, 100, roomy), most * 1024);
                    let used = blocks * (shared + KEPT);
                    assert!(shared == 0 || used <= (all + 1) * 1024, "{used} of {all} KiB");
                    assert!(shared + KEPT - DRIVERS <= most * 1024, "{shared} of {most} KiB");
                }
            }
        }
    }

    #[test]
    fn what_32_bits_cannot_count_is_refused() {
        let memory = Memory { canvas: 3 << 30, scratch: 1 << 30, ..Memory::default() };
        assert!(fits(memory));
        assert!(!fits(Memory { canvas: 1 << 32, ..memory }));
        assert!(!fits(Memory { scratch: 1 << 32, ..memory }));
        assert!(!fits(Memory { spill: 1 << 33, ..memory }));
    }
}
