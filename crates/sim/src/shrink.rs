//! A shorter plan that breaks the same invariant.
//!
//! Promises: what is returned breaks it. Not here: the shortest of all.

use crate::{
    invariants::Broken,
    journal::Show,
    plan::{Plan, Policy},
    run::run,
};

/// Runs that are tried.
const TRIES: usize = 400;

/// Positions of the actions that are enough, of those that `keep` names.
#[must_use]
pub fn shrink(plan: &Plan, keep: Vec<usize>, invariant: &str) -> Vec<usize> {
    let mut keep = keep;
    let mut tries = 0;
    let mut chunk = keep.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut less = false;
        while at < keep.len() {
            if tries >= TRIES {
                return keep;
            }
            tries += 1;
            let mut fewer = keep.clone();
            fewer.drain(at..(at + chunk).min(keep.len()));
            let broken = run(&plan.only(&fewer), Show::Nothing).broken;
            if broken.is_some_and(|b| b.invariant == invariant) {
                keep = fewer;
                less = true;
            } else {
                at += chunk;
            }
        }
        if chunk == 1 && !less {
            return keep;
        }
        chunk = (chunk / 2).max(1);
    }
}

/// The command that shows it again.
#[must_use]
pub fn command(plan: &Plan, policy: Option<Policy>, keep: &[usize]) -> String {
    let policy = policy.map_or(String::new(), |p| format!(" --policy {}", p.word()));
    let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
    format!(
        "cargo run -p mboxfs-sim -- --seed {}{policy} --keep {} --events",
        plan.settings.seed,
        keep.join(",")
    )
}

/// What broke, the shortest plan that was found, and how to see it again. `policy`: the one that was asked for.
#[must_use]
pub fn tell(plan: &Plan, policy: Option<Policy>, broken: &Broken) -> String {
    let keep = shrink(plan, (0..plan.actions.len()).collect(), broken.invariant);
    let short = plan.only(&keep);
    let again = run(&short, Show::Nothing)
        .broken
        .map_or(String::new(), |b| format!("# {b}\n"));
    format!(
        "seed {}: {broken}\n{short}{again}again: {}",
        plan.settings.seed,
        command(plan, policy, &keep)
    )
}

impl Plan {
    /// With these of its actions only.
    #[must_use]
    pub fn only(&self, keep: &[usize]) -> Self {
        let actions = self.actions.iter().enumerate();
        Self {
            settings: self.settings.clone(),
            actions: actions
                .filter(|(i, _)| keep.contains(i))
                .map(|(_, a)| a.clone())
                .collect(),
        }
    }
}
