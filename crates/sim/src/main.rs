//! `mboxfs-sim`: worlds from seeds, by hand.
//!
//! Exit codes: 0 all is well, 1 something broke, 2 wrong usage.

use mboxfs_sim::{
    journal::Show,
    plan::{Plan, Policy},
    run::run,
    shrink::tell,
};
use std::{
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

const USAGE: &str = "usage: mboxfs-sim --seed N [--policy none|witness|both] [--keep I,J,...] [--events|--trace]
       mboxfs-sim --seeds A..B [--policy P] [--jobs N] [--twice] [--brief]

Runs worlds of two servers from seeds. A failure is told with the shortest plan that was found, and how to see it again.
--keep    only these actions of the plan        --events  prints what happens
--brief   failures are not made shorter
--twice   each seed twice; both must be alike   --trace   prints every word and step";

struct Args {
    seeds: Range<u64>,
    policy: Option<Policy>,
    keep: Option<Vec<usize>>,
    show: Show,
    twice: bool,
    brief: bool,
    jobs: u64,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        seeds: 0..0,
        policy: None,
        keep: None,
        show: Show::Nothing,
        twice: false,
        brief: false,
        jobs: 1,
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                args.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("--seeds wants A..B")?;
                args.seeds = number(from)?..number(to)?;
            }
            "--policy" => args.policy = Some(Policy::from_word(&value()?).ok_or("no such policy")?),
            "--keep" => {
                let text = value()?;
                let all = text
                    .split(',')
                    .filter(|t| !t.is_empty())
                    .map(|t| number(t).map(|n| n as usize));
                args.keep = Some(all.collect::<Result<_, _>>()?);
            }
            "--events" => args.show = Show::Events,
            "--trace" => args.show = Show::Trace,
            "--twice" => args.twice = true,
            "--brief" => args.brief = true,
            "--jobs" => args.jobs = number(&value()?)?.max(1),
            _ => return Err(format!("{word:?} is not known")),
        }
    }
    if args.seeds.is_empty() {
        return Err("which seed?".into());
    }
    Ok(args)
}

impl Args {
    fn plan(&self, seed: u64) -> Plan {
        let plan = self
            .policy
            .map_or_else(|| Plan::of(seed), |policy| Plan::under(seed, policy));
        self.keep.as_ref().map_or(plan.clone(), |keep| plan.only(keep))
    }

    /// False: it broke.
    fn one(&self, seed: u64) -> bool {
        let plan = self.plan(seed);
        let show = if self.twice && self.show == Show::Nothing {
            Show::Sum
        } else {
            self.show
        };
        let outcome = run(&plan, show);
        if self.twice && run(&plan, show).sum != outcome.sum {
            println!("seed {seed}: two runs differ");
            return false;
        }
        let Some(broken) = outcome.broken else {
            return true;
        };
        if self.keep.is_some() || self.brief {
            println!("seed {seed}: {broken}");
        } else {
            println!("{}", tell(&plan, self.policy, &broken));
        }
        false
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("error: could not understand the command: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let next = AtomicU64::new(args.seeds.start);
    let broken = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= args.seeds.end {
                        return;
                    }
                    if !args.one(seed) {
                        broken.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let (count, broken) = (args.seeds.end - args.seeds.start, broken.into_inner());
    println!("{count} worlds, {broken} broken");
    ExitCode::from(u8::from(broken > 0))
}
