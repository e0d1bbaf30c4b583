#![doc = include_str!("../README.md")]

mod nvcc;
mod processor;

pub use nvcc::ptx;
pub use processor::on_the_processor;
