//! Pieces of a parameter, so that threads share large ones too.

use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefMutIterator as _, ParallelIterator as _,
};

use super::State;

/// Numbers that a thread takes at a time. Sums are over whole pieces, in order, so that they do not
/// depend on the number of threads.
const NUMBERS: usize = 1 << 16;

/// Some of a parameter's numbers, with what a rule remembers of them: as long, or empty.
pub(super) struct Piece<'a> {
    pub(super) weights: &'a mut [f32],
    pub(super) gradient: &'a [f32],
    pub(super) first: &'a mut [f32],
    pub(super) second: &'a mut [f32],
    pub(super) slow: &'a mut [f32],
}

/// A parameter in pieces.
pub(super) fn pieces<'a>(
    weights: &'a mut [f32],
    gradient: &'a [f32],
    state: &'a mut State,
) -> Vec<Piece<'a>> {
    let (mut first, mut second, mut slow) =
        (&mut *state.first, &mut *state.second, &mut *state.slow);
    let parts = weights.chunks_mut(NUMBERS).zip(gradient.chunks(NUMBERS));
    parts
        .map(|(weights, gradient)| Piece {
            weights,
            gradient,
            first: take(&mut first),
            second: take(&mut second),
            slow: take(&mut slow),
        })
        .collect()
}

/// The next numbers, if there are any.
fn take<'a>(values: &mut &'a mut [f32]) -> &'a mut [f32] {
    let count = NUMBERS.min(values.len());
    let (head, tail) = std::mem::take(values).split_at_mut(count);
    *values = tail;
    head
}

/// Calls `f` with each piece; the sums of what it returns.
pub(super) fn sum(
    pieces: &mut [Piece<'_>],
    f: impl Fn(&mut Piece<'_>) -> (f64, f64) + Sync + Send,
) -> (f64, f64) {
    let mut parts = Vec::new();
    pieces.par_iter_mut().map(f).collect_into_vec(&mut parts);
    parts.into_iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

/// Calls `f` with each piece.
pub(super) fn each(pieces: &mut [Piece<'_>], f: impl Fn(&mut Piece<'_>) + Sync + Send) {
    pieces.par_iter_mut().for_each(f);
}
