//! Compiles a kernel for the processor and runs it.

#![allow(clippy::print_stdout, reason = "its answer is its output")]

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What a thread does, and a loop over threads.
const HOST: &str = r#"
#include <stdio.h>
static float twice(const float *x, int thread) { return 2 * x[thread]; }
int main() {
    const float x[] = {1, 2.5f, -3};
    for (int thread = 0; thread < 3; ++thread) printf("%g ", twice(x, thread));
}
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let package: PathBuf = std::env::temp_dir().join(format!("kernel-{}", std::process::id()));
    fs::create_dir_all(package.join("kernels"))?;
    fs::write(package.join("kernels/host.cpp"), HOST)?;
    if let Some(program) = pretext_kernels::on_the_processor(&package, &package.join("twice"), &[])
    {
        println!("{}", String::from_utf8(Command::new(program).output()?.stdout)?);
    }
    Ok(fs::remove_dir_all(package)?)
}
