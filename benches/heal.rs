//! How long a brick takes to get what it missed, what travels, and what mail notices, on mboxfs and on GlusterFS: `cargo
//! bench --bench heal`, as root; with `-- --quick` a tenth of the mailboxes, with `-- --alone` without GlusterFS, with
//! `-- everything` these rows only.
//!
//! Promises: a fresh pair for each row, with 1 000 mailboxes of 1 MB; twice, at rest for the bytes on the wire (what the
//! returning host receives, frames of Ethernet, TCP and RPC included, against the bytes that it lacks, counted exactly) and
//! under a load of deliveries for their median with and without healing. Healed: the system says so, and the bricks are
//! equal. Prints, asserts nothing else; `tests/resync.rs` asserts.
//! Not here: merges (`mbox/examples/heal.rs`), stalls (`failures.rs`).

#[allow(dead_code, reason = "the bench uses its own part of the rig")]
#[path = "../tests/common"]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}
#[path = "common/gluster.rs"]
mod gluster;
#[allow(dead_code, reason = "the bench uses its own part of the mailers")]
#[path = "common/mailer.rs"]
mod mailer;
#[path = "heal/system.rs"]
mod system;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::host::Host;
use common::need::{Need, have};
use common::wait::wait_for;
use mailer::Mailer;
use system::{Name, System};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];
const MAILBOX_BYTES: usize = 1_000_000;
const MESSAGE_BYTES: usize = 4_000;
const LARGE_BYTES: usize = 100_000;
/// Pause between two missed deliveries.
const PAUSE: Duration = Duration::from_millis(10);
/// Load without healing.
const CALM: Duration = Duration::from_secs(5);
const HEAL_MAX: Duration = Duration::from_secs(600);
/// So much has come: it is no heartbeat and no handshake.
const FIRST_BYTES: u64 = 16_000;
const STOP_MAX: Duration = Duration::from_secs(70);
/// What a peer keeps of its log where what is missed is to be found by files.
const SHORT_LOG: u32 = 100_000;

#[derive(Clone, Copy)]
enum Missed {
    /// Deliveries of so many bytes for so long.
    Deliveries {
        secs: u64,
        bytes: usize,
    },
    Everything,
}

struct Healed {
    first: Duration,
    all: Duration,
    lacked: u64,
    wire: u64,
    /// Medians of deliveries in microseconds, without and with healing.
    load: Option<(u64, u64)>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [what, spool, tag] = &args[..]
        && what == mailer::ARGUMENT
    {
        return mailer::main(Path::new(spool), tag);
    }
    if !have("heal", NEEDS) {
        return;
    }
    let boxes = if args.iter().any(|a| a == "--quick") { 100 } else { 1000 };
    let gluster = match gluster::missing() {
        _ if args.iter().any(|a| a == "--alone") => false,
        None => true,
        Some(program) => {
            println!("no GlusterFS here: {program} is not there");
            false
        }
    };
    println!("{boxes} mailboxes of {MAILBOX_BYTES} bytes; seconds after the brick is ready\n");
    println!("| missed | system | first byte | healed | lacked | received | ratio | median delivery: alone, healing |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let deliveries = |secs, bytes| Missed::Deliveries { secs, bytes };
    let (short, long) = (deliveries(10, MESSAGE_BYTES), deliveries(60, MESSAGE_BYTES));
    for (text, missed, name, kept_log) in [
        ("10 s", short, Name::Mboxfs, None),
        ("10 s of large mail", deliveries(10, LARGE_BYTES), Name::Mboxfs, None),
        ("10 s, the log is gone", short, Name::Mboxfs, Some(SHORT_LOG)),
        ("10 s", short, Name::Gluster, None),
        ("60 s, the log is gone", long, Name::Mboxfs, Some(SHORT_LOG)),
        ("60 s", long, Name::Gluster, None),
        ("everything", Missed::Everything, Name::Mboxfs, None),
        ("everything", Missed::Everything, Name::Gluster, None),
    ] {
        let named = |arg: &String| arg.starts_with("--") || text.starts_with(arg.as_str());
        if name == Name::Gluster && !gluster || !args.iter().all(named) {
            continue;
        }
        let start = || System::start(name, 512 + 2 * boxes as u64, kept_log);
        let rest = heal(start(), boxes, missed, false);
        let load = heal(start(), boxes, missed, true).load.expect("it was measured");
        println!(
            "| {text} | {name:?} | {:.2} | {:.2} | {} | {} | {:.3} | {:.2} ms, {:.2} ms |",
            rest.first.as_secs_f64(),
            rest.all.as_secs_f64(),
            rest.lacked,
            rest.wire,
            rest.wire as f64 / rest.lacked as f64,
            load.0 as f64 / 1e3,
            load.1 as f64 / 1e3,
        );
    }
}

fn heal(mut system: System, boxes: usize, missed: Missed, load: bool) -> Healed {
    let message = "From a@b Mon Nov  2 10:00:00 2026\n\n";
    let content = message.repeat(MAILBOX_BYTES / message.len() + 1);
    for i in 0..boxes {
        append(&system, i, &content.as_bytes()[..MAILBOX_BYTES]);
    }
    system.kill_second();
    let emptied = matches!(missed, Missed::Everything);
    let lacked = match missed {
        Missed::Deliveries { secs, bytes } => {
            miss(&system, boxes, Duration::from_secs(secs), &content.as_bytes()[..bytes])
        }
        Missed::Everything => {
            system.empty_second();
            MAILBOX_BYTES * boxes
        }
    };
    let mut mailer = load.then(|| Mailer::start(system.hosts()[0], system.spool()));
    if load {
        std::thread::sleep(CALM);
    }
    let received = |system: &System| received(system.hosts()[1]);
    let before = received(&system);
    system.start_second(emptied);
    let (ready, began) = (Instant::now(), mailer::now());
    wait_for("something comes", HEAL_MAX, || received(&system) > before + FIRST_BYTES);
    let first = ready.elapsed();
    wait_for("it says that it is healed", HEAL_MAX, || system.is_healed());
    let (mut all, mut ended, mut wire) = (ready.elapsed(), mailer::now(), received(&system) - before);
    let is_equal = || system.is_equal((0..boxes).map(mailbox));
    if !load && !is_equal() {
        wait_for("it is healed", HEAL_MAX, is_equal);
        (all, ended, wire) = (ready.elapsed(), mailer::now(), received(&system) - before);
    }
    let load = mailer.as_mut().map(|mailer| {
        assert!(mailer.stop(STOP_MAX), "the mailer hangs");
        medians(&system, began, ended)
    });
    wait_for("both bricks hold the same", HEAL_MAX, is_equal);
    Healed {
        first,
        all,
        lacked: lacked as u64,
        wire,
        load,
    }
}

/// Deliveries of this for so long. How many bytes they were.
fn miss(system: &System, boxes: usize, time: Duration, message: &[u8]) -> usize {
    let end = Instant::now() + time;
    let mut bytes = 0;
    for i in (0..boxes).map(|i| i * 7919 % boxes).cycle() {
        if Instant::now() >= end {
            break;
        }
        append(system, i, message);
        bytes += message.len();
        std::thread::sleep(PAUSE);
    }
    bytes
}

/// Of the deliveries before healing began and until it ended.
fn medians(system: &System, began: u64, ended: u64) -> (u64, u64) {
    let seen = mailer::reported(system.hosts()[0]);
    let median = |from: u64, to: u64| {
        let within = seen.iter().filter(|d| d.begun >= from && d.begun < to);
        let mut times: Vec<u64> = within.map(|d| d.nanos / 1000).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    };
    (median(0, began), median(began, ended))
}

fn mailbox(i: usize) -> String {
    format!("user{i:04}")
}

fn append(system: &System, i: usize, bytes: &[u8]) {
    let mailbox = system.hosts()[0].outside(&system.spool().join(mailbox(i)));
    let file = OpenOptions::new().append(true).create(true).open(mailbox);
    let mut file = file.expect("the mailbox opens");
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .expect("it is delivered");
}

/// Bytes that have come to a host from the other one.
fn received(host: &Host) -> u64 {
    let text = host.run("cat", &["/proc/net/dev"]);
    let line = text.lines().find_map(|l| l.trim().strip_prefix("eth0:"));
    let field = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    field.expect("the host has the wire")
}
