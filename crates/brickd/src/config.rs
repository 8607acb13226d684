//! What the daemon was told: flags before environment before file before defaults.
//!
//! Promises: unknown keys in the file are refused; a [`Config`] is complete.
//! Not here: the command line itself (`args`), peers and volumes (`cluster`).

use crate::{args::Args, failure::Failure, local::Keep};
use mboxfs_rpc::IDENTITY;
use mboxfs_types::limits;
use serde::Deserialize;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};
use tracing_subscriber::EnvFilter;

/// Everything that has to be known to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    /// The brick's directory.
    pub(crate) data: PathBuf,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// The file of this host's identity.
    pub(crate) identity: PathBuf,
    /// Bytes of log kept for an absent peer.
    pub(crate) kept_log: usize,
    /// Not a brick: a witness.
    pub(crate) witness: bool,
    /// Filter for the log.
    pub(crate) log_level: String,
    /// How much of the history is kept.
    pub(crate) keep: Keep,
}

#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    identity: Option<PathBuf>,
    kept_log: Option<usize>,
    log_level: Option<String>,
    retain_age: Option<String>,
    retain_size: Option<String>,
}

/// Completes `args` (flags and environment) from the file and the defaults.
///
/// Errors: no data directory; a file that cannot be read or has unknown keys; a log level that is none.
pub(crate) fn settle(args: Args) -> Result<Config, Failure> {
    let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
    let Some(data) = args.data.or(file.data) else {
        let hint = "name the brick's directory, for example: brickd --data /glusterfs/vol0";
        return Err(Failure::usage("start", "no data directory was given").hint(Some(hint.to_string())));
    };
    let default = SocketAddr::from((Ipv4Addr::UNSPECIFIED, limits::PORT));
    let log_level = args.log_level.or(file.log_level).unwrap_or_else(|| "info".to_string());
    if let Err(why) = EnvFilter::try_new(&log_level) {
        let hint = "use error, warn, info, debug or trace".to_string();
        return Err(Failure::usage(format!("use log level '{log_level}'"), why).hint(hint));
    }
    let keep = Keep {
        age_secs: file
            .retain_age
            .map(|text| measure("retain-age", &text, AGES))
            .transpose()?,
        bytes: file
            .retain_size
            .map(|text| measure("retain-size", &text, SIZES))
            .transpose()?,
    };
    Ok(Config {
        keep,
        data,
        witness: args.witness,
        listen: args.listen.or(file.listen).unwrap_or(default),
        identity: args
            .identity
            .or(file.identity)
            .unwrap_or_else(|| PathBuf::from(IDENTITY)),
        kept_log: args.kept_log.or(file.kept_log).unwrap_or(limits::LOG_DEBT_BYTES_MAX),
        log_level,
    })
}

/// Units, and how many seconds or bytes each is.
type Units = &'static [(&'static str, u64)];
const AGES: Units = &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
const SIZES: Units = &[
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// A number with a unit.
fn measure(key: &str, text: &str, units: Units) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim();
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let value = digits
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(n, f)| n.checked_mul(f));
    value.ok_or_else(|| {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        Failure::usage(format!("use {key} \"{text}\""), "it is no number with a unit").hint(format!(
            "the units are {}, for example 2{}",
            names.join(", "),
            units[units.len() / 2].0
        ))
    })
}

fn read(path: &Path) -> Result<File, Failure> {
    let what = || format!("read configuration file {}", path.display());
    let text = fs::read_to_string(path).map_err(|why| Failure::usage(what(), why))?;
    toml::from_str(&text).map_err(|e| {
        let why = e.message().replace('\n', " ");
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::usage(what(), format!("line {line}: {why}"))
            .hint("known keys are data, listen, identity, kept-log, log-level, retain-age and retain-size".to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("brickd.toml");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let (_dir, path) = file("data = \"/file\"\nlisten = \"127.0.0.1:1\"\n");
        let args = Args {
            config: Some(path),
            data: Some("/flag".into()),
            ..Args::default()
        };
        let config = settle(args).unwrap();
        assert_eq!(config.data, PathBuf::from("/flag"));
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.log_level, "info");
    }

    #[test]
    fn the_default_address_is_the_bricks_port_everywhere() {
        let args = Args {
            data: Some("/d".into()),
            ..Args::default()
        };
        assert_eq!(settle(args).unwrap().listen.to_string(), "0.0.0.0:24009");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let (_dir, path) = file("data = \"/d\"\nlisden = \"127.0.0.1:1\"\n");
        let args = Args {
            config: Some(path.clone()),
            ..Args::default()
        };
        let failure = settle(args).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let text = failure.to_string();
        assert!(
            text.starts_with(&format!(
                "error: could not read configuration file {}: line 2: ",
                path.display()
            )),
            "{text}"
        );
        assert!(text.contains("lisden"), "{text}");
    }

    #[test]
    fn what_is_kept_of_the_past_is_read_with_its_units() {
        let keep = |text: &str| {
            let (_dir, path) = file(&format!("data = \"/d\"\n{text}\n"));
            let config = Some(path);
            settle(Args {
                config,
                ..Args::default()
            })
            .map(|c| (c.keep.age_secs, c.keep.bytes))
        };
        assert_eq!(keep("").unwrap(), (None, None));
        assert_eq!(
            keep("retain-age = \"36h\"\nretain-size = \"2GiB\"").unwrap(),
            (Some(129_600), Some(2 << 30))
        );
        assert_eq!(keep("retain-size = \"0B\"").unwrap(), (None, Some(0)));
        for bad in [
            "retain-age = \"soon\"",
            "retain-age = \"3\"",
            "retain-size = \"2XB\"",
            "retain-age = \"99999999999999999999d\"",
        ] {
            assert_eq!(keep(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn without_a_data_directory_there_is_a_hint() {
        let failure = settle(Args::default()).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("\nhint: "));
    }

    #[test]
    fn a_log_level_that_is_none_is_refused() {
        let args = Args {
            data: Some("/d".into()),
            log_level: Some("x=y=z".into()),
            ..Args::default()
        };
        assert_eq!(settle(args).unwrap_err().exit_code(), 2);
    }
}
