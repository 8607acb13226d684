//! Several things break at once, in any order: what is acknowledged is there exactly once when all is whole again (L1, L2, L8).
//!
//! Promises: the same seed draws the same faults. `MBOXFS_STORM=SEED..SEED` rages for each of these seeds, and longer.
//! Not here: how long mail stands for one fault (`benches/failures.rs`), every interleaving (`sim`).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod daemon;
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod letters;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use common::daemon::kill_daemon;
use common::host::Lab;
use common::letters::{EACH_LOCK, Letters};
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::{holds_within, wait_for};
use rustix::process::Signal;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];

/// Faults of a storm, and of one by hand.
const FAULTS: usize = 8;
const FAULTS_BY_HAND: usize = 24;
/// At the same time.
const AT_ONCE: usize = 3;

/// Both bricks may have been away, and each may have gone on alone.
const WHOLE_MAX: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Killed(usize),
    Stopped(usize),
    /// SIGTERM.
    Ended(usize),
    NoPower(usize),
    Frozen(usize),
    Cut,
    /// What this host sends is lost.
    CutOneWay(usize),
    /// The process that serves the mount is killed.
    Daemon(usize),
}

impl Fault {
    fn draw(rng: &mut Rng) -> Self {
        let side = rng.below(2) as usize;
        match rng.below(9) {
            0 | 1 => Self::Killed(side),
            2 => Self::Stopped(side),
            3 => Self::Ended(side),
            4 => Self::NoPower(side),
            5 => Self::Frozen(side),
            6 => Self::Cut,
            7 => Self::CutOneWay(side),
            _ => Self::Daemon(side),
        }
    }

    /// Two faults of the same place exclude each other.
    const fn place(self) -> usize {
        match self {
            Self::Killed(i) | Self::Stopped(i) | Self::Ended(i) | Self::NoPower(i) | Self::Frozen(i) => i,
            Self::Cut | Self::CutOneWay(_) => 2,
            Self::Daemon(i) => 3 + i,
        }
    }
}

/// The seed, and how many numbers were drawn from it.
struct Rng(u64, u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        let mut hasher = DefaultHasher::new();
        (self.0, self.1).hash(&mut hasher);
        hasher.finish() % n
    }
}

struct Storm {
    lab: Lab,
    pair: Pair,
    active: Vec<Fault>,
}

impl Storm {
    const fn node(&mut self, i: usize) -> &mut Node {
        if i == 0 { &mut self.pair.one } else { &mut self.pair.two }
    }

    fn begin(&mut self, fault: Fault) {
        eprintln!("begins: {fault:?}");
        match fault {
            Fault::Killed(i) => self.node(i).kill(),
            Fault::Stopped(i) => self.node(i).signal(Signal::STOP),
            Fault::Ended(i) => self.node(i).stop(),
            Fault::NoPower(i) => self.node(i).power_off(),
            Fault::Frozen(i) => self.node(i).freeze_disk(),
            Fault::Cut => self.lab.cut_link(),
            Fault::CutOneWay(i) => self.lab.hosts()[i].cut_one_way(self.lab.hosts()[1 - i]),
            Fault::Daemon(i) => return kill_daemon(self.node(i)),
        }
        self.active.push(fault);
    }

    fn end(&mut self, nth: usize) {
        let fault = self.active.swap_remove(nth);
        eprintln!("ends: {fault:?}");
        match fault {
            Fault::Killed(i) | Fault::Ended(i) => self.node(i).spawn(),
            Fault::Stopped(i) => self.node(i).signal(Signal::CONT),
            Fault::NoPower(i) => {
                self.node(i).power_on();
                self.node(i).spawn();
            }
            Fault::Frozen(i) => self.node(i).thaw_disk(),
            Fault::Cut => self.lab.restore_link(),
            Fault::CutOneWay(i) => self.lab.hosts()[i].mend_one_way(self.lab.hosts()[1 - i]),
            Fault::Daemon(_) => {}
        }
    }

    /// None of them may end by itself.
    fn bricks_run(&mut self) {
        for i in 0..2 {
            let away = |f: &Fault| matches!(f, Fault::Killed(j) | Fault::Ended(j) | Fault::NoPower(j) if *j == i);
            if !self.active.iter().any(away) {
                assert!(self.node(i).is_running(), "brickd {i} ended: {}", self.node(i).said());
            }
        }
    }
}

impl Drop for Storm {
    /// A frozen disk cannot be unmounted, nor a stopped process end.
    fn drop(&mut self) {
        while !self.active.is_empty() && std::thread::panicking() {
            self.end(0);
        }
    }
}

fn rage(seed: u64, faults: usize) {
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let mut letters = Letters::new(pair.one.host.dir(), &EACH_LOCK, seed);
    (letters.later, letters.apart, letters.unsynced) = (true, true, 0.2);
    letters.writers(&pair, 2);
    letters.wait_more(20, WHOLE_MAX);
    let mut rng = Rng(seed, 0);
    let active = Vec::new();
    let mut storm = Storm { lab, pair, active };
    let mut begun = 0;
    while begun < faults || !storm.active.is_empty() {
        let fault = Fault::draw(&mut rng);
        let free = storm.active.iter().all(|f| f.place() != fault.place());
        if begun < faults && free && storm.active.len() < AT_ONCE && rng.below(2) == 0 {
            storm.begin(fault);
            begun += 1;
        } else if !storm.active.is_empty() {
            let nth = rng.below(storm.active.len() as u64) as usize;
            storm.end(nth);
        }
        // A while: long enough for each limit, and no longer than mail needs to have got through.
        let (most, pause) = (rng.below(60) as usize, Duration::from_millis(50 + rng.below(2500)));
        let before = letters.acknowledged_count();
        holds_within(pause, || letters.acknowledged_count() > before + most);
        storm.bricks_run();
    }
    letters.wait_more(50, WHOLE_MAX);
    letters.stop();
    let pair = &storm.pair;
    for node in [&pair.one, &pair.two] {
        wait_for("all is whole", WHOLE_MAX, || {
            node.cli("heal status").status.success() && node.cli("volume status gVol0").status.success()
        });
    }
    letters.audit(pair);
    pair.bricks_are_equal();
    let later: usize = letters.promised().values().map(|p| p.later.len()).sum();
    eprintln!(
        "seed {seed}: acknowledged {}, deferred {later}",
        letters.acknowledged_count()
    );
}

#[test]
fn all_is_there_after_a_storm() {
    if !have("all_is_there_after_a_storm", NEEDS) {
        return;
    }
    let Ok(seeds) = std::env::var("MBOXFS_STORM") else {
        return rage(1, FAULTS);
    };
    let ends = seeds.split_once("..").map(|(from, to)| (from.parse(), to.parse()));
    let Some((Ok(from), Ok(to))) = ends else {
        panic!("MBOXFS_STORM is SEED..SEED, not {seeds:?}")
    };
    for seed in from..to {
        rage(seed, FAULTS_BY_HAND);
    }
}
