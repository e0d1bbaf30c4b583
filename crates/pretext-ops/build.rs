//! Compiles the kernels for the feature `cuda`; without it there is nothing to do.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    pretext_kernels::ptx("ops");
}
