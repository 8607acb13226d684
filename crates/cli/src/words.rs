//! Words of the command line to commands, in gluster's order of words.
//!
//! Promises: what cannot be understood is named, with the nearest verb where there is one. Not here: doing it.

use mboxfs_rpc::admin::AdminBrick;
use mboxfs_types::limits;

/// Flags before the verb, or anywhere behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) brickd: String,
    pub(crate) json: bool,
    pub(crate) yes: bool,
    pub(crate) help: bool,
    pub(crate) version: bool,
}

/// What is wanted.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Command {
    Probe(String),
    PeerStatus,
    Detach(String),
    Pool,
    Create {
        name: String,
        bricks: Vec<AdminBrick>,
        force: bool,
    },
    Info(Option<String>),
    Start(String),
    Stop(String),
    Delete(String),
    Status(Option<String>),
    List,
    Heal(Option<String>),
}

pub(crate) fn options(all: &[String]) -> Result<(Options, Vec<String>), String> {
    let brickd = std::env::var("MBOXFS_BRICKD").unwrap_or_else(|_| format!("127.0.0.1:{}", limits::PORT));
    let mut options = Options {
        brickd,
        json: false,
        yes: false,
        help: false,
        version: false,
    };
    let mut rest = Vec::new();
    let mut words = all.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--brickd" => options
                .brickd
                .clone_from(words.next().ok_or("--brickd needs HOST:PORT")?),
            "--json" => options.json = true,
            "--yes" | "-y" | "--mode=script" => options.yes = true,
            "--help" | "-h" => options.help = true,
            "--version" | "-V" => options.version = true,
            w if w.starts_with('-') => return Err(format!("unknown flag {w}")),
            _ => rest.push(word.clone()),
        }
    }
    Ok((options, rest))
}

const VERBS: &[&str] = &[
    "peer probe",
    "peer status",
    "peer detach",
    "pool list",
    "volume create",
    "volume info",
    "volume start",
    "volume stop",
    "volume delete",
    "volume status",
    "volume list",
    "volume heal",
    "heal status",
];

pub(crate) fn command(words: &[String]) -> Result<Command, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let own = |s: &str| s.to_owned();
    match words.as_slice() {
        ["peer", "probe", host] => Ok(Command::Probe(own(host))),
        ["peer", "status"] => Ok(Command::PeerStatus),
        ["peer", "detach", host] | ["peer", "detach", host, "force"] => Ok(Command::Detach(own(host))),
        ["pool", "list"] => Ok(Command::Pool),
        ["volume", "create", name, rest @ ..] => create(name, rest),
        ["volume", "info"] | ["volume", "info", "all"] => Ok(Command::Info(None)),
        ["volume", "info", name] => Ok(Command::Info(Some(own(name)))),
        ["volume", "start", name] | ["volume", "start", name, "force"] => Ok(Command::Start(own(name))),
        ["volume", "stop", name] | ["volume", "stop", name, "force"] => Ok(Command::Stop(own(name))),
        ["volume", "delete", name] => Ok(Command::Delete(own(name))),
        ["volume", "status"] | ["volume", "status", "all"] => Ok(Command::Status(None)),
        ["volume", "status", name] => Ok(Command::Status(Some(own(name)))),
        ["volume", "list"] => Ok(Command::List),
        ["heal", "status"] => Ok(Command::Heal(None)),
        ["heal", "status", name] | ["volume", "heal", name, "info"] => Ok(Command::Heal(Some(own(name)))),
        _ => Err(unknown(&words)),
    }
}

fn unknown(words: &[&str]) -> String {
    let said = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    let close = |v: &&&str| distance(v, &said) <= 3;
    let near = VERBS.iter().filter(close).min_by_key(|v| distance(v, &said));
    if VERBS.contains(&said.as_str()) {
        return format!("wrong words after \"{said}\"");
    }
    near.map_or_else(
        || format!("unknown verb \"{said}\""),
        |v| format!("unknown verb \"{said}\". Did you mean \"{v}\"?"),
    )
}

/// Edits from one to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn create(name: &str, rest: &[&str]) -> Result<Command, String> {
    let mut bricks = Vec::new();
    let mut force = false;
    let mut replica = "2";
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match *word {
            "replica" => replica = words.next().ok_or("replica needs a count")?,
            "transport" => {
                words.next();
            }
            "force" => force = true,
            spec => bricks.push(brick(spec)?),
        }
    }
    if replica != "2" || bricks.len() != 2 {
        return Err("a volume has replica 2 and two bricks, HOST1:/PATH HOST2:/PATH".to_owned());
    }
    if name.is_empty()
        || name
            .bytes()
            .any(|b| !b.is_ascii_alphanumeric() && b != b'_' && b != b'-' && b != b'.')
    {
        return Err(format!("{name} is no name for a volume"));
    }
    Ok(Command::Create {
        name: name.to_owned(),
        bricks,
        force,
    })
}

/// `HOST[:PORT]:/PATH`.
fn brick(spec: &str) -> Result<AdminBrick, String> {
    let bad = || format!("{spec} is not HOST:/PATH");
    let at = spec.find(":/").ok_or_else(bad)?;
    let (place, path) = (&spec[..at], &spec[at + 1..]);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
        None => (place, limits::PORT),
    };
    if host.is_empty() {
        return Err(bad());
    }
    Ok(AdminBrick {
        host: host.to_owned(),
        port: u32::from(port),
        path: path.to_owned(),
    })
}

impl Command {
    /// Changes nothing: its answer is data.
    pub(crate) const fn is_question(&self) -> bool {
        matches!(
            self,
            Self::PeerStatus | Self::Pool | Self::Info(_) | Self::Status(_) | Self::List | Self::Heal(_)
        )
    }

    /// What to ask before doing it.
    pub(crate) fn question(&self) -> Option<String> {
        match self {
            Self::Stop(_) => Some("Stopping volume will make its data inaccessible. Do you want to continue?".into()),
            Self::Delete(_) => {
                Some("Deleting volume will erase all information about the volume. Do you want to continue?".into())
            }
            Self::Detach(host) => Some(format!(
                "All clients mounted through {host} must be remounted. Do you want to continue?"
            )),
            _ => None,
        }
    }

    pub(crate) fn phrase(&self) -> String {
        match self {
            Self::Probe(host) => format!("probe {host}"),
            Self::Detach(host) => format!("detach {host}"),
            Self::Create { name, .. } => format!("create volume {name}"),
            Self::Start(name) => format!("start volume {name}"),
            Self::Stop(name) => format!("stop volume {name}"),
            Self::Delete(name) => format!("delete volume {name}"),
            _ => "ask brickd".to_owned(),
        }
    }

    /// gluster's words for a refusal.
    pub(crate) fn refusal(&self, why: &str) -> String {
        match self {
            Self::Probe(_) if why.ends_with("already in peer list") || why.ends_with("not needed") => {
                format!("peer probe: {why}")
            }
            Self::Probe(_) => format!("peer probe: failed: {why}"),
            Self::Detach(_) => format!("peer detach: failed: {why}"),
            Self::Create { name, .. } => format!("volume create: {name}: failed: {why}"),
            Self::Start(name) => format!("volume start: {name}: failed: {why}"),
            Self::Stop(name) => format!("volume stop: {name}: failed: {why}"),
            Self::Delete(name) => format!("volume delete: {name}: failed: {why}"),
            _ => format!("error: could not {}: {why}", self.phrase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        command(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_seeds_words() {
        let made = parsed("volume create gVol0 replica 2 transport tcp H1:/glusterfs/vol0 H2:/glusterfs/vol0").unwrap();
        let Command::Create { name, bricks, force } = made else {
            panic!("a create")
        };
        assert_eq!((name.as_str(), bricks.len(), force), ("gVol0", 2, false));
        assert_eq!(
            (bricks[1].host.as_str(), bricks[1].port, bricks[1].path.as_str()),
            ("H2", 24009, "/glusterfs/vol0")
        );
        assert_eq!(parsed("peer probe H2").unwrap(), Command::Probe("H2".into()));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(
            parsed("volume crate x")
                .unwrap_err()
                .contains("Did you mean \"volume create\"")
        );
        assert!(parsed("volume start").unwrap_err().contains("wrong words"));
        assert!(parsed("bogus").is_err());
        assert!(parsed("volume create v replica 3 a:/x b:/y").is_err());
        assert!(
            parsed("volume create v replica 2 a b:/y")
                .unwrap_err()
                .contains("HOST:/PATH")
        );
    }
}
