//! `cargo xtask cuda-toolkit`: what the feature `cuda` is compiled with, where no CUDA is installed.
//!
//! The compiler comes as wheels by pip, pinned by hash; the libraries that a program is linked
//! against are stand-ins. It compiles and links; running on a GPU takes the real libraries.

mod stand_ins;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{mistake, say, say_error, short};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder to set it up in [default: target/cuda-toolkit of this checkout]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Set it up even where a CUDA of your own is found
    #[arg(long)]
    anyway: bool,
    /// The oldest compute capability that candle's kernels are compiled for, times ten; ours are for
    /// 7.5 and newer in any case
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u32).range(75..=90))]
    compute_cap: u32,
}

const WHEELS: &str = include_str!("wheels.txt");
const FAST_NVCC: &str = include_str!("fast-nvcc");
/// In a finished toolkit: what it was made of.
const STAMP: &str = "stamp";

pub(crate) fn run(args: &Args) -> Result<()> {
    let into = args.into.clone().unwrap_or_else(|| crate::root().join("target/cuda-toolkit"));
    if !args.anyway
        && let Some(nvcc) = installed(&into)
    {
        say_error(&format!(
            "{} is installed: nothing to set up (--anyway does it all the same)",
            nvcc.display()
        ));
        return Ok(());
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let told = "the toolkit is for Linux on x86-64; install CUDA 13.0 from its maker";
        return Err(mistake(told));
    }
    let cudarc = stand_ins::cudarc()?;
    let stamp = stamp(&cudarc);
    if fs::read_to_string(into.join(STAMP)).is_ok_and(|done| done == stamp) {
        say_error(&format!("{} is set up", short(&into)));
    } else {
        set_up(&into, &cudarc, &stamp)?;
        say_error(&format!(
            "{} is ready; to use it: eval \"$(cargo xtask cuda-toolkit)\"",
            short(&into)
        ));
    }
    let into = into.canonicalize().with_context(|| format!("cannot read {}", short(&into)))?;
    for line in environment(&into, args.compute_cap) {
        say(line);
    }
    Ok(())
}

/// The lines of a shell that choose the toolkit.
fn environment(toolkit: &Path, compute_cap: u32) -> [String; 4] {
    let path = toolkit.display();
    [
        format!("export CUDA_HOME='{path}'"),
        format!("export PATH='{path}/bin':\"$PATH\""),
        format!("export NVCC='{path}/bin/fast-nvcc'"),
        format!("export CUDA_COMPUTE_CAP={compute_cap}"),
    ]
}

/// An nvcc that is not this toolkit's.
fn installed(ours: &Path) -> Option<PathBuf> {
    let ours = ours.canonicalize().unwrap_or_else(|_| ours.to_owned());
    let homes = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"].into_iter().filter_map(std::env::var_os);
    let mut folders: Vec<PathBuf> = homes.map(|home| PathBuf::from(home).join("bin")).collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.push("/usr/local/cuda/bin".into());
    let found = folders.into_iter().map(|folder| folder.join("nvcc")).filter(|nvcc| nvcc.is_file());
    let mut found = found.filter_map(|nvcc| nvcc.canonicalize().ok());
    found.find(|nvcc| !nvcc.starts_with(&ours))
}

/// Changes with everything that the toolkit is made of.
fn stamp(cudarc: &Path) -> String {
    let parts = [
        WHEELS,
        FAST_NVCC,
        include_str!("loader.c"),
        include_str!("resolve.S"),
        include_str!("stand_ins.rs"),
        include_str!("mod.rs"),
        &cudarc.file_name().unwrap_or_default().to_string_lossy(),
    ];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    crate::hex(&hash.finalize())
}

/// Makes the toolkit beside its place and moves it there when it is whole.
fn set_up(into: &Path, cudarc: &Path, stamp: &str) -> Result<()> {
    let cannot = || format!("cannot write into {}", short(into));
    let parent = into.parent().unwrap_or(Path::new("."));
    let elsewhere = |error| mistake(format!("{}: {error}; give another --into", cannot()));
    fs::create_dir_all(parent).map_err(elsewhere)?;
    if into.exists() && !into.join(STAMP).exists() && !is_empty(into) {
        let told = format!("{} holds something else; give another --into", short(into));
        return Err(mistake(told));
    }
    let part = tempfile::Builder::new().prefix(".cuda-toolkit-").tempdir_in(parent);
    let part = part.map_err(elsewhere)?;
    let wheels = part.path().join("wheels");
    install(part.path(), &wheels)?;

    let toolkit = part.path().join("toolkit");
    fs::create_dir(&toolkit).with_context(cannot)?;
    for folder in ["bin", "include", "lib", "nvvm"] {
        fs::rename(wheels.join("nvidia/cu13").join(folder), toolkit.join(folder))
            .with_context(|| format!("the wheels hold no folder nvidia/cu13/{folder}"))?;
    }
    let lib = toolkit.join("lib");
    link("lib", &toolkit.join("lib64")).with_context(cannot)?;
    // The runtime is linked in: it finds the driver by itself.
    link("libcudart_static.a", &lib.join("libcudart.a")).with_context(cannot)?;
    stand_ins::write(cudarc, &lib)?;
    write_script(&toolkit.join("bin/fast-nvcc"), FAST_NVCC).with_context(cannot)?;
    run_quietly(Command::new(toolkit.join("bin/nvcc")).arg("--version"))
        .context("the compiler does not run")?;
    crate::write_whole(&toolkit.join(STAMP), stamp.as_bytes())?;

    match fs::remove_dir_all(into) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(cannot);
        }
        _ => {}
    }
    fs::rename(&toolkit, into).with_context(cannot)
}

/// Lets pip download the wheels, check them and unpack them.
fn install(part: &Path, wheels: &Path) -> Result<()> {
    let list = part.join("wheels.txt");
    fs::write(&list, WHEELS).with_context(|| format!("cannot write {}", short(&list)))?;
    say_error("downloading the compiler of CUDA 13.0 (104 MB) with pip");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--no-compile", "--only-binary=:all:", "--require-hashes", "--retries", "5"]);
    pip.arg("--target").arg(wheels).arg("--requirement").arg(&list);
    pip.env("PIP_ROOT_USER_ACTION", "ignore").env_remove("PIP_USER");
    run_quietly(&mut pip).context("the wheels cannot be had; this takes python3 with pip")
}

/// Runs a command; if it fails, the error is the last line that it said.
fn run_quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}; install it"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    bail!("{program} failed: {}", last.trim())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(unix)]
fn link(target: &str, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(not(unix))]
fn link(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn write_script(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned() {
        let wheels = WHEELS.lines().filter(|line| !line.starts_with('#'));
        let (mut pinned, all) = (0, wheels.clone().count());
        for wheel in wheels {
            let (name, hash) = wheel.split_once(" --hash=sha256:").unwrap();
            assert!(name.contains("==13.0.") && hash.len() == 64, "{wheel}");
            pinned += 1;
        }
        assert!(pinned == all && all == 5);
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "").unwrap();
        let error = set_up(folder.path(), Path::new("cudarc"), "").unwrap_err().to_string();
        assert!(error.ends_with("holds something else; give another --into"), "{error}");
        assert!(folder.path().join("mine").exists());
    }
}
