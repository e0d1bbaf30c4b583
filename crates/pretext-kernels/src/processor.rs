//! The same kernels for the processor, by a C++ compiler: for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `kernels/host.cpp` of a package to the file `out`, which it returns; `arguments` say to what
/// kind of file.
///
/// The compiler is `$CXX`, or `c++`, with `$CXXFLAGS`. Where there is none, this says so on stderr and
/// returns `None`, for a test to be skipped.
///
/// # Panics
/// If the file does not compile, or if there is no compiler and `PRETEXT_NEED_CXX` is set: tests fail.
pub fn on_the_processor(package: &Path, out: &Path, arguments: &[&str]) -> Option<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        assert!(
            std::env::var_os("PRETEXT_NEED_CXX").is_none(),
            "{} does not run, and PRETEXT_NEED_CXX is set",
            compiler.display()
        );
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: no C++ compiler ({}); set CXX", compiler.display());
        }
        return None;
    }
    let mut command = Command::new(&compiler);
    command.args(["-std=c++17", "-O2", "-ffp-contract=off"]).args(arguments);
    command.args(std::env::var("CXXFLAGS").iter().flat_map(|flags| flags.split_whitespace()));
    command.args(["-Wall", "-Wextra", "-Werror"]);
    let source = package.join("kernels/host.cpp");
    let status = command.arg(&source).arg("-o").arg(out).status();
    let compiled = status.is_ok_and(|status| status.success());
    assert!(compiled, "{} does not compile", source.display());
    Some(out.to_owned())
}
