//! Who goes on when the servers lose each other: each policy with real programs, and a third host for the witness.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::Duration;

use common::host::{Host, Lab};
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];
const SOON: Duration = Duration::from_secs(20);

/// `brickd --witness` on a host of its own.
struct Witness {
    host: Host,
    child: Option<Child>,
    starts: u32,
}

impl Witness {
    fn start(host: Host) -> Self {
        let mut witness = Self {
            host,
            child: None,
            starts: 0,
        };
        fs::create_dir(witness.data()).expect("mkdir in an own directory");
        witness.go_on();
        witness
    }

    fn data(&self) -> PathBuf {
        self.host.dir().join("witness")
    }

    fn go_on(&mut self) {
        self.starts += 1;
        let path = self.host.dir().join(format!("witness{}.log", self.starts));
        let log = fs::File::create(&path).expect("a log file");
        let mut command = self.host.command(env!("CARGO_BIN_EXE_brickd"));
        command.args(["--witness", "--listen", "0.0.0.0:24009", "--data"]);
        command.arg(self.data());
        let out = log.try_clone().expect("a second handle");
        self.child = Some(command.stdout(out).stderr(log).spawn().expect("nsenter starts"));
        wait_for("the witness says READY", SOON, || {
            fs::read_to_string(&path).is_ok_and(|said| said.contains("READY"))
        });
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the witness is ours");
            child.wait().expect("and ends");
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill();
    }
}

fn letter(i: usize) -> String {
    format!("From a@b  Mon Nov 23 12:00:00 2026\n\nletter {i}\n\n")
}

/// Appends one message, as a mailer that keeps to O_APPEND and fsync.
fn append(node: &Node, name: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(node.seen(name))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn status(node: &Node) -> String {
    String::from_utf8_lossy(&node.cli("volume status gVol0").stdout).into_owned()
}

/// Both mounts and both bricks hold the same.
fn both_hold(pair: &Pair, name: &str, text: &str) {
    for node in [&pair.one, &pair.two] {
        let seen = fs::read_to_string(node.seen(name)).expect("it can be read");
        assert_eq!(seen, text, "on {}", node.host.name());
        wait_for("the brick holds the plain file", Duration::from_secs(5), || {
            fs::read_to_string(node.in_brick(name)).is_ok_and(|held| held == text)
        });
    }
}

/// A temporary refusal that makes Postfix defer (L9).
fn is_temporary(result: io::Result<()>) {
    let error = result.expect_err("refused");
    assert_eq!(error.raw_os_error(), Some(116), "ESTALE, not {error}");
}

/// What both remember, once the operator's word is in force.
fn policy_is(pair: &Pair, policy: &str) {
    for node in [&pair.one, &pair.two] {
        wait_for("the policy is in force on both", Duration::from_secs(5), || {
            node.done("volume get gVol0 quorum").contains(policy)
        });
    }
}

#[test]
fn the_witness_lets_one_side_go_on() {
    if !have("the_witness_lets_one_side_go_on", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut witness = Witness::start(lab.third());
    let pair = Pair::start(&lab);
    let refused = pair.two.cli("volume set gVol0 quorum witness");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no witness is known"));
    pair.two.done("volume set gVol0 witness h3 quorum witness");
    policy_is(&pair, "witness");
    assert!(
        pair.one
            .done("volume info")
            .contains("Options Reconfigured:\nquorum: witness\nwitness: h3")
    );
    wait_for("both bricks have heard of the witness", SOON, || {
        status(&pair.one).contains("Witness h3")
            && status(&pair.one)
                .lines()
                .any(|l| l.starts_with("Witness") && l.contains(" Y "))
    });
    let mut all = letter(0);
    append(&pair.one, "alice", &all).expect("both bricks work");

    // Without the witness mail flows as before.
    witness.kill();
    append(&pair.two, "alice", &letter(1)).expect("both bricks work");
    all.push_str(&letter(1));
    witness.go_on();

    lab.cut_link();
    wait_for("one brick goes on, the other one waits", SOON, || {
        let (one, two) = (status(&pair.one), status(&pair.two));
        one.contains("waits for its peer, which was alone last")
            != two.contains("waits for its peer, which was alone last")
    });
    let first_waits = status(&pair.one).contains("which was alone last");
    let (on, off) = if first_waits {
        (&pair.two, &pair.one)
    } else {
        (&pair.one, &pair.two)
    };
    thread::scope(|scope| {
        let refused = scope.spawn(|| append(off, "bob", &letter(2)));
        append(on, "alice", &letter(3)).expect("this side goes on");
        all.push_str(&letter(3));
        // It never serves, however long it waits.
        is_temporary(refused.join().expect("the writer ends"));
    });
    lab.restore_link();
    pair.wait_whole();
    append(off, "alice", &letter(4)).expect("it follows");
    all.push_str(&letter(4));
    both_hold(&pair, "alice", &all);
    for node in [&pair.one, &pair.two] {
        assert!(!node.said().contains("diverged"), "I7 on {}", node.host.name());
        assert!(!node.seen("bob").exists(), "what was refused is not there");
    }
}

#[test]
fn both_means_both() {
    if !have("both_means_both", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    pair.one.done("volume set gVol0 quorum both");
    policy_is(&pair, "both");
    append(&pair.two, "alice", &letter(0)).expect("both bricks work");
    pair.two.kill();
    let refused = pair.one.cli("volume set gVol0 quorum none");
    assert_eq!(refused.status.code(), Some(1), "only with both online");
    is_temporary(append(&pair.one, "alice", &letter(1)));
    assert!(status(&pair.one).contains("waits for its peer: quorum both"));
    let waiting = {
        let path = pair.one.seen("alice");
        thread::spawn(move || {
            let mut file = OpenOptions::new().append(true).open(path)?;
            file.write_all(letter(2).as_bytes())?;
            file.sync_all()
        })
    };
    pair.two.start();
    waiting.join().expect("the writer ends").expect("who waited is served");
    pair.wait_whole();
    both_hold(&pair, "alice", &(letter(0) + &letter(2)));
    pair.two.done("volume set gVol0 quorum none");
    policy_is(&pair, "none");
}

#[test]
fn both_down_and_back_in_any_order() {
    if !have("both_down_and_back_in_any_order", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let _witness = Witness::start(lab.third());
    let mut pair = Pair::start(&lab);
    pair.one.done("volume set gVol0 witness h3 quorum witness");
    policy_is(&pair, "witness");
    let mut all = String::new();
    for (round, survivor_first) in [true, false].into_iter().enumerate() {
        pair.two.kill();
        append(&pair.one, "alice", &letter(round)).expect("the other one goes on");
        all.push_str(&letter(round));
        pair.one.kill();
        if survivor_first {
            pair.one.start();
            wait_for("it goes on at once", SOON, || {
                pair.one.said().contains("going on alone")
            });
            pair.two.start();
        } else {
            pair.two.start();
            wait_for("it waits, and says so", SOON, || {
                pair.two.said().contains("its peer was alone last")
                    && status(&pair.two).contains("which was alone last")
            });
            pair.one.start();
        }
        pair.wait_whole();
        both_hold(&pair, "alice", &all);
    }
    // The operator's word: the one that was alone last is lost for good.
    pair.two.kill();
    append(&pair.one, "alice", &letter(7)).expect("the other one goes on");
    pair.one.kill();
    pair.two.start();
    wait_for("it waits", SOON, || {
        status(&pair.two).contains("volume force-solo gVol0")
    });
    let unasked = pair.two.cli("volume force-solo gVol0");
    assert_eq!(unasked.status.code(), Some(2), "it asks first");
    pair.two.done("--yes volume force-solo gVol0");
    append(&pair.two, "carol", &letter(8)).expect("it goes on");
    assert_eq!(fs::read_to_string(pair.two.seen("alice")).expect("it is read"), all);
    // Nothing is dropped when the lost one is back after all.
    pair.one.start();
    wait_for("the divergence is found", SOON, || {
        [&pair.one, &pair.two]
            .iter()
            .all(|n| n.said().contains("both bricks changed the volume while apart"))
    });
    pair.wait_whole();
    both_hold(&pair, "alice", &(all.clone() + &letter(7)));
    both_hold(&pair, "carol", &letter(8));
}

#[test]
fn a_witness_is_no_brick() {
    if !have("a_witness_is_no_brick", NEEDS) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |flags: &[&str], data: &std::path::Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_brickd"));
        command
            .args(flags)
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("MBOXFS_IDENTITY", dir.path().join("identity.pem"));
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command.spawn().expect("brickd starts")
    };
    for (first, second, why) in [
        (&["--witness"][..], &[][..], "is the directory of a witness"),
        (&[], &["--witness"], "is a brick already"),
    ] {
        let data = dir.path().join(why.replace(' ', "-"));
        fs::create_dir(&data).expect("mkdir");
        let mut child = run(first, &data);
        let mut line = String::new();
        let mut out = io::BufReader::new(child.stdout.take().expect("piped"));
        io::BufRead::read_line(&mut out, &mut line).expect("it speaks");
        assert!(line.starts_with("READY"), "{line}");
        child.kill().expect("ours");
        child.wait().expect("ends");
        let refused = run(second, &data).wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1));
        assert!(said.contains(why) && said.contains("hint: "), "{said}");
    }
}
