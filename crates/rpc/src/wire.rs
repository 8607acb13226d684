//! Generated messages and services of package mboxfs.v1.
//!
//! Promises: private to this crate; nothing of it is valid before `convert` has looked at it.
//! Not here: anything written by hand.
#![allow(
    clippy::all,
    clippy::use_self,
    clippy::or_fun_call,
    clippy::unwrap_used,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths
)]

tonic::include_proto!("mboxfs.v1");
