//! That mimalloc has the option which is set, under the number by which it is.

use std::process::Command;

use crate::allocator::{PURGE_DELAY, keep_memory};

fn delay() -> std::ffi::c_long {
    // SAFETY: it reads a number.
    unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
}

#[test]
fn memory_is_kept_unless_the_environment_says_otherwise() {
    let variable = "MIMALLOC_PURGE_DELAY";
    keep_memory();
    if let Some(told) = std::env::var_os(variable) {
        assert_eq!(delay().to_string(), told.to_string_lossy());
        return;
    }
    assert_eq!(delay(), -1);
    let this = "allocator_test::memory_is_kept_unless_the_environment_says_otherwise";
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", this]).env(variable, "4321").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}
