//! GlusterFS on two test hosts: replica 2 with default options, what mboxfs replaces.
//!
//! Promises: everything it writes outside the hosts' own directories is in their mount namespaces only; its daemons end
//! with the hosts. Set up with the commands that an operator types.
//! Not here: tuning it; a volume with the default options is what was in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::host::{Host, Lab};
use crate::common::image::Image;
use crate::common::wait::{holds_within, wait_for};

const NEEDED: [&str; 3] = ["/usr/sbin/glusterd", "/usr/sbin/glusterfsd", "/usr/sbin/gluster"];
/// Places that the daemons share if nobody keeps them apart.
const PRIVATE: [&str; 3] = ["/run", "/var/lib/glusterd", "/var/log/glusterfs"];
/// The disk of a brick in most benches.
#[allow(dead_code, reason = "the bench of heal has larger ones")]
pub(crate) const BRICK_MIB: u64 = 512;
/// The name of a brick process; the kernel keeps 15 letters.
const BRICK_PROCESS: &str = "glusterfsd\n";
/// A brick is told its port, connects and is seen by the other host's client within this.
const SERVE_MAX: Duration = Duration::from_secs(60);

/// One server.
struct Server {
    host: Host,
    spool: PathBuf,
    glusterd: Child,
    _image: Image,
}

/// Both, and the volume mounted on each.
pub(crate) struct Gluster {
    servers: [Server; 2],
    /// After the servers: the daemons that they left behind end with the hosts.
    _lab: Lab,
}

/// Says what is missing, or nothing.
pub(crate) fn missing() -> Option<&'static str> {
    NEEDED.into_iter().find(|program| !Path::new(program).exists())
}

impl Server {
    fn start(host: &Host, mib: u64) -> Self {
        for (i, place) in PRIVATE.iter().enumerate() {
            let own = host.dir().join(format!("private{i}"));
            fs::create_dir(&own).expect("mkdir in an own directory");
            host.run("mount", &["--bind", path(&own), place]);
        }
        let image = Image::create(
            Some(host),
            &host.dir().join("brick.img"),
            mib,
            &host.dir().join("brick"),
        );
        let log = fs::File::create(host.dir().join("glusterd.log")).expect("a log file in an own directory");
        let glusterd = host
            .command("glusterd")
            .args(["--no-daemon", "--log-level=WARNING"])
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        let spool = host.dir().join("mail");
        fs::create_dir(&spool).expect("mkdir in an own directory");
        Self {
            host: host.clone(),
            spool,
            glusterd,
            _image: image,
        }
    }

    fn says(&self, words: &str) -> Option<String> {
        let output = self
            .host
            .command("gluster")
            .arg("--mode=script")
            .args(words.split_whitespace())
            .stderr(Stdio::null())
            .output()
            .expect("nsenter starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    fn mount(&self) {
        let volume = format!("{}:/gVol0", self.host.name());
        let log = self.host.dir().join("mount.log");
        self.host
            .run_daemon("mount", &["-t", "glusterfs", &volume, path(&self.spool)], &log);
    }
}

impl Gluster {
    pub(crate) fn start(mib: u64) -> Self {
        let lab = Lab::new();
        let servers = lab.hosts().map(|host| Server::start(host, mib));
        let one = &servers[0];
        for server in &servers {
            wait_for("glusterd answers", SERVE_MAX, || server.says("peer status").is_some());
        }
        wait_for("the peer is probed", SERVE_MAX, || one.says("peer probe h2").is_some());
        for server in &servers {
            wait_for("the peers are connected", SERVE_MAX, || {
                let joined = |text: String| text.contains("Peer in Cluster (Connected)");
                server.says("peer status").is_some_and(joined)
            });
        }
        let [a, b] = lab.hosts().map(|host| path(&host.dir().join("brick")).to_owned());
        let create = format!("volume create gVol0 replica 2 transport tcp h1:{a} h2:{b} force");
        wait_for("the volume is created", SERVE_MAX, || one.says(&create).is_some());
        one.says("volume start gVol0").expect("the volume starts");
        wait_for("both bricks are online", SERVE_MAX, || {
            let status = one.says("volume status gVol0 detail").unwrap_or_default();
            let online = |line: &&str| line.starts_with("Online") && line.trim_end().ends_with('Y');
            status.lines().filter(online).count() == 2
        });
        for server in &servers {
            server.mount();
        }
        let this = Self { servers, _lab: lab };
        this.wait_for_both();
        this
    }

    /// A client may have reached one brick only: what each writes must be in both.
    fn wait_for_both(&self) {
        for server in &self.servers {
            let name = format!("from-{}", server.host.name());
            let seen = server.host.outside(&server.spool.join(&name));
            wait_for("a client writes to both bricks", SERVE_MAX, || {
                let _ = fs::remove_file(&seen);
                let written = fs::write(&seen, "x").is_ok();
                let there = |s: &Server| s.host.outside(&s.host.dir().join("brick").join(&name)).exists();
                written && self.servers.iter().all(there)
            });
        }
    }

    /// To the brick process of a host, by its pid.
    #[allow(dead_code, reason = "for the benches that break something")]
    pub(crate) fn signal_brick(&self, host: usize, signal: Signal) {
        let is_it = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == BRICK_PROCESS);
        for pid in self.servers[host].host.pids().into_iter().filter(is_it) {
            let _ = kill_process(Pid::from_raw(pid).expect("a pid"), signal);
        }
    }

    /// The directory of a brick, as its host sees it.
    #[allow(dead_code, reason = "for the benches that break something")]
    pub(crate) fn brick(&self, host: usize) -> PathBuf {
        self.servers[host].host.dir().join("brick")
    }

    /// The second brick is empty, as on a new disk; nothing serves it.
    #[allow(dead_code, reason = "for the bench of heal")]
    pub(crate) fn empty_second(&self) {
        let brick = self.brick(1);
        let words = format!("volume reset-brick gVol0 h2:{} start", path(&brick));
        self.servers[0].says(&words).expect("the brick is taken out");
        let clear = format!(
            "find {} -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {{}} +",
            path(&brick)
        );
        self.servers[1].host.run("sh", &["-c", &clear]);
    }

    /// It takes its place again.
    #[allow(dead_code, reason = "for the bench of heal")]
    pub(crate) fn reset_second(&self) {
        let brick = format!("h2:{}", path(&self.brick(1)));
        let words = format!("volume reset-brick gVol0 {brick} {brick} commit force");
        self.servers[0].says(&words).expect("the brick is taken in");
        self.start_bricks();
        wait_for("healing of everything begins", SERVE_MAX, || {
            self.servers[0].says("volume heal gVol0 full").is_some()
        });
    }

    /// Starts brick processes that are not there.
    #[allow(dead_code, reason = "for the benches that break something")]
    pub(crate) fn start_bricks(&self) {
        let online = || {
            let _ = self.servers[0].says("volume start gVol0 force");
            let status = self.servers[0].says("volume status gVol0 detail").unwrap_or_default();
            status.matches("Online               : Y").count() == 2
        };
        wait_for("both bricks are online again", SERVE_MAX, online);
    }

    /// As far as it says so.
    #[allow(dead_code, reason = "for the benches that break something")]
    pub(crate) fn is_healed(&self) -> bool {
        let info = self.servers[0].says("volume heal gVol0 info").unwrap_or_default();
        info.matches("Number of entries: 0").count() == 2
    }

    pub(crate) fn hosts(&self) -> [&Host; 2] {
        [&self.servers[0].host, &self.servers[1].host]
    }

    /// Where the volume is mounted on both hosts, as seen there.
    pub(crate) fn spools(&self) -> [&Path; 2] {
        [&self.servers[0].spool, &self.servers[1].spool]
    }
}

impl Drop for Gluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.host.command("umount").args(["-l", path(&server.spool)]).output();
            let _ = server.glusterd.kill();
            holds_within(Duration::from_secs(5), || {
                matches!(server.glusterd.try_wait(), Ok(Some(_)))
            });
            // Before the image is unmounted: the brick process sits on it, and no signal of ours reaches it otherwise.
            if !std::thread::panicking() {
                server.host.kill_all();
            }
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("ASCII paths")
}
