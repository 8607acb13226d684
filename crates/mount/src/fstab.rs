//! Mount options, as in `-o a,b=c` and in the fourth column of fstab.
//!
//! Promises: options that fstab lines carry for others (`_netdev`, `nofail`, `x-systemd.*`, ...) are accepted; an option
//! that nobody knows is an error with a hint, never ignored, unless mount(8) says `-s`.
//! Not here: the rest of the command line (`args`), what the options do.

use crate::args::Failure;
use mboxfs_rpc::identity_path;
use mboxfs_types::limits;
use std::{path::PathBuf, time::Duration};

/// Until the filesystem answers: a brick that boots without its peer alone takes `limits::BOOT_WAIT` of it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// For others, or true anyway.
const PASSED_OVER: &[&str] = &[
    "defaults",
    "rw",
    "noatime",
    "relatime",
    "norelatime",
    "atime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "diratime",
    "nodiratime",
    "_netdev",
    "nofail",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "exec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "silent",
    "loud",
    "allow_other",
    "allow-other",
    "default_permissions",
    "bg",
    "fg",
    "comment",
];

/// GlusterFS's, which lines that were copied carry.
const GLUSTERFS: &[&str] = &[
    "acl",
    "attribute-timeout",
    "auto-invalidation",
    "background-qlen",
    "congestion-threshold",
    "direct-io-mode",
    "entry-timeout",
    "fetch-attempts",
    "fopen-keep-cache",
    "kernel-writeback-cache",
    "lru-limit",
    "negative-timeout",
    "root-squash",
    "selinux",
    "subdir-mount",
    "transport",
    "use-readdirp",
    "xlator-option",
];

/// What the options say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) port: u16,
    /// Hosts to ask when the first one does not answer.
    pub(crate) backup: Vec<String>,
    pub(crate) read_only: bool,
    pub(crate) no_exec: bool,
    pub(crate) log_file: Option<PathBuf>,
    /// A level of `tracing`, or `off`.
    pub(crate) log_level: &'static str,
    pub(crate) timeout: Duration,
    /// The key of this host, for bricks on others.
    pub(crate) identity: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: limits::PORT,
            backup: Vec::new(),
            read_only: false,
            no_exec: false,
            log_file: None,
            log_level: "info",
            timeout: TIMEOUT,
            identity: identity_path(),
        }
    }
}

/// Reads `options`; those that are not known are passed over if `sloppy`.
///
/// Errors: an unknown option, or a value that makes no sense.
pub(crate) fn parse<'a>(options: impl Iterator<Item = &'a str>, sloppy: bool) -> Result<Options, Failure> {
    let mut read = Options::default();
    for option in options.filter(|o| !o.is_empty()) {
        let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
        match (name, value) {
            ("ro", None) => read.read_only = true,
            ("noexec", None) => read.no_exec = true,
            ("port", Some(v)) => {
                read.port = v
                    .parse()
                    .ok()
                    .filter(|p| *p != 0)
                    .ok_or_else(|| bad(option, "1 to 65535"))?
            }
            ("backup-volfile-servers" | "backupvolfile-server", Some(v)) => {
                read.backup
                    .extend(v.split(':').filter(|h| !h.is_empty()).map(str::to_owned));
            }
            ("log-file", Some(v)) if !v.is_empty() => read.log_file = Some(PathBuf::from(v)),
            ("identity", Some(v)) => {
                let path = Some(PathBuf::from(v)).filter(|p| p.is_absolute());
                read.identity = path.ok_or_else(|| bad(option, "an absolute path"))?;
            }
            ("log-level", Some(v)) => {
                read.log_level = level(v).ok_or_else(|| bad(option, "error, warn, info, debug or trace"))?;
            }
            ("mount-timeout", Some(v)) => {
                let seconds = v.parse().ok().filter(|s| (1..=3600).contains(s));
                read.timeout = Duration::from_secs(seconds.ok_or_else(|| bad(option, "1 to 3600 (seconds)"))?);
            }
            ("remount", None) => {
                return Err(Failure::new(
                    "it cannot be remounted",
                    "umount it, then mount it with the new options",
                ));
            }
            _ if PASSED_OVER.contains(&name) || name.starts_with("x-") || sloppy => {}
            _ if GLUSTERFS.contains(&name) => {
                return Err(Failure::new(
                    format!("unknown option {option}"),
                    "mboxfs needs no such setting of GlusterFS's: leave it out",
                ));
            }
            _ => return Err(Failure::new(format!("unknown option {option}"), KNOWN)),
        }
    }
    Ok(read)
}

const KNOWN: &str = "known are ro, noexec, port=N, backup-volfile-servers=HOST[:HOST], log-file=FILE, log-level=LEVEL, \
                     identity=FILE, mount-timeout=SECONDS, and what every fstab line may have";

fn bad(option: &str, wanted: &str) -> Failure {
    let name = option.split('=').next().unwrap_or(option);
    Failure::new(format!("{option} makes no sense"), format!("{name}= wants {wanted}"))
}

/// GlusterFS's names are taken too.
fn level(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "none" | "off" => "off",
        "critical" | "error" => "error",
        "warning" | "warn" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &str) -> Result<Options, Failure> {
        parse(options.split(','), false)
    }

    #[test]
    fn what_fstab_lines_carry_for_others() {
        let line = "defaults,rw,noatime,_netdev,nofail,noauto,user,nosuid,nodev,x-systemd.automount,x-systemd.requires=a.service,\
                    x-gvfs-hide,comment=mail,";
        assert_eq!(read(line).unwrap(), Options::default());
    }

    #[test]
    fn what_means_something() {
        let o = read("ro,noexec,port=99,backup-volfile-servers=h2:h3,backupvolfile-server=h4,log-file=/l,log-level=WARNING,mount-timeout=5,identity=/k")
            .unwrap();
        let expected = Options {
            port: 99,
            backup: ["h2", "h3", "h4"].map(str::to_owned).to_vec(),
            read_only: true,
            no_exec: true,
            log_file: Some("/l".into()),
            log_level: "warn",
            timeout: Duration::from_secs(5),
            identity: "/k".into(),
        };
        assert_eq!(o, expected);
    }

    #[test]
    fn mistakes_are_named_with_a_hint() {
        for (option, hint) in [
            ("bogus", "known are"),
            ("ro=1", "known are"),
            ("port", "known are"),
            ("port=0", "1 to 65535"),
            ("port=x", "1 to 65535"),
            ("log-level=loud", "trace"),
            ("mount-timeout=0", "seconds"),
            ("log-file=", "known are"),
            ("identity=key", "absolute"),
            ("attribute-timeout=0", "GlusterFS"),
            ("remount", "umount"),
        ] {
            let failure = read(option).unwrap_err();
            assert!(
                failure.hint.as_deref().is_some_and(|h| h.contains(hint)),
                "{option}: {failure:?}"
            );
        }
        assert!(parse(["bogus", "acl"].into_iter(), true).is_ok(), "mount -s");
    }
}
