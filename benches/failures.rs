//! How long mail stands when something breaks, on mboxfs and on GlusterFS: `cargo bench --bench failures`, as root; with
//! `-- --quick` one round of each, with `-- --alone` without GlusterFS.
//!
//! Promises: a fresh pair for each fault and round; a load on both hosts before, during and after; the stall is the longest
//! delivery that was under way at the fault or began after it, for the host whose brick is well and for the other one. Every
//! message is audited. Prints, asserts nothing; `tests/sick.rs` and `tests/crash.rs` assert.
//! Not here: what a delivery costs when all is well (benches/delivery.rs).

#[allow(dead_code, reason = "the bench uses its own part of the rig")]
#[path = "../tests/common"]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}
#[path = "failures/faults.rs"]
mod faults;
#[path = "common/gluster.rs"]
mod gluster;
#[path = "common/mailer.rs"]
mod mailer;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use common::need::{Need, have};
use faults::{FAULTS, Fault, System};
use mailer::{Delivery, Mailer};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];
/// Load before the fault, and after it has been mended.
const CALM: Duration = Duration::from_secs(2);
/// Load while it is broken: longer than any decision about it.
const WINDOW: Duration = Duration::from_secs(8);
/// A mailer that does not end within this hangs.
const STOP_MAX: Duration = Duration::from_secs(70);

/// What one fault did in one round.
struct Outcome {
    /// Longest delivery on the host of the broken brick and on the other one, and on the other one when the brick came back;
    /// in milliseconds.
    stalls: [Option<u64>; 3],
    acknowledged: usize,
    refused: usize,
    lost: usize,
    twice: usize,
    note: String,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [what, spool, tag] = &args[..]
        && what == mailer::ARGUMENT
    {
        return mailer::main(Path::new(spool), tag);
    }
    if !have("failures", NEEDS) {
        return;
    }
    let rounds = if args.iter().any(|a| a == "--quick") { 1 } else { 5 };
    let mut systems: Vec<(&str, fn() -> System)> = vec![("mboxfs", System::mboxfs)];
    match gluster::missing() {
        _ if args.iter().any(|a| a == "--alone") => {}
        None => systems.push(("gluster", System::gluster)),
        Some(program) => println!("no GlusterFS here: {program} is not there"),
    }
    println!("{rounds} rounds; stalls in ms, median and worst\n");
    println!("| fault | system | other host | own host | on return | delivered | refused | lost | twice | |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
    for fault in FAULTS {
        for (name, start) in &systems {
            let all: Vec<Outcome> = (0..rounds).map(|_| round(start(), fault)).collect();
            let sum = |f: fn(&Outcome) -> usize| all.iter().map(f).sum::<usize>();
            println!(
                "| {} | {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
                fault.name(),
                spread(&all, 1),
                spread(&all, 0),
                spread(&all, 2),
                sum(|o| o.acknowledged),
                sum(|o| o.refused),
                sum(|o| o.lost),
                sum(|o| o.twice),
                all.last().map_or("", |o| &o.note)
            );
        }
    }
}

fn spread(all: &[Outcome], which: usize) -> String {
    let mut stalls: Vec<u64> = all.iter().filter_map(|o| o.stalls[which]).collect();
    stalls.sort_unstable();
    match (stalls.get(stalls.len() / 2), stalls.last()) {
        (Some(median), Some(worst)) => format!("{median} / {worst}"),
        _ => "-".to_owned(),
    }
}

fn round(mut system: System, fault: Fault) -> Outcome {
    let is_mboxfs = matches!(system, System::Mboxfs(..));
    let window = if is_mboxfs { WINDOW } else { fault.gluster_window() };
    let (hosts, spools) = (system.hosts().map(Clone::clone), system.spools().map(Path::to_owned));
    let mut mailers: Vec<Mailer> = (0..2).map(|i| Mailer::start(&hosts[i], &spools[i])).collect();
    std::thread::sleep(CALM);
    let broken = mailer::now();
    system.break_by(fault);
    std::thread::sleep(window);
    let mended = mailer::now();
    system.mend(fault);
    std::thread::sleep(CALM);
    let mut note = String::new();
    for (i, mailer) in mailers.iter_mut().enumerate() {
        if (i == 1 || fault.spares_host()) && !mailer.stop(STOP_MAX) {
            note = format!("a mailer on h{} hangs", i + 1);
        }
    }
    if let System::Mboxfs(pair, _) = &system {
        if fault.parts() {
            note = "each side has its own mail (quorum none)".to_owned();
        } else {
            pair.wait_whole();
        }
    }
    let deliveries: [Vec<Delivery>; 2] = [0, 1].map(|i| mailer::reported(&hosts[i]));
    let stall = |host: usize, from: u64, to: u64| {
        let seen = deliveries[host].iter().filter(|_| host == 1 || fault.spares_host());
        let seen = seen.filter(|d| d.begun + d.nanos >= from && d.begun < to);
        seen.map(|d| d.nanos / 1_000_000).max()
    };
    let stalls = [
        stall(0, broken, mended),
        stall(1, broken, mended),
        stall(1, mended, u64::MAX),
    ];
    let (mut lost, mut twice) = (0, 0);
    for (i, side) in deliveries.iter().enumerate() {
        // Looked for where users look: on the host that goes on; after a cut each on its own.
        let at = if fault.parts() { i } else { 1 };
        let (l, t) = audit(side, &hosts[at].outside(&spools[at]));
        lost += l;
        twice += t;
    }
    let all = || deliveries.iter().flatten();
    Outcome {
        stalls,
        acknowledged: all().filter(|d| d.refused.is_none()).count(),
        refused: all().filter(|d| d.refused.is_some()).count(),
        lost,
        twice,
        note,
    }
}

/// Acknowledged messages that are not there whole; messages that are there more than once.
fn audit(deliveries: &[Delivery], spool: &Path) -> (usize, usize) {
    let mut contents: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for delivery in deliveries {
        contents.entry(&delivery.mailbox).or_insert_with(|| {
            let text = fs::read_to_string(spool.join(&delivery.mailbox)).unwrap_or_default();
            let mut found = BTreeMap::new();
            for part in text.split_inclusive("\n\nFrom ") {
                // Each part ends where the next message begins, and all but the first lack their own beginning.
                let whole = format!("From {}", part.trim_start_matches("From ").trim_end_matches("From "));
                *found.entry(whole).or_insert(0) += 1;
            }
            found
        });
    }
    let times = |d: &Delivery| {
        contents[&*d.mailbox]
            .get(&mailer::message(&d.ident))
            .copied()
            .unwrap_or(0)
    };
    let lost = deliveries
        .iter()
        .filter(|d| d.refused.is_none() && times(d) == 0)
        .count();
    (lost, deliveries.iter().filter(|d| times(d) > 1).count())
}
