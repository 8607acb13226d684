//! What the demo runs: a temporary directory, and in it two servers with a `brickd` and a mount each.
//!
//! S1  Every process is started here and ended here, by its pid, and is awaited.
//! S2  A directory is removed only when nothing is mounted in it any more.
//! S3  Children are in process groups of their own: Ctrl-C reaches the demo, which ends them in order, and whatever they
//!     have started goes with them.
//!
//! Not here: what is shown with them (`script`).

use super::{Failure, programs::Programs, script::tell};
use rustix::{
    mount::UnmountFlags,
    process::{Pid, Signal, kill_process, kill_process_group},
};
use std::{
    fmt::Write,
    fs::{self, File},
    io::Read,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::sleep;

pub(super) const VOLUME: &str = "gVol0";
/// Between two looks at something that has to come true.
const LOOK: Duration = Duration::from_millis(10);
/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(20);
/// How long a mount may take to say goodbye before it is killed.
const GOODBYE: Duration = Duration::from_secs(3);
/// A mount daemon ends by itself within this time of its umount.
const UNMOUNT: Duration = Duration::from_secs(2);
/// Below the ports that the kernel gives to connections: one of those to a dead brick must not take its port.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Lines of each log that are shown after a failure.
const LOG_LINES: usize = 5;

/// One of the two.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) brick: PathBuf,
    pub(super) mail: PathBuf,
    /// `127.0.0.1:port`.
    pub(super) address: String,
    port: u16,
    brickd: Option<Child>,
    mount: Option<Child>,
}

/// All of it. Dropped: as `clear`.
pub(super) struct Stage {
    pub(super) servers: [Server; 2],
    programs: Programs,
    root: Option<TempDir>,
    /// The server whose brickd `mboxfs` asks.
    asked: usize,
    /// A command that runs and will end by itself.
    errand: Option<Child>,
}

impl Stage {
    /// Empty directories and free ports.
    ///
    /// Errors: the machine's.
    pub(super) fn new(programs: Programs) -> Result<Self, Failure> {
        let root = tempfile::Builder::new().prefix("mboxfs-demo-").tempdir();
        let root = root.map_err(|e| Failure::new(e.to_string(), "set TMPDIR to a directory of yours on ext4"))?;
        let ports = free_ports()?;
        let make = |name: &'static str, port: u16| {
            let dir = root.path().join(name);
            let server = Server {
                name,
                brick: dir.join("brick"),
                mail: dir.join("mail"),
                address: format!("127.0.0.1:{port}"),
                port,
                brickd: None,
                mount: None,
            };
            for new in [&server.brick, &server.mail] {
                fs::create_dir_all(new).map_err(|e| format!("{}: {e}", new.display()))?;
            }
            Ok::<_, Failure>(server)
        };
        Ok(Self {
            servers: [make("server1", ports[0])?, make("server2", ports[1])?],
            programs,
            root: Some(root),
            asked: 0,
            errand: None,
        })
    }

    pub(super) fn root(&self) -> &Path {
        self.root.as_ref().map_or(Path::new("/"), TempDir::path)
    }

    /// Starts the `brickd` of a server and waits until it serves.
    pub(super) async fn start_brickd(&mut self, at: usize) -> Result<(), Failure> {
        let server = &mut self.servers[at];
        let data = server.brick.display().to_string();
        let log = server.log("brickd");
        let identity = server.identity().display().to_string();
        let words = ["--data", &data, "--listen", &server.address, "--identity", &identity];
        server.brickd = Some(daemon(&self.programs.brickd, &words, &log)?);
        let hint = "set TMPDIR to a directory of yours on ext4";
        wait_for(&mut server.brickd, "brickd to serve", hint, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("READY "))
        })
        .await
    }

    /// SIGKILL.
    pub(super) fn kill_brickd(&mut self, at: usize) -> Result<(), Failure> {
        let Some(mut child) = self.servers[at].brickd.take() else {
            return Err("there is no brickd to kill".into());
        };
        let pid = child.id();
        tell(format!("$ kill -9 {pid}"));
        child.kill().map_err(|e| format!("kill -9 {pid}: {e}"))?;
        child.wait().map_err(|e| format!("wait for {pid}: {e}"))?;
        Ok(())
    }

    /// Mounts the volume on a server, through its own brick.
    pub(super) async fn mount(&mut self, at: usize) -> Result<(), Failure> {
        let server = &mut self.servers[at];
        let dir = server.mail.display().to_string();
        let identity = server.identity();
        let option = format!("port={},identity={}", server.port, identity.display());
        let source = format!("127.0.0.1:/{VOLUME}");
        let words = [&*source, &*dir, "-f", "-o", &*option];
        server.mount = Some(daemon(&self.programs.mount, &words, &server.log("mount"))?);
        let mail = server.mail.clone();
        wait_for(&mut server.mount, "the mount to answer", "", || is_mounted_in(&mail)).await
    }

    /// `umount`, and the end of the process that it belongs to.
    pub(super) async fn unmount(&mut self, at: usize) -> Result<(), Failure> {
        let dir = self.servers[at].mail.display().to_string();
        self.errand(Path::new("umount"), &[&dir]).await?;
        let Some(child) = self.servers[at].mount.as_mut() else {
            return Ok(());
        };
        let until = Instant::now() + UNMOUNT;
        while !has_ended(child) && Instant::now() < until {
            sleep(LOOK).await;
        }
        // A service that started meanwhile in a mount namespace of its own has a copy of the mount, and may keep it.
        end(child, GOODBYE);
        self.servers[at].mount = None;
        Ok(())
    }

    /// From now on `mboxfs` asks the brickd of this server.
    pub(super) fn ask(&mut self, at: usize) {
        self.asked = at;
        tell(format!("$ export MBOXFS_BRICKD={}", self.servers[at].address));
    }

    /// Runs `mboxfs` with these words, shows both, and checks the exit code.
    pub(super) async fn mboxfs(&mut self, words: &str, wanted: i32) -> Result<(), Failure> {
        tell(format!("$ mboxfs {words}"));
        let (code, text) = self.quietly(words).await?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            tell(format!("  {line}"));
        }
        if code == wanted {
            return Ok(());
        }
        Err(format!("mboxfs {words} ended with {code}").into())
    }

    /// Asks until the exit code is 0.
    pub(super) async fn mboxfs_until(&mut self, words: &str) -> Result<(), Failure> {
        let until = Instant::now() + START;
        while self.quietly(words).await?.0 != 0 {
            if Instant::now() > until {
                let why = format!("waited {} s in vain for: mboxfs {words}", START.as_secs());
                return Err(why.into());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Exit code and what was said.
    pub(super) async fn quietly(&mut self, words: &str) -> Result<(i32, String), Failure> {
        let mboxfs = self.programs.mboxfs.clone();
        let all: Vec<&str> = words.split(' ').collect();
        self.run(&mboxfs, &all).await
    }

    /// Shows and runs a command that must succeed.
    pub(super) async fn errand(&mut self, program: &Path, words: &[&str]) -> Result<(), Failure> {
        let line = format!("{} {}", program.display(), words.join(" "));
        tell(format!("$ {line}"));
        match self.run(program, words).await? {
            (0, _) => Ok(()),
            (code, text) => Err(format!("{line} ended with {code}: {}", text.trim()).into()),
        }
    }

    async fn run(&mut self, program: &Path, words: &[&str]) -> Result<(i32, String), Failure> {
        let mut command = Command::new(program);
        let asked = &self.servers[self.asked];
        command
            .args(words)
            .env("MBOXFS_BRICKD", &asked.address)
            .env("MBOXFS_IDENTITY", asked.identity());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0); // S3
        let child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        let child = self.errand.insert(child); // S1: also if this future is dropped in the middle
        let status = loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) => break status,
                None => sleep(LOOK).await,
            }
        };
        // A page or two at most: it never filled the pipe.
        let mut text = String::new();
        let _ = child.stdout.take().map(|mut out| out.read_to_string(&mut text));
        let _ = child.stderr.take().map(|mut err| err.read_to_string(&mut text));
        self.errand = None;
        Ok((status.code().unwrap_or(-1), text))
    }

    /// The end of each log, for the person who has to find out why.
    pub(super) fn show_logs(&self) {
        for log in self.servers.iter().flat_map(|s| [s.log("brickd"), s.log("mount")]) {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let mut last = String::new();
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                let _ = write!(last, "\n  {}", crate::show::clean(line));
            }
            if !last.is_empty() {
                crate::talk(format!("the end of {}:{last}", log.display()));
            }
        }
    }

    /// Ends and removes everything, in bounded time. No effect the second time.
    ///
    /// Errors: what is left.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.errand.take() {
            end(&mut child, Duration::ZERO);
        }
        for server in &mut self.servers {
            if let Some(mut child) = server.mount.take() {
                end(&mut child, GOODBYE); // it unmounts
            }
            while is_mounted_in(&server.mail) {
                if rustix::mount::unmount(&server.mail, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_err() {
                    break;
                }
            }
        }
        for child in self.servers.iter_mut().filter_map(|s| s.brickd.take()) {
            let mut child = child;
            end(&mut child, Duration::ZERO); // what it keeps goes too: there is nothing to stop in order
        }
        let Some(root) = self.root.take() else { return Ok(()) };
        let path = root.path().to_owned();
        if is_mounted_in(&path) {
            let kept = root.keep(); // S2
            return Err(Failure::new(
                format!("something is still mounted in {}", kept.display()),
                format!("umount {0}/*/mail && rm -r {0}", kept.display()),
            ));
        }
        root.close().map_err(|e| {
            let hint = format!("rm -r {}", path.display());
            Failure::new(format!("{} is left: {e}", path.display()), hint)
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(left) = self.clear() {
            crate::talk(left.why);
        }
    }
}

impl Server {
    fn identity(&self) -> PathBuf {
        self.brick.with_file_name("identity.pem")
    }

    fn log(&self, of: &str) -> PathBuf {
        self.brick.with_file_name(format!("{of}.log"))
    }
}

/// Shows and starts a program that stays.
fn daemon(program: &Path, words: &[&str], log: &Path) -> Result<Child, Failure> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    tell(format!("$ {name} {} &", words.join(" ")));
    let failed = |e: std::io::Error| format!("{name}: {e}");
    let out = File::create(log).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(out).stderr(err);
    // What is meant for another brickd must not reach this one.
    for name in [
        "MBOXFS_DATA",
        "MBOXFS_LISTEN",
        "MBOXFS_IDENTITY",
        "MBOXFS_CONFIG",
        "MBOXFS_LOG_LEVEL",
        "NOTIFY_SOCKET",
    ] {
        command.env_remove(name);
    }
    command.process_group(0); // S3
    Ok(command.spawn().map_err(failed)?)
}

/// Until `cond` holds; fails when the process ends instead, or takes longer than `START`.
async fn wait_for(
    child: &mut Option<Child>,
    what: &str,
    hint: &str,
    mut cond: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let until = Instant::now() + START;
    while !cond() {
        if child.as_mut().is_none_or(has_ended) {
            return Err(Failure::new(format!("waited for {what}, but it ended"), hint));
        }
        if Instant::now() > until {
            let why = format!("waited {} s in vain for {what}", START.as_secs());
            return Err(Failure::new(why, hint));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

/// SIGTERM, and SIGKILL if that does not end it within `patience`.
fn end(child: &mut Child, patience: Duration) {
    let until = Instant::now() + patience;
    if !patience.is_zero() && !has_ended(child) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
    }
    while !has_ended(child) && Instant::now() < until {
        thread::sleep(LOOK);
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = child.kill(); // has no effect on one that was awaited
    let _ = child.wait();
    // S3: a mount is served by a process of its own. The group has this number as long as one of its processes lives.
    let until = Instant::now() + UNMOUNT;
    while group.is_some_and(|g| kill_process_group(g, Signal::KILL).is_ok()) && Instant::now() < until {
        thread::sleep(LOOK);
    }
}

/// Is something mounted at `dir` or below? Read from /proc: a mount whose daemon is gone must not be asked.
fn is_mounted_in(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    places
        .into_iter()
        .any(|place| Path::new(&place.replace("\\040", " ")).starts_with(dir))
}

/// Two ports on loopback that nobody has. Others may take them before brickd does, which then says so.
fn free_ports() -> Result<[u16; 2], Failure> {
    let count = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
    let all = (0..count).map(|i| PORTS.start + (first + i) % count);
    let mut free = all.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    match (free.next(), free.next()) {
        (Some(one), Some(two)) => Ok([one, two]),
        _ => Err("there are no two free ports on 127.0.0.1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_two_and_outside_those_of_connections() {
        let [one, two] = free_ports().unwrap();
        assert!(one != two && PORTS.contains(&one) && PORTS.contains(&two));
    }

    #[test]
    fn what_is_mounted_is_seen_from_above() {
        assert!(is_mounted_in(Path::new("/proc")) && is_mounted_in(Path::new("/")));
        assert!(!is_mounted_in(Path::new("/no/such/place")));
    }

    #[test]
    fn a_process_that_does_not_obey_is_killed() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' TERM; echo; exec sleep 60"])
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        end(&mut child, Duration::from_millis(50));
        assert!(has_ended(&mut child));
    }
}
