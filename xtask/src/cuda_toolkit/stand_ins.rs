//! What a program is linked against where no CUDA library is: stand-ins that open the library at
//! their first call, so that one binary starts anywhere.
//!
//! Their names are those that cudarc, through which candle calls CUDA, declares.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

/// A library of CUDA.
struct Library {
    name: &'static str,
    soname: &'static str,
    /// The module of cudarc that declares its functions.
    module: &'static str,
    /// What its functions return where it is missing: that it is not initialised, or the nearest.
    status: u32,
}

const LIBRARIES: [Library; 7] = [
    library("cuda", "libcuda.so.1", "driver", 34),
    library("nvrtc", "libnvrtc.so.13", "nvrtc", 11),
    library("curand", "libcurand.so.10", "curand", 203),
    library("cublas", "libcublas.so.13", "cublas", 1),
    library("cublasLt", "libcublasLt.so.13", "cublaslt", 1),
    library("cudnn", "libcudnn.so.9", "cudnn", 1001),
    library("nccl", "libnccl.so.2", "nccl", 2),
];

const fn library(
    name: &'static str,
    soname: &'static str,
    module: &'static str,
    status: u32,
) -> Library {
    Library { name, soname, module, status }
}

const LOADER: &str = include_str!("loader.c");
const RESOLVE: &str = include_str!("resolve.S");

/// Writes `libNAME.a` for every library into a folder.
pub(super) fn write(cudarc: &Path, into: &Path) -> Result<()> {
    for library in &LIBRARIES {
        let source = cudarc.join("src").join(library.module).join("sys/mod.rs");
        let text = fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        archive(library, &functions(&text), into)
            .with_context(|| format!("cannot make the stand-in for {}", library.soname))?;
    }
    Ok(())
}

/// The folder of cudarc's source, as cargo has it.
pub(super) fn cudarc() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(crate::root())
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "cudarc")
        .find_map(|package| package["manifest_path"].as_str())
        .ok_or_else(|| anyhow!("Cargo.lock has no cudarc; nothing here is built for CUDA"))?;
    Ok(Path::new(manifest).parent().unwrap_or(Path::new(".")).to_owned())
}

/// The names of the functions that a binding declares, in order.
fn functions(source: &str) -> Vec<&str> {
    let declared = source.lines().filter_map(|line| line.strip_prefix("pub unsafe fn "));
    let names = declared.map(|rest| &rest[..rest.find(['(', '<']).unwrap_or(rest.len())]);
    let mut names: Vec<_> = names
        .filter(|name| ["cu", "nccl", "nvrtc"].iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| *name != "culib")
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether a function returns a text and not a status.
fn returns_text(name: &str) -> bool {
    let texts = ["ErrorString", "StatusString", "StatusName", "GetLastError"];
    !name.starts_with("cuGet") && texts.iter().any(|text| name.ends_with(text))
}

fn archive(library: &Library, functions: &[&str], into: &Path) -> Result<()> {
    if functions.is_empty() {
        bail!("cudarc declares none of its functions where they are looked for");
    }
    let folder = tempfile::tempdir_in(into)?;
    let symbol = |what: &str| format!("stand_in_{}_{what}", library.name);
    let (slots, resolve) = (symbol("slots"), symbol("resolve"));
    let mut names =
        String::from("static const struct { const char *name; int text; } names[] = {\n");
    let mut assembly = RESOLVE
        .replace("SLOTS_SIZE", &(8 * functions.len()).to_string())
        .replace("SLOTS", &slots)
        .replace("RESOLVE", &resolve)
        .replace("LOOKUP", &symbol("lookup"));
    for (i, name) in functions.iter().enumerate() {
        writeln!(names, "    {{\"{name}\", {}}},", u8::from(returns_text(name)))?;
        write!(
            assembly,
            "    .globl {name}\n    .type {name}, @function\n{name}:\n    \
             mov {slots}+{at}(%rip), %r11\n    test %r11, %r11\n    jz 1f\n    jmp *%r11\n\
             1:  push ${i}\n    jmp {resolve}\n",
            at = 8 * i
        )?;
    }
    names.push_str("};\n");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("names.h"), names)?;
    fs::write(path("loader.c"), LOADER)?;
    fs::write(path("functions.S"), assembly)?;
    for source in ["loader.c", "functions.S"] {
        let mut compile = Command::new("cc");
        compile
            .args(["-c", "-O2", "-fPIC"])
            .arg(path(source))
            .arg("-o")
            .arg(path(source).with_extension("o"));
        compile.arg(format!("-DSONAME=\"{}\"", library.soname));
        compile.arg(format!("-DSTATUS={}", library.status));
        compile.arg(format!("-DSLOTS={slots}")).arg(format!("-DLOOKUP={}", symbol("lookup")));
        super::run_quietly(&mut compile)?;
    }
    let out = into.join(format!("lib{}.a", library.name));
    let mut archive = Command::new("ar");
    archive.arg("rcs").arg(out).arg(path("loader.o")).arg(path("functions.o"));
    super::run_quietly(&mut archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_binding() {
        let source = "pub unsafe fn cuInit(Flags: ::core::ffi::c_uint) -> CUresult {\n    \
                      (culib().cuInit)(Flags)\n}\npub unsafe fn culib() -> &'static Lib {\n\
                      pub unsafe fn cuGetErrorString(error: CUresult)\npub fn cuSafe() {}\n";
        assert_eq!(functions(source), ["cuGetErrorString", "cuInit"]);
    }

    #[test]
    fn what_returns_a_text() {
        assert!(returns_text("cudnnGetErrorString") && returns_text("ncclGetLastError"));
        assert!(!returns_text("cuGetErrorString") && !returns_text("cudnnCreate"));
    }
}
