//! Lists what a folder of pictures (or a decoded cache) holds, and reads every picture once.
//!
//! `cargo run -p pretext-data --example list_folder -- FOLDER`

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for the terminal

use std::{env, path::PathBuf, process::ExitCode};

use pretext_data::{Dataset, Error, Loader, Pictures};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: list_folder FOLDER");
        return ExitCode::from(2);
    };
    match list(&PathBuf::from(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn list(folder: &std::path::Path) -> Result<(), Error> {
    let data = Dataset::open(folder)?;
    println!("{}\n", data.summary());

    let pictures = Pictures::concat(&[
        data.train().pictures().clone(),
        data.val().pictures().clone(),
        data.unsup().clone(),
    ]);
    let order = (0..pictures.len()).collect();
    let (mut read, mut widest, mut highest) = (0, 0, 0);
    for batch in
        Loader::default().batches(&pictures, order, |_id, picture| (picture.width, picture.height))
    {
        let batch = batch?;
        for (width, height) in batch.items {
            read += 1;
            widest = widest.max(width);
            highest = highest.max(height);
        }
        for damaged in batch.damaged {
            println!("damaged: {}: {}", damaged.name, damaged.reason);
        }
    }
    println!("{read} pictures read, at most {widest} x {highest} pixels");
    Ok(())
}
