//! How long and in how much memory a large mailbox is merged: both sides have it, and some new messages each.
//!
//! `cargo run --release -p mboxfs-mbox --example heal -- DIR [MEBIBYTES [NEW]]` writes two mailboxes below DIR (1024 MiB and
//! 10 new messages on each side, if not given), merges them, checks the result, and prints what each step cost.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use mboxfs_mbox::index::Index;
use mboxfs_mbox::manifest::Manifest;
use mboxfs_mbox::merge::{self, Input};
use mboxfs_mbox::plan::Side;
use mboxfs_mbox::source::Source;

struct OnDisk(File);

impl Source for OnDisk {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}

/// Messages of 1 to 7 kB: 4 kB on average.
fn write_mails(out: &mut impl Write, kind: &str, uids: std::ops::RangeInclusive<u32>) -> io::Result<()> {
    let last = *uids.end();
    for uid in uids {
        write!(
            out,
            "From s@t  Mon Nov 23 12:34:23 2026\nReturn-Path: <s@t>\nReceived: from h ({kind} {uid})\n"
        )?;
        write!(out, "Message-ID: <{kind}.{uid}@t>\nSubject: number {uid}\n")?;
        if uid == 1 {
            writeln!(out, "X-IMAPbase: 1000 {last:010}")?;
        }
        if kind == "common" {
            writeln!(out, "Status: RO\nX-UID: {uid}{:50}", "")?;
        }
        writeln!(out)?;
        for line in 0..(uid % 100) + 10 {
            writeln!(out, "line {line:4} of message {uid:8}, a line of text as mail has it")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn index(path: &Path) -> io::Result<Index> {
    Index::read(OnDisk(File::open(path)?)).map_err(|error| io::Error::other(error.to_string()))
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .filter_map(|f| f.parse().ok())
        .collect();
    // Behind the name: state is no number, so utime and stime are the 11th and 12th number; in hundredths.
    (fields.get(10).unwrap_or(&0.0) + fields.get(11).unwrap_or(&0.0)) / 100.0
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| ".".into());
    let mebibytes: u32 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(1024);
    let new: u32 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(10);
    let path = |name: &str| Path::new(&dir).join(name);
    let count = mebibytes * 274; // So many of them make a mebibyte.
    for (name, extra) in [("base", None), ("left", Some("a")), ("right", Some("b"))] {
        let mut out = BufWriter::new(File::create(path(name))?);
        write_mails(&mut out, "common", 1..=count)?;
        extra.map_or(Ok(()), |kind| write_mails(&mut out, kind, count + 1..=count + new))?;
        out.flush()?;
    }
    let manifest = Manifest::of(&index(&path("base"))?).encode();
    println!(
        "{count} messages, {} bytes; manifest {} bytes",
        fs::metadata(path("base"))?.len(),
        manifest.len()
    );
    let (mut cpu, mut clock) = (cpu_seconds(), Instant::now());
    let mut step = |what: &str| {
        println!(
            "{what:28} {:6.2} s CPU {:6.2} s",
            cpu_seconds() - cpu,
            clock.elapsed().as_secs_f64()
        );
        (cpu, clock) = (cpu_seconds(), Instant::now());
    };
    let left = index(&path("left"))?;
    step("index of the left side");
    let right = index(&path("right"))?;
    step("index of the right side");
    println!("an index is sent in {} bytes", right.encode().len());
    step("encode");
    let base = Manifest::decode(&manifest).map_err(io::Error::other)?;
    step("decode the manifest");
    let inputs = [&left, &right].map(|index| Input::new(Some(index)));
    let plan = merge::plan(Some(&base), &inputs[0], &inputs[1], 0).map_err(io::Error::other)?;
    step("plan");
    println!(
        "{} segments, {} bytes to fetch",
        plan.segments.len(),
        plan.needs(Side::Left).map(|r| r.end - r.start).sum::<u64>()
    );
    println!("peak memory so far: {} MiB", peak_mib());
    drop((left, right, base));
    let mut out = BufWriter::new(File::create(path("merged"))?);
    let files = [OnDisk(File::open(path("left"))?), OnDisk(File::open(path("right"))?)];
    let [left, right] = files;
    let done = plan.carry_out(Side::Left, left, right, |piece| out.write_all(piece));
    done.map_err(|error| io::Error::other(format!("{error:?}")))?;
    out.flush()?;
    step("write the result");
    plan.check(&index(&path("merged"))?).map_err(io::Error::other)?;
    step("check the result");
    println!("peak memory: {} MiB", peak_mib());
    Ok(())
}
