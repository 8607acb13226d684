//! placeholder until the brain is in
#![no_std]
extern crate alloc;
pub mod input;
pub mod output;
