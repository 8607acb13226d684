//! Wrong words, wrong places, strangers: each gets one clear line and a hint, the exit code of its program, and nothing is
//! changed or lost (DESIGN.md section 7, laws L13 and L14).
//!
//! Not here: what the words are, one by one (`cli`, `mount` and `brickd` test their own), crashes (`crash`).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::host::{Host, Lab};
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::holds_within;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];

const BRICKD: &str = env!("CARGO_BIN_EXE_brickd");
const MOUNT: &str = env!("CARGO_BIN_EXE_mount-mboxfs");
const STRANGERS: &str = include_str!("common/strangers.py");

/// A program that refuses does so within this; one that waits for an answer has its own, shorter limit (L13).
const REFUSES_MAX: Duration = Duration::from_secs(30);

const MAIL: &str = "From a@b  Mon Nov 23 12:00:00 2026\n\nhello\n\n";

/// Runs it to its end. Panics if it goes on, as a daemon that should have refused would.
#[track_caller]
fn ended(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsenter starts");
    let done = holds_within(REFUSES_MAX, || !matches!(child.try_wait(), Ok(None)));
    if !done {
        // An error means that it has ended meanwhile.
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("a child of ours");
    assert!(
        done,
        "it did not refuse within {REFUSES_MAX:?}: {}",
        text(&output.stderr)
    );
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code, one line that says why, one that says what to do; nothing else.
#[track_caller]
fn refuses(output: &Output, code: i32, why: &str, hint: &str) {
    let all = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{all}{}", text(&output.stdout));
    // A daemon's own log lines begin with the time.
    let lines: Vec<&str> = all.lines().filter(|l| !l.starts_with("20")).collect();
    let (said, hinted) = match lines[..] {
        [said, hinted] => (said, hinted),
        [said] => (said, ""),
        _ => panic!("one line and a hint, not: {all}"),
    };
    assert!(said.contains(why), "{why:?} is not in: {said}");
    assert!(
        said.starts_with("error: could not ") || said.contains(": failed: "),
        "{said}"
    );
    assert!(hint.is_empty() || hinted.starts_with("hint: "), "no hint: {all}");
    assert!(hinted.contains(hint), "{hint:?} is not in: {hinted}");
}

fn brickd(host: &Host, data: &Path, listen: &str) -> Output {
    let data = data.to_str().expect("ASCII paths");
    ended(host.command(BRICKD).args(["--data", data, "--listen", listen]))
}

fn mount(host: &Host, words: &[&str]) -> Output {
    ended(host.command(MOUNT).args(words))
}

/// The mailbox that was there before is there now, on both.
#[track_caller]
fn nothing_is_lost(pair: &Pair) {
    for node in [&pair.one, &pair.two] {
        assert_eq!(
            fs::read_to_string(node.seen("box")).expect("the volume is served"),
            MAIL,
            "on {}",
            node.host.name()
        );
    }
}

fn with_mail(lab: &Lab) -> Pair {
    let pair = Pair::start(lab);
    fs::write(pair.one.seen("box"), MAIL).expect("the volume is served");
    pair
}

#[test]
fn verbs() {
    if !have("verbs", NEEDS) {
        return;
    }
    let pair = with_mail(&Lab::new());
    let one = &pair.one;
    for words in [
        "volum info",
        "volume strt gVol0",
        "gibberish",
        "volume create gVol1 replica 3 h1:/a h2:/b",
    ] {
        refuses(&one.cli(words), 2, "could not understand the command", "mboxfs");
    }
    for words in [
        "volume start nope",
        "volume stop --yes nope",
        "volume delete --yes nope",
    ] {
        refuses(&one.cli(words), 1, "Volume nope does not exist", "mboxfs volume list");
    }
    for words in ["volume info nope", "volume status nope", "heal status nope"] {
        let output = one.cli(words);
        let all = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}: {all}");
        assert!(all.contains("Volume nope does not exist"), "{words}: {all}");
        assert!(all.contains("hint: mboxfs volume list"), "{words}: {all}");
    }
    // What destroys asks, and there is no terminal to answer on.
    for words in ["volume stop gVol0", "volume delete gVol0"] {
        refuses(&one.cli(words), 2, "it asks first", "--yes");
    }
    refuses(
        &one.cli("volume delete --yes gVol0"),
        1,
        "started",
        "mboxfs volume stop gVol0",
    );
    refuses(&one.cli("volume start gVol0"), 1, "already started", "");
    nothing_is_lost(&pair);
}

/// An address of h1's own network whose packets go to nobody, without a word: no refusal, no "no route".
fn silent_address(host: &Host) -> String {
    let [a, b, c, _] = host.addr().octets();
    let silent = format!("{a}.{b}.{c}.99");
    let words = [
        "neigh",
        "add",
        &silent,
        "lladdr",
        "02:00:00:00:00:99",
        "nud",
        "permanent",
        "dev",
        "eth0",
    ];
    host.run("ip", &words);
    silent
}

#[test]
fn nobody_answers() {
    if !have("nobody_answers", NEEDS) {
        return;
    }
    let pair = with_mail(&Lab::new());
    let one = &pair.one;
    let silent = silent_address(&one.host);
    for address in ["127.0.0.1:1", "h2:7", "no-such-host:24009", &format!("{silent}:24009")] {
        let begun = Instant::now();
        let output = one.cli(&format!("--brickd {address} peer status"));
        refuses(&output, 3, address, "is brickd running at");
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{address}: {:?}",
            begun.elapsed()
        );
    }
    let dir = one.host.dir().join("elsewhere");
    fs::create_dir(&dir).expect("mkdir in an own dir");
    let dir = dir.to_str().expect("ASCII paths");
    for (source, options) in [
        ("h1:/gVol0", "port=7,mount-timeout=2"),
        ("no-such-host:/gVol0", "mount-timeout=2"),
        (&*format!("{silent}:/gVol0"), "mount-timeout=2"),
    ] {
        let begun = Instant::now();
        let output = mount(&one.host, &[source, dir, "-o", options]);
        refuses(
            &output,
            32,
            "no brick serves it within 2 s",
            "mboxfs volume status gVol0",
        );
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{source}: {:?}",
            begun.elapsed()
        );
    }
    nothing_is_lost(&pair);
}

#[test]
fn probes() {
    if !have("probes", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let data = lab.h1.dir().join("vol0");
    let mut alone = Node::on_plain_directory(&lab.h1, &data);
    let silent = silent_address(&lab.h1);
    for host in ["h2", "no-such-host", &silent] {
        let begun = Instant::now();
        let output = alone.cli(&format!("peer probe {host}"));
        refuses(&output, 1, "peer probe: failed: ", "is brickd running on");
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{host}: {:?}",
            begun.elapsed()
        );
    }
    let status = alone.cli("peer status");
    let status = text(&status.stdout) + &text(&status.stderr);
    assert!(status.contains("No peers present"), "nothing was noted: {status}");
    let brick = data.display();
    let output = alone.cli(&format!(
        "volume create gVol0 replica 2 transport tcp h1:{brick} h2:{brick}"
    ));
    refuses(
        &output,
        1,
        "Host h2 is not in 'Peer in Cluster' state",
        "mboxfs peer probe h2",
    );
    alone.kill();
}

#[test]
fn brick_directories() {
    if !have("brick_directories", NEEDS) {
        return;
    }
    let pair = with_mail(&Lab::new());
    let host = &pair.one.host;
    let brick = &pair.one.brick;
    let output = brickd(host, brick, "127.0.0.1:24010");
    refuses(&output, 1, "is in use by another brickd", "stop the other brickd");
    let free = host.dir().join("free");
    let output = brickd(host, &free, "127.0.0.1:24010");
    refuses(&output, 1, "could not open brick directory", "mkdir -p");
    fs::write(&free, "a file").expect("write in an own dir");
    let output = brickd(host, &free, "127.0.0.1:24010");
    refuses(&output, 1, "could not open brick directory", "");
    fs::remove_file(&free).expect("rm in an own dir");
    fs::create_dir(&free).expect("mkdir in an own dir");
    let output = brickd(host, &free, "0.0.0.0:24009");
    refuses(
        &output,
        1,
        "could not listen on 0.0.0.0:24009",
        "another brickd may run",
    );
    let strange = host.dir().join("strange");
    fs::create_dir(&strange).expect("mkdir in an own dir");
    fs::write(strange.join("alice"), MAIL).expect("write in an own dir");
    let output = brickd(host, &strange, "127.0.0.1:24010");
    refuses(
        &output,
        1,
        "could not use brick directory",
        "name the brick's own directory",
    );
    assert_eq!(
        fs::read_to_string(strange.join("alice")).expect("it is still there"),
        MAIL
    );
    let output = ended(host.command(BRICKD).args(["--listen", "127.0.0.1:24010"]));
    refuses(&output, 2, "error: could not ", "--data");
    nothing_is_lost(&pair);
}

#[test]
fn volumes_in_the_wrong_place() {
    if !have("volumes_in_the_wrong_place", NEEDS) {
        return;
    }
    let lab = Lab::new();
    // On the root file system: not without `force`.
    let root = ["/var/tmp", "/"]
        .into_iter()
        .find(|d| fs::metadata(d).map(|m| m.dev()).ok() == fs::metadata("/").map(|m| m.dev()).ok())
        .expect("/ itself at least");
    let held = tempfile::Builder::new()
        .prefix("mbx")
        .tempdir_in(root)
        .expect("root may");
    let mut one = Node::on_plain_directory(&lab.h1, held.path());
    let mut two = Node::on_disk(&lab.h2);
    one.done("peer probe h2");
    let (a, b) = (held.path().display(), two.brick.display());
    let create = |name: &str| format!("volume create {name} replica 2 transport tcp h1:{a} h2:{b}");
    refuses(
        &one.cli(&create("gVol0")),
        1,
        "is being created in the root partition",
        "",
    );
    let list = one.cli("volume list");
    let list = text(&list.stdout) + &text(&list.stderr);
    assert!(list.contains("No volumes"), "nothing was made: {list}");
    let wrong = format!("volume create gVol0 replica 2 transport tcp h1:{a} h2:/somewhere force");
    refuses(&one.cli(&wrong), 1, "not available", "was started with --data");
    let output = one.cli(&format!(
        "volume create gVol0 replica 2 transport tcp h1:{a} h1:{a} force"
    ));
    refuses(&output, 1, "must be on two hosts", "mboxfs pool list");
    one.done(&format!("{} force", create("gVol0")));
    // Once it was started a directory belongs to its volume for ever.
    one.done("volume start gVol0");
    one.done("--yes volume stop gVol0");
    one.done("--yes volume delete gVol0");
    let output = one.cli(&format!("{} force", create("gVol1")));
    refuses(&output, 1, "is already part of a volume", "empty directory");
    one.kill();
    two.kill();
}

#[test]
fn strangers_on_the_port() {
    if !have("strangers_on_the_port", NEEDS) {
        return;
    }
    let mut pair = with_mail(&Lab::new());
    let said = |what: &str| {
        // By the port nobody is heard; by the socket, as root, each word is.
        let by_port = pair.two.host.run("python3", &["-c", STRANGERS, "h1", "24009", what]);
        assert!(by_port.len() < 30, "an alert and an end: {by_port}");
        pair.one.host.run("python3", &["-c", STRANGERS, "-", "24009", what])
    };
    for what in [
        "noise",
        "http",
        "preface",
        "no-such-call",
        "no-protobuf",
        "no-attach-first",
        "no-peer",
    ] {
        eprintln!("{what}: {}", said(what).trim());
    }
    for what in ["oversized", "oversized-ask"] {
        eprintln!("{what}: {}", said(what).trim());
    }
    let answer = said("other-protocol");
    assert!(
        answer.contains("the mount speaks protocol 99, this brick speaks 1"),
        "it is told why: {answer}"
    );
    // Connections that say nothing take no place for ever, and others are served meanwhile.
    let mut idle = pair
        .two
        .host
        .command("python3")
        .args(["-c", IDLE])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let closed = holds_within(Duration::from_secs(20), || {
        fs::read_to_string(pair.one.seen("box")).expect("the volume is served");
        !matches!(idle.try_wait(), Ok(None))
    });
    let _ = idle.kill();
    idle.wait().expect("a child of ours");
    assert!(closed, "300 silent connections were not closed");
    nothing_is_lost(&pair);
    assert!(pair.one.is_running() && pair.two.is_running());
    assert!(pair.one.cli("volume status gVol0").status.success());
    assert!(!pair.one.said().contains("panicked"), "{}", pair.one.said());
}

/// Ends when the other side has closed all of them.
const IDLE: &str = "import socket
all = [socket.create_connection(('h1', 24009)) for _ in range(300)]
for one in all:
    one.settimeout(30)
    try:
        while one.recv(1000):
            pass
    except ConnectionError:
        pass";

#[test]
fn mounts() {
    if !have("mounts", NEEDS) {
        return;
    }
    let pair = Pair::formed(&Lab::new());
    let host = &pair.one.host;
    let spool = pair.one.spool.to_str().expect("ASCII paths");
    refuses(
        &mount(host, &["h1:/gVol0", spool]),
        32,
        "volume gVol0 is not started",
        "mboxfs volume",
    );
    refuses(
        &mount(host, &["h1:/nope", spool]),
        32,
        "volume nope does not exist",
        "mboxfs volume info",
    );
    pair.one.done("volume start gVol0");
    let missing = host.dir().join("missing");
    let missing = missing.to_str().expect("ASCII paths");
    refuses(&mount(host, &["h1:/gVol0", missing]), 32, "the mount point", "mkdir -p");
    fs::write(missing, "a file").expect("write in an own dir");
    refuses(
        &mount(host, &["h1:/gVol0", missing]),
        32,
        "the mount point is not a directory",
        "give a directory",
    );
    refuses(
        &mount(host, &["h1/gVol0", spool]),
        1,
        "is not HOST:/VOLUME",
        "for example",
    );
    refuses(&mount(host, &["h1:/gVol0", spool, "-o", "bogus"]), 1, "bogus", "known");
    assert!(
        !fs::read_to_string(format!("/proc/{}/mounts", std::process::id()))
            .expect("/proc is there")
            .contains("h1:/gVol0"),
        "nothing was mounted"
    );
    pair.one.mount("h1");
    refuses(
        &mount(host, &["h1:/gVol0", spool]),
        32,
        "the mount point is busy: h1:/gVol0 is mounted there",
        "umount",
    );
    pair.two.mount("h2");
    fs::write(pair.two.seen("box"), MAIL).expect("the first mount is as good as before");
    nothing_is_lost(&pair);
}
