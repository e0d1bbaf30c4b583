//! `pretext show`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::mistakes;
use pretext_train::record::Mistake;
use pretext_train::show::show;

use super::say;
use crate::args::ShowArgs;
use crate::failure;

pub(super) fn run(args: &ShowArgs) -> Result<ExitCode> {
    if let Some(folder) = &args.mistakes {
        for mistake in mistakes::show(folder, &args.data, &args.out)? {
            let Mistake { picture, class, answer, probability, .. } = mistake;
            say(format_args!(
                "{picture}: {class} taken for {answer} ({:.0} %)",
                100.0 * probability
            ))?;
        }
        say(args.out.display())?;
        return Ok(failure::DONE);
    }
    let classes = show(&args.figure(), &args.data, args.weights.as_deref(), &args.out)?;
    for (row, (class, answer)) in classes.iter().enumerate() {
        let answer = answer.map(|a| format!(", the network says {a}")).unwrap_or_default();
        say(format_args!("row {}: class {class}{answer}", row + 1))?;
    }
    say(args.out.display())?;
    Ok(failure::DONE)
}
