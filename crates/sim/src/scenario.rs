//! Scenarios: a plan written down, with what is to be seen at certain moments. `testdata/*.txt`.
//!
//! ```text
//! # what it shows
//! policy witness
//! 1000 run at=0 mailbox=alice postfix=1
//! 1500 crash brick=1 ms=4000
//! 4500 expect brick=0 is=Solo
//! ```
//!
//! Times are ms from the moment at which both bricks work. `expect`: `brick=B is=STATUS` (`Down`), `kept=N` (messages that
//! were acknowledged, at least), `serving=N` (bricks), `forks=N`, `resyncs=N` (times that a brick got the files of its peer),
//! `trips=N` (round trips between the bricks that somebody waited for, since the last `mark`). First lines: `policy P`, `seed N`, `net LEAST MOST` and `disk LEAST MOST` (us),
//! `checkpoint BYTES`, `quiet` (nobody looks at mailboxes between the programs), `files` (real ones, too).
//!
//! Promises: at the end everything is made whole, comes to rest, and must be right, as in every world.
//! Not here: actions (`text`).

use crate::{
    invariants::Broken,
    journal::Show,
    plan::{Action, Settings},
    text::{Words, set_up},
    world::{MS, World},
};
use mboxfs_types::admin::Status;

enum Step {
    Act(Action),
    Mark,
    /// In words.
    Expect(String),
}

/// See above.
pub struct Scenario {
    settings: Settings,
    steps: Vec<(u64, Step)>,
}

impl Scenario {
    /// # Errors
    /// Which line makes no sense, and why.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut scenario = Self {
            settings: Settings::calm(1),
            steps: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if !line.is_empty() {
                scenario
                    .line(line)
                    .map_err(|why| format!("line {}: {why}", number + 1))?;
            }
        }
        scenario.steps.sort_by_key(|(ms, _)| *ms);
        Ok(scenario)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if set_up(&mut self.settings, line)? {
            return Ok(());
        }
        let (ms, what) = line.split_once(' ').ok_or("a time and what to do")?;
        let ms = ms.parse().map_err(|_| format!("{ms:?} is no time in ms"))?;
        let step = match what.trim().split_once(' ') {
            Some(("expect", words)) => {
                Words::of(words.split_whitespace())?;
                Step::Expect(words.trim().to_string())
            }
            None if what.trim() == "mark" => Step::Mark,
            _ => Step::Act(what.parse()?),
        };
        self.steps.push((ms, step));
        Ok(())
    }

    /// Plays it to its end.
    ///
    /// # Errors
    /// What broke, or was not as expected.
    pub fn play(&self, show: Show) -> Result<(), Broken> {
        let mut world = World::with(self.settings.clone(), show);
        world.begin(self.settings.policy)?;
        let start = world.now;
        let mut marked = 0;
        for (ms, step) in &self.steps {
            world.run_until(start + ms * MS);
            world.ok()?;
            match step {
                Step::Act(action) => world.act(action),
                Step::Mark => marked = world.round_trips(),
                Step::Expect(words) => {
                    let met = world.meets(words, marked);
                    met.map_err(|why| Broken::new("expect", "the scenario's", format!("{ms} expect {words}: {why}")))?;
                }
            }
        }
        world.mend();
        world.rest(crate::run::REST_WITHIN)?;
        world.audit()
    }
}

impl World {
    /// Round trips between the bricks that somebody waited for, as the bricks that are up count them.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.hosts
            .iter()
            .filter_map(|h| h.report())
            .map(|r| r.round_trips)
            .sum()
    }

    fn meets(&self, words: &str, marked: u64) -> Result<(), String> {
        let w = Words::of(words.split_whitespace())?;
        let serves = |i: &usize| matches!(self.status(*i), Some(Status::Solo | Status::Normal | Status::Diverged));
        for word in words.split_whitespace() {
            let (key, _) = word.split_once('=').ok_or("key=value")?;
            let seen = match key {
                "brick" => continue,
                "is" => {
                    let brick: usize = w.get("brick")?;
                    let is = self.hosts.get(brick).ok_or("which brick?")?.status();
                    let is = is.map_or("Down".into(), |s| format!("{s:?}"));
                    if is == w.get::<String>("is")? {
                        continue;
                    }
                    return Err(format!("it is {is}"));
                }
                "kept" if self.acknowledged() as u64 >= w.get("kept")? => continue,
                "kept" => self.acknowledged() as u64,
                "serving" => (0..2).filter(serves).count() as u64,
                "forks" => u64::from(self.forks),
                "resyncs" => u64::from(self.resyncs),
                "trips" => self.round_trips() - marked,
                _ => return Err(format!("{key} is nothing that can be seen")),
            };
            if seen != w.get::<u64>(key)? {
                return Err(format!("{key} is {seen}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_is_not_met_says_so() {
        let ok = Scenario::read("# all\n10 run at=0 mailbox=a postfix=1\n900 expect kept=1 serving=2\n").expect("good");
        ok.play(Show::Nothing).expect("is met");
        let not = Scenario::read("10 run at=0 mailbox=a postfix=1\n900 expect kept=2\n").expect("good");
        assert_eq!(not.play(Show::Nothing).map_err(|b| b.invariant), Err("expect"));
    }

    #[test]
    fn nonsense_is_told_with_its_line() {
        let why = |text| Scenario::read(text).map(|_| ()).unwrap_err();
        assert!(why("\nnow crash brick=0 ms=1").contains("line 2"));
        assert!(why("10 expect something").contains("key=value"));
        assert!(why("policy all").contains("no policy"));
    }
}
