//! Who is not of the cluster gets nothing (law L14): users of the host, other hosts, listeners on the wire. Who is of it goes on,
//! also when its own brick is dead.
//!
//! Not here: nonsense from those who are let in (`bad_input`), keys one by one (`rpc`), pins one by one (`brickd`).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::host::{Host, Lab};
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::{holds_within, wait_for};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];

const MOUNT: &str = env!("CARGO_BIN_EXE_mount-mboxfs");
const MBOXFS: &str = env!("CARGO_BIN_EXE_mboxfs");
const STRANGERS: &str = include_str!("common/strangers.py");

const SOON: Duration = Duration::from_secs(20);
/// Stands in each message, and must not be seen outside.
const SECRET: &str = "the-winning-numbers-are-4-8-15-16-23-42";

fn with_mail() -> Pair {
    let pair = Pair::start(&Lab::new());
    deliver(&pair.one, 1);
    pair
}

fn deliver(node: &Node, count: usize) {
    let letter = format!("From a@b  Mon Nov 23 12:00:00 2026\n\n{SECRET}\n\n");
    let old = fs::read_to_string(node.seen("box")).unwrap_or_default();
    fs::write(node.seen("box"), old + &letter.repeat(count)).expect("the volume is served");
}

fn ended(command: &mut Command) -> Output {
    command.output().expect("nsenter starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn refused(output: &Output, code: i32, why: &str) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(
        said.contains(why) && said.contains("hint: "),
        "{why:?} is not in: {said}"
    );
}

#[track_caller]
fn goes_on(pair: &Pair) {
    for node in [&pair.one, &pair.two] {
        let mail = fs::read_to_string(node.seen("box")).expect("the volume is served");
        assert!(mail.contains(SECRET), "on {}", node.host.name());
        assert!(node.cli("volume status gVol0").status.success());
    }
}

#[test]
fn users_of_the_host() {
    if !have("users_of_the_host", NEEDS) {
        return;
    }
    let pair = with_mail();
    let host = &pair.one.host;
    for place in ["-", "127.0.0.1", "h1", "h2"] {
        for what in ["no-attach-first", "other-protocol", "oversized-ask"] {
            let output = ended(
                host.command_as("u01", "python3")
                    .args(["-c", STRANGERS, place, "24009", what]),
            );
            let said = text(&output);
            assert!(said.len() < 80 && !said.contains("protocol"), "{place}, {what}: {said}");
        }
    }
    // Root is answered by the same words on the socket.
    let answer = host.run("python3", &["-c", STRANGERS, "-", "24009", "other-protocol"]);
    assert!(answer.contains("the mount speaks protocol 99"), "{answer}");
    let identity = host.identity();
    let mut mboxfs = host.command_as("u01", MBOXFS);
    refused(&ended(mboxfs.args(["peer", "status"])), 1, "only root may speak to it");
    let mut mboxfs = host.command_as("u01", MBOXFS);
    mboxfs.env("MBOXFS_IDENTITY", &identity);
    let remote = ended(mboxfs.args(["--brickd", "h2:24009", "peer", "status"]));
    refused(&remote, 1, "Permission denied");
    assert_eq!(fs::metadata(identity).expect("stat").mode() & 0o777, 0o600);
    goes_on(&pair);
}

/// As a daemon of one that has the socket's name and says what he was told.
const SQUATTER: &str = "import socket
taken = socket.socket(socket.AF_UNIX)
taken.bind('\\0mboxfs-24009')
taken.listen(100)
print('ready', flush=True)
while True:
    one, _ = taken.accept()
    print('heard', one.recv(1000), flush=True)";

fn squat(host: &Host) -> Child {
    let mut squatter = host
        .command_as("u01", "python3")
        .args(["-c", SQUATTER])
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter starts");
    let mut line = String::new();
    let out = squatter.stdout.as_mut().expect("piped");
    // Byte by byte: what follows is read later.
    while !line.ends_with('\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).expect("it speaks");
        line.push(char::from(byte[0]));
    }
    assert_eq!(line, "ready\n");
    squatter
}

#[test]
fn one_who_takes_the_name_of_the_socket() {
    if !have("one_who_takes_the_name_of_the_socket", NEEDS) {
        return;
    }
    let mut pair = with_mail();
    pair.one.kill();
    let mut squatter = squat(&pair.one.host);
    pair.one.start();
    assert!(
        pair.one.said().contains("the name of the unix socket is taken"),
        "{}",
        pair.one.said()
    );
    // The host is let in by its key.
    pair.wait_whole();
    pair.one.unmount();
    pair.one.mount("h1");
    deliver(&pair.one, 1);
    goes_on(&pair);
    squatter.kill().expect("ours");
    let mut heard = String::new();
    let mut out = BufReader::new(squatter.stdout.take().expect("piped"));
    out.read_to_string(&mut heard).expect("it ends");
    squatter.wait().expect("ours");
    assert!(
        heard.lines().all(|line| line == "heard b''"),
        "not a word to him: {heard}"
    );
    let answered = || {
        let words = ["-c", STRANGERS, "-", "24009", "other-protocol"];
        text(&ended(pair.one.host.command("python3").args(words))).contains("the mount speaks protocol 99")
    };
    wait_for("brickd has the name again", SOON, answered);
    goes_on(&pair);
}

#[test]
fn another_host() {
    if !have("another_host", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    deliver(&pair.one, 1);
    let third = lab.third();
    let one = format!("10.78.{}.1", lab.h1.addr().octets()[2]);
    // It has a key, and a brickd.
    let mut stranger = Node::on_plain_directory(&third, &third.dir().join("vol0"));
    let asked = ended(
        third
            .command(MBOXFS)
            .args(["--brickd", &format!("{one}:24009"), "volume", "info"]),
    );
    refused(&asked, 1, "it has an unknown key");
    let probed = stranger.cli(&format!("peer probe {one}"));
    refused(&probed, 1, "is either already part of another cluster");
    let dir = third.dir().join("mail");
    let dir = dir.to_str().expect("ASCII paths");
    let mounted = ended(
        third
            .command(MOUNT)
            .args([&format!("{one}:/gVol0"), dir, "-o", "mount-timeout=3"]),
    );
    refused(&mounted, 32, "no brick serves it within 3 s");
    // It trusts that host all the same: then it is told no.
    let identity = fs::read_to_string(pair.one.host.identity()).expect("the test is root");
    let key = identity
        .lines()
        .find_map(|l| l.strip_prefix("# Fingerprint: "))
        .expect("it says so");
    let own = fs::read_to_string(third.identity()).expect("the test is root");
    fs::write(third.identity(), format!("{own}trusted: {key}\n")).expect("write");
    let asked = ended(
        third
            .command(MBOXFS)
            .args(["--brickd", &format!("{one}:24009"), "volume", "info"]),
    );
    refused(&asked, 1, "it does not know the key of this host");
    let mounted = ended(
        third
            .command(MOUNT)
            .args([&format!("{one}:/gVol0"), dir, "-o", "mount-timeout=3"]),
    );
    refused(&mounted, 32, "it does not know the key of this host");
    let said = pair.one.said();
    let lines = said.lines().filter(|l| l.contains("its key is not known here")).count();
    assert_eq!(lines, 1, "once, not for each attempt: {said}");
    stranger.kill();
    goes_on(&pair);
}

/// Prints what goes over the wire, as far as it is asked for: how often the words occur, and the bytes in all.
const SNIFFER: &str = "import socket, sys
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
tap.bind(('eth0', 0))
print('ready', flush=True)
seen = b''
while b'that-is-all' not in seen[-2000:]:
    seen += tap.recv(70000)
print(len(seen), *[seen.count(word.encode()) for word in sys.argv[1:]])";

#[test]
fn listeners_on_the_wire() {
    if !have("listeners_on_the_wire", NEEDS) {
        return;
    }
    let pair = with_mail();
    let mut sniffer = pair
        .two
        .host
        .command("python3")
        .args(["-c", SNIFFER, SECRET, "gVol0", "a-word-in-the-clear"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter starts");
    let mut out = BufReader::new(sniffer.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("it speaks");
    let clear = |word: &str| {
        let script = format!(
            "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'{word}', ('{}', 9))",
            pair.two.host.addr()
        );
        pair.one.host.run("python3", &["-c", &script]);
    };
    clear("a-word-in-the-clear");
    for node in [&pair.one, &pair.two] {
        deliver(node, 100);
    }
    // Questions of operators, and a mount whose brick is on the other host.
    pair.one.done("volume info");
    goes_on(&pair);
    clear("that-is-all");
    line.clear();
    let heard = holds_within(SOON, || !matches!(sniffer.try_wait(), Ok(None)));
    let _ = sniffer.kill();
    sniffer.wait().expect("ours");
    out.read_line(&mut line).expect("it speaks");
    assert!(heard, "the end was not seen");
    let counts: Vec<usize> = line.split_whitespace().map(|n| n.parse().expect("a count")).collect();
    let [bytes, secrets, names, clear] = counts[..] else {
        panic!("{line}")
    };
    assert!(bytes > 200 * SECRET.len(), "the mail went over the wire: {bytes}");
    assert_eq!((secrets, names), (0, 0), "seen in the clear");
    assert!(clear > 0, "what is in the clear is seen");
}

#[test]
fn a_host_whose_own_brick_is_dead() {
    if !have("a_host_whose_own_brick_is_dead", NEEDS) {
        return;
    }
    let mut pair = with_mail();
    pair.one.kill();
    deliver(&pair.one, 1);
    // Also one that mounts only now.
    pair.one.unmount();
    let dir = pair.one.spool.to_str().expect("ASCII paths").to_owned();
    pair.one
        .host
        .run(MOUNT, &["h1:/gVol0", &dir, "-o", "backup-volfile-servers=h2"]);
    deliver(&pair.one, 1);
    let mail = fs::read_to_string(pair.two.seen("box")).expect("the volume is served");
    assert_eq!(mail.matches(SECRET).count(), 3);
    pair.one.start();
    pair.wait_whole();
    goes_on(&pair);
}

#[test]
fn a_host_that_was_installed_anew() {
    if !have("a_host_that_was_installed_anew", NEEDS) {
        return;
    }
    let mut pair = with_mail();
    pair.two.kill();
    fs::remove_file(pair.two.host.identity()).expect("the test is root");
    pair.two.start();
    // It is not believed, on both ways.
    let says = |node: &Node, what: &str, times: usize| {
        let count = || node.said().matches(what).count();
        wait_for(what, SOON, || count() >= times);
        assert_eq!(count(), times, "{}", node.said());
    };
    says(&pair.two, "it does not know the key of this host", 2); // once for each stream
    says(&pair.one, "its key is not known here", 1);
    assert!(!pair.one.cli("volume status gVol0").status.success());
    let probed = pair.one.cli("peer probe h2");
    refused(&probed, 1, "has the fingerprint");
    let hint = text(&probed);
    let hint = hint.split("installed anew: mboxfs ").nth(1).expect("the way out");
    pair.one.done(hint.trim());
    pair.wait_whole();
    deliver(&pair.two, 1);
    goes_on(&pair);
    let pool = pair.two.done("pool list");
    let own = pool.lines().find(|l| l.contains("localhost")).expect("this host");
    let key = own.split_whitespace().last().expect("its fingerprint");
    assert!(pair.one.done("pool list").contains(key));
}
