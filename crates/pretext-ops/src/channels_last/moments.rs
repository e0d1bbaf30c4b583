//! Mean and variance of a convolution's channels, added up while the sums are still in registers.
//!
//! Each job adds up differences from the mean of the first rows that it writes, and their squares:
//! that is near enough to the mean of all that little cancels. Rows are summed by themselves before
//! they are added. Jobs are joined in `f64`, in order (Chan et al., "Updating Formulae and a
//! Pairwise Algorithm for Computing Sample Variances", 1979).

use pulp::Simd;

use super::element::Element as _;

/// What one job has added up of some columns.
pub(super) struct Part {
    /// Its first column.
    first: usize,
    length: usize,
    /// Rows that are added.
    count: usize,
    /// What is subtracted, the sum, and the sum of squares, for each `LANES` columns.
    columns: Vec<[f32; LANES]>,
}

/// Numbers of the widest vector; each of a column's three numbers is kept in such a block.
const LANES: usize = 16;

impl Part {
    /// For `columns` columns from `first` on, of which `count` rows will be added.
    pub(super) fn new(first: usize, columns: usize, count: usize) -> Self {
        let blocks = columns.div_ceil(LANES);
        Self { first, length: columns, count, columns: vec![[0.0; LANES]; 3 * blocks] }
    }

    /// So many more rows will be added.
    pub(super) fn expect(&mut self, rows: usize) {
        self.count += rows;
    }

    /// Adds rows of a vector's columns, from a column of the part on; before any others if `fresh`.
    #[inline(always)]
    pub(super) fn add<S: Simd>(
        &mut self,
        simd: S,
        column: usize,
        fresh: bool,
        rows: impl Iterator<Item = S::f32s> + Clone,
    ) {
        let zero = simd.splat_f32s(0.0);
        let lanes = column % LANES..column % LANES + S::F32_LANES;
        let [shift, sum, squares] = self.block(column / LANES);
        let (shift, sum, squares) =
            (&mut shift[lanes.clone()], &mut sum[lanes.clone()], &mut squares[lanes]);
        if fresh {
            let count = rows.clone().count().max(1);
            let total = rows.clone().fold(zero, |total, row| simd.add_f32s(total, row));
            f32::save(simd, shift, simd.mul_f32s(total, simd.splat_f32s(1.0 / count as f32)));
        }
        let from = f32::load(simd, shift);
        let (mut total, mut total_squares) = (zero, zero);
        for row in rows {
            let away = simd.sub_f32s(row, from);
            total = simd.add_f32s(total, away);
            total_squares = simd.mul_add_e_f32s(away, away, total_squares);
        }
        total = simd.add_f32s(f32::load(simd, sum), total);
        f32::save(simd, sum, total);
        total_squares = simd.add_f32s(f32::load(simd, squares), total_squares);
        f32::save(simd, squares, total_squares);
    }

    #[inline(always)]
    fn block(&mut self, block: usize) -> &mut [[f32; LANES]; 3] {
        let (blocks, _) = self.columns.as_chunks_mut::<3>();
        &mut blocks[block]
    }

    /// Mean and sum of squares about it of column `i`.
    fn moments(&self, i: usize) -> (f64, f64) {
        let (blocks, _) = self.columns.as_chunks::<3>();
        let [shift, sum, squares] = blocks[i / LANES].map(|numbers| f64::from(numbers[i % LANES]));
        let mean = sum / self.count as f64;
        (shift + mean, (squares - sum * mean).max(0.0))
    }
}

/// Mean and biased variance of each of `channels`, which the parts cover evenly.
pub(super) fn join(parts: &[Part], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut mean, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    let mut counts = vec![0.0; channels];
    for part in parts {
        let count = part.count as f64;
        for i in 0..part.length {
            let c = part.first + i;
            let (part_mean, part_squares) = part.moments(i);
            let (away, joint) = (part_mean - mean[c], counts[c] + count);
            mean[c] += away * count / joint;
            squares[c] += part_squares + away * away * counts[c] * count / joint;
            counts[c] = joint;
        }
    }
    let variance = squares.iter().zip(&counts).map(|(squares, count)| squares / count);
    (mean, variance.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    struct Add<'a>(&'a mut Part, &'a [[f32; 32]]);

    impl pulp::WithSimd for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (i, row) in self.1.iter().enumerate() {
                for column in (0..self.0.length.next_multiple_of(16)).step_by(S::F32_LANES) {
                    let vector = f32::load(simd, &row[column..]);
                    self.0.add(simd, column, i == 0, std::iter::once(vector));
                }
            }
        }
    }

    #[test]
    fn joined_parts_have_the_moments_of_all_rows() {
        let number = |i: usize, c: usize| match c {
            0 => 7.25, // Nothing varies.
            _ => 1000.0 + (i * (c + 3) % 101) as f32 / 101.0,
        };
        let rows: Vec<[f32; 32]> =
            (0..300).map(|i| std::array::from_fn(|c| number(i, c))).collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let mut parts = Vec::new();
            for rows in rows.chunks(77) {
                let mut part = Part::new(0, 32, rows.len());
                isa.run(Add(&mut part, rows));
                parts.push(part);
            }
            // Eight channels more, of a part that ends within a vector's width.
            let mut part = Part::new(32, 8, 2);
            isa.run(Add(&mut part, &[[1.0; 32], [3.0; 32]]));
            parts.push(part);
            let (mean, variance) = join(&parts, 40);
            assert_eq!((mean[0], variance[0]), (7.25, 0.0));
            assert_eq!((&mean[32..], &variance[32..]), (&[2.0; 8][..], &[1.0; 8][..]));
            for c in 0..32 {
                let values = || rows.iter().map(|row| f64::from(row[c]));
                let m = values().sum::<f64>() / 300.0;
                let v = values().map(|x| (x - m).powi(2)).sum::<f64>() / 300.0;
                assert!((mean[c] - m).abs() < 1e-5, "{} {m}", mean[c]);
                assert!((variance[c] - v).abs() <= 1e-5 * v, "{} {v}", variance[c]);
            }
        }
    }
}
