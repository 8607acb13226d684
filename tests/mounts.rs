//! Mounting as an administrator does: mount(8), fstab lines, servers that are dead at that moment.
//!
//! The helper is installed as /sbin/mount.mboxfs in the test hosts only.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod own;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use common::host::{Host, Lab};
use common::need::{Need, have};
use common::own::own_dirs;
use common::pair::{Node, Pair};
use common::wait::wait_for;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Overlay];
const SPOOL: &str = "/var/spool/mail";
const MAIL: &str = "From a@b  Mon Nov 23 12:00:00 2026\n\nhello\n\n";

/// A started volume, and on both hosts a mount helper where mount(8) looks for it.
fn started(lab: &Lab) -> Pair {
    let pair = Pair::formed(lab);
    pair.one.done("volume start gVol0");
    let before = Path::new("/sbin/mount.mboxfs").exists();
    for node in [&pair.one, &pair.two] {
        own_dirs(&node.host, &["/sbin"]);
        let helper = env!("CARGO_BIN_EXE_mount-mboxfs");
        node.host.run("install", &["-m", "755", helper, "/sbin/mount.mboxfs"]);
        node.host.run("ln", &["-s", "mount.mboxfs", "/sbin/mount.fuse.mboxfs"]);
    }
    assert_eq!(
        Path::new("/sbin/mount.mboxfs").exists(),
        before,
        "the machine's own /sbin"
    );
    pair
}

fn mount(host: &Host, words: &[&str]) -> Output {
    host.command("mount").args(words).output().expect("nsenter starts")
}

#[track_caller]
fn mounted(host: &Host, words: &[&str]) {
    let output = mount(host, words);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: mount {words:?}: {complaint}", host.name());
}

/// What /proc says in the host: source and type, of all mounts of mboxfs at `dir`.
fn mounts_at(host: &Host, dir: &str) -> Vec<String> {
    let dir = host.run("readlink", &["-f", dir]);
    let text = host.run("cat", &["/proc/self/mounts"]);
    let all = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    all.filter(|words| words[1] == dir.trim() && words[2] == "fuse.mboxfs")
        .map(|words| words[0].to_owned())
        .collect()
}

/// One writes at `dir`, the other reads there.
#[track_caller]
fn mail_passes(from: &Node, to: &Node, dir: &str, name: &str) {
    let at = |node: &Node| node.host.outside(&Path::new(dir).join(name));
    fs::write(at(from), MAIL).expect("it is written");
    assert_eq!(fs::read_to_string(at(to)).expect("it is read"), MAIL);
}

/// `umount` leaves nothing mounted, and its daemon ends.
#[track_caller]
fn unmounted(host: &Host, dir: &str) {
    host.run("umount", &[dir]);
    assert_eq!(mounts_at(host, dir), [""; 0]);
    wait_for("the mount daemon ends", Duration::from_secs(10), || {
        daemons(host).is_empty()
    });
}

fn daemons(host: &Host) -> Vec<i32> {
    let is_mount = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("mount")
    };
    host.pids().into_iter().filter(is_mount).collect()
}

fn spool(node: &Node) -> &str {
    node.spool.to_str().expect("ASCII paths")
}

#[test]
fn mount_8_finds_the_helper() {
    if !have("mount_8_finds_the_helper", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = started(&lab);
    for (node, source) in [(&pair.one, "h1:/gVol0"), (&pair.two, "h2:/gVol0")] {
        mounted(&node.host, &["-t", "mboxfs", source, spool(node)]);
        assert_eq!(mounts_at(&node.host, spool(node)), [source]);
        let df = node.host.run("df", &["-h", spool(node)]);
        assert!(df.lines().nth(1).is_some_and(|line| line.starts_with(source)), "{df}");
    }
    fs::write(pair.one.seen("jane"), MAIL).expect("it is written");
    assert_eq!(fs::read_to_string(pair.two.seen("jane")).expect("it is read"), MAIL);
    // A second mount there is refused and harms nothing.
    let again = mount(&pair.one.host, &["-t", "mboxfs", "h1:/gVol0", spool(&pair.one)]);
    assert_eq!(again.status.code(), Some(32));
    assert!(String::from_utf8_lossy(&again.stderr).contains("hint: umount"));
    // So is a remount, which says what to do instead.
    let remount = mount(&pair.one.host, &["-o", "remount,ro", spool(&pair.one)]);
    assert!(!remount.status.success());
    assert!(
        String::from_utf8_lossy(&remount.stderr).contains("hint: umount"),
        "{remount:?}"
    );
    assert_eq!(mounts_at(&pair.one.host, spool(&pair.one)), ["h1:/gVol0"]);
    unmounted(&pair.one.host, spool(&pair.one));
    assert!(!pair.one.seen("jane").exists(), "nothing but the empty directory");
    mounted(
        &pair.one.host,
        &["-t", "mboxfs", "-o", "ro", "h1:/gVol0", spool(&pair.one)],
    );
    assert_eq!(fs::read_to_string(pair.one.seen("jane")).expect("it is read"), MAIL);
    assert!(fs::write(pair.one.seen("joe"), MAIL).is_err(), "read-only");
    for node in [&pair.one, &pair.two] {
        unmounted(&node.host, spool(node));
    }
}

#[test]
fn the_line_in_fstab() {
    if !have("the_line_in_fstab", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = started(&lab);
    let options = "defaults,noatime,_netdev,nofail,backup-volfile-servers";
    for (node, own, other) in [(&pair.one, "h1", "h2"), (&pair.two, "h2", "h1")] {
        let line = format!("{own}:/gVol0 {SPOOL} mboxfs {options}={other} 1 1\n");
        fs::write(node.host.dir().join("fstab"), line).expect("an own file");
    }
    let fstab = |node: &Node| node.host.dir().join("fstab").to_str().expect("ASCII paths").to_owned();
    mounted(&pair.one.host, &["-T", &fstab(&pair.one), "-a"]);
    mounted(&pair.two.host, &["-T", &fstab(&pair.two), SPOOL]);
    // Again, as at the next boot's `mount -a`: it is there already.
    mounted(&pair.one.host, &["-T", &fstab(&pair.one), "-a"]);
    assert_eq!(mounts_at(&pair.one.host, SPOOL), ["h1:/gVol0"]);
    assert_eq!(mounts_at(&pair.two.host, SPOOL), ["h2:/gVol0"]);
    mail_passes(&pair.one, &pair.two, SPOOL, "jane");
    mail_passes(&pair.two, &pair.one, SPOOL, "joe");
    for node in [&pair.one, &pair.two] {
        unmounted(&node.host, SPOOL);
    }
}

#[test]
fn a_named_server_that_is_dead() {
    if !have("a_named_server_that_is_dead", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = started(&lab);
    let two = pair.two.host.clone();
    let dir = spool(&pair.two).to_owned();
    pair.one.kill();
    let backup = "backup-volfile-servers=h2";
    mounted(&two, &["-t", "mboxfs", "-o", backup, "h1:/gVol0", &dir]);
    assert_eq!(mounts_at(&two, &dir), ["h1:/gVol0"]);
    fs::write(pair.two.seen("jane"), MAIL).expect("mail goes on");
    unmounted(&two, &dir);
    // Nobody else to ask: it gives up in time, says why, and nothing is mounted.
    let begun = Instant::now();
    let alone = mount(&two, &["-t", "mboxfs", "-o", "mount-timeout=3", "h1:/gVol0", &dir]);
    assert_eq!(alone.status.code(), Some(32));
    let complaint = String::from_utf8_lossy(&alone.stderr);
    assert!(
        complaint.contains("no brick serves it within 3 s") && complaint.contains("hint: "),
        "{complaint}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(mounts_at(&two, &dir), [""; 0]);
    wait_for("its daemon ends", Duration::from_secs(10), || daemons(&two).is_empty());
    // The whole machine is gone: nobody refuses a connection any more.
    lab.cut_link();
    mounted(&two, &["-t", "mboxfs", "-o", backup, "h1:/gVol0", &dir]);
    assert_eq!(fs::read_to_string(pair.two.seen("jane")).expect("it is read"), MAIL);
    unmounted(&two, &dir);
}

#[test]
fn a_server_that_boots_without_its_peer() {
    if !have("a_server_that_boots_without_its_peer", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = started(&lab);
    for node in [&pair.one, &pair.two] {
        mounted(
            &node.host,
            &["-t", "mboxfs", &format!("{}:/gVol0", node.host.name()), spool(node)],
        );
    }
    fs::write(pair.one.seen("jane"), MAIL).expect("it is written");
    for node in [&pair.one, &pair.two] {
        unmounted(&node.host, spool(node));
    }
    // Power cut on both; one of them comes back.
    pair.one.kill();
    pair.two.kill();
    pair.two.start();
    mounted(&pair.two.host, &["-t", "mboxfs", "h2:/gVol0", spool(&pair.two)]);
    assert_eq!(fs::read_to_string(pair.two.seen("jane")).expect("it is read"), MAIL);
    fs::write(pair.two.seen("joe"), MAIL).expect("mail is taken");
    // The other one, later.
    pair.one.start();
    pair.wait_healed();
    mounted(&pair.one.host, &["-t", "mboxfs", "h1:/gVol0", spool(&pair.one)]);
    assert_eq!(fs::read_to_string(pair.one.seen("joe")).expect("it is read"), MAIL);
    for node in [&pair.one, &pair.two] {
        unmounted(&node.host, spool(node));
    }
}
