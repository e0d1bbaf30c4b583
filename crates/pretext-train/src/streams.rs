//! Random streams that depend on what they are for, not on when they are drawn.

use rand::SeedableRng as _;
use rand::rngs::ChaCha8Rng;

/// What a random stream is for; two purposes never share a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The initial weights of a network.
    Weights = 1,
    /// The order of samples in an epoch.
    Shuffle = 2,
    /// The crop and flip that input and target share.
    Augment = 3,
    /// The puzzle that a pretext task makes of a picture.
    Pose = 4,
    /// The pairing of samples by mixup.
    Mix = 5,
    /// The choice of pictures to show.
    Show = 6,
    /// The puzzles that a pretext network is scored by.
    Validate = 7,
}

/// The random stream of one sample.
///
/// The four numbers are the cipher's 256-bit key, so equal keys give equal streams on any thread,
/// in any order, and after a resume.
///
/// ```
/// use pretext_train::streams::{Purpose, stream};
/// use rand::Rng as _;
///
/// let mut a = stream(0, 3, 17, Purpose::Augment);
/// let mut b = stream(0, 3, 17, Purpose::Augment);
/// let mut c = stream(0, 3, 18, Purpose::Augment);
/// let first = a.next_u64();
/// assert_eq!(first, b.next_u64());
/// assert_ne!(first, c.next_u64());
/// ```
pub fn stream(seed: u64, epoch: u64, sample: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, epoch, sample, purpose as u64]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// The order in which an epoch visits `count` samples: a permutation that depends on the seed and
/// the epoch alone.
///
/// ```
/// let mut order = pretext_train::streams::shuffled(5, 0, 1);
/// order.sort();
/// assert_eq!(order, [0, 1, 2, 3, 4]);
/// ```
pub fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    use rand::seq::SliceRandom as _;
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut stream(seed, epoch, 0, Purpose::Shuffle));
    order
}
