//! Words of the command line to commands, in gluster's order of words.
//!
//! Promises: what cannot be understood is named, with the nearest verb where there is one; no word is passed over in
//! silence.
//! Not here: doing it, and gluster's tables (`show`).

mod past;

use mboxfs_types::{
    Fingerprint,
    admin::{Ask, BrickSpec, Fault, Options as Set, ScrubVerb, VolumeVerb, is_brick_path, is_host, is_volume_name},
    limits,
    quorum::Policy,
};

pub(crate) use past::{Past, Since};

pub(crate) const HELP: &str = "\
usage: mboxfs [--brickd HOST:PORT] [--json] [--yes] [VERB ...]

  peer probe HOST[:PORT] [--fingerprint F]
                                     take a host into the pool; F: what `pool list` there shows for localhost. Without it the
                                     key that it has at the first meeting is taken; anew: after it was installed anew
  peer detach HOST [force]           take it out; force: also if it does not answer
  peer status, pool list             who is in it, and who answers
  volume create NAME replica 2 transport tcp HOST1:/PATH HOST2:/PATH [force]
  volume start NAME [force]          serve it; force: also where it is started already
  volume stop NAME, volume delete NAME
  volume set NAME KEY VALUE ...      with both bricks online; keys:
      quorum none|witness|both       who may go on alone when a brick is away: each brick (none, the default: both sides of a
                                     partition accept mail, merged later), the one that the witness names, or nobody
      witness HOST[:PORT]            where brickd --witness runs: on a third host; a new one, or anew, while it is in use
  volume get NAME KEY|all            one of them, or all
  volume force-solo NAME             let the brick of this host go on although its peer may have mail that it lacks
  volume replace-brick NAME HOST2:/OLD HOST:/NEW commit force
  volume reset-brick NAME HOST2:/PATH start | HOST2:/PATH HOST2:/PATH commit [force]
                                     an empty directory in the place of the other host's brick: start its brickd on
                                     it; this host's brick gives it everything, see heal status
  volume info [NAME], volume list    what was decided
  volume status [NAME]               what runs
  heal status [NAME] [--watch]       what is on one copy only, and why; --watch: until nothing is
  heal start [NAME]                  begin at once what would be begun by itself
  heal info|summary [NAME]           the same in gluster's words, as are
      volume heal NAME [info|info summary|info split-brain]
  log USER [--since T]               what changed a mailbox: when, through which host, and how
  trace MESSAGE-ID                   when a message was accepted, where it went, on which bricks it is
  undelete USER --since T [--list]   messages that were removed since T, and chosen ones back; T: 2h, 3d, 2026-11-27T10:00
  volume scrub NAME status           how far the search for rotten blocks is, and what it found; also: volume bitrot NAME scrub status
  volume scrub NAME start|pause|resume
                                     look at all files of both bricks now; rest; go on. A pass a week starts by itself
  drill crash --volume NAME [--here]
  drill slow-disk --volume NAME [--here]
                                     let a brick fail for 5 s and see what mail notices: the brick of
                                     the other host; --here: of this one
  drill partition --volume NAME      let the bricks lose one another for 5 s
  demo                               two servers on this machine, one of them broken and mended

Without a verb: a prompt (help, quit). --json: for scripts, with each status, info and list.
--yes: do not ask. --brickd: default 127.0.0.1:24009, or the variable MBOXFS_BRICKD; on another host of the cluster by the
key of this one, in /var/lib/mboxfs/identity.pem or what the variable MBOXFS_IDENTITY names. For root only.
Exit codes: 0 done, 1 refused or degraded, 2 wrong usage, 3 brickd not reachable, 130 interrupted.";

/// Verbs, for \"did you mean\".
const VERBS: &[(&str, &str)] = &[
    ("peer probe", "HOST [--fingerprint F]"),
    ("peer status", ""),
    ("peer detach", "HOST [force]"),
    ("pool list", ""),
    (
        "volume create",
        "NAME replica 2 transport tcp HOST1:/PATH HOST2:/PATH [force]",
    ),
    ("volume info", "[NAME]"),
    ("volume start", "NAME [force]"),
    ("volume stop", "NAME"),
    ("volume set", "NAME quorum none|witness|both | NAME witness HOST[:PORT]"),
    ("volume get", "NAME quorum|witness|all"),
    ("volume force-solo", "NAME"),
    ("volume replace-brick", "NAME HOST2:/OLD HOST:/NEW commit force"),
    (
        "volume reset-brick",
        "NAME HOST2:/PATH start | NAME HOST2:/PATH HOST2:/PATH commit [force]",
    ),
    ("volume delete", "NAME"),
    ("volume status", "[NAME]"),
    ("volume list", ""),
    ("volume scrub", "NAME start|status|pause|resume"),
    ("volume heal", "NAME [full | info | info summary | info split-brain]"),
    ("heal status", "[NAME] [--watch]"),
    ("heal start", "[NAME]"),
    ("heal full", "[NAME]"),
    ("heal info", "[NAME]"),
    ("heal summary", "[NAME]"),
    ("drill crash", "--volume NAME [--here]"),
    ("drill slow-disk", "--volume NAME [--here]"),
    ("drill partition", "--volume NAME"),
    ("undelete", "USER --since T [--list]"),
    ("log", "USER [--since T]"),
    ("trace", "MESSAGE-ID"),
    ("demo", ""),
];

/// Verbs with flags of their own.
const OWN_FLAGS: &[&str] = &["drill", "peer", "undelete", "log", "trace"];

/// Edits between what was typed and a verb that was meant, at most.
const TYPOS_MAX: usize = 3;

/// Flags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// `host:port`.
    pub(crate) brickd: String,
    pub(crate) json: bool,
    pub(crate) yes: bool,
    /// Ask again and again.
    pub(crate) watch: bool,
}

/// What cannot be understood, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wrong {
    pub(crate) why: String,
    pub(crate) hint: String,
}

fn wrong<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        why: why.into(),
        hint: hint.into(),
    })
}

/// What a line wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// No verb.
    Nothing,
    Help,
    Version,
    Demo,
    Drill(Drill),
    Past(Past),
    Command(Command),
}

/// What a drill is to break.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Drill {
    pub(crate) fault: Fault,
    pub(crate) volume: String,
    /// The brick of the brickd that is asked; else its peer.
    pub(crate) here: bool,
}

impl Drill {
    /// As it was typed.
    pub(crate) fn words(&self) -> String {
        let what = match self.fault {
            Fault::Crash => "crash",
            Fault::SlowDisk => "slow-disk",
            Fault::Partition => "partition",
        };
        let here = if self.here { " --here" } else { "" };
        format!("drill {what} --volume {}{here}", self.volume)
    }
}

/// A verb, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    Probe {
        host: String,
        port: u16,
        fingerprint: Option<Fingerprint>,
    },
    Detach {
        host: String,
        port: Option<u16>,
        force: bool,
    },
    PeerStatus,
    Pool,
    Create {
        name: String,
        bricks: [BrickSpec; 2],
        force: bool,
    },
    Change {
        name: String,
        verb: VolumeVerb,
        force: bool,
    },
    Set {
        name: String,
        options: Set,
    },
    Get {
        name: String,
        /// None: all.
        key: Option<Key>,
    },
    ForceSolo(String),
    Replace {
        name: String,
        old: BrickSpec,
        new: BrickSpec,
        /// `reset-brick`: the place stays.
        reset: bool,
        force: bool,
    },
    /// `reset-brick ... start`.
    Retire {
        name: String,
        brick: BrickSpec,
    },
    Info(Option<String>),
    Status(Option<String>),
    List,
    Heal(Option<String>),
    HealInfo(Option<String>),
    HealSummary(Option<String>),
    HealSplit(Option<String>),
    HealStart {
        name: Option<String>,
        full: bool,
    },
    /// None: its state.
    Scrub {
        name: String,
        verb: Option<ScrubVerb>,
    },
}

/// An option of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Quorum,
    Witness,
}

impl Key {
    pub(crate) const ALL: [Self; 2] = [Self::Quorum, Self::Witness];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Witness => "witness",
        }
    }

    fn new(word: &str) -> Result<Self, Wrong> {
        let found = Self::ALL.into_iter().find(|k| k.word() == word);
        found.map_or_else(
            || wrong(format!("no option '{word}'"), "the options are quorum and witness"),
            Ok,
        )
    }
}

impl Options {
    /// `named`: what the environment says.
    pub(crate) fn new(named: Option<&str>) -> Result<Self, Wrong> {
        Ok(Self {
            brickd: place(named.unwrap_or("127.0.0.1"))?,
            json: false,
            yes: false,
            watch: false,
        })
    }
}

/// `HOST[:PORT]`, an IPv6 address in brackets if there is a port. None: not that.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let number = |port: &str| port.parse::<u16>().ok().filter(|p| *p != 0).map(Some);
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (
            host,
            rest.strip_prefix(':')
                .map_or_else(|| rest.is_empty().then_some(None), number)?,
        )
    } else {
        match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, number(port)?),
            _ => (text, None), // a bare IPv6 address has more colons
        }
    };
    is_host(host).then(|| (host.to_owned(), port))
}

/// `host:port`, as it is dialled.
fn place(text: &str) -> Result<String, Wrong> {
    let Some((host, port)) = split(text) else {
        return wrong(format!("'{text}' is not HOST:PORT"), "mboxfs --brickd 127.0.0.1:24009");
    };
    let port = port.unwrap_or(limits::PORT);
    Ok(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

/// One line: flags anywhere, and at most one verb.
pub(crate) fn line(mut options: Options, all: &[String]) -> Result<(Options, Line), Wrong> {
    let mut verb: Vec<&str> = Vec::new();
    let mut special = None;
    let mut words = all.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--json" => options.json = true,
            "--yes" | "-y" | "--mode=script" => options.yes = true,
            "--help" | "-h" => special = Some(Line::Help),
            "--watch" => options.watch = true,
            "--version" | "-V" => special = Some(Line::Version),
            "--brickd" => match words.next() {
                Some(text) => options.brickd = place(text)?,
                None => return wrong("--brickd needs HOST:PORT", "mboxfs --brickd 127.0.0.1:24009"),
            },
            _ => match word.strip_prefix("--brickd=") {
                Some(text) => options.brickd = place(text)?,
                None if verb.first().is_some_and(|v| OWN_FLAGS.contains(v)) && word.starts_with("--") => {
                    verb.push(word)
                }
                None if word.starts_with('-') => return wrong(format!("unknown flag '{word}'"), "mboxfs help"),
                None => verb.push(word),
            },
        }
    }
    let line = match (special, verb.as_slice()) {
        (Some(line), _) => line,
        (None, []) => Line::Nothing,
        (None, ["help", ..]) => Line::Help,
        (None, ["version"]) => Line::Version,
        (None, ["demo"]) => Line::Demo,
        (None, ["drill", rest @ ..]) => Line::Drill(drill(rest)?),
        (None, words) => match past::past(words) {
            Some(past) => Line::Past(past?),
            None => Line::Command(command(words)?),
        },
    };
    if options.watch && !matches!(line, Line::Command(Command::Heal(_))) {
        return wrong("--watch is for heal status only", "mboxfs heal status --watch");
    }
    Ok((options, line))
}

fn command(words: &[&str]) -> Result<Command, Wrong> {
    let change = |name: &str, verb, force| volume_name(name).map(|name| Command::Change { name, verb, force });
    match words {
        ["peer", "probe", host, expected @ ..] if matches!(expected, [] | ["--fingerprint", _]) => {
            let (host, port) = peer(host)?;
            let port = port.unwrap_or(limits::PORT);
            Ok(Command::Probe {
                host,
                port,
                fingerprint: expected.get(1).map(|text| fingerprint(text)).transpose()?,
            })
        }
        ["peer", "detach", host, force @ ..] if matches!(force, [] | ["force"]) => {
            let (host, port) = peer(host)?;
            let force = !force.is_empty();
            Ok(Command::Detach { host, port, force })
        }
        ["peer", "status"] => Ok(Command::PeerStatus),
        ["pool", "list"] => Ok(Command::Pool),
        ["volume", "create", name, rest @ ..] => create(name, rest),
        ["volume", "start", name] => change(name, VolumeVerb::Start, false),
        ["volume", "start", name, "force"] => change(name, VolumeVerb::Start, true),
        ["volume", "set", name, pairs @ ..] if !pairs.is_empty() => set(name, pairs),
        ["volume", "get", name, key] => {
            let key = if *key == "all" { None } else { Some(Key::new(key)?) };
            volume_name(name).map(|name| Command::Get { name, key })
        }
        ["volume", "force-solo", name] => volume_name(name).map(Command::ForceSolo),
        ["volume", "replace-brick", name, old, new, "commit", "force"] => replace(name, old, new, false, true),
        ["volume", "reset-brick", name, old, "start"] => Ok(Command::Retire {
            name: volume_name(name)?,
            brick: brick(old)?,
        }),
        ["volume", "reset-brick", name, old, new, "commit"] => replace(name, old, new, true, false),
        ["volume", "reset-brick", name, old, new, "commit", "force"] => replace(name, old, new, true, true),
        ["volume", "stop", name] => change(name, VolumeVerb::Stop, false),
        ["volume", "delete", name] => change(name, VolumeVerb::Delete, false),
        ["volume", "info"] | ["volume", "info", "all"] => Ok(Command::Info(None)),
        ["volume", "info", name] => volume_name(name).map(|n| Command::Info(Some(n))),
        ["volume", "status"] | ["volume", "status", "all"] => Ok(Command::Status(None)),
        ["volume", "status", name] => volume_name(name).map(|n| Command::Status(Some(n))),
        ["volume", "list"] => Ok(Command::List),
        ["heal", verb, name @ ..] if name.len() < 2 => heal(words, &[verb], name.first().copied()),
        ["volume", "heal", name, verb @ ..] => heal(words, verb, Some(name)),
        ["volume", "scrub", name, verb] | ["volume", "bitrot", name, "scrub", verb] => scrub(name, verb),
        _ => unknown(words),
    }
}

fn replace(name: &str, old: &str, new: &str, reset: bool, force: bool) -> Result<Command, Wrong> {
    let (old, new) = (brick(old)?, brick(new)?);
    if reset && old.path != new.path {
        let hint = "another place: mboxfs volume replace-brick";
        return wrong("reset-brick keeps the brick's place, and these are two", hint);
    }
    Ok(Command::Replace {
        name: volume_name(name)?,
        old,
        new,
        reset,
        force,
    })
}

/// gluster's words, too: `ondemand` begins a pass.
fn scrub(name: &str, verb: &str) -> Result<Command, Wrong> {
    let verb = match verb {
        "status" => None,
        "start" | "ondemand" => Some(ScrubVerb::Start),
        "pause" => Some(ScrubVerb::Pause),
        "resume" => Some(ScrubVerb::Resume),
        _ => {
            return wrong(
                format!("'{verb}' is nothing that a scrub can do"),
                "start, status, pause or resume",
            );
        }
    };
    volume_name(name).map(|name| Command::Scrub { name, verb })
}

fn heal(words: &[&str], verb: &[&str], name: Option<&str>) -> Result<Command, Wrong> {
    let name = name.map(volume_name).transpose()?;
    Ok(match verb {
        ["status"] if words[0] == "heal" => Command::Heal(name),
        [] | ["start"] => Command::HealStart { name, full: false },
        ["full"] => Command::HealStart { name, full: true },
        ["info"] => Command::HealInfo(name),
        ["summary"] | ["info", "summary"] => Command::HealSummary(name),
        ["info", "split-brain"] => Command::HealSplit(name),
        _ => return unknown(words),
    })
}

fn drill(words: &[&str]) -> Result<Drill, Wrong> {
    const USAGE: &str = "mboxfs drill crash|slow-disk|partition --volume NAME [--here]";
    let (fault, mut rest) = match words {
        ["crash", rest @ ..] => (Fault::Crash, rest),
        ["slow-disk", rest @ ..] => (Fault::SlowDisk, rest),
        ["partition", rest @ ..] => (Fault::Partition, rest),
        [] => return wrong("what to break is missing", USAGE),
        [other, ..] => return wrong(format!("unknown drill '{other}'"), USAGE),
    };
    let (mut volume, mut here) = (None, false);
    loop {
        rest = match rest {
            [] => break,
            ["--here", rest @ ..] => {
                here = true;
                rest
            }
            ["--volume", name, rest @ ..] => {
                volume = Some(volume_name(name)?);
                rest
            }
            [word, rest @ ..] => match word.strip_prefix("--volume=") {
                Some(name) => {
                    volume = Some(volume_name(name)?);
                    rest
                }
                None => return wrong(format!("unknown word '{word}'"), USAGE),
            },
        };
    }
    if here && fault == Fault::Partition {
        return wrong("a link has two ends: --here is for the other drills", USAGE);
    }
    match volume {
        Some(volume) => Ok(Drill { fault, volume, here }),
        None => wrong("the volume is missing", USAGE),
    }
}

/// `KEY VALUE ...`
fn set(name: &str, pairs: &[&str]) -> Result<Command, Wrong> {
    let name = volume_name(name)?;
    let mut options = Set::default();
    for pair in pairs.chunks(2) {
        let [key, value] = pair else {
            let key = pair.concat();
            return wrong(
                format!("option '{key}' needs a value"),
                format!("mboxfs volume get {name} all"),
            );
        };
        match Key::new(key)? {
            Key::Quorum => match Policy::from_word(value) {
                Some(policy) => options.policy = Some(policy),
                None => return wrong(format!("'{value}' is no quorum"), "none, witness or both"),
            },
            Key::Witness => match split(value) {
                Some((host, port)) => options.witness = Some((host, port.unwrap_or(limits::PORT))),
                None => return wrong(format!("'{value}' is not HOST[:PORT]"), "for example h3:24009"),
            },
        }
    }
    Ok(Command::Set { name, options })
}

fn peer(text: &str) -> Result<(String, Option<u16>), Wrong> {
    split(text).map_or_else(|| wrong(format!("'{text}' is no host"), "mboxfs peer probe HOST"), Ok)
}

fn volume_name(name: &str) -> Result<String, Wrong> {
    if is_volume_name(name) {
        return Ok(name.to_owned());
    }
    wrong(
        format!("'{name}' is no name for a volume"),
        "letters, digits, '_', '-' and '.'",
    )
}

fn unknown<T>(words: &[&str]) -> Result<T, Wrong> {
    let said = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    if let Some((verb, rest)) = VERBS.iter().find(|(verb, _)| *verb == said) {
        let usage = format!("mboxfs {verb} {rest}");
        return wrong(format!("wrong words after '{verb}'"), usage.trim_end());
    }
    let near = VERBS.iter().map(|(verb, _)| (distance(verb, &said), verb)).min();
    match near {
        // Of a short verb half must be there: else anything is near.
        Some((edits, verb)) if edits <= TYPOS_MAX && edits * 2 <= verb.len() => {
            wrong(format!("unknown verb '{said}'"), format!("did you mean: mboxfs {verb}"))
        }
        _ => wrong(format!("unknown verb '{said}'"), "mboxfs help"),
    }
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

fn create(name: &str, rest: &[&str]) -> Result<Command, Wrong> {
    const USAGE: &str = "mboxfs volume create NAME replica 2 transport tcp HOST1:/PATH HOST2:/PATH [force]";
    let name = volume_name(name)?;
    let mut words = rest;
    let mut replica = None;
    loop {
        words = match words {
            ["replica", count, rest @ ..] => {
                replica = Some(*count);
                rest
            }
            ["transport", "tcp", rest @ ..] => rest,
            ["transport", other, ..] => return wrong(format!("transport '{other}' is not supported, only tcp"), USAGE),
            _ => break,
        };
    }
    let (words, force) = match words {
        [bricks @ .., "force"] => (bricks, true),
        bricks => (bricks, false),
    };
    match replica {
        Some("2") => {}
        Some(other) => return wrong(format!("replica {other} is not supported, only 2"), USAGE),
        None => return wrong("the replica count is missing", USAGE),
    }
    let [one, two] = words else {
        let count = words.len();
        return wrong(format!("replica 2 needs two bricks, {count} given"), USAGE);
    };
    Ok(Command::Create {
        name,
        bricks: [brick(one)?, brick(two)?],
        force,
    })
}

fn fingerprint(text: &str) -> Result<Fingerprint, Wrong> {
    text.parse().or_else(|()| {
        let why = format!("'{text}' is no fingerprint: it has 64 hex digits");
        wrong(why, "mboxfs pool list")
    })
}

/// `HOST[:PORT]:/PATH`.
fn brick(spec: &str) -> Result<BrickSpec, Wrong> {
    let parts = spec
        .split_once(":/")
        .map(|(place, rest)| (split(place), format!("/{rest}")));
    match parts {
        Some((Some((host, port)), path)) if is_brick_path(&path) => {
            let whole = path.trim_end_matches('/');
            let path = if whole.is_empty() { "/" } else { whole }.to_owned();
            Ok(BrickSpec { host, port, path })
        }
        _ => wrong(format!("'{spec}' is not HOST:/PATH"), "for example H1:/glusterfs/vol0"),
    }
}

impl Command {
    /// What brickd is asked.
    pub(crate) fn ask(&self) -> Ask {
        match self.clone() {
            Self::Probe {
                host,
                port,
                fingerprint,
            } => Ask::Probe {
                host,
                port,
                fingerprint,
            },
            Self::Detach { host, port, force } => Ask::Detach { host, port, force },
            Self::Create { name, bricks, force } => Ask::Create { name, bricks, force },
            Self::Change { name, verb, force } => Ask::Change { name, verb, force },
            Self::Set { name, options } => Ask::Set {
                name,
                options,
                relayed: false,
            },
            Self::ForceSolo(name) => Ask::ForceSolo { name },
            Self::Replace {
                name, old, new, force, ..
            } => Ask::Replace { name, old, new, force },
            Self::Retire { name, brick } => Ask::Retire { name, brick },
            Self::Scrub { name, verb: Some(verb) } => Ask::Scrub {
                name,
                verb,
                relayed: false,
            },
            Self::HealStart { name, full } => Ask::Heal {
                name,
                full,
                relayed: false,
            },
            Self::List | Self::Info(_) | Self::Get { .. } => Ask::Status { deep: false }, // both sides remember the same
            _ => Ask::Status { deep: true },
        }
    }

    /// Changes nothing: its answer is data.
    pub(crate) const fn is_question(&self) -> bool {
        !matches!(
            self,
            Self::Probe { .. }
                | Self::Detach { .. }
                | Self::Create { .. }
                | Self::Change { .. }
                | Self::Set { .. }
                | Self::ForceSolo(_)
                | Self::HealStart { .. }
                | Self::Replace { .. }
                | Self::Retire { .. }
                | Self::Scrub { verb: Some(_), .. }
        )
    }

    /// What to ask before doing it.
    pub(crate) fn question(&self) -> Option<String> {
        let text = match self {
            Self::Change {
                verb: VolumeVerb::Stop, ..
            } => "Stopping volume will make its data inaccessible.",
            Self::Change {
                verb: VolumeVerb::Delete,
                ..
            } => "Deleting volume will erase all information about the volume.",
            Self::ForceSolo(_) => {
                "Mail that only the other brick accepted is missing here until it is back. If it serves now, or was alone \
                 last, both copies diverge and have to be merged."
            }
            Self::Retire { .. } => "Mail is on one copy only from then on, until the brick is back.",
            Self::Detach { host, .. } => {
                let mounts = format!("All clients mounted through the peer {host} need to be remounted.");
                return Some(format!("{mounts} Do you want to proceed?"));
            }
            _ => return None,
        };
        Some(format!("{text} Do you want to continue?"))
    }

    /// As it was typed.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Detach { host, force, .. } => format!("peer detach {host}{}", if *force { " force" } else { "" }),
            Self::Change { name, .. } | Self::ForceSolo(name) => format!("{} {name}", self.prefix()),
            Self::Retire { name, brick } => format!("{} {name} {}:{} start", self.prefix(), brick.host, brick.path),
            _ => self.prefix().to_owned(),
        }
    }

    /// How gluster begins a line about it.
    pub(crate) const fn prefix(&self) -> &'static str {
        match self {
            Self::Probe { .. } => "peer probe",
            Self::Detach { .. } => "peer detach",
            Self::PeerStatus => "peer status",
            Self::Pool => "pool list",
            Self::Create { .. } => "volume create",
            Self::Change {
                verb: VolumeVerb::Start,
                ..
            } => "volume start",
            Self::Change {
                verb: VolumeVerb::Stop, ..
            } => "volume stop",
            Self::Change {
                verb: VolumeVerb::Delete,
                ..
            } => "volume delete",
            Self::Set { .. } => "volume set",
            Self::Get { .. } => "volume get",
            Self::ForceSolo(_) => "volume force-solo",
            Self::Replace { reset: false, .. } => "volume replace-brick",
            Self::Replace { .. } | Self::Retire { .. } => "volume reset-brick",
            Self::Info(_) => "volume info",
            Self::Status(_) => "volume status",
            Self::List => "volume list",
            Self::Heal(_) => "heal status",
            Self::HealInfo(_) => "volume heal info",
            Self::Scrub { .. } => "volume scrub",
            Self::HealSummary(_) => "volume heal info summary",
            Self::HealSplit(_) => "volume heal info split-brain",
            Self::HealStart { .. } => "volume heal",
        }
    }

    /// `could not ...`
    pub(crate) fn phrase(&self) -> String {
        match self {
            Self::Probe { host, .. } => format!("probe {host}"),
            Self::Detach { host, .. } => format!("detach {host}"),
            Self::Create { name, .. } => format!("create volume {name}"),
            Self::Change { name, verb, .. } => match verb {
                VolumeVerb::Start => format!("start volume {name}"),
                VolumeVerb::Stop => format!("stop volume {name}"),
                VolumeVerb::Delete => format!("delete volume {name}"),
            },
            Self::Set { name, .. } => format!("set options of volume {name}"),
            Self::Get { name, .. } => format!("show options of volume {name}"),
            Self::ForceSolo(name) => format!("let volume {name} go on alone"),
            Self::Replace { name, .. } => format!("replace a brick of volume {name}"),
            Self::Retire { name, .. } => format!("take a brick of volume {name} out of service"),
            Self::Scrub { name, verb: Some(verb) } => match verb {
                ScrubVerb::Start => format!("scrub volume {name}"),
                ScrubVerb::Pause => format!("pause the scrub of volume {name}"),
                ScrubVerb::Resume => format!("resume the scrub of volume {name}"),
            },
            Self::HealStart { .. } => "start a heal".to_owned(),
            _ => format!("show {}", self.prefix()),
        }
    }

    /// gluster's line for a refusal; none: it has none.
    pub(crate) fn refusal(&self, why: &str) -> Option<String> {
        let (prefix, why) = (self.prefix(), crate::show::clean(why));
        match self {
            Self::Probe { .. } | Self::Detach { .. } => Some(format!("{prefix}: failed: {why}")),
            Self::Replace { .. } | Self::Retire { .. } => Some(format!("{prefix}: failed: {why}")),
            Self::Create { name, .. } | Self::Change { name, .. } => Some(format!("{prefix}: {name}: failed: {why}")),
            Self::HealStart { name: Some(name), full } => Some(format!(
                "Launching heal operation to perform {} self heal on volume {name} has been unsuccessful:\n{why}",
                crate::show::crawl(*full)
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
