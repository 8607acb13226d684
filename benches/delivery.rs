//! What a delivery costs on mboxfs, on local ext4 and on GlusterFS: `cargo bench --bench delivery [-- --quick]`, as root.
//!
//! Promises: the same trace by the same worker on all systems, in rounds that take them in turn; prints times and counts,
//! asserts none; nothing is left behind. A system that the machine lacks is said so and left out. `-- --profile
//! STREAMS` delivers on mboxfs alone for two minutes and says which processes to look at with perf or strace.
//! Not here: real mail programs (tests/mailers.rs), the log alone (benches/log.rs).

#[allow(dead_code, reason = "the bench uses its own part of the rig")]
#[path = "../tests/common"]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}
#[path = "delivery/counts.rs"]
mod counts;
#[path = "common/gluster.rs"]
mod gluster;
#[path = "delivery/loads.rs"]
mod loads;
#[path = "delivery/table.rs"]
mod table;
#[path = "delivery/worker.rs"]
mod worker;

use std::path::Path;
use std::time::Duration;

use common::host::Lab;
use common::need::{Need, have};
use loads::{LOADS, Load, System};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];

/// How long `--profile` delivers.
const PROFILE_TIME: Duration = Duration::from_secs(120);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [what, dir] = &args[..]
        && what == worker::ARGUMENT
    {
        return worker::main(Path::new(dir)).expect("deliveries succeed");
    }
    if !have("delivery", NEEDS) {
        return;
    }
    if let Some(at) = args.iter().position(|arg| arg == "--profile") {
        let streams = args.get(at + 1).and_then(|word| word.parse().ok());
        return profile(streams.unwrap_or(1));
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let (rounds, time) = if quick { (6, 400) } else { (15, 1000) };
    bench(rounds, Duration::from_millis(time));
}

fn profile(streams: usize) {
    let lab = Lab::new();
    let mut system = System::mboxfs(&lab);
    for host in lab.hosts() {
        for pid in host.pids() {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            println!("{} {pid} {}", host.name(), name.trim());
        }
    }
    let (sample, _) = system
        .run(Load::Streams(streams), PROFILE_TIME)
        .expect("mboxfs takes every load");
    println!("{} deliveries", sample.nanos.len());
}

fn bench(rounds: usize, time: Duration) {
    let lab = Lab::new();
    let mut systems = vec![System::ext4(&lab), System::mboxfs(&lab)];
    match gluster::missing() {
        None => systems.push(System::gluster()),
        Some(program) => println!("no GlusterFS here: {program} is not there"),
    }
    let mut results = table::Results::default();
    for _ in 0..rounds {
        for load in LOADS {
            for system in &mut systems {
                if let Some((sample, counts)) = system.run(load, time) {
                    results.add(system.name, load, sample, counts);
                }
            }
        }
    }
    let names: Vec<&'static str> = systems.iter().map(|system| system.name).collect();
    let (own, shared) = LOADS.split_at(4);
    println!("{rounds} rounds of {} ms for each load and system", time.as_millis());
    results.print_times("A mailbox for each stream", own, &names);
    results.print_times("One mailbox: the lease moves with each delivery", shared, &names);
    for name in names {
        results.print_counts(name, &LOADS);
    }
}
