//! `pretext show`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::show::show;

use super::say;
use crate::args::ShowArgs;
use crate::failure;

pub(super) fn run(args: &ShowArgs) -> Result<ExitCode> {
    let classes = show(&args.figure(), &args.data, args.weights.as_deref(), &args.out)?;
    for (row, (class, answer)) in classes.iter().enumerate() {
        let answer = answer.map(|a| format!(", the network says {a}")).unwrap_or_default();
        say(format_args!("row {}: class {class}{answer}", row + 1))?;
    }
    say(args.out.display())?;
    Ok(failure::DONE)
}
