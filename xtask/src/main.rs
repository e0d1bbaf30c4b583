//! Chores of this repository, run as `cargo xtask <name>`.

mod bench;
mod cuda_toolkit;
mod fetch_data;
mod leaderboard;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository", max_term_width = 100)]
enum Xtask {
    /// Measure speed beside our peers
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Set up what the feature `cuda` is compiled with, where no CUDA is installed; prints the
    /// environment to use it: eval "$(cargo xtask cuda-toolkit)"
    CudaToolkit(cuda_toolkit::Args),
    /// Download, check and unpack data sets
    FetchData(fetch_data::Args),
    /// Train every cell of the matrix that is not finished, and print the table
    Leaderboard(leaderboard::Args),
}

fn main() -> ExitCode {
    let done = match Xtask::try_parse() {
        Ok(Xtask::Bench(bench)) => bench::run(&bench),
        Ok(Xtask::CudaToolkit(args)) => cuda_toolkit::run(&args),
        Ok(Xtask::FetchData(args)) => fetch_data::run(&args),
        Ok(Xtask::Leaderboard(args)) => leaderboard::run(&args),
        Err(error) if error.use_stderr() => {
            say_error(&usage(&error));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match done {
        Ok(()) if UNTOLD.load(Ordering::Relaxed) => {
            say_error("error: standard output cannot be written to");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, causes included. Returning the error from main would print its Debug
            // form, which ends in a stack trace wherever RUST_BACKTRACE is set.
            say_error(&format!("error: {error:#}"));
            error.downcast_ref::<Ends>().map_or(ExitCode::FAILURE, |ends| ExitCode::from(ends.code))
        }
    }
}

/// An end that has an exit code of its own.
#[derive(Debug)]
struct Ends {
    code: u8,
    told: String,
}

impl std::fmt::Display for Ends {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.told)
    }
}

impl std::error::Error for Ends {}

/// A mistake of the user's: it ends with 2, as the binary's do.
fn mistake(told: impl Into<String>) -> anyhow::Error {
    Ends { code: 2, told: told.into() }.into()
}

/// A mistake in the flags as one line, where clap would print a paragraph.
fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text.split("\n\n").take_while(|paragraph| !paragraph.starts_with("Usage:"));
    let told = told.filter(|paragraph| !paragraph.starts_with("For more"));
    let lines = told.flat_map(str::lines).map(str::trim).collect::<Vec<_>>();
    format!("{}; --help lists the flags", lines.join(" "))
}

/// The top of the checkout, wherever cargo was called from.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// Whether a reader closed its pipe: it has seen what it wanted, and nothing is said of that.
static UNREAD: AtomicBool = AtomicBool::new(false);
/// Whether results were lost in another way, on a full disk for one.
static UNTOLD: AtomicBool = AtomicBool::new(false);

/// One line on standard output.
fn say(line: impl std::fmt::Display) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        let lost = if error.kind() == std::io::ErrorKind::BrokenPipe { &UNREAD } else { &UNTOLD };
        lost.store(true, Ordering::Relaxed);
    }
}

/// One line on standard error, where somebody reads it. A full disk below it is nobody's.
fn say_error(line: &str) {
    if let Err(error) = writeln!(std::io::stderr(), "{line}")
        && error.kind() == std::io::ErrorKind::BrokenPipe
    {
        UNREAD.store(true, Ordering::Relaxed);
    }
}

/// Whether nobody reads on: what goes on for hours stops, as by a signal.
fn is_unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// A path as a person would type it here: relative to the current folder where it lies below.
fn short(path: &std::path::Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// Replaces a file in one step, so that an interrupted write leaves the old one whole.
fn write_whole(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(std::path::Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut part = tempfile::Builder::new();
        // A temporary file is for its owner only; a result is as readable as any other file.
        #[cfg(unix)]
        part.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut part = part.prefix(".part-").tempfile_in(folder)?;
        std::io::Write::write_all(&mut part, bytes)?;
        part.as_file().sync_all()?;
        part.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", short(path)))
}

/// A file's SHA-256 in hexadecimal digits.
fn sha256_of(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;

    use sha2::{Digest as _, Sha256};
    let (mut file, mut hash) = (std::fs::File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
