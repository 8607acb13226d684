//! A plan from its beginning to its end: both bricks come up; things are done and break; everything is whole again and must
//! become one; then what must be true at rest is looked at.
//!
//! Promises: a panic of the product is a broken invariant like any other. The same plan gives the same events.
//! Not here: plans (`plan`), making them shorter (`shrink`).

use crate::{
    invariants::{Broken, bricks_are_equal, mailboxes_are_right, no_locks_left, no_rot_left},
    journal::Show,
    plan::{Plan, Policy},
    world::{Event, MS, World},
};
use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    sync::Once,
};

/// Both bricks are up and have met.
const BEGIN: u64 = 5_000;
/// From the end of all faults until everything is at rest, in ms of virtual time (I32): the wait of a brick that starts
/// without its peer, the rests of one whose disk stood still, merges that are tried again.
pub const REST_WITHIN: u64 = 90_000;

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub broken: Option<Broken>,
    /// Of all events.
    pub sum: u64,
    pub lines: u64,
    /// Virtual time, in ms.
    pub ms: u64,
    /// ms from the end of the faults until all was at rest.
    pub rested: u64,
    pub messages: usize,
    pub forks: u32,
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics are told in one line, where they are caught.
fn hush() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        set_hook(Box::new(|info| {
            let text = info.to_string().replace('\n', " ");
            if std::thread::current().name() != Some("main") && !IN_WORLD.with(|w| *w.borrow()) {
                eprintln!("{text}");
            }
            PANIC.with(|p| *p.borrow_mut() = text);
        }));
    });
}

thread_local! {
    static IN_WORLD: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Plan, show: Show) -> Outcome {
    hush();
    IN_WORLD.with(|w| *w.borrow_mut() = true);
    let mut world = World::with(plan.settings.clone(), show);
    let ran = catch_unwind(AssertUnwindSafe(|| live(&mut world, plan)));
    IN_WORLD.with(|w| *w.borrow_mut() = false);
    let (broken, rested) = match ran {
        Ok(Ok(rested)) => (None, rested),
        Ok(Err(broken)) => (Some(broken), 0),
        Err(_) => {
            let why = PANIC.with(|p| p.borrow().clone());
            (Some(Broken::new("P", "the product's own", why)), 0)
        }
    };
    let (sum, lines) = world.journal.sum();
    Outcome {
        broken,
        sum,
        lines,
        ms: world.now / MS,
        rested,
        messages: world.oracle.letters.len(),
        forks: world.forks,
    }
}

fn live(world: &mut World, plan: &Plan) -> Result<u64, Broken> {
    world.begin(plan.settings.policy)?;
    let start = world.now;
    world.gentle = true;
    for (ms, action) in &plan.actions {
        world.at(start + ms * MS, Event::Act(action.clone()));
    }
    let end = plan.actions.last().map_or(0, |(ms, _)| *ms);
    world.run_until(start + (end + 1) * MS);
    world.ok()?;
    // Restarts that were planned for later come now or then: either is fine.
    world.mend();
    world.ok()?;
    let rested = world.rest(REST_WITHIN)?;
    world.audit()?;
    Ok(rested)
}

impl World {
    /// What broke so far.
    ///
    /// # Errors
    /// That.
    pub fn ok(&self) -> Result<(), Broken> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn begin(&mut self, policy: Policy) -> Result<(), Broken> {
        let end = self.now + BEGIN * MS;
        while !self.together() && self.now < end {
            self.run(10);
            self.ok()?;
        }
        if policy != Policy::None {
            self.set_policy(policy);
        }
        self.ok()
    }

    /// Until all programs have ended and both bricks work together and have written all down; how long that took.
    ///
    /// # Errors
    /// What broke, or I32.
    pub fn rest(&mut self, ms: u64) -> Result<u64, Broken> {
        let begin = self.now;
        while self.now < begin + ms * MS {
            self.run(50);
            self.ok()?;
            if self.together() && self.left() == 0 {
                let rested = (self.now - begin) / MS;
                // What was applied last is on its way to the files.
                self.run(400);
                self.ok()?;
                if self.is_even() && self.left() == 0 {
                    return Ok(rested);
                }
            }
        }
        let stands = [0, 1].map(|i| self.status(i));
        let left: Vec<String> = self.waiting();
        let why = format!("not at rest after {ms} ms: bricks {stands:?}, programs that wait: {left:?}");
        Err(Broken::new("I32", "L13", why))
    }

    /// Both bricks work together, have executed the same, and their disks have nothing to do. (A slow network may still have a
    /// word of what the other one has executed.)
    pub(crate) fn is_even(&self) -> bool {
        let [a, b] = [0, 1].map(|i| &self.hosts[i]);
        let commit = |host: &crate::world::Host| host.report().map(|r| r.commit);
        self.together()
            && commit(a) == commit(b)
            && a.disk.durable == b.disk.durable
            && a.disk.is_idle()
            && b.disk.is_idle()
    }

    /// As [`Self::rest`] and [`Self::audit`].
    ///
    /// # Panics
    /// With what broke.
    pub fn settle(&mut self, ms: u64) {
        if let Err(broken) = self.rest(ms).and_then(|_| self.audit()) {
            panic!("seed {}: {broken}", self.settings.seed);
        }
    }

    /// What must be true at rest.
    ///
    /// # Errors
    /// What is not.
    pub fn audit(&mut self) -> Result<(), Broken> {
        no_rot_left(self)?;
        mailboxes_are_right(self)?;
        bricks_are_equal(self)?;
        self.hosts.iter_mut().for_each(|host| host.disk.image.compare_files());
        no_locks_left(self)?;
        self.ok()
    }
}
