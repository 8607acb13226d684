//! The command line, as typed and as mount(8) calls it: `mount.mboxfs HOST:/VOLUME DIR [-sfnv] [-N ns] [-o a,b] [-t type]`.
//!
//! Promises: what can be read makes sense; what cannot is one line and a hint.
//! Not here: options after `-o` (`fstab`).

use crate::fstab::{self, Options};
use clap::{Parser, error::ErrorKind};
use std::{ffi::OsString, fmt, path::PathBuf};

/// Mounts a volume of mboxfs.
#[derive(Parser, Debug)]
#[command(name = "mount.mboxfs", version, after_help = AFTER)]
struct Line {
    /// Server and volume
    #[arg(value_name = "HOST:/VOLUME")]
    source: String,
    /// Where to mount it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    options: Vec<String>,
    /// Stay in the foreground, log to stderr
    #[arg(short = 'f', long)]
    foreground: bool,
    /// Pass over options that are not known
    #[arg(short = 's')]
    sloppy: bool,
    /// As of mount(8); there is no mtab
    #[arg(short = 'n', hide = true)]
    _no_mtab: bool,
    #[arg(short = 'v', hide = true, action = clap::ArgAction::Count)]
    _verbose: u8,
    /// Type and namespace, as of mount(8)
    #[arg(short = 't', hide = true)]
    _type: Option<String>,
    #[arg(short = 'N', hide = true)]
    _namespace: Option<String>,
    /// This is the background process; it says on stdout how it went
    #[arg(long, hide = true)]
    child: bool,
    /// This process serves, under a supervisor
    #[arg(long, hide = true)]
    worker: bool,
}

const AFTER: &str = "\
Options after -o:
  backup-volfile-servers=HOST[:HOST]  ask these when the first one does not answer
  port=N             port of the bricks [24009]
  log-file=FILE      log there
  log-level=LEVEL    error, warn, info, debug, trace [info]
  identity=FILE      the key of this host, made by its brickd [/var/lib/mboxfs/identity.pem]
  mount-timeout=S    give up after S seconds [30]
  ro, noexec         as of mount(8)

In /etc/fstab:
  HOST:/VOLUME /var/spool/mail mboxfs defaults,noatime,_netdev,nofail 1 1";

/// Why something failed, and what to do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// One line.
    pub(crate) why: String,
    /// One line.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: Some(hint.into()),
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

/// What to mount where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Args {
    /// As given: what `df` shows.
    pub(crate) source: String,
    pub(crate) volume: String,
    /// `host:port`, in the order given.
    pub(crate) bricks: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) foreground: bool,
    pub(crate) child: bool,
    pub(crate) worker: bool,
    pub(crate) options: Options,
}

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Mount(Box<Args>),
    /// `--help`, `--version`: print this.
    Print(String),
}

/// Reads the words after the program's name.
///
/// Errors: anything that makes no sense.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Asked, Failure> {
    let words = std::iter::once(OsString::from("mount.mboxfs")).chain(words);
    let line = match Line::try_parse_from(words) {
        Ok(line) => line,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Asked::Print(e.to_string()));
        }
        Err(e) => {
            let text = e.to_string();
            // One line of clap's several; for missing words the line alone names none.
            let missing = e.kind() == ErrorKind::MissingRequiredArgument;
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            let why = if missing {
                "HOST:/VOLUME and a directory are needed"
            } else {
                first
            };
            return Err(Failure::new(
                why,
                "mount.mboxfs HOST:/VOLUME DIR [-f] [-o OPTIONS]; --help says more",
            ));
        }
    };
    let not_a_source = || {
        let why = format!("{} is not HOST:/VOLUME", line.source);
        Failure::new(why, "for example: mount -t mboxfs server1:/gVol0 /var/spool/mail")
    };
    let (host, volume) = line.source.rsplit_once(":/").ok_or_else(not_a_source)?;
    if host.is_empty() || volume.is_empty() || volume.contains('/') || line.source.contains(char::is_whitespace) {
        return Err(not_a_source());
    }
    let options = fstab::parse(line.options.iter().map(String::as_str), line.sloppy)?;
    let hosts = std::iter::once(host).chain(options.backup.iter().map(String::as_str));
    Ok(Asked::Mount(Box::new(Args {
        volume: volume.to_owned(),
        bricks: hosts.map(|h| format!("{h}:{}", options.port)).collect(),
        source: line.source.clone(),
        dir: line.dir.clone(),
        foreground: line.foreground,
        child: line.child,
        worker: line.worker,
        options,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, Failure> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Asked::Mount(args) => Ok(*args),
            Asked::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_fstab_line_of_the_seed() {
        let args = parsed("h1:/gVol0 /var/spool/mail -o rw,noatime,_netdev,nofail,x-systemd.automount").unwrap();
        assert_eq!((args.volume.as_str(), args.source.as_str()), ("gVol0", "h1:/gVol0"));
        assert_eq!(args.bricks, ["h1:24009"]);
        assert!(!args.foreground && !args.child);
    }

    #[test]
    fn as_mount_calls_it() {
        let args =
            parsed("h1:/v /m -s -n -v -o port=99 -o backup-volfile-servers=h2:h3,bogus -t mboxfs -N 17").unwrap();
        assert_eq!(args.bricks, ["h1:99", "h2:99", "h3:99"]);
        assert!(parsed("h1:/v /m -snv -o ro").unwrap().options.read_only);
        assert!(parsed("-f h1:/v /m").unwrap().foreground);
        assert_eq!(parsed("[::1]:/v /m").unwrap().bricks, ["[::1]:24009"]);
    }

    #[test]
    fn mistakes_are_one_line_and_a_hint() {
        for line in [
            "h1:/v /m -o bogus",
            "h1/v /m",
            "h1:/v/w /m",
            ":/v /m",
            "h1:/ /m",
            "h1:/v",
            "",
            "h1:/v /m x",
            "h1:/v /m -Q",
        ] {
            let failure = parsed(line).unwrap_err();
            assert!(
                !failure.why.is_empty() && !failure.why.contains('\n') && failure.hint.is_some(),
                "{line}: {failure:?}"
            );
        }
        assert!(parsed("h1:/v /m -Q").unwrap_err().why.contains("-Q"));
    }

    #[test]
    fn help_names_every_option() {
        let Ok(Asked::Print(text)) = parse(["--help"].into_iter().map(OsString::from)) else {
            panic!("no help")
        };
        for word in ["-o", "-f", "backup-volfile-servers", "mount-timeout", "HOST:/VOLUME"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("--child") && !text.contains("--worker"));
    }
}
