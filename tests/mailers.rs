//! Real mail programs on two hosts that share a spool: Postfix, Dovecot and s-nail deliver, read and expunge at both
//! ends; no message may be lost, doubled or torn.
//!
//! Every test runs on a `Spool`. The control, one local ext4 seen by both hosts, shows that the rig and the programs'
//! settings are right: what fails there is no fault of mboxfs.
//!
//! MBOXFS_LOAD_SECONDS sets the length of the loads (20), MBOXFS_LOAD_SEED what they send (1), MBOXFS_LOAD_MAILBOXES to how
//! many mailboxes (20; fewer means that more programs meet in each).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod audit;
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod load;
    pub(crate) mod mail;
    pub(crate) mod mail_conf;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::any::Any;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use common::audit::{audit, inspect};
use common::host::Lab;
use common::image::Image;
use common::load::{Ledger, Load, Plan};
use common::mail::{MailServer, make_spool};
use common::need::{Need, have};
use common::pair::Pair;
use common::wait::wait_for;

/// What the two hosts share their mail on.
#[derive(Clone, Copy, Debug)]
enum Spool {
    /// One ext4 on this machine, mounted in both hosts: a shared filesystem that is right by construction.
    Control,
    /// A volume of mboxfs, mounted on both hosts.
    Mboxfs,
}

/// The spool directories, as h1 and h2 see them.
struct Spools {
    paths: [PathBuf; 2],
    /// What must live as long as the spools: images, mounts, daemons. Dropped before the lab.
    _keep: Vec<Box<dyn Any>>,
}

fn spools(kind: Spool, lab: &Lab) -> Spools {
    match kind {
        Spool::Control => control(lab),
        Spool::Mboxfs => mboxfs(lab),
    }
}

fn control(lab: &Lab) -> Spools {
    let paths = lab.hosts().map(|host| host.dir().join("spool"));
    let mut image = Image::create(Some(&lab.h1), &lab.h1.dir().join("control.img"), 256, &paths[0]);
    image.mount(Some(&lab.h2), &paths[1]);
    make_spool(&lab.h1, &paths[0]);
    Spools {
        paths,
        _keep: vec![Box::new(image)],
    }
}

fn mboxfs(lab: &Lab) -> Spools {
    let pair = Pair::start(lab);
    Spools {
        paths: [pair.one.spool.clone(), pair.two.spool.clone()],
        _keep: vec![Box::new(pair)],
    }
}

#[test]
fn walkthrough_on_mboxfs() {
    if have("walkthrough_on_mboxfs", MBOXFS_NEEDS) {
        walkthrough(Spool::Mboxfs);
    }
}

#[test]
fn load_on_mboxfs() {
    if have("load_on_mboxfs", MBOXFS_NEEDS) {
        load(Spool::Mboxfs, "load_on_mboxfs", &plan(5.0, 0.0));
    }
}

#[test]
fn load_with_lda_on_mboxfs() {
    if have("load_with_lda_on_mboxfs", MBOXFS_NEEDS) {
        load(Spool::Mboxfs, "load_with_lda_on_mboxfs", &plan(3.0, 2.0));
    }
}

const MBOXFS_NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Mailers];
const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Mailers];

#[test]
fn walkthrough_on_control() {
    if have("walkthrough_on_control", NEEDS) {
        walkthrough(Spool::Control);
    }
}

#[test]
fn load_on_control() {
    if have("load_on_control", NEEDS) {
        load(Spool::Control, "load_on_control", &plan(5.0, 0.0));
    }
}

#[test]
fn load_with_lda_on_control() {
    if have("load_with_lda_on_control", NEEDS) {
        load(Spool::Control, "load_with_lda_on_control", &plan(3.0, 2.0));
    }
}

/// The rig itself: two machines as far as a program can tell, a wire that can be cut, a disk that can lose power.
#[test]
fn rig_hosts_wire_and_disk() {
    if !have("rig_hosts_wire_and_disk", &[Need::Root, Need::Netns, Need::Loop]) {
        return;
    }
    let lab = Lab::new();
    assert_eq!(lab.hosts().map(|host| host.run("hostname", &[])), ["h1\n", "h2\n"]);
    let reaches_h2 = || {
        let addr = lab.h2.addr().to_string();
        let mut ping = lab.h1.command("bash");
        // Port 9 is closed: a refusal comes from h2, so it proves the way there; silence or "no route" does not.
        ping.args([
            "-c",
            "LC_ALL=C timeout 1 bash -c 'exec 3<>/dev/tcp/$0/9' $0 2>&1 | grep -q refused",
            &addr,
        ]);
        ping.status().is_ok_and(|status| status.success())
    };
    wait_for("the wire works", Duration::from_secs(10), reaches_h2);
    lab.cut_link();
    assert!(!reaches_h2(), "the cut wire still carries");
    lab.restore_link();
    wait_for("the mended wire works", Duration::from_secs(10), reaches_h2);

    let disk = lab.h1.dir().join("disk");
    let mut image = Image::create(Some(&lab.h1), &lab.h1.dir().join("disk.img"), 32, &disk);
    assert!(
        fs::read_dir(&disk).expect("the mount point is there").next().is_none(),
        "h1's mount leaked out of h1"
    );
    let write = "echo kept > kept && sync . kept && echo lost > lost";
    lab.h1
        .run("bash", &["-c", &format!("cd {} && {write}", disk.display())]);
    image.shutdown();
    let refused = lab
        .h1
        .command("touch")
        .arg(disk.join("more"))
        .output()
        .expect("nsenter starts");
    assert!(!refused.status.success(), "the disk took a file after it lost power");
    image.unmount_all();
    image.mount(Some(&lab.h1), &disk);
    assert_eq!(lab.h1.run("cat", &[&disk.join("kept").display().to_string()]), "kept\n");
    assert_ne!(
        fs::read(lab.h1.outside(&disk.join("lost"))).unwrap_or_default(),
        b"lost\n",
        "it was never synced"
    );
}

/// A checker that has never caught anything is not trusted: each kind of damage is done once, and must be seen. The
/// mail system of one host is also killed and started again once, which must not be taken for damage.
#[test]
fn rig_audit_catches_damage() {
    if !have("rig_audit_catches_damage", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let spools = spools(Spool::Control, &lab);
    let [one, two] = MailServer::start_both(&lab, &spools.paths);
    let servers = [&one, &two];
    let plan = Plan {
        seconds: 3,
        mailboxes: 2,
        imap_readers: 0,
        pop3_readers: 0,
        ..plan(5.0, 0.0)
    };
    let ledger = Load::start(servers, &plan).finish();
    // First, so that the queues are empty: a delivery killed half-way leaves a dotlock that nobody would remove for 500 s
    // on a plain ext4, and would rightly be done again.
    audit(servers, &ledger);
    lab.h1.kill_all();
    one.boot();
    audit(servers, &ledger);

    let path = lab.h1.outside(&one.spool().join("u01"));
    let good = fs::read_to_string(&path).expect("u01 has mail");
    let second = second_message(&good);
    for (damage, text, seen_as) in damages(&good) {
        fs::write(&path, text).expect("the spool can be written");
        catches(damage, servers, &ledger, seen_as);
    }
    fs::write(&path, &good).expect("the spool can be written");

    let lock = path.with_file_name("u02.lock");
    fs::write(&lock, "").expect("the spool can be written");
    catches("left lock", servers, &ledger, "a dotlock that nobody removed");
    fs::remove_file(&lock).expect("the lock can be removed");

    let other = lab.h2.dir().join("other");
    fs::write(&other, &good[second..]).expect("an own file");
    let [over, under] = [&other, &two.spool().join("u01")].map(|path: &PathBuf| path.display().to_string());
    lab.h2.run("mount", &["--bind", &over, &under]);
    catches("split", servers, &ledger, "h1 and h2 show different bytes");
    lab.h2.run("umount", &[&under]);

    audit(servers, &ledger);
    one.s_nail_send("u03", "nobody-here", "to no one", "x\n");
    // Postfix's log is written by a process of its own, which nobody waits for.
    wait_for("the bounce is logged", Duration::from_secs(30), || {
        one.maillog().contains("status=bounced")
    });
    catches("bounce", servers, &ledger, "status=bounced");
}

/// Where the second message of a mailbox begins.
fn second_message(mailbox: &str) -> usize {
    let end = mailbox
        .match_indices("\n\nFrom load@")
        .next()
        .expect("the mailbox has two messages");
    end.0 + 2
}

/// Kinds of damage to a mailbox: a name, the damaged bytes, and a part of what the audit must say.
fn damages(good: &str) -> [(&'static str, String, &'static str); 7] {
    let second = second_message(good);
    [
        ("lost", good[second..].to_owned(), "0 times instead of 1..=1"),
        (
            "doubled",
            format!("{}{good}", &good[..second]),
            "2 times instead of 1..=1",
        ),
        (
            "torn",
            good.replacen("The quick", "The quack", 1),
            "is not what was sent",
        ),
        ("cut off", good[..good.len() - 40].to_owned(), "is not what was sent"),
        (
            "junk first",
            format!("junk\n{good}"),
            "does not begin with a From_ line",
        ),
        ("zeroes", format!("{good}\0\0"), "NUL at"),
        (
            "foreign",
            format!("{good}From x@y  Mon Nov 23 12:00:00 2026\nMessage-ID: <x>\n\nx\n"),
            "nobody sent it",
        ),
    ]
}

#[track_caller]
fn catches(damage: &str, servers: [&MailServer; 2], ledger: &Ledger, seen_as: &str) {
    let (_, bad) = inspect(servers, ledger);
    assert!(
        bad.iter().any(|line| line.contains(seen_as)),
        "{damage} was not seen as {seen_as:?} but as {bad:#?}"
    );
}

/// Mail sent on one host in each of the usual ways is read on the other in each of the usual ways.
fn walkthrough(kind: Spool) {
    let lab = Lab::new();
    let spools = spools(kind, &lab);
    let [one, two] = MailServer::start_both(&lab, &spools.paths);

    // Out of h1 by s-nail and sendmail(1), into h2's readers.
    one.s_nail_send("u02", "u01", "from a shell", "first body\nlast line\n");
    arrives(&two, "u01", 1);
    let shell = two.s_nail_read("u01");
    assert!(
        shell.contains("from a shell") && shell.contains("first body"),
        "s-nail on h2 shows: {shell}"
    );
    for messages in [two.imap_read("u01"), two.pop3_read("u01")] {
        assert_eq!(messages.len(), 1, "{messages:#?}");
        assert!(messages[0].contains("Subject: from a shell\n"), "{messages:#?}");
        assert!(messages[0].ends_with("\nfirst body\nlast line\n"), "{messages:#?}");
    }

    // Back from h2 by the LDA, into the same mailbox, now that Dovecot on h2 has put its headers there.
    two.lda_deliver(
        "u01",
        "From: a@rig.test\nSubject: by the LDA\nMessage-ID: <w2@rig.test>\n\nsecond body\n",
    );
    arrives(&one, "u01", 2);
    let shell = one.s_nail_read("u01");
    assert!(
        shell.contains("first body") && shell.contains("second body"),
        "s-nail on h1 shows: {shell}"
    );
    let messages = one.imap_read("u01");
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(messages[1].ends_with("\nsecond body\n"), "{messages:#?}");
    assert_eq!(messages, two.imap_read("u01"));

    let bytes = [&one, &two].map(|server| fs::read(server.host().outside(&server.spool().join("u01"))).ok());
    assert!(
        bytes[0].is_some() && bytes[0] == bytes[1],
        "u01 differs between the hosts"
    );
}

/// Waits until a mailbox, seen from one host, holds that many messages.
#[track_caller]
fn arrives(server: &MailServer, user: &str, count: usize) {
    let path = server.host().outside(&server.spool().join(user));
    let what = format!("{count} messages for {user} on {}", server.host().name());
    wait_for(&what, Duration::from_secs(30), || {
        fs::read_to_string(&path)
            .is_ok_and(|text| text.lines().filter(|line| line.starts_with("From ")).count() == count)
    });
}

/// Both hosts write to and read from the same 20 mailboxes at once; then the audit.
fn load(kind: Spool, name: &str, plan: &Plan) {
    let lab = Lab::new();
    let spools = spools(kind, &lab);
    let [one, two] = MailServer::start_both(&lab, &spools.paths);
    let ledger = Load::start([&one, &two], plan).finish();
    let report = audit([&one, &two], &ledger);
    // Past the harness's capture: the numbers of a run that passed are worth reading too.
    std::io::stderr()
        .write_all(format!("{name}: {report:#?}\n").as_bytes())
        .expect("stderr takes a report");
    assert!(
        report.accepted > 0 && report.expunged > 0 && report.visits > 0,
        "the load did nothing: {report:#?}"
    );
    // UIDs that named two messages are in the report and no failure: two Dovecots with indexes of their own hand them out
    // lazily, and it happens on the control, one plain ext4, as well.
}

/// Writers at these rates (messages per second and host) with two IMAP sessions and a POP3 session on each host.
fn plan(smtp_rate: f64, lda_rate: f64) -> Plan {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("MBOXFS_LOAD_* are whole numbers"))
    };
    Plan {
        seconds: number("MBOXFS_LOAD_SECONDS", 20),
        mailboxes: usize::try_from(number("MBOXFS_LOAD_MAILBOXES", 20)).expect("at most 20"),
        smtp_rate,
        lda_rate,
        imap_readers: 2,
        pop3_readers: 1,
        seed: number("MBOXFS_LOAD_SEED", 1),
    }
}
