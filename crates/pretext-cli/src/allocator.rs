//! The allocator: mimalloc, told to keep what is freed.
//!
//! Large tensors come and go with each step. The system's allocator gives their memory back and pays
//! for each page anew, and so does mimalloc after a while, which a step of a U-Net outlasts: clearing
//! pages was a quarter of its time.

use std::ffi::c_int;

use libmimalloc_sys::mi_option_set_default;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3, which its bindings leave out: milliseconds after which freed
/// memory goes back to the system, -1 for never.
pub(crate) const PURGE_DELAY: c_int = 15;

/// Keeps freed memory for the next tensors, unless `MIMALLOC_PURGE_DELAY` in the environment says
/// otherwise. Call it before there are threads.
pub(crate) fn keep_memory() {
    // SAFETY: the number is one of an option, as the test checks, and no other thread sets options.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) };
}
