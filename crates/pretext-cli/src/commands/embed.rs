//! `pretext embed`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::embed::embed;

use super::{say, train};
use crate::args::EmbedArgs;
use crate::failure;

pub(super) fn run(args: &EmbedArgs) -> Result<ExitCode> {
    let counts = train::quietly(&args.machine, args.data.strict, |control| {
        embed(&args.weights, &args.data.path, &args.out, control)
    })?;
    for (split, count) in counts {
        say(format_args!("{split}: features of {count} pictures"))?;
    }
    say(args.out.display())?;
    Ok(failure::DONE)
}
