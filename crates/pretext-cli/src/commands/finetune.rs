//! `pretext finetune`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::control::Control;
use pretext_train::finetune::{CLASSIFIER, finetune};
use pretext_train::preview::Preview;
use pretext_train::record;

use super::train;
use crate::args::FinetuneArgs;

pub(super) fn run(args: &FinetuneArgs) -> Result<ExitCode> {
    if args.run.print_recipe {
        return train::print_recipe(&Preview::finetuning(&args.recipe(), &args.data.path)?);
    }
    let start = |control: &mut Control<'_>| {
        finetune(&args.recipe(), &args.init, &args.data.path, &args.run.out, control)
    };
    train::run(&args.run, args.data.strict, start, &[CLASSIFIER, record::FILE])
}
