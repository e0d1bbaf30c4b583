//! The weight's gradient by AMX, whose pairs are of two pictures.
//!
//! A tile takes up to 32 pictures into one sum: at each output pixel, the input's numbers times the
//! output's gradient. For that the input is turned so that pictures lie side by side, and the
//! gradient is joined by pairs of pictures; each tap finds its pixels by moving the input.

use std::ops::Range;

use half::bf16;
use pulp::{Simd, WithSimd};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::Geometry;
use super::panels::{Order, unpack};
use super::transpose::transpose;
use super::view::View;
use crate::amx::{ROW, Step, Sums, TILE, Tiles, Walk};
use crate::buffer::unwritten;
use crate::channels_last::element::Element as _;
use crate::channels_last::shared::Shared;
use crate::isa::Isa;

/// Columns of a panel.
const WIDTH: usize = 2 * TILE;
/// Bytes of a block, which shall stay in the second cache.
const BLOCK: usize = 1 << 20;
/// Pieces of work that there should be at least, so that threads can share them.
const JOBS: usize = 16;

/// The gradient of the loss in the weight: `[O, C, K, L]`.
///
/// Where the weight is small, pieces of the batch are summed apart and then together; where it is
/// large, its parts are shared out.
pub(super) fn weight_gradient(isa: Isa, g: &Geometry, x: &[bf16], dy: &[bf16]) -> Vec<f32> {
    let view = &View::new(g, x);
    let (order, taps) = (view.order, &view.taps()[..]);
    let panels = order.columns.div_ceil(WIDTH);
    let size = panels * order.panel(WIDTH);
    let blocks = &Block::cut(view, panels);
    let packed: usize = blocks.iter().map(|block| block.bytes(view, panels)).sum();
    let pieces = if JOBS * size * size_of::<f32>() < packed { JOBS.min(blocks.len()) } else { 1 };
    // SAFETY: the first block of each piece writes the sums of the taps that meet the input; nobody
    // reads the others.
    let mut sums: Vec<Vec<f32>> = (0..pieces).map(|_| unsafe { unwritten(size) }).collect();
    if pieces > 1 {
        let jobs: Vec<_> = sums.iter_mut().enumerate().collect();
        let jobs: Vec<_> = jobs.into_iter().map(|(i, sums)| (i, Shared::new(sums))).collect();
        jobs.par_iter().for_each_init(Packed::default, |packed, (piece, sums)| {
            let own = piece * blocks.len() / pieces..(piece + 1) * blocks.len() / pieces;
            for (i, block) in blocks[own].iter().enumerate() {
                isa.run(Pack { view, dy, block, panels, packed });
                let part = (0..panels, 0..order.depth);
                isa.run(Product { view, taps, block, packed, part, sums: *sums, fresh: i == 0 });
            }
        });
    } else {
        let pack = |block: &Block| {
            let mut packed = Packed::default();
            isa.run(Pack { view, dy, block, panels, packed: &mut packed });
            packed
        };
        let all: Vec<Packed> = blocks.par_iter().map(pack).collect();
        let shared = Shared::new(&mut sums[0]);
        let parts: Vec<_> = (0..panels)
            .flat_map(|panel| (0..order.depth).step_by(WIDTH).map(move |first| (panel, first)))
            .collect();
        parts.par_iter().for_each(|&(panel, first)| {
            let channels = first..(first + WIDTH).min(order.depth);
            for (i, (block, packed)) in blocks.iter().zip(&all).enumerate() {
                let part = (panel..panel + 1, channels.clone());
                isa.run(Product { view, taps, block, packed, part, sums: shared, fresh: i == 0 });
            }
        });
    }
    unpack(&order, taps, WIDTH, &sums, g.o * g.c * g.kernel.0 * g.kernel.1)
}

/// Some pictures and some rows of the output, and the rows of the input that they see.
struct Block {
    pictures: Range<usize>,
    /// Pairs of pictures that a tile takes; the last ones may be of zeros.
    pairs: usize,
    output: Range<usize>,
    input: Range<usize>,
}

impl Block {
    fn cut(view: &View<'_, bf16>, panels: usize) -> Vec<Self> {
        let g = &view.g;
        let groups = g.n.div_ceil(2 * TILE).max(1);
        let pairs = g.n.div_ceil(groups).div_ceil(2).max(1);
        let row = (g.out.1 * panels * WIDTH + g.stride * g.w * g.c) * pairs * size_of::<u32>();
        let rows = (BLOCK / row.max(1)).clamp(1, g.out.0);
        let block = |group: usize, first: usize| {
            let output = first..(first + rows).min(g.out.0);
            let top = (output.start * g.stride).saturating_sub(g.padding).min(g.h);
            let bottom = ((output.end - 1) * g.stride + g.kernel.0).saturating_sub(g.padding);
            let pictures = group * 2 * pairs..((group + 1) * 2 * pairs).min(g.n);
            Self { pictures, pairs, output, input: top..bottom.clamp(top, g.h) }
        };
        (0..groups)
            .flat_map(|group| (0..g.out.0).step_by(rows).map(move |first| (group, first)))
            .map(|(group, first)| block(group, first))
            .collect()
    }

    /// Bytes of it when it is packed.
    fn bytes(&self, view: &View<'_, bf16>, panels: usize) -> usize {
        let (left, right) = self.groups(view, panels);
        (left + right) * size_of::<u32>()
    }

    fn groups(&self, view: &View<'_, bf16>, panels: usize) -> (usize, usize) {
        let left = self.input.len() * view.g.w * view.g.c + WIDTH;
        let right = panels * self.output.len() * view.g.out.1 * WIDTH;
        (left * self.pairs, right * self.pairs)
    }

    /// Where a tap's pixels lie in the packed block: a step for each row of the output.
    fn steps(&self, view: &View<'_, bf16>, packed: &Packed, tap: usize, steps: &mut Vec<Step>) {
        let (g, row) = (&view.g, self.pairs * size_of::<u32>());
        let (u, v) = (tap / g.kernel.1, tap % g.kernel.1);
        // Columns of the output whose input is none of the padding.
        let first = g.padding.saturating_sub(v).div_ceil(g.stride);
        let end = (g.w + g.padding).saturating_sub(v).div_ceil(g.stride).min(g.out.1);
        steps.clear();
        for y in self.output.clone() {
            let from = (y * g.stride + u).wrapping_sub(g.padding);
            if !self.input.contains(&from) || first >= end {
                continue;
            }
            let column = first * g.stride + v - g.padding;
            let left = ((from - self.input.start) * g.w + column) * g.c * self.pairs;
            let left = packed.left[left..].as_ptr().cast::<u8>();
            let right = ((y - self.output.start) * g.out.1 + first) * WIDTH * self.pairs;
            steps.push(Step {
                left: [left, left.wrapping_add(TILE * row)],
                stride: [row, row],
                right: packed.right[right..].as_ptr().cast(),
                depth: end - first,
            });
        }
    }
}

/// A block's numbers.
#[derive(Default)]
struct Packed {
    /// `[rows, W, C][pairs]` of the input, and some rows that may be read but do not count.
    left: Vec<u32>,
    /// `[panels][rows, W'][pairs][WIDTH]` of the output's gradient.
    right: Vec<u32>,
}

struct Pack<'a> {
    view: &'a View<'a, bf16>,
    dy: &'a [bf16],
    block: &'a Block,
    panels: usize,
    packed: &'a mut Packed,
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { view, dy, block, panels, packed } = self;
        let (g, pairs) = (&view.g, block.pairs);
        let (left, right) = block.groups(view, panels);
        packed.left.resize(left, 0);
        packed.right.resize(right, 0);
        let length = g.w * g.c;
        let rows = packed.left.chunks_exact_mut((length * pairs).max(1));
        for (y, to) in block.input.clone().zip(rows) {
            let row = |picture: usize| &view.x[(picture * g.h + y) * length..][..length];
            transpose(block.pictures.clone().map(row), to, pairs);
        }
        let (columns, pixels) = (view.order.columns, block.output.len() * g.out.1);
        let first = block.output.start * g.out.1;
        let pixel = |picture: usize, pixel: usize| {
            let at = picture * g.pixels() + first + pixel;
            block.pictures.contains(&picture).then(|| &dy[at * columns..][..columns])
        };
        for pair in 0..pairs {
            let picture = block.pictures.start + 2 * pair;
            for at in 0..pixels {
                let both = (pixel(picture, at), pixel(picture + 1, at));
                for panel in 0..panels {
                    let to = ((panel * pixels + at) * pairs + pair) * WIDTH;
                    let to = &mut packed.right[to..][..WIDTH];
                    let columns = panel * WIDTH..columns.min((panel + 1) * WIDTH);
                    let (to, rest) = to.split_at_mut(columns.len());
                    match both {
                        (Some(a), Some(b)) => bf16::join(to, &[&a[columns.clone()], &b[columns]]),
                        (Some(a), None) => bf16::join(to, &[&a[columns]]),
                        _ => to.fill(0),
                    }
                    rest.fill(0);
                }
            }
        }
    }
}

/// `sums[panel][tap][channel] += sum over pixels and pictures of left right`, for some panels and
/// channels.
struct Product<'a> {
    view: &'a View<'a, bf16>,
    taps: &'a [usize],
    block: &'a Block,
    packed: &'a Packed,
    part: (Range<usize>, Range<usize>),
    sums: Shared<'a, f32>,
    /// Whether nothing has been written to the sums yet.
    fresh: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { view, taps, block, packed, part: (panels, channels), sums, fresh } = self;
        let Order { depth, .. } = view.order;
        let tiles = Tiles::configure(block.pairs);
        let row = block.pairs * size_of::<u32>();
        let panel_bytes = block.output.len() * view.g.out.1 * block.pairs * ROW;
        let mut product = Sums([[0.0; WIDTH]; WIDTH]);
        let mut steps = Vec::with_capacity(block.output.len());
        for &tap in taps {
            block.steps(view, packed, tap, &mut steps);
            if steps.is_empty() && !fresh {
                continue;
            }
            for panel in panels.clone() {
                for first in channels.clone().step_by(WIDTH) {
                    let walk = Walk {
                        offset: [first * row, panel * panel_bytes],
                        advance: [view.g.stride * view.g.c * row, block.pairs * ROW],
                    };
                    // SAFETY: the steps lie in the packed block, which has rows behind its last.
                    unsafe { tiles.multiply(&steps, &walk, &mut product) };
                    let rows = WIDTH.min(channels.end - first);
                    let at = view.order.panel(WIDTH) * panel + (tap * depth + first) * WIDTH;
                    // SAFETY: no other job has these channels and this panel of this piece.
                    let to = unsafe { sums.part(at, rows * WIDTH) };
                    for (to, row) in to.chunks_exact_mut(WIDTH).zip(&product.0) {
                        if fresh {
                            to.copy_from_slice(row);
                        } else {
                            to.iter_mut().zip(row).for_each(|(to, sum)| *to += sum);
                        }
                    }
                }
            }
        }
    }
}
