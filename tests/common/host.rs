//! Two test hosts on one machine, joined by a wire that can be cut.
//!
//! A host is an own network, mount and UTS namespace, kept alive by a holder process (`holder.sh`) and entered with
//! nsenter. The pid namespace is shared on purpose: a FUSE daemon finds its callers' pids in /proc, and the process a
//! test spawns through `command` *is* the program (nsenter executes it), so that a test can kill it by its own pid.
//! Nothing has a name outside the namespaces; hosts of tests that run side by side cannot meet.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait::{holds_within, wait_for};

const HOLDER: &str = include_str!("holder.sh");

/// The mail accounts that exist on every test host, u01 to u40 with uids from `UID_FIRST`.
const USERS_COUNT: u32 = 40;
const UID_FIRST: u32 = 20_001;

/// Tells labs of one test program apart: N in 10.77.N.0/24.
static LABS: AtomicU32 = AtomicU32::new(0);

/// Two hosts, h1 at 10.77.N.1 and h2 at 10.77.N.2, with a wire between them.
pub(crate) struct Lab {
    pub(crate) h1: Host,
    pub(crate) h2: Host,
}

/// One test host. A clone is the same host; it is torn down with its last clone.
#[derive(Clone)]
pub(crate) struct Host(Arc<Inner>);

struct Inner {
    name: &'static str,
    addr: Ipv4Addr,
    dir: TempDir,
    holder: Child,
}

/// A mail account of a test host.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    /// Also the gid of the user's own group.
    pub(crate) uid: u32,
}

/// All mail accounts, the same on both hosts.
pub(crate) fn users() -> Vec<User> {
    (0..USERS_COUNT)
        .map(|i| User {
            name: format!("u{:02}", i + 1),
            uid: UID_FIRST + i,
        })
        .collect()
}

impl Lab {
    /// Two running hosts with the wire up. Panics with the reason if the machine refuses: ask `need::have` first.
    pub(crate) fn new() -> Self {
        let lab = LABS.fetch_add(1, Ordering::Relaxed);
        let net = u8::try_from((std::process::id() + lab) % 250 + 1).expect("at most 250");
        let [a1, a2] = [1, 2].map(|last| Ipv4Addr::new(10, 77, net, last));
        let names = format!("127.0.0.1 localhost\n{a1} h1.mail.test h1\n{a2} h2.mail.test h2\n");
        let this = Self {
            h1: Host::new("h1", a1, &names),
            h2: Host::new("h2", a2, &names),
        };
        // The second end is born in h2's namespace: no name is ever taken in the machine's own.
        let h2_pid = this.h2.0.holder.id().to_string();
        this.h1.run(
            "ip",
            &[
                "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &h2_pid,
            ],
        );
        for host in [&this.h1, &this.h2] {
            host.run("ip", &["addr", "add", &format!("{}/24", host.addr()), "dev", "eth0"]);
            host.run("ip", &["link", "set", "eth0", "up"]);
        }
        this
    }

    /// A third host, h3, with a wire of its own to each of the two: eth1 to h1, eth2 to h2, under these names at both ends.
    pub(crate) fn third(&self) -> Host {
        let net = self.h1.addr().octets()[2];
        let h3 = Host::new("h3", Ipv4Addr::new(10, 78, net, 3), "127.0.0.1 localhost\n");
        let pid = h3.0.holder.id().to_string();
        for (host, dev, nets) in [(&self.h1, "eth1", 78), (&self.h2, "eth2", 79)] {
            host.run(
                "ip",
                &["link", "add", dev, "type", "veth", "peer", "name", dev, "netns", &pid],
            );
            for (end, last) in [(host, 1), (&h3, 3)] {
                end.run(
                    "ip",
                    &["addr", "add", &format!("10.{nets}.{net}.{last}/24"), "dev", dev],
                );
                end.run("ip", &["link", "set", dev, "up"]);
            }
            let names = host.dir().join("etc/hosts");
            let mut text = fs::read_to_string(&names).expect("it was written at first");
            text.push_str(&format!("10.{nets}.{net}.3 h3\n"));
            fs::write(&names, text).expect("write in an own dir"); // in place: it is mounted over the machine's own
        }
        h3
    }

    pub(crate) fn hosts(&self) -> [&Host; 2] {
        [&self.h1, &self.h2]
    }

    /// Pulls the cable: both ends lose the link; addresses, sockets and programs stay.
    pub(crate) fn cut_link(&self) {
        for host in self.hosts() {
            host.run("ip", &["link", "set", "eth0", "down"]);
        }
    }

    pub(crate) fn restore_link(&self) {
        for host in self.hosts() {
            host.run("ip", &["link", "set", "eth0", "up"]);
        }
    }
}

impl Host {
    fn new(name: &'static str, addr: Ipv4Addr, names: &str) -> Self {
        // Short, because socket paths below it must fit into 108 bytes.
        let dir = tempfile::Builder::new()
            .prefix("mbx")
            .tempdir()
            .expect("a temp dir for the host");
        prepare_dir(dir.path(), name, names);
        let mut holder = Command::new("unshare")
            .args(["-m", "-u", "-n", "--", "bash", "-c", HOLDER, name])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal to the test program's group (Ctrl-C, timeout) must not take the janitor before its work is done.
            .process_group(0)
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("the holder speaks");
        let host = Self(Arc::new(Inner {
            name,
            addr,
            dir,
            holder,
        }));
        assert_eq!(line, "ready\n", "host {name} could not be set up; see its stderr above");
        host
    }

    /// A command that runs inside the host, as root, with the host's mounts, network and name. The child's pid is the
    /// program's own.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.holder.id().to_string(), "-m", "-u", "-n", "--", program]);
        command.stdin(Stdio::null());
        // /var is the machine's, for all hosts.
        command.env("MBOXFS_IDENTITY", self.identity());
        command
    }

    /// The key of this host, for all programs of mboxfs on it.
    pub(crate) fn identity(&self) -> PathBuf {
        self.dir().join("identity.pem")
    }

    /// Like `command`, as one of the mail users, with that user's groups, HOME and nothing else in the environment.
    pub(crate) fn command_as(&self, user: &str, program: &str) -> Command {
        let mut command = self.command("setpriv");
        command.args([
            &format!("--reuid={user}"),
            &format!("--regid={user}"),
            "--init-groups",
            "--",
            program,
        ]);
        command.env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command
            .env("HOME", self.home(user))
            .env("USER", user)
            .env("LOGNAME", user)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a command inside the host to its end and returns its stdout. Panics with its stderr if it fails.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().expect("nsenter starts");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {program} {args:?}: {}: {complaint}",
            self.name(),
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Like `run`, for a program that leaves a daemon behind. The daemon keeps the output open for as long as it lives,
    /// so that goes to `log` instead of a pipe whose end would be waited for.
    #[track_caller]
    pub(crate) fn run_daemon(&self, program: &str, args: &[&str], log: &Path) {
        let out = fs::File::create(log).expect("a log file in an own dir");
        let err = out.try_clone().expect("a second handle of a log file");
        let status = self
            .command(program)
            .args(args)
            .stdout(out)
            .stderr(err)
            .status()
            .expect("nsenter starts");
        let said = || fs::read_to_string(log).unwrap_or_default();
        assert!(
            status.success(),
            "{}: {program} {args:?}: {status}: {}",
            self.name(),
            said()
        );
    }

    /// What this host sends to `other` gets lost without a word; what comes from there arrives. (The frames go to an address
    /// that nobody has.)
    pub(crate) fn cut_one_way(&self, other: &Self) {
        let to = other.addr().to_string();
        let nobody = ["lladdr", "02:00:00:00:00:ff", "dev", "eth0", "nud", "permanent"];
        self.run("ip", &[&["neigh", "replace", &to], &nobody[..]].concat());
    }

    pub(crate) fn mend_one_way(&self, other: &Self) {
        self.run("ip", &["neigh", "del", &other.addr().to_string(), "dev", "eth0"]);
    }

    pub(crate) fn name(&self) -> &'static str {
        self.0.name
    }

    pub(crate) fn addr(&self) -> Ipv4Addr {
        self.0.addr
    }

    /// A directory that only this host uses, gone with it. Seen under the same path inside and outside the host.
    pub(crate) fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// A user's home: local to the host, as Dovecot's indexes in it must be.
    pub(crate) fn home(&self, user: &str) -> PathBuf {
        self.dir().join("home").join(user)
    }

    /// What the test program itself sees of a path inside the host, mounts made there included.
    pub(crate) fn outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.0.holder.id()));
        root.join(path.strip_prefix("/").expect("paths inside a host are absolute"))
    }

    /// The pids of everything that runs inside the host except its holder.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let holder = self.0.holder.id();
        let own = fs::read_link(format!("/proc/{holder}/ns/net")).expect("the holder lives");
        let entries = fs::read_dir("/proc").expect("/proc is there");
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // A process that has ended but was not waited for yet has no namespace any more, and so is not listed.
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns == own))
            // Neither the holder nor the `cat` with which it waits for the end.
            .filter(|pid| *pid != holder.cast_signed() && parent(*pid) != Some(holder))
            .collect()
    }

    /// SIGKILL to every process inside the host, daemons included: the software half of a power cut. The host itself
    /// (namespaces, mounts, wire) stays. The other half is `Image::shutdown`.
    #[track_caller]
    pub(crate) fn kill_all(&self) {
        let mut killed = BTreeSet::new();
        wait_for(
            &format!("{}: SIGKILL ends every process", self.name()),
            Duration::from_secs(20),
            || {
                let pids = self.pids();
                for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                    // A process may have ended since it was listed.
                    let _ = kill_process(pid, Signal::KILL);
                }
                killed.extend(pids.iter().copied());
                // Until a pid is free, Dovecot believes its own old pid file and will not start again. Only the test
                // program itself can free those of its children.
                pids.is_empty()
                    && killed
                        .iter()
                        .all(|pid| parent(*pid).is_none_or(|parent| parent == std::process::id()))
            },
        );
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // End of file tells the holder to kill what still runs inside and to go; everything else goes with it.
        drop(self.holder.stdin.take());
        let gone = holds_within(Duration::from_secs(20), || {
            matches!(self.holder.try_wait(), Ok(Some(_)))
        });
        if !gone {
            let _ = self.holder.kill();
            let _ = self.holder.wait();
        }
    }
}

/// The parent of a process; `None` if there is no such process. Not from its `stat`: while a process becomes another program
/// that waits until it has closed its files, which may wait for a mount whose daemon is gone.
fn parent(pid: i32) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// The files that `holder.sh` puts over the machine's own, and the users' homes.
fn prepare_dir(dir: &Path, name: &str, names: &str) {
    // The mail users must be able to pass through to their homes.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod of an own dir");
    for sub in ["etc", "home", "no-mail-here"] {
        fs::create_dir(dir.join(sub)).expect("mkdir in an own dir");
    }
    let mut passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let mut group = fs::read_to_string("/etc/group").expect("/etc/group is readable");
    for User { name, uid } in users() {
        let home = dir.join("home").join(&name);
        passwd.push_str(&format!("{name}:x:{uid}:{uid}:test user:{}:/bin/sh\n", home.display()));
        group.push_str(&format!("{name}:x:{uid}:\n"));
        fs::create_dir(&home).expect("mkdir in an own dir");
        chown(&home, Some(uid), Some(uid)).expect("root may chown");
    }
    let mailname = format!("{name}.mail.test\n");
    let files = [
        ("passwd", &*passwd),
        ("group", &*group),
        ("hosts", names),
        ("resolv.conf", ""),
        ("mailname", &*mailname),
    ];
    for (file, text) in files {
        fs::write(dir.join("etc").join(file), text).expect("write in an own dir");
    }
}
