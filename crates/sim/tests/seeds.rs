//! Worlds from many seeds: nothing that was promised is broken, whatever breaks.
//!
//! `MBOXFS_WORLDS=N` runs N times as many.

use mboxfs_sim::{journal::Show, plan::Plan, run::run, shrink::tell};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

const SEEDS: u64 = 5_000;
fn times() -> u64 {
    std::env::var("MBOXFS_WORLDS").map_or(1, |text| text.parse().expect("MBOXFS_WORLDS is a number"))
}

#[test]
fn worlds_keep_every_promise() {
    let (next, messages, forks) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let broken = AtomicU64::new(0);
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= SEEDS * times() || broken.load(Ordering::SeqCst) > 3 {
                        return;
                    }
                    let plan = Plan::of(seed);
                    let outcome = run(&plan, Show::Nothing);
                    messages.fetch_add(outcome.messages as u64, Ordering::SeqCst);
                    forks.fetch_add(u64::from(outcome.forks > 0), Ordering::SeqCst);
                    if let Some(b) = &outcome.broken {
                        broken.fetch_add(1, Ordering::SeqCst);
                        println!("{}", tell(&plan, None, b));
                    }
                }
            });
        }
    });
    assert_eq!(broken.into_inner(), 0, "see above");
    // What was not there was not tested.
    assert!(messages.into_inner() > 20 * SEEDS, "worlds without mail");
    assert!(forks.into_inner() > SEEDS / 20, "worlds in which nothing diverged");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in 0..40 {
        let plan = Plan::of(seed);
        let (first, second) = (run(&plan, Show::Sum), run(&plan, Show::Sum));
        assert_eq!((first.sum, first.lines), (second.sum, second.lines), "seed {seed}");
        assert!(first.lines > 100, "seed {seed}: nothing happened");
    }
}
