//! Kernels for a GPU, by nvcc: for build scripts.

#![allow(clippy::print_stdout, reason = "cargo listens there")]

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// PTX of the oldest supported compute capability, 7.5, which the driver compiles for any newer one.
/// `--fmad=false`: the plain definitions have no fused multiply-adds, and the memory, not the
/// arithmetic, is what such kernels wait for.
const FLAGS: [&str; 6] =
    ["--ptx", "-arch=compute_75", "-O3", "-std=c++17", "--fmad=false", "-Werror=all-warnings"];

/// Compiles `kernels/NAME.cu` of the package whose build script calls it to `NAME.ptx` in `OUT_DIR`.
///
/// nvcc is `$NVCC`, that of `$CUDA_HOME` or `$CUDA_PATH`, or the one on the path. Where there is none, or
/// where it fails, this ends the build with one line that says so.
pub fn ptx(name: &str) {
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let Some(out) = std::env::var_os("OUT_DIR") else { fail("cargo sets no OUT_DIR") };
    let source = format!("kernels/{name}.cu");
    let mut nvcc = Command::new(nvcc());
    nvcc.args(FLAGS).arg(&source).arg("-o").arg(Path::new(&out).join(format!("{name}.ptx")));
    match nvcc.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("nvcc failed on {source}: {status}")),
        Err(error) => fail(&format!(
            "the feature cuda needs nvcc of CUDA 13.0 ({error}); where none is installed: \
             eval \"$(cargo xtask cuda-toolkit)\""
        )),
    }
}

fn nvcc() -> PathBuf {
    if let Some(nvcc) = std::env::var_os("NVCC") {
        return nvcc.into();
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let mut found = homes.map(|home| PathBuf::from(home).join("bin/nvcc"));
    found.find(|nvcc| nvcc.is_file()).unwrap_or_else(|| "nvcc".into())
}

fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    exit(1)
}
