//! mboxfs on the two test hosts: an ext4 brick, a `brickd`, the volume gVol0 and its mount on each.
//!
//! Promises: set up with the commands that an operator types; `Drop` unmounts and ends every process it started, by pid.
//! Not here: mail programs (`mail`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::host::{Host, Lab};
use super::image::Image;
use super::wait::{holds_within, wait_for};

const BRICKD: &str = env!("CARGO_BIN_EXE_brickd");
const MOUNT: &str = env!("CARGO_BIN_EXE_mount-mboxfs");
const MBOXFS: &str = env!("CARGO_BIN_EXE_mboxfs");

/// The disk of a brick, unless told otherwise.
const BRICK_MIB: u64 = 512;

/// Long enough for a brick that boots without its peer (10 s) and everything faster.
const SERVE_MAX: Duration = Duration::from_secs(40);

/// A mount goes home 0.3 s after its own brick serves again; later if it has met that one out of service before.
const HOME_MAX: Duration = Duration::from_secs(60);

/// One server.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) brick: PathBuf,
    pub(crate) spool: PathBuf,
    /// Bytes of log that brickd keeps for an absent peer, from its next start on; `None`: as many as it does by itself.
    pub(crate) kept_log: Option<u32>,
    brickd: Option<Child>,
    starts: u32,
    /// `None`: the brick is a plain directory.
    image: Option<Image>,
}

impl Node {
    fn new(host: &Host, mib: u64) -> Self {
        let brick = host.dir().join("vol0");
        let image = Image::create(Some(host), &host.dir().join("brick.img"), mib, &brick);
        Self::serving(host, &brick, Some(image))
    }

    /// A brickd on a disk of its own that belongs to nothing yet. Kill it at the end.
    pub(crate) fn on_disk(host: &Host) -> Self {
        Self::new(host, BRICK_MIB)
    }

    /// A brickd on a directory of the machine's own file system. Kill it at the end.
    pub(crate) fn on_plain_directory(host: &Host, brick: &Path) -> Self {
        fs::create_dir_all(brick).expect("the brick's directory can be made");
        Self::serving(host, brick, None)
    }

    fn serving(host: &Host, brick: &Path, image: Option<Image>) -> Self {
        let spool = host.dir().join("mail");
        fs::create_dir_all(host.outside(&spool)).expect("the mount point can be made");
        let mut node = Self {
            host: host.clone(),
            brick: brick.to_owned(),
            spool,
            kept_log: None,
            brickd: None,
            starts: 0,
            image,
        };
        node.start();
        node
    }

    /// What brickd said since it was started last.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.host.dir().join(format!("brickd{}.log", self.starts))
    }

    /// Starts brickd and waits for its READY.
    pub(crate) fn start(&mut self) {
        self.spawn();
        wait_for("brickd says READY", SERVE_MAX, || self.said().contains("READY"));
    }

    /// Starts brickd and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        self.starts += 1;
        let log = self.log();
        let out = fs::File::create(&log).expect("a log file in an own directory");
        let err = out.try_clone().expect("a second handle");
        let mut command = self.host.command(BRICKD);
        command.args([
            "--data",
            self.brick.to_str().expect("ASCII paths"),
            "--listen",
            "0.0.0.0:24009",
        ]);
        if let Some(bytes) = self.kept_log {
            command.args(["--kept-log", &bytes.to_string()]);
        }
        self.brickd = Some(command.stdout(out).stderr(err).spawn().expect("nsenter starts"));
    }

    /// The exit code of a brickd that ends by itself.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut child = self.brickd.take().expect("it was started");
        let mut status = None;
        wait_for("brickd ends", SERVE_MAX, || {
            status = child.try_wait().expect("the daemon is ours");
            status.is_some()
        });
        status.and_then(|s| s.code())
    }

    /// SIGSTOP or SIGCONT to brickd.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.brickd.as_ref().expect("it was started");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("the daemon is ours");
    }

    /// Every write to the brick's disk waits until `thaw_disk`. Thaw it before the node is dropped.
    pub(crate) fn freeze_disk(&self) {
        self.host.run("fsfreeze", &["--freeze", path(&self.brick)]);
    }

    pub(crate) fn thaw_disk(&self) {
        self.host.run("fsfreeze", &["--unfreeze", path(&self.brick)]);
    }

    /// The kernel finds the brick's file system damaged and makes it read-only (ext4, errors=remount-ro).
    pub(crate) fn damage_disk(&self) {
        let brick = path(&self.brick);
        self.host.run("mount", &["-o", "remount,errors=remount-ro", brick]);
        let device = self.host.run("findmnt", &["-no", "SOURCE", brick]);
        let name = device.trim().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a test").expect("root may");
    }

    /// The disk fails and brickd is left to find out.
    pub(crate) fn fail_disk(&mut self) {
        self.disk().shutdown();
    }

    fn disk(&mut self) -> &mut Image {
        self.image.as_mut().expect("a brick on a disk of its own")
    }

    /// The power of the brick's disk goes, and brickd with it. The mount stays: it is the other host's as well as ours.
    pub(crate) fn power_off(&mut self) {
        self.fail_disk();
        self.kill();
        self.disk().unmount_all();
    }

    /// The disk is back, with what it would hold after a power cut. brickd is not started yet.
    pub(crate) fn power_on(&mut self) {
        let (host, brick) = (self.host.clone(), self.brick.clone());
        self.disk().mount(Some(&host), &brick);
    }

    /// A new disk in the place of the brick's: nothing is in it. brickd does not run.
    pub(crate) fn empty_disk(&self) {
        let all = format!(
            "find {} -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {{}} +",
            path(&self.brick)
        );
        self.host.run("sh", &["-c", &all]);
    }

    /// SIGKILL, by pid.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.brickd.take() {
            child.kill().expect("the daemon is ours");
            child.wait().expect("and ends");
        }
    }

    /// SIGTERM, by pid, as `systemctl stop` does.
    pub(crate) fn stop(&mut self) {
        let child = self.brickd.as_ref().expect("it was started");
        let pid = Pid::from_child(child);
        kill_process(pid, Signal::TERM).expect("the daemon is ours");
        self.exit_code();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.brickd.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    pub(crate) fn cli(&self, words: &str) -> Output {
        self.host
            .command(MBOXFS)
            .args(words.split_whitespace())
            .output()
            .expect("nsenter starts")
    }

    /// The command's stdout. Panics if it fails.
    pub(crate) fn done(&self, words: &str) -> String {
        let output = self.cli(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: mboxfs {words}: {text}{complaint}",
            self.host.name()
        );
        text
    }

    pub(crate) fn mount(&self, server: &str) {
        let log = self.host.dir().join("mount.log");
        let log = format!("log-file={}", log.display());
        let dir = self.spool.to_str().expect("ASCII paths");
        self.host.run(MOUNT, &[&format!("{server}:/gVol0"), dir, "-o", &log]);
    }

    pub(crate) fn unmount(&self) {
        self.host.run("umount", &[self.spool.to_str().expect("ASCII paths")]);
    }

    /// A path in the mounted volume, as the test program reaches it.
    pub(crate) fn seen(&self, name: &str) -> PathBuf {
        self.host.outside(&self.spool.join(name))
    }

    /// The same file in the brick.
    pub(crate) fn in_brick(&self, name: &str) -> PathBuf {
        self.host.outside(&self.brick.join(name))
    }
}

/// Both servers.
pub(crate) struct Pair {
    pub(crate) one: Node,
    pub(crate) two: Node,
}

impl Pair {
    /// From bare disks to two mounts, with the seed's commands.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::start_on_disks_of(lab, BRICK_MIB)
    }

    pub(crate) fn start_on_disks_of(lab: &Lab, mib: u64) -> Self {
        let pair = Self::formed_on_disks_of(lab, mib);
        pair.one.done("volume start gVol0");
        pair.one.mount("h1");
        pair.two.mount("h2");
        for node in [&pair.one, &pair.two] {
            node.host.run("chown", &["root:mail", path(&node.spool)]);
            node.host.run("chmod", &["2775", path(&node.spool)]);
        }
        pair
    }

    /// The volume exists and is not started.
    pub(crate) fn formed(lab: &Lab) -> Self {
        Self::formed_on_disks_of(lab, BRICK_MIB)
    }

    fn formed_on_disks_of(lab: &Lab, mib: u64) -> Self {
        let pair = Self {
            one: Node::new(&lab.h1, mib),
            two: Node::new(&lab.h2, mib),
        };
        pair.one.done("peer probe h2");
        let (a, b) = (path(&pair.one.brick).to_owned(), path(&pair.two.brick).to_owned());
        pair.one
            .done(&format!("volume create gVol0 replica 2 transport tcp h1:{a} h2:{b}"));
        pair
    }

    /// Nothing is left to heal and both bricks are online, as the operator sees it on either host.
    pub(crate) fn wait_whole(&self) {
        self.wait_healed();
        for node in [&self.one, &self.two] {
            wait_for("both bricks are online", SERVE_MAX, || {
                node.cli("volume status gVol0").status.success()
            });
        }
    }

    /// Both bricks work together, and each mount is at the brick on its own host: what a host reads from now on its own brick
    /// reads. A mount begins at the other one if its own does not serve yet in that moment, and goes home a little later.
    pub(crate) fn wait_at_home(&self) {
        for node in [&self.one, &self.two] {
            wait_for("each mount is at its own brick", HOME_MAX, || {
                let all: Value = serde_json::from_slice(&node.cli("--json heal status").stdout).unwrap_or_default();
                let brick = |i: usize| &all["volumes"][0]["bricks"][i];
                (0..2).all(|i| brick(i)["status"] == "normal" && brick(i)["mounts"] == 1)
            });
        }
    }

    /// Both bricks hold the same plain files, as far as users see them. A brick acknowledges from its log, and writes its
    /// files a moment later.
    pub(crate) fn bricks_are_equal(&self) {
        wait_for("both bricks hold the same files", Duration::from_secs(10), || {
            let list = |node: &Node| {
                let find = "find . -path ./.mboxfs -prune -o -path ./lost+found -prune -o -printf '%p %y %m %U %G %l\\n' \
                            -o -type f -print | sort; find . -path ./.mboxfs -prune -o -type f -print0 | sort -z | xargs -0 md5sum";
                let script = format!("cd {} && {find}", path(&node.brick));
                node.host.run("sh", &["-c", &script])
            };
            list(&self.one) == list(&self.two)
        });
    }

    pub(crate) fn wait_healed(&self) {
        for node in [&self.one, &self.two] {
            let status = || node.cli("heal status");
            if !holds_within(SERVE_MAX, || status().status.success()) {
                panic!(
                    "something is left to heal:\n{}",
                    String::from_utf8_lossy(&status().stdout)
                );
            }
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for node in [&mut self.one, &mut self.two] {
            if std::thread::panicking() {
                for log in fs::read_dir(node.host.dir())
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|e| e.path())
                {
                    if log.extension().is_some_and(|e| e == "log") {
                        eprintln!(
                            "--- {}\n{}",
                            log.display(),
                            fs::read_to_string(&log).unwrap_or_default()
                        );
                    }
                }
            }
            let dir = path(&node.spool).to_owned();
            let _ = node.host.command("umount").args(["-l", &dir]).output();
            if let Some(mut child) = node.brickd.take() {
                let _ = child.kill();
                holds_within(Duration::from_secs(5), || matches!(child.try_wait(), Ok(Some(_))));
            }
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("ASCII paths")
}
