//! Bytes on their way to a GPU, which computes meanwhile.
//!
//! They are written into pinned memory of the host's and copied from there by a queue of the GPU's
//! that does nothing else; its other queue computes. Marks in the queues say who waits for whom, and
//! the host waits for none of it but for its own pinned memory, when it comes round again. A
//! [`Link`] is a GPU by the feature `cuda`; in tests it is a model of one that does everything as
//! late as the marks allow, or earlier by chance.

mod bulk;
mod parcels;

#[cfg(test)]
mod model;

#[cfg_attr(not(feature = "cuda"), allow(unused_imports, reason = "tests alone use them then"))]
pub(crate) use self::{bulk::Bulk, parcels::Parcels};

/// A GPU's memory and its two queues: one computes and one copies, each in its order.
pub(crate) trait Link {
    type Error;
    /// Pinned memory of the host's: a copy from it makes nobody wait.
    type Host;
    /// Memory of the GPU's.
    type There;
    /// A place in a queue, behind all that was told to it so far.
    type Mark;

    /// Pinned memory of so many bytes.
    fn pinned(&self, bytes: usize) -> Result<Self::Host, Self::Error>;

    /// Memory of the GPU's that either queue may use; it holds whatever it held.
    fn memory(&self, bytes: usize) -> Result<Self::There, Self::Error>;

    /// Writes into pinned memory, at once.
    fn write(&self, host: &mut Self::Host, at: usize, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Tells the copying queue to copy the first bytes of pinned memory; the mark is behind that.
    fn copy(
        &self,
        host: &Self::Host,
        bytes: usize,
        there: &mut Self::There,
        at: usize,
    ) -> Result<Self::Mark, Self::Error>;

    /// A mark behind all that was told to the computing queue.
    fn computed(&self) -> Result<Self::Mark, Self::Error>;

    /// What is told to the copying queue from now on waits for a mark.
    fn copy_after(&self, mark: &Self::Mark) -> Result<(), Self::Error>;

    /// What is told to the computing queue from now on waits for a mark.
    fn compute_after(&self, mark: &Self::Mark) -> Result<(), Self::Error>;

    /// Waits for a mark.
    fn wait(&self, mark: &Self::Mark) -> Result<(), Self::Error>;
}
