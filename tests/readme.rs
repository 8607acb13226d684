//! README.md does what it says: every fenced block is run as written, on two hosts where it speaks of two servers.
//!
//! A block that this test does not know fails it. What stands in for the real thing, and why:
//!   cargo      copies the programs of the test's own build to target/release: a second build would prove nothing more.
//!   systemctl  the hosts have no systemd: it starts what the installed unit says, with the unit's capabilities only.
//!   ext4       a loop image at /glusterfs, prepared as the text says.
//!   H1, H2     are h1 and h2; on h2 the two names change places where the text says `its own name first`.
//!   root       each host has its own copy of the machine's root directory, which goes with it.
//! `bash tests/run` runs this test, and so is not run by it: it has to be the command of `.ci/run`.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod own;
    pub(crate) mod wait;
}

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::host::{Host, Lab};
use common::image::Image;
use common::need::{Need, have};
use common::own::own_root;
use common::wait::{START_MAX, wait_for};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Overlay];

const CARGO: &str = r#"#!/bin/sh
[ "$*" = 'build --release --locked' ] || { echo "the stand-in does not know: cargo $*" >&2; exit 1; }
mkdir -p target/release && cp "$BUILT"/* target/release/
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
[ "$*" = 'enable --now brickd' ] || { echo "the stand-in does not know: systemctl $*" >&2; exit 1; }
unit=/usr/local/lib/systemd/system/brickd.service
command=$(sed -n 's/^ExecStart=//p' "$unit")
caps=$(sed -n 's/^CapabilityBoundingSet=//p' "$unit" | tr 'A-Z ' 'a-z,' | sed 's/cap_/+/g')
[ "$command" ] && [ "$caps" ] || { echo "$unit names no program or no capabilities" >&2; exit 1; }
setpriv --no-new-privs --bounding-set "-all,$caps" $command >"$LOG" 2>&1 &
"#;

/// One fenced block.
#[derive(Debug)]
struct Block {
    language: String,
    lines: Vec<String>,
}

/// What a block is, told by its first line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Picture,
    Demo,
    DemoLines,
    Gate,
    /// On both servers.
    Both,
    /// On the first server.
    First,
    /// On each, with its own name first.
    Each,
    Fstab,
}

impl Block {
    fn kind(&self) -> Kind {
        let first = self.lines.first().map_or("", String::as_str);
        match (self.language.as_str(), first) {
            ("", first) if first.contains("Postfix, Dovecot, mailx") => Kind::Picture,
            ("text", "3. Mail comes in on server1 and is read on server2, and the other way round.") => Kind::DemoLines,
            ("sh", "cargo build --release --locked") if self.lines[1..] == ["target/release/mboxfs demo"] => Kind::Demo,
            ("sh", "cargo build --release --locked" | "mkdir -p /glusterfs/vol0") => Kind::Both,
            ("sh", "bash tests/run") => Kind::Gate,
            ("sh", "mboxfs peer probe H2") => Kind::First,
            ("sh", "mount -t mboxfs H1:/gVol0 /var/spool/mail") => Kind::Each,
            ("fstab", first) if first.starts_with("H1:/gVol0 ") => Kind::Fstab,
            _ => panic!("README.md has a block that this test does not know: {self:#?}"),
        }
    }
}

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a file of the project")
}

fn blocks() -> Vec<(Kind, Block)> {
    let text = file("README.md");
    let mut all = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(""), Some(block)) => all.push((block.kind(), block)),
            (Some(language), None) => {
                open = Some(Block {
                    language: language.to_owned(),
                    lines: Vec::new(),
                });
            }
            (Some(_), Some(block)) => panic!("a block begins in a block: {block:#?}"),
            (None, Some(mut block)) => {
                block.lines.push(line.to_owned());
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block does not end: {open:#?}");
    all
}

/// A test host as README.md expects a server: with this project's tree, and a disk at /glusterfs.
struct Server {
    host: Host,
    root: PathBuf,
    _disk: Image,
}

impl Server {
    fn new(host: &Host) -> Self {
        let root = own_root(host);
        let disk = root.join("glusterfs");
        host.run("mkdir", &[disk.to_str().expect("ASCII paths")]);
        let server = Self {
            _disk: Image::create(Some(host), &host.dir().join("disk.img"), 512, &disk),
            host: host.clone(),
            root,
        };
        for dir in ["tree/deploy", "built", "stand-ins", "tmp"] {
            fs::create_dir_all(server.dir(dir)).expect("mkdir in an own dir");
        }
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")).expect("deploy/") {
            let path = entry.expect("an entry").path();
            fs::copy(&path, server.dir("tree/deploy").join(path.file_name().expect("a file"))).expect("a copy");
        }
        for program in [
            env!("CARGO_BIN_EXE_mboxfs"),
            env!("CARGO_BIN_EXE_brickd"),
            env!("CARGO_BIN_EXE_mount-mboxfs"),
        ] {
            let name = Path::new(program).file_name().expect("a file");
            fs::copy(program, server.dir("built").join(name)).expect("a copy");
        }
        for (name, text) in [("cargo", CARGO), ("systemctl", SYSTEMCTL)] {
            let path = server.dir("stand-ins").join(name);
            fs::write(&path, text).expect("an own file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        server
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.host.dir().join(name)
    }

    /// One line of a block, by a shell in the project's tree.
    fn sh(&self, line: &str) -> Output {
        let path = format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.dir("stand-ins").display()
        );
        let mut command = self.host.command("chroot");
        command.arg(&self.root).args(["sh", "-c", "cd \"$0\" && eval \"$1\""]);
        command.arg(self.dir("tree")).arg(line);
        command.env_clear().env("PATH", path).env("HOME", "/root");
        command
            .env("TMPDIR", self.dir("tmp"))
            .env("BUILT", self.dir("built"))
            .env("LOG", self.dir("brickd.log"));
        command.output().expect("nsenter starts")
    }

    /// Runs a line that must succeed; what it printed.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let output = self.sh(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {line}: {}\n{text}{complaint}",
            self.host.name(),
            output.status
        );
        text
    }

    /// Runs a block line by line.
    #[track_caller]
    fn run_all(&self, lines: &[String]) {
        for line in lines {
            if line.starts_with("mboxfs volume status") {
                // 1 until both bricks have met.
                wait_for(line, START_MAX, || self.sh(line).status.success());
            }
            let said = self.run(line);
            if line.starts_with("systemctl") {
                // The real one returns when brickd has told it so.
                let log = self.dir("brickd.log");
                wait_for("brickd says READY", START_MAX, || {
                    fs::read_to_string(&log).unwrap_or_default().contains("READY")
                });
            }
            if line.starts_with("df") {
                assert!(said.contains(":/gVol0"), "{said}");
            }
        }
    }
}

/// A line with its numbers and units taken out.
fn pattern(line: &str) -> String {
    let words = line
        .split(' ')
        .filter(|word| !matches!(word.trim_end_matches([',', ';']), "ms" | "s"));
    words
        .collect::<Vec<_>>()
        .join(" ")
        .replace(|c: char| c.is_ascii_digit() || c == '.', "")
}

/// `text` with the names of the two servers exchanged.
fn swapped(text: &str) -> String {
    text.replace("H1", "H?").replace("H2", "H1").replace("H?", "H2")
}

#[track_caller]
fn the_only(kind: Kind) -> Vec<String> {
    let mut found: Vec<Block> = blocks()
        .into_iter()
        .filter(|(k, _)| *k == kind)
        .map(|(_, b)| b)
        .collect();
    assert_eq!(found.len(), 1, "{kind:?}: {found:#?}");
    found.remove(0).lines
}

#[test]
fn every_block_is_known_and_the_gate_is_one_command() {
    let kinds: Vec<Kind> = blocks().into_iter().map(|(kind, _)| kind).collect();
    use Kind::{Both, Demo, DemoLines, Each, First, Fstab, Gate, Picture};
    assert_eq!(kinds, [Picture, Demo, DemoLines, Gate, Both, Both, First, Each, Fstab]);
    let gate = the_only(Gate).join("\n");
    let ci = file(".ci/run");
    assert_eq!(
        ci.lines().last(),
        Some(format!("exec {gate}").as_str()),
        "the gate runs the README's command"
    );
}

#[test]
fn the_demo_says_what_the_readme_shows() {
    if !have("the_demo_says_what_the_readme_shows", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let server = Server::new(&lab.h1);
    let [build, demo] = &the_only(Kind::Demo)[..] else {
        panic!("two lines")
    };
    server.run(build);
    let said = server.run(demo);
    let patterns: Vec<String> = said.lines().map(pattern).collect();
    for line in the_only(Kind::DemoLines) {
        assert!(
            patterns.contains(&pattern(&line)),
            "the demo does not say: {line}\n{said}"
        );
    }
}

#[test]
fn two_servers_as_written() {
    if !have("two_servers_as_written", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let servers = [Server::new(&lab.h1), Server::new(&lab.h2)];
    let [one, two] = &servers;
    let mut fstab = None;
    for (kind, block) in blocks() {
        match kind {
            Kind::Both => servers.iter().for_each(|server| server.run_all(&block.lines)),
            Kind::First => one.run_all(&block.lines),
            Kind::Each => {
                one.run_all(&block.lines);
                two.run_all(&block.lines.iter().map(|line| swapped(line)).collect::<Vec<_>>());
            }
            Kind::Fstab => fstab = Some(block.lines.join("\n")),
            Kind::Picture | Kind::Demo | Kind::DemoLines | Kind::Gate => {}
        }
    }
    one.run("echo hello >>/var/spool/mail/jane");
    assert_eq!(two.run("cat /var/spool/mail/jane"), "hello\n");
    // The same by the line in fstab.
    let fstab = fstab.expect("README.md has a line for fstab");
    for (server, line) in [(one, fstab.clone()), (two, swapped(&fstab))] {
        server.run("umount /var/spool/mail");
        server.run(&format!("echo '{line}' >/etc/fstab"));
        server.run("mount /var/spool/mail");
    }
    // A mailbox of a user, for which brickd needs each of the capabilities that the unit leaves it.
    two.run("cd /var/spool/mail && chown u01:mail jane && chmod 600 jane && chmod 2770 . && echo again >>jane");
    assert_eq!(one.run("cat /var/spool/mail/jane"), "hello\nagain\n");
    assert_eq!(one.run("stat -c '%U:%G' /var/spool/mail/jane"), "u01:mail\n");
    for server in &servers {
        wait_for("the brick holds the plain file and its owner", START_MAX, || {
            let seen = server
                .sh("cat /glusterfs/vol0/jane && stat -c %U:%G /glusterfs/vol0/jane && stat -c %a /glusterfs/vol0");
            String::from_utf8_lossy(&seen.stdout) == "hello\nagain\nu01:mail\n2770\n"
        });
        server.run("umount /var/spool/mail");
    }
}
