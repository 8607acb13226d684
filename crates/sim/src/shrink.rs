//! A shorter plan that breaks the same invariant.
//!
//! Promises: what is returned breaks it. Not here: the shortest of all.

use crate::{journal::Show, plan::Plan, run::run};

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

impl Plan {
    /// With these of its actions only.
    #[must_use]
    pub fn only(&self, keep: &[usize]) -> Self {
        let actions = self.actions.iter().enumerate();
        Self {
            settings: self.settings.clone(),
            actions: actions.filter(|(i, _)| keep.contains(i)).map(|(_, a)| a.clone()).collect(),
        }
    }
}
