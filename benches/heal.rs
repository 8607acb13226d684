//! How long a brick takes to get what it missed, what travels, and what mail notices: `cargo bench --bench heal`, as root;
//! with `-- --quick` a tenth of the mailboxes.
//!
//! Promises: a fresh pair for each row, with 1 000 mailboxes of 1 MB; twice, at rest for the bytes on the wire (what the
//! returning host receives, frames of Ethernet, TCP and gRPC included, against the bytes that it lacks, counted exactly) and
//! under a load of deliveries for their median with and without healing. Bricks are compared afterwards. Prints, asserts
//! nothing else; `tests/resync.rs` asserts.
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
#[allow(dead_code, reason = "the bench uses its own part of the mailers")]
#[path = "failures/mailer.rs"]
mod mailer;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::host::{Host, Lab};
use common::need::{Need, have};
use common::pair::Pair;
use common::wait::wait_for;
use mailer::Mailer;

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

#[derive(Clone, Copy)]
enum Missed {
    /// Deliveries of so many bytes for so long; `log`: all of it is still in the peer's log.
    Deliveries {
        secs: u64,
        bytes: usize,
        log: bool,
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
    println!("{boxes} mailboxes of {MAILBOX_BYTES} bytes; seconds after the brick is ready\n");
    println!("| missed | first byte | healed | lacked | received | ratio | median delivery: alone, healing |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let deliveries = |secs, bytes, log| Missed::Deliveries { secs, bytes, log };
    for (name, missed) in [
        ("10 s, by the log", deliveries(10, MESSAGE_BYTES, true)),
        ("10 s of large mail, by the log", deliveries(10, LARGE_BYTES, true)),
        ("10 s, by files", deliveries(10, MESSAGE_BYTES, false)),
        ("60 s, by files", deliveries(60, MESSAGE_BYTES, false)),
        ("everything", Missed::Everything),
    ] {
        let rest = heal(boxes, missed, false);
        let load = heal(boxes, missed, true).load.expect("it was measured");
        println!(
            "| {name} | {:.2} | {:.2} | {} | {} | {:.3} | {:.2} ms, {:.2} ms |",
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

fn heal(boxes: usize, missed: Missed, load: bool) -> Healed {
    let lab = Lab::new();
    let mut pair = Pair::start_on_disks_of(&lab, 512 + 2 * boxes as u64);
    pair.one.kept_log = matches!(missed, Missed::Deliveries { log: false, .. }).then_some(100_000);
    pair.one.kill();
    pair.one.start();
    pair.wait_whole();
    let message = "From a@b Mon Nov  2 10:00:00 2026\n\n";
    let content = message.repeat(MAILBOX_BYTES / message.len() + 1);
    for i in 0..boxes {
        append(&pair, i, &content.as_bytes()[..MAILBOX_BYTES]);
    }
    pair.two.kill();
    let lacked = match missed {
        Missed::Deliveries { secs, bytes, .. } => {
            let end = Instant::now() + Duration::from_secs(secs);
            let mut lacked = 0;
            for i in (0..boxes).map(|i| i * 7919 % boxes).cycle() {
                if Instant::now() >= end {
                    break;
                }
                append(&pair, i, &content.as_bytes()[..bytes]);
                lacked += bytes;
                std::thread::sleep(PAUSE);
            }
            lacked
        }
        Missed::Everything => {
            pair.two.empty_disk();
            MAILBOX_BYTES * boxes
        }
    };
    let mut mailer = load.then(|| Mailer::start(&pair.one.host, &pair.one.spool));
    if load {
        std::thread::sleep(CALM);
    }
    let before = received(&pair.two.host);
    pair.two.start();
    if matches!(missed, Missed::Everything) {
        let path = pair.two.brick.to_str().expect("ASCII paths").to_owned();
        pair.one
            .done(&format!("volume reset-brick gVol0 h2:{path} h2:{path} commit force"));
    }
    let (ready, began) = (Instant::now(), mailer::now());
    wait_for("something comes", HEAL_MAX, || {
        received(&pair.two.host) > before + FIRST_BYTES
    });
    let first = ready.elapsed();
    wait_for("it is healed", HEAL_MAX, || {
        pair.one.cli("heal status").status.success()
    });
    let (all, ended, wire) = (ready.elapsed(), mailer::now(), received(&pair.two.host) - before);
    let load = mailer.as_mut().map(|mailer| {
        assert!(mailer.stop(STOP_MAX), "the mailer hangs");
        let seen = mailer::reported(&pair.one.host);
        let median = |from: u64, to: u64| {
            let mut times: Vec<u64> = seen
                .iter()
                .filter(|d| d.begun >= from && d.begun < to)
                .map(|d| d.nanos / 1000)
                .collect();
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or(0)
        };
        (median(0, began), median(began, ended))
    });
    pair.wait_whole();
    same(&pair, boxes);
    Healed {
        first,
        all,
        lacked: lacked as u64,
        wire,
        load,
    }
}

fn append(pair: &Pair, i: usize, bytes: &[u8]) {
    let mailbox = pair.one.seen(&format!("user{i:04}"));
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

/// What was acknowledged is in both bricks, soon.
fn same(pair: &Pair, boxes: usize) {
    wait_for("both bricks hold the same", HEAL_MAX, || {
        (0..boxes).all(|i| {
            let name = format!("user{i:04}");
            let [a, b] = [&pair.one, &pair.two].map(|n| fs::read(n.in_brick(&name)).expect("a mailbox in a brick"));
            a == b
        })
    });
}
