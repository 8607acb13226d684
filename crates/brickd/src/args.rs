//! The command line of `brickd`, and its environment.
//!
//! Promises: a flag wins over its variable; what is not given is `None`, so that the file and the defaults may fill it.
//! Not here: the file and the defaults (`config`).

use clap::Parser;
use std::{net::SocketAddr, path::PathBuf};

/// The mboxfs brick daemon: keeps one brick, serves its mounts, replicates with its peer. Or, with --witness, the witness.
#[derive(Parser, Clone, PartialEq, Eq, Debug, Default)]
#[command(name = "brickd", version)]
pub(crate) struct Args {
    /// The brick's directory, on a file system of its own (ext4); with --witness any empty directory
    #[arg(long, value_name = "DIR", env = "MBOXFS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Address for mounts, the peer and operators [default: 0.0.0.0:24009]
    #[arg(long, value_name = "ADDRESS", env = "MBOXFS_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// The key of this host, made if there is none; mounts and mboxfs on this host read it, too
    /// [default: /var/lib/mboxfs/identity.pem]
    #[arg(long, value_name = "FILE", env = "MBOXFS_IDENTITY")]
    pub(crate) identity: Option<PathBuf>,
    /// Bytes of log kept for an absent peer; when there is more, it is healed by comparing files [default: 1 GiB]
    #[arg(long, value_name = "BYTES", env = "MBOXFS_KEPT_LOG")]
    pub(crate) kept_log: Option<usize>,
    /// A TOML file with `data`, `listen`, `identity`, `kept-log` and `log-level`
    #[arg(long, value_name = "FILE", env = "MBOXFS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Be the witness of volumes whose bricks are elsewhere: keep who may go on alone, no mail
    #[arg(long)]
    pub(crate) witness: bool,
    /// error, warn, info, debug, trace, or a filter as of tracing-subscriber [default: info]
    #[arg(long, value_name = "LEVEL", env = "MBOXFS_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,
}
