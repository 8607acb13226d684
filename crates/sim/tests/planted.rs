//! Bugs that are planted one by one are found, each within its number of seeds: a checker that never caught anything is not
//! trusted.
//!
//! One rule takes too many seeds: that a lock waits for older answers to have been looked at (6 400; `client::told` T6). Two cannot
//! be shown this way, each being the second of two: a brick that goes on alone before its promise is over
//! waits for the other one's mounts all the same (`GRACE` is longer); and what was staged for another line of history is dropped
//! by its mount before the brick would have to refuse it, but for a request that is just under way.

#![cfg(feature = "planted")]

use mboxfs_sim::{
    journal::Show,
    plan::{Plan, Policy},
    run::run,
};
use mboxfs_types::planted::Bug;

/// Bug, the policy that shows it (none: any), seeds within which it is found.
const BUGS: [(Bug, Option<Policy>, u64); 23] = [
    (Bug::ReplyBeforePeer, None, 20),
    (Bug::AckBeforeSync, None, 20),
    (Bug::SyncForgotten, None, 200),
    (Bug::LearnerEarly, None, 200),
    (Bug::JointAlone, None, 200),
    (Bug::SoloUnrecorded, None, 50),
    (Bug::WitnessUnasked, Some(Policy::Witness), 200),
    (Bug::GraceSkipped, None, 400),
    (Bug::RetriedTwice, None, 200),
    (Bug::WrittenTwice, None, 200),
    (Bug::LocksOutlive, None, 200),
    (Bug::OneSideWins, Some(Policy::None), 100),
    (Bug::LeaseKept, None, 200),
    (Bug::KernelNotTold, None, 50),
    (Bug::SizeNotSeen, None, 200),
    (Bug::DotlockNotReaped, None, 200),
    (Bug::FsyncLies, None, 200),
    (Bug::OffsetBelieved, None, 20),
    (Bug::CacheKept, None, 100),
    (Bug::LockGivenAway, None, 100),
    (Bug::SecondsStand, None, 20),
    (Bug::RotServed, None, 400),
    (Bug::RotCut, None, 800),
];

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, policy, within) in BUGS {
        Bug::plant(Some(bug));
        let found = (0..within).find_map(|seed| {
            let plan = policy.map_or_else(|| Plan::of(seed), |p| Plan::under(seed, p));
            run(&plan, Show::Nothing).broken.map(|b| (seed, b))
        });
        match found {
            Some((seed, broken)) => println!("{bug:?}: seed {seed}: {broken}"),
            None => missed.push(format!("{bug:?} in {within} seeds")),
        }
    }
    Bug::plant(None);
    assert!(missed.is_empty(), "not found: {missed:?}");
    let plan = Plan::of(1);
    assert_eq!(run(&plan, Show::Nothing).broken, None, "without a bug there is none");
}
