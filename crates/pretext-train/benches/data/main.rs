//! Pictures from files to tensors as often as it is told to, so that another process can time it
//! beside a peer's.
//!
//! Each line on stdin is a number of passes over a folder of pictures; each is answered by one line
//! of their seconds: `echo 5 | cargo bench -p pretext-train --bench data -- WORK FOLDER [THREADS]`.
//! WORK is one of [`work::ALL`]. `corpus SAMPLE FOLDER COUNT` makes a folder of photographs instead.

#![allow(clippy::print_stdout, reason = "its answers are its output")]

mod corpus;
mod work;

use std::io::BufRead as _;
use std::path::Path;
use std::time::Instant;

/// As in the `pretext` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut pass = match arguments[..] {
        [] => return Ok(()), // Started by `cargo bench` or `cargo test` for all benches.
        ["corpus", sample, folder, count] => {
            return corpus::make(Path::new(sample), Path::new(folder), count.parse()?);
        }
        [name, folder] => work::start(name, Path::new(folder), 1)?,
        [name, folder, threads] => work::start(name, Path::new(folder), threads.parse()?)?,
        _ => return Err("give WORK FOLDER [THREADS], or corpus SAMPLE FOLDER COUNT".into()),
    };
    for line in std::io::stdin().lock().lines() {
        let passes: usize = line?.trim().parse()?;
        let mut seconds = Vec::with_capacity(passes);
        for _ in 0..passes {
            let start = Instant::now();
            pass()?;
            seconds.push(format!("{:.6}", start.elapsed().as_secs_f64()));
        }
        println!("{}", seconds.join(" "));
    }
    Ok(())
}
