//! What `deploy/` gives to an administrator: the install script, the unit, the configuration.
//!
//! Not here: the installed programs at work on two hosts (`readme`).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod need;
    pub(crate) mod wait;
}

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::need::{Need, have};
use common::wait::{START_MAX, holds_within};

const INSTALLED: &[(&str, u32)] = &[
    ("etc/mboxfs/brickd.toml", 0o644),
    ("sbin/mount.fuse.mboxfs", 0o777),
    ("sbin/mount.mboxfs", 0o755),
    ("usr/local/lib/systemd/system/brickd.service", 0o644),
    ("usr/local/sbin/brickd", 0o755),
    ("usr/local/sbin/mboxfs", 0o755),
];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// Where the programs under test are.
fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_brickd"))
        .parent()
        .expect("in a directory")
}

fn install(words: &[&str]) -> Output {
    Command::new(deploy("install"))
        .args(words)
        .output()
        .expect("the script starts")
}

fn install_to(destdir: &Path, more: &[&str]) -> Output {
    let [from, to] = [built(), destdir].map(|p| p.to_str().expect("ASCII paths"));
    install(&[&["--from", from, "--destdir", to], more].concat())
}

fn files(dir: &Path, below: &Path, all: &mut Vec<(String, u32)>) {
    for entry in fs::read_dir(dir).expect("an own dir").map(|e| e.expect("an entry")) {
        let meta = entry.metadata().expect("lstat");
        if meta.is_dir() {
            files(&entry.path(), below, all);
        } else {
            let path = entry.path();
            let name = path.strip_prefix(below).expect("below").display().to_string();
            all.push((name, meta.permissions().mode() & 0o7777));
        }
    }
    all.sort();
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_script_installs_what_an_administrator_expects() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let output = install_to(dir.path(), &[]);
    assert!(output.status.success(), "{}", complaint(&output));
    let mut all = Vec::new();
    files(dir.path(), dir.path(), &mut all);
    let expected: Vec<(String, u32)> = INSTALLED
        .iter()
        .map(|(name, mode)| ((*name).to_owned(), *mode))
        .collect();
    assert_eq!(all, expected);
    for (installed, program) in [
        ("usr/local/sbin/brickd", "brickd"),
        ("usr/local/sbin/mboxfs", "mboxfs"),
        ("sbin/mount.mboxfs", "mount-mboxfs"),
        ("sbin/mount.fuse.mboxfs", "mount-mboxfs"),
    ] {
        let same =
            fs::read(dir.path().join(installed)).expect("installed") == fs::read(built().join(program)).expect("built");
        assert!(same, "{installed} is {program}");
    }
    // Again: the programs are replaced, what the administrator wrote stays.
    let toml = dir.path().join("etc/mboxfs/brickd.toml");
    fs::write(&toml, "data = \"/elsewhere\"\n").expect("an own file");
    fs::write(dir.path().join("sbin/mount.mboxfs"), "old").expect("an own file");
    assert!(install_to(dir.path(), &[]).status.success());
    assert_eq!(
        fs::read_to_string(&toml).expect("still there"),
        "data = \"/elsewhere\"\n"
    );
    assert!(fs::metadata(dir.path().join("sbin/mount.mboxfs")).expect("there").len() > 3);
}

#[test]
fn the_unit_names_the_program_where_it_is() {
    let dir = tempfile::tempdir().expect("a temp dir");
    assert!(install_to(dir.path(), &["--prefix", "/usr"]).status.success());
    assert!(dir.path().join("usr/sbin/brickd").exists());
    let unit = fs::read_to_string(dir.path().join("usr/lib/systemd/system/brickd.service")).expect("the unit");
    assert!(
        unit.contains("ExecStart=/usr/sbin/brickd --config /etc/mboxfs/brickd.toml\n"),
        "{unit}"
    );
}

#[test]
fn mistakes_are_one_line_a_hint_and_a_code() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let empty = dir.path().to_str().expect("ASCII paths");
    for (words, code, why) in [
        (vec!["--from", empty, "--destdir", empty], 1, "brickd is not there"),
        (vec!["--prefix", "/opt", "--destdir", empty], 2, "prefix /opt"),
        (vec!["--destdir"], 2, "--destdir needs a directory"),
        (vec!["now"], 2, "unknown word 'now'"),
    ] {
        let output = install(&words);
        let said = complaint(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        let lines: Vec<&str> = said.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].starts_with("error: could not install: ") && lines[1].starts_with("hint: "),
            "{words:?}: {said}"
        );
        assert!(lines[0].contains(why), "{words:?}: {said}");
    }
    assert_eq!(
        fs::read_dir(dir.path()).expect("still there").count(),
        0,
        "nothing was written"
    );
}

#[test]
fn systemd_takes_the_unit() {
    if !have("systemd_takes_the_unit", &[Need::Systemd]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temp dir");
    let unit = dir.path().join("brickd.service");
    // The check wants the program to be there; on this machine it is not installed.
    let text = fs::read_to_string(deploy("brickd.service")).expect("the unit");
    let here = format!("ExecStart={}", env!("CARGO_BIN_EXE_brickd"));
    let text = text.replace("ExecStart=/usr/local/sbin/brickd", &here);
    assert!(text.contains(&here));
    let verify = |text: &str| {
        fs::write(&unit, text).expect("an own file");
        let output = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&unit)
            .output()
            .expect("it starts");
        (output.status.success(), complaint(&output))
    };
    assert_eq!(verify(&text), (true, String::new()));
    // It would say so: a key that systemd does not know is only a warning.
    assert!(
        verify(&text.replace("ProtectClock", "ProtectClocks"))
            .1
            .contains("ProtectClocks")
    );
}

#[test]
fn brickd_starts_with_the_configuration_as_it_is_and_uncommented() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let example = fs::read_to_string(deploy("brickd.toml")).expect("the example");
    let all = example
        .replace("# listen =", "listen =")
        .replace("# identity =", "identity =")
        .replace("# kept-log =", "kept-log =")
        .replace("# log-level =", "log-level =");
    assert_eq!(
        all.lines()
            .filter(|line| line.contains(" = ") && !line.starts_with('#'))
            .count(),
        5
    );
    for (name, text) in [("example.toml", &example), ("all.toml", &all)] {
        assert!(text.contains("data = \"/glusterfs/vol0\"\n"));
        let data = dir.path().join(name).with_extension("brick");
        fs::create_dir(&data).expect("an own dir");
        let config = dir.path().join(name);
        fs::write(&config, text).expect("an own file");
        let log = dir.path().join(name).with_extension("log");
        let out = fs::File::create(&log).expect("an own file");
        // Only what this machine must not share is said otherwise.
        let mut child = Command::new(env!("CARGO_BIN_EXE_brickd"))
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&data)
            .args(["--listen", "127.0.0.1:0", "--identity"])
            .arg(dir.path().join(name).with_extension("pem"))
            .stdin(Stdio::null())
            .stderr(out.try_clone().expect("a second handle"))
            .stdout(out)
            .spawn()
            .expect("brickd starts");
        let ready = holds_within(START_MAX, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("READY")) || !matches!(child.try_wait(), Ok(None))
        });
        let _ = child.kill();
        let _ = child.wait();
        let said = fs::read_to_string(&log).expect("its log");
        assert!(ready && said.contains("READY"), "{name}: {said}");
    }
}
