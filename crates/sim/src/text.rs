//! Plans as text: a line for each action, `1200 cut from=0 to=1 ms=500`, its time in ms first.
//!
//! Promises: what is printed can be read again. Lines that begin with `#` say something to people; the first ones may set up
//! the world: `policy witness`, `seed 7`.
//! Not here: expectations of a scenario (`scenario`).

use crate::plan::{Action, Job, Plan, Policy, Settings};
use std::{collections::BTreeMap, fmt, str::FromStr};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { at, mailbox, job } => {
                write!(f, "run at={at} mailbox={mailbox} ")?;
                match job {
                    Job::Postfix { lines, writes } => write!(f, "postfix=1 lines={lines} writes={writes}"),
                    Job::Dovecot { every, how } => write!(f, "dovecot=1 every={every} how={how}"),
                    Job::Mutt { lines } => write!(f, "mutt=1 lines={lines}"),
                    Job::Unlocked { lines } => write!(f, "unlocked=1 lines={lines}"),
                    Job::Reader => write!(f, "reader=1"),
                }
            }
            Self::KillOne { at, nth } => write!(f, "kill-program at={at} nth={nth}"),
            Self::Crash { brick, ms } => write!(f, "crash brick={brick} ms={ms}"),
            Self::Stop { brick, ms } => write!(f, "stop brick={brick} ms={ms}"),
            Self::Power { host, ms } => write!(f, "power-off host={host} ms={ms}"),
            Self::Cut { from, to, ms, refuses } => {
                write!(f, "cut from={from} to={to} ms={ms} refuses={}", u8::from(*refuses))
            }
            Self::Break { kind } => write!(f, "break kind={kind}"),
            Self::SlowNet { kind, more, ms } => write!(f, "slow-net kind={kind} more={more} ms={ms}"),
            Self::Freeze { brick, ms } => write!(f, "freeze brick={brick} ms={ms}"),
            Self::FreezeMount { at, ms } => write!(f, "freeze-mount at={at} ms={ms}"),
            Self::Stall { brick, ms, files } => write!(f, "stall brick={brick} ms={ms} files={}", u8::from(*files)),
            Self::SlowDisk { brick, more, ms } => write!(f, "slow-disk brick={brick} more={more} ms={ms}"),
            Self::FailSync { brick, after } => write!(f, "fail-sync brick={brick} after={after}"),
            Self::Rot { brick } => write!(f, "rot brick={brick}"),
            Self::RotLog { brick } => write!(f, "rot-log brick={brick}"),
            Self::RotSuperblock { brick } => write!(f, "rot-superblock brick={brick}"),
            Self::Full { brick, room } => write!(f, "full brick={brick} room={room}"),
            Self::Room { brick } => write!(f, "room brick={brick}"),
            Self::Clock { host, secs } => write!(f, "clock host={host} secs={secs}"),
            Self::KillDaemon { at } => write!(f, "kill-daemon at={at}"),
            Self::Remount { at } => write!(f, "remount at={at}"),
            Self::WitnessDown { ms } => write!(f, "witness-down ms={ms}"),
            Self::WitnessCut { brick, asks, tells, ms } => {
                write!(
                    f,
                    "witness-cut brick={brick} asks={} tells={} ms={ms}",
                    u8::from(*asks),
                    u8::from(*tells)
                )
            }
            Self::WitnessSlow { ms } => write!(f, "witness-slow ms={ms}"),
        }
    }
}

/// `key=value` words.
pub(crate) struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    pub(crate) fn of(words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let pairs = words.map(|w| w.split_once('=').ok_or_else(|| format!("{w:?} is no key=value")));
        pairs.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn get<T: FromStr>(&self, key: &str) -> Result<T, String> {
        let text = self.0.get(key).ok_or_else(|| format!("{key}= is missing"))?;
        text.parse().map_err(|_| format!("{key}={text} is no number that fits"))
    }

    fn or<T: FromStr>(&self, key: &str, default: T) -> Result<T, String> {
        if self.0.contains_key(key) {
            self.get(key)
        } else {
            Ok(default)
        }
    }

    fn side(&self, key: &str) -> Result<usize, String> {
        let side: usize = self.get(key)?;
        (side < 2)
            .then_some(side)
            .ok_or_else(|| format!("{key}={side}: there are servers 0 and 1"))
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        self.or(key, 0_u8).map(|n| n != 0)
    }

    fn job(&self) -> Result<Job, String> {
        let lines = self.or("lines", 1)?;
        let names = ["postfix", "dovecot", "mutt", "unlocked", "reader"];
        let name = names.iter().find(|n| self.0.contains_key(*n)).ok_or("which program?")?;
        Ok(match *name {
            "postfix" => Job::Postfix {
                lines,
                writes: self.or("writes", 1)?,
            },
            "dovecot" => Job::Dovecot {
                every: self.or("every", 2)?,
                how: self.or("how", 3)?,
            },
            "mutt" => Job::Mutt { lines },
            "unlocked" => Job::Unlocked { lines },
            _ => Job::Reader,
        })
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let verb = words.next().ok_or("an empty line")?;
        let w = Words::of(words)?;
        let of = [Self::of_programs, Self::of_bricks, Self::of_disks, Self::of_wires];
        let found = of.iter().find_map(|read| read(verb, &w).transpose());
        found.unwrap_or_else(|| Err(format!("{verb:?} is nothing that can be done")))
    }
}

/// The action of a verb, if it is of the kind.
impl Action {
    fn of_programs(verb: &str, w: &Words<'_>) -> Result<Option<Self>, String> {
        Ok(Some(match verb {
            "run" => Self::Run {
                at: w.side("at")?,
                mailbox: w.get("mailbox")?,
                job: w.job()?,
            },
            "kill-program" => Self::KillOne {
                at: w.side("at")?,
                nth: w.or("nth", 0)?,
            },
            "clock" => Self::Clock {
                host: w.side("host")?,
                secs: w.get("secs")?,
            },
            "kill-daemon" => Self::KillDaemon { at: w.side("at")? },
            "remount" => Self::Remount { at: w.side("at")? },
            _ => return Ok(None),
        }))
    }

    fn of_bricks(verb: &str, w: &Words<'_>) -> Result<Option<Self>, String> {
        let ms = || w.get("ms");
        Ok(Some(match verb {
            "crash" => Self::Crash {
                brick: w.side("brick")?,
                ms: ms()?,
            },
            "stop" => Self::Stop {
                brick: w.side("brick")?,
                ms: ms()?,
            },
            "power-off" => Self::Power {
                host: w.side("host")?,
                ms: ms()?,
            },
            "freeze" => Self::Freeze {
                brick: w.side("brick")?,
                ms: ms()?,
            },
            "freeze-mount" => Self::FreezeMount {
                at: w.side("at")?,
                ms: ms()?,
            },
            _ => return Ok(None),
        }))
    }

    fn of_disks(verb: &str, w: &Words<'_>) -> Result<Option<Self>, String> {
        let ms = || w.get("ms");
        Ok(Some(match verb {
            "stall" => Self::Stall {
                brick: w.side("brick")?,
                ms: ms()?,
                files: w.flag("files")?,
            },
            "slow-disk" => Self::SlowDisk {
                brick: w.side("brick")?,
                more: w.get("more")?,
                ms: ms()?,
            },
            "fail-sync" => Self::FailSync {
                brick: w.side("brick")?,
                after: w.get("after")?,
            },
            "rot" => Self::Rot {
                brick: w.side("brick")?,
            },
            "rot-log" => Self::RotLog {
                brick: w.side("brick")?,
            },
            "rot-superblock" => Self::RotSuperblock {
                brick: w.side("brick")?,
            },
            "full" => Self::Full {
                brick: w.side("brick")?,
                room: w.get("room")?,
            },
            "room" => Self::Room {
                brick: w.side("brick")?,
            },
            _ => return Ok(None),
        }))
    }

    fn of_wires(verb: &str, w: &Words<'_>) -> Result<Option<Self>, String> {
        let ms = || w.get("ms");
        Ok(Some(match verb {
            "cut" => Self::Cut {
                from: w.side("from")?,
                to: w.side("to")?,
                ms: ms()?,
                refuses: w.flag("refuses")?,
            },
            "break" => Self::Break { kind: w.get("kind")? },
            "slow-net" => Self::SlowNet {
                kind: w.get("kind")?,
                more: w.get("more")?,
                ms: ms()?,
            },
            "witness-down" => Self::WitnessDown { ms: ms()? },
            "witness-cut" => {
                let (asks, tells) = (w.flag("asks")?, w.flag("tells")?);
                Self::WitnessCut {
                    brick: w.side("brick")?,
                    asks,
                    tells,
                    ms: ms()?,
                }
            }
            "witness-slow" => Self::WitnessSlow { ms: ms()? },
            _ => return Ok(None),
        }))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.settings;
        writeln!(
            f,
            "policy {}\nseed {}\nnet {} {}\ndisk {} {}",
            s.policy.word(),
            s.seed,
            s.net_us.0,
            s.net_us.1,
            s.disk_us.0,
            s.disk_us.1
        )?;
        writeln!(f, "checkpoint {}\ndebt {}", s.checkpoint_bytes, s.log_debt_bytes)?;
        writeln!(f, "segment {}", s.segment_bytes)?;
        writeln!(f, "drift {} {}", s.drift[0], s.drift[1])?;
        if s.files {
            writeln!(f, "files")?;
        }
        self.actions
            .iter()
            .try_for_each(|(ms, action)| writeln!(f, "{ms} {action}"))
    }
}

/// The lines that set a world up; false: it is none of them.
pub(crate) fn set_up(settings: &mut Settings, line: &str) -> Result<bool, String> {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap_or("");
    let mut number = || {
        let text = words.next().unwrap_or("");
        text.parse::<u64>().map_err(|_| format!("{verb} {text:?}: no number"))
    };
    match verb {
        "policy" => {
            let word = line.split_whitespace().nth(1).unwrap_or("");
            settings.policy = Policy::from_word(word).ok_or_else(|| format!("{word:?} is no policy"))?;
        }
        "seed" => settings.seed = number()?,
        "net" => settings.net_us = (number()?, number()?),
        "disk" => settings.disk_us = (number()?, number()?),
        "checkpoint" => settings.checkpoint_bytes = number()? as usize,
        "debt" => settings.log_debt_bytes = number()? as usize,
        "segment" => settings.segment_bytes = number()?,
        "quiet" => settings.quiet = true,
        "files" => settings.files = true,
        "drift" => {
            let drift = |nth| line.split_whitespace().nth(nth).and_then(|t| t.parse().ok());
            settings.drift = [drift(1), drift(2)].map(Option::unwrap_or_default);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_that_is_printed_can_be_read() {
        for seed in 1..300 {
            for (_, action) in Plan::of(seed).actions {
                assert_eq!(action.to_string().parse(), Ok(action.clone()), "{action}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "jump",
            "crash brick=2 ms=1",
            "crash brick=0",
            "cut from=0 to=1 ms=x",
            "run at=0 mailbox=a",
        ] {
            assert!(line.parse::<Action>().is_err(), "{line}");
        }
    }
}
