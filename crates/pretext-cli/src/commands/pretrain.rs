//! `pretext pretrain`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::control::Control;
use pretext_train::pretrain::{ENCODER, NETWORK, pretrain};
use pretext_train::preview::Preview;
use pretext_train::record;

use super::train;
use crate::args::PretrainArgs;

pub(super) fn run(args: &PretrainArgs) -> Result<ExitCode> {
    if args.run.print_recipe {
        return train::print_recipe(&Preview::pretraining(&args.recipe(), &args.data.path)?);
    }
    let start = |control: &mut Control<'_>| {
        pretrain(&args.recipe(), &args.data.path, &args.run.out, control)
    };
    train::run(&args.run, args.data.strict, start, &[ENCODER, NETWORK, record::FILE])
}
