//! `pretext finetune`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::control::Control;
use pretext_train::finetune::{CLASSIFIER, finetune};
use pretext_train::record;

use super::train;
use crate::args::FinetuneArgs;

pub(super) fn run(args: &FinetuneArgs) -> Result<ExitCode> {
    let start = |control: &mut Control<'_>| {
        finetune(&args.recipe(), &args.init, &args.data.path, &args.run.out, control)
    };
    train::run(&args.run, args.data.strict, start, &[CLASSIFIER, record::FILE])
}
