//! The puzzle of the jigsaw task.

use rand::Rng;

use crate::ops::Tiles;
use crate::transform::whole;
use crate::{Error, Op, Plan, Size, Transform};

/// Lays an image's tiles in one of a fixed set of orders; the label is the order's place in the
/// set (Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw
/// Puzzles", 2016).
///
#[cfg_attr(doc, doc = include_str!("../../docs/Jigsaw.md"))]
///
/// The set begins with the order that nothing was done by and goes on greedily with the order that
/// is farthest (in places that differ) from all before, the first in lexical order among equals. It
/// depends on `tiles` and `permutations` alone.
///
/// ```
/// use pretext_augment::{Jigsaw, Size};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let jigsaw = Jigsaw::new(3, 30)?;
/// let mut rng = StdRng::seed_from_u64(1);
/// let (_plan, label) = jigsaw.sample_labelled(Size::square(96), &mut rng);
/// assert!(label < 30);
/// # Ok::<(), pretext_augment::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jigsaw {
    side: u32,
    orders: Vec<Vec<u8>>,
}

/// The most orders of 3 x 3 tiles: finding farther ones takes long and labels get rare.
const MOST: usize = 1000;

impl Default for Jigsaw {
    /// 3 x 3 tiles in 30 orders.
    fn default() -> Self {
        Self { side: 3, orders: farthest(9, 30) }
    }
}

impl Jigsaw {
    /// A jigsaw of `tiles` by `tiles` tiles, 2 or 3, laid in so many orders: 2 to 24 for 2 x 2
    /// tiles, 2 to 1000 for 3 x 3.
    ///
    /// # Errors
    /// If there is no such jigsaw.
    pub fn new(tiles: u32, permutations: usize) -> Result<Self, Error> {
        let refuse = |remedy| Err(Error::Jigsaw { tiles, permutations, remedy });
        let most = match tiles {
            2 => 24,
            3 => MOST,
            _ => return refuse("give 2 or 3 tiles a side"),
        };
        match permutations {
            2.. if permutations <= most => {
                Ok(Self { side: tiles, orders: farthest((tiles * tiles) as u8, permutations) })
            }
            _ if tiles == 2 => refuse("give 2 to 24"),
            _ => refuse("give 2 to 1000"),
        }
    }

    /// How many labels there are.
    pub fn classes(&self) -> usize {
        self.orders.len()
    }

    /// The orders, by label: `order[place]` is the tile that comes to lie there.
    pub fn orders(&self) -> &[Vec<u8>] {
        &self.orders
    }

    /// Decides in which order the tiles are laid.
    pub fn sample_labelled(&self, _: Size, rng: &mut dyn Rng) -> (Plan, u32) {
        let label = whole(0, self.orders.len() as u32 - 1, rng);
        let order = self.orders[label as usize].clone();
        (Op::Tiles(Tiles { side: self.side, order }).into(), label)
    }
}

impl Transform for Jigsaw {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        self.sample_labelled(size, rng).0
    }
}

/// Orders of `n` tiles, each the farthest from all before it.
fn farthest(n: u8, count: usize) -> Vec<Vec<u8>> {
    let all = permutations(n);
    let packed: Vec<u64> = all.iter().map(|order| packed(order)).collect();
    let mut chosen = vec![all[0].clone()];
    let mut nearest: Vec<u32> = packed.iter().map(|&order| apart(order, packed[0])).collect();
    while chosen.len() < count.min(all.len()) {
        let most = nearest.iter().max().copied().unwrap_or(0);
        let next = nearest.iter().position(|&distance| distance == most).unwrap_or(0);
        for (nearest, &order) in nearest.iter_mut().zip(&packed) {
            *nearest = (*nearest).min(apart(order, packed[next]));
        }
        chosen.push(all[next].clone());
    }
    chosen
}

/// An order of at most 16 tiles, four bits each: comparing places one by one would take seconds.
fn packed(order: &[u8]) -> u64 {
    order.iter().fold(0, |packed, &tile| packed << 4 | u64::from(tile))
}

/// In how many places two packed orders differ.
fn apart(a: u64, b: u64) -> u32 {
    let bits = a ^ b;
    let pairs = bits | bits >> 1;
    ((pairs | pairs >> 2) & 0x1111_1111_1111_1111).count_ones()
}

/// All orders of `n` things, in lexical order.
fn permutations(n: u8) -> Vec<Vec<u8>> {
    let mut order: Vec<u8> = (0..n).collect();
    let mut all = vec![order.clone()];
    // The next in lexical order: lengthen the falling tail by one, then turn it round.
    while let Some(i) = order.windows(2).rposition(|pair| pair[0] < pair[1]) {
        if let Some(j) = order.iter().rposition(|&value| value > order[i]) {
            order.swap(i, j);
        }
        order[i + 1..].reverse();
        all.push(order.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Image;

    #[test]
    fn orders_are_distinct_permutations() {
        for (tiles, count) in [(2, 24), (3, 30), (3, 100)] {
            let jigsaw = Jigsaw::new(tiles, count).unwrap();
            let distinct: BTreeSet<_> = jigsaw.orders().iter().collect();
            assert_eq!((jigsaw.classes(), distinct.len()), (count, count));
            for order in jigsaw.orders() {
                let tiles: BTreeSet<_> = order.iter().copied().collect();
                assert_eq!(tiles.len(), order.len());
            }
        }
    }

    #[test]
    fn the_first_nine_of_nine_tiles_differ_everywhere() {
        let jigsaw = Jigsaw::new(3, 9).unwrap();
        for (i, a) in jigsaw.orders().iter().enumerate() {
            for b in &jigsaw.orders()[..i] {
                assert!(a.iter().zip(b).all(|(a, b)| a != b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn labels_keep_their_meaning() {
        // A saved network is worth nothing if these change.
        let orders = |tiles, count| Jigsaw::new(tiles, count).unwrap().orders().to_vec();
        assert_eq!(orders(3, 30)[29], [0, 4, 5, 3, 6, 8, 1, 2, 7]);
        assert_eq!(orders(2, 3), [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1]]);
    }

    #[test]
    fn packed_orders_differ_where_the_orders_do() {
        let all = permutations(5);
        for a in &all {
            let plain = a.iter().zip(&all[77]).filter(|(a, b)| a != b).count();
            assert_eq!(apart(packed(a), packed(&all[77])) as usize, plain, "{a:?}");
        }
    }

    #[test]
    fn the_inverse_undoes_every_order() {
        let size = Size { width: 20, height: 17 };
        let image = Image::new(size, (0..1020).map(|i| (i * 7 % 256) as u8).collect()).unwrap();
        for order in Jigsaw::new(3, 50).unwrap().orders() {
            let tiles = Tiles { side: 3, order: order.clone() };
            assert_eq!(tiles.inverse().apply(tiles.apply(image.clone())), image);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (tiles, count) in [(1, 2), (4, 2), (2, 25), (3, 1), (3, 1001)] {
            assert!(Jigsaw::new(tiles, count).is_err(), "{tiles} {count}");
        }
    }
}
