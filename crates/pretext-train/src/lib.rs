#![doc = include_str!("../README.md")]

pub mod streams;

pub mod tasks;

pub mod recipe;

pub mod schedule;

pub mod optimisers;

pub mod control;

pub mod pretrain;

pub mod finetune;

pub mod evaluate;

pub mod embed;

pub mod device;

pub mod precision;
pub mod predict;
pub mod preview;

pub mod show;

pub mod mistakes;

pub mod record;

pub mod saved;

pub mod lent;

pub mod checkpoint;

pub mod ranks;

mod batch;
mod curves;
mod energy;
mod error;
mod files;
mod lease;
mod losses;
mod memory;
mod mixing;
mod network;
mod passing;
mod probe;
mod progress;
mod resident;
mod results;
mod run;
mod scaling;
mod sheet;
mod sitting;
mod source;
mod status;
mod tally;

pub use checkpoint::FILE as CHECKPOINT;
pub use error::{Error, Result};
pub use lease::{BEAT, STALE};
pub use pretext_data as data;
pub use pretext_models as models;
pub use status::FILE as PROGRESS;
