//! Memory for results, which nobody clears before it is written.

/// A vector whose numbers are whatever the memory held: for results that are written in full.
/// Clearing them first would be another pass over memory.
///
/// # Safety
/// Every number must be written before it is read.
#[allow(clippy::uninit_vec, reason = "that is what it is for")]
pub(crate) unsafe fn unwritten<T: Copy>(length: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(length);
    // SAFETY: there is room for `length` numbers, which have no destructor, and which the caller
    // writes before reading.
    unsafe { values.set_len(length) };
    values
}
