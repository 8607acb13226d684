//! `mboxfs demo`: it shows what it says, and whatever ends it, nothing of it is left.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod need;
    pub(crate) mod wait;
}

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use common::need::{Need, have};
use common::wait::{holds_within, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const NEEDS: &[Need] = &[Need::Root, Need::Fuse];
const NOBODY: u32 = 65_534;
/// In the environment of the demo and so of all that it starts, with the directory of the test as its value.
const MARK: &str = "MBOXFS_TEST_OF";
/// The whole demo takes some seconds; a machine with much else to do gets a minute.
const DEMO_MAX: Duration = Duration::from_secs(60);

/// A demo that runs, in a directory of the test's own.
struct Demo {
    dir: TempDir,
    child: Child,
}

impl Demo {
    /// Copies the programs to a directory, lets `prepare` change it, and starts what `command` makes of it there.
    fn start(prepare: impl FnOnce(&Path), command: impl FnOnce(&Path) -> Command) -> Self {
        let dir = tempfile::Builder::new().prefix("mbx").tempdir().expect("a temp dir");
        let root = dir.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("chmod of an own dir");
        fs::create_dir(root.join("tmp")).expect("mkdir in an own dir");
        for program in [
            env!("CARGO_BIN_EXE_mboxfs"),
            env!("CARGO_BIN_EXE_brickd"),
            env!("CARGO_BIN_EXE_mount-mboxfs"),
        ] {
            let name = Path::new(program).file_name().expect("a file");
            fs::copy(program, root.join(name)).expect("the programs can be copied");
        }
        prepare(root);
        let out = fs::File::create(root.join("out")).expect("a file in an own dir");
        let err = out.try_clone().expect("a second handle");
        let child = command(root)
            .env("TMPDIR", root.join("tmp"))
            .env(MARK, root)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the demo starts");
        Self { dir, child }
    }

    fn as_root(prepare: impl FnOnce(&Path)) -> Self {
        Self::start(prepare, |root| {
            let mut command = Command::new(root.join("mboxfs"));
            command.arg("demo");
            command
        })
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).expect("its output")
    }

    fn wait_for_words(&self, words: &str) {
        wait_for(&format!("the demo says {words}"), DEMO_MAX, || {
            self.said().contains(words)
        });
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the demo is ours");
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = holds_within(DEMO_MAX, || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        });
        assert!(ended, "the demo did not end:\n{}", self.said());
        status.expect("it ended")
    }

    /// Every process that the demo or one of its children started and that still runs.
    fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.dir.path().display());
        let pids = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
        })
        .collect()
    }

    fn mounts(&self) -> Vec<String> {
        let dir = self.dir.path().to_str().expect("ASCII paths");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc");
        mounts
            .lines()
            .filter(|line| line.contains(dir))
            .map(str::to_owned)
            .collect()
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.processes(), [], "processes are left:\n{}", self.said());
        assert_eq!(self.mounts(), [""; 0], "mounts are left:\n{}", self.said());
        let files = fs::read_dir(self.dir.path().join("tmp")).expect("the test's directory");
        assert_eq!(files.count(), 0, "files are left:\n{}", self.said());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Only after a failure is there anything to end.
        for pid in self.processes().into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        for line in self.mounts() {
            let _ = Command::new("umount")
                .args(["-l", line.split(' ').nth(1).unwrap_or("")])
                .output();
        }
        let _ = self.child.wait();
    }
}

#[track_caller]
fn shows_the_whole_path(demo: &mut Demo) {
    let status = demo.end();
    let said = demo.said();
    assert!(status.success(), "{status}:\n{said}");
    for words in [
        "$ brickd --data",
        "$ mboxfs peer probe",
        "$ mboxfs volume create gVol0 replica 2 transport tcp",
        "$ mboxfs volume start gVol0",
        "127.0.0.1:/gVol0",
        "$ kill -9",
        "the longest waited",
        "healed after",
        "identical, byte for byte",
        "Cleaned up",
    ] {
        assert!(said.contains(words), "it does not say {words}:\n{said}");
    }
    demo.nothing_is_left();
}

#[test]
fn the_whole_path_as_root() {
    if have("the_whole_path_as_root", NEEDS) {
        shows_the_whole_path(&mut Demo::as_root(|_| {}));
    }
}

/// Here /dev/fuse is made as open as a desktop's, in a mount namespace that only the demo sees.
#[test]
fn the_whole_path_as_an_ordinary_user() {
    if !have(
        "the_whole_path_as_an_ordinary_user",
        &[Need::Root, Need::Fuse, Need::Userns],
    ) {
        return;
    }
    let prepare = |root: &Path| chown(root.join("tmp"), Some(NOBODY), Some(NOBODY)).expect("root may");
    let script = "mknod -m 666 \"$0/fuse\" c 10 229 && mount --bind \"$0/fuse\" /dev/fuse &&
        exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$0/mboxfs\" demo";
    let mut demo = Demo::start(prepare, |root| {
        let mut command = Command::new("unshare");
        command.args(["-m", "--", "sh", "-c", script]).arg(root);
        command
    });
    shows_the_whole_path(&mut demo);
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    if !have("a_signal_ends_it_and_nothing_is_left", NEEDS) {
        return;
    }
    for (words, signal, code) in [
        ("$ mboxfs volume create", Signal::INT, 130),
        ("$ mount-mboxfs", Signal::TERM, 143),
        // In the middle of the stall: a delivery waits in the kernel.
        ("$ kill -9", Signal::INT, 130),
        ("5. ", Signal::HUP, 129),
    ] {
        let mut demo = Demo::as_root(|_| {});
        demo.wait_for_words(words);
        assert!(demo.processes().len() > 1, "the demo and its bricks are seen");
        if words == "$ kill -9" {
            assert_eq!(demo.mounts().len(), 2, "both mounts are seen");
        }
        demo.signal(signal);
        let status = demo.end();
        let said = demo.said();
        assert_eq!(status.code(), Some(code), "after {words}: {status}\n{said}");
        assert!(said.contains("Interrupted.") && !said.contains("That took"), "{said}");
        demo.nothing_is_left();
    }
}

#[test]
fn a_failure_is_told_and_nothing_is_left() {
    if !have("a_failure_is_told_and_nothing_is_left", NEEDS) {
        return;
    }
    let mut demo = Demo::as_root(|root| {
        fs::write(root.join("mount-mboxfs"), "#!/bin/sh\necho no such luck >&2\nexit 32\n").expect("a script");
    });
    let status = demo.end();
    let said = demo.said();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: could not show the demo: waited for the mount to answer"),
        "{said}"
    );
    assert!(said.contains("no such luck"), "the end of the log is shown:\n{said}");
    demo.nothing_is_left();
}

#[test]
fn without_fuse_it_says_so_in_one_line() {
    if !have("without_fuse_it_says_so_in_one_line", &[Need::Root, Need::Fuse]) {
        return;
    }
    // A file in the place of the device, in a mount namespace that only the demo sees.
    let mut demo = Demo::start(
        |root| fs::write(root.join("fuse"), "").expect("a file"),
        |root| {
            let script = "chmod 0 \"$0/fuse\" && mount --bind \"$0/fuse\" /dev/fuse &&
                exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$0/mboxfs\" demo";
            let mut command = Command::new("unshare");
            command.args(["-m", "--", "sh", "-c", script]).arg(root);
            command
        },
    );
    let status = demo.end();
    assert_eq!(status.code(), Some(1));
    let said = demo.said();
    let expected = "error: could not show the demo: /dev/fuse: Permission denied (os error 13)\nhint: run it as root\n";
    assert_eq!(said, expected);
    demo.nothing_is_left();
}
