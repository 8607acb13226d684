//! The command line, as typed and as mount(8) calls it: `mount.mboxfs HOST:/VOLUME DIR [-sfnv] [-o a,b,...]`.
//!
//! Promises: options that fstab lines carry for others (`_netdev`, `nofail`, `x-systemd.*`, ...) are accepted; an option
//! that nobody knows is an error with a hint, never ignored.
//! Not here: what the options do.

use mboxfs_types::limits;
use std::path::PathBuf;

/// What to mount where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Args {
    /// As given: what `df` shows.
    pub(crate) source: String,
    pub(crate) volume: String,
    /// `host:port`, the preferred one first.
    pub(crate) bricks: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) foreground: bool,
    pub(crate) read_only: bool,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) log_level: Option<String>,
}

/// What the caller is told, and the exit code of mount(8): 1 usage.
pub(crate) const USAGE: &str = "usage: mount.mboxfs HOST:/VOLUME DIR [-f] [-o OPTION,...]

options: backup-volfile-servers=HOST[:HOST]  port=N  log-file=FILE  log-level=LEVEL  ro
fstab:   HOST:/VOLUME /var/spool/mail mboxfs defaults,noatime,_netdev,nofail 1 1";

const PASSED_OVER: &[&str] = &[
    "defaults",
    "rw",
    "noatime",
    "relatime",
    "atime",
    "nodiratime",
    "_netdev",
    "nofail",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "async",
    "allow_other",
    "bg",
    "fg",
];

pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut plain = Vec::new();
    let mut args = Args::default();
    let mut options = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_str() {
            "-o" => options.extend(words.next().ok_or("-o needs options")?.split(',').map(str::to_owned)),
            "-t" | "-N" => {
                words.next();
            }
            "-f" | "--foreground" => args.foreground = true,
            "-s" | "-n" | "-v" => {}
            w if w.starts_with("-o") => options.extend(w[2..].split(',').map(str::to_owned)),
            w if w.starts_with('-') => return Err(format!("unknown flag {w}")),
            _ => plain.push(word),
        }
    }
    let [source, dir] = <[String; 2]>::try_from(plain).map_err(|_| "needs HOST:/VOLUME and a directory".to_owned())?;
    let (host, volume) = source
        .rsplit_once(":/")
        .ok_or_else(|| format!("{source} is not HOST:/VOLUME"))?;
    if host.is_empty() || volume.is_empty() || volume.contains('/') {
        return Err(format!("{source} is not HOST:/VOLUME"));
    }
    volume.clone_into(&mut args.volume);
    args.dir = PathBuf::from(dir);
    let mut hosts = vec![host.to_owned()];
    let mut port = limits::PORT;
    for option in options.iter().filter(|o| !o.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "backup-volfile-servers" | "backupvolfile-server" => hosts.extend(value.split(':').map(str::to_owned)),
            "port" => port = value.parse().map_err(|_| format!("port={value} is not a port"))?,
            "log-file" => args.log_file = Some(PathBuf::from(value)),
            "log-level" => args.log_level = Some(value.to_lowercase()),
            "ro" => args.read_only = true,
            name if PASSED_OVER.contains(&name) || name.starts_with("x-") || name.starts_with("comment") => {}
            _ => return Err(format!("unknown option {option}")),
        }
    }
    args.bricks = hosts
        .iter()
        .filter(|h| !h.is_empty())
        .map(|h| format!("{h}:{port}"))
        .collect();
    args.source = source;
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_fstab_line_of_the_seed() {
        let args = parsed("h1:/gVol0 /var/spool/mail -o rw,noatime,_netdev,nofail,x-systemd.automount").unwrap();
        assert_eq!((args.volume.as_str(), args.source.as_str()), ("gVol0", "h1:/gVol0"));
        assert_eq!(args.bricks, ["h1:24009"]);
    }

    #[test]
    fn backup_servers_and_port() {
        let args = parsed("h1:/v /m -o backup-volfile-servers=h2:h3,port=99").unwrap();
        assert_eq!(args.bricks, ["h1:99", "h2:99", "h3:99"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parsed("h1:/v /m -o bogus").unwrap_err().contains("bogus"));
        assert!(parsed("h1/v /m").unwrap_err().contains("HOST:/VOLUME"));
        assert!(parsed("h1:/v").is_err());
    }
}
