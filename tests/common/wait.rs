//! Waiting for a condition with a deadline: the only way a test may let time pass.

use std::time::{Duration, Instant};

/// How long a freshly started program may take until it answers. Generous: the machine has two shared cores.
pub(crate) const START_MAX: Duration = Duration::from_secs(30);

/// Between two looks. A look may be a whole process, so this is not shorter.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks at `cond` until it holds. Panics with `what` when `deadline` has passed, so that the log names what was missing.
#[track_caller]
pub(crate) fn wait_for(what: &str, deadline: Duration, mut cond: impl FnMut() -> bool) {
    assert!(
        holds_within(deadline, &mut cond),
        "waited {deadline:?} in vain for: {what}"
    );
}

/// Like `wait_for`, for callers that must not panic (`Drop`): tells whether the condition came true in time.
pub(crate) fn holds_within(deadline: Duration, mut cond: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if cond() {
            return true;
        }
        if begun.elapsed() > deadline {
            return false;
        }
        // Nobody unparks this thread: it is a timed pause between two looks, not a guess at how long something takes.
        std::thread::park_timeout(LOOK_EVERY);
    }
}
