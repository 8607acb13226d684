//! The program: checks, the mount itself, going to the background, the end.
//!
//! Promises: the exit code is 0 only when the filesystem answers; 1 for wrong usage, 32 for a failed mount (mount(8)).
//! Nothing is mounted before a brick serves the volume, so an unreachable one never hangs the mount point.
//! Not here: what happens on the mounted filesystem.

use crate::{
    args::{self, Args},
    driver::{self, Driver, News},
    ops::Ops,
};
use mboxfs_client::input::{Config, Input};
use rustix::mount::{MountFlags, UnmountFlags};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::ToSocketAddrs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileTypeExt,
    },
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    time::Duration,
};

/// How long a brick may take to serve: a brick that boots without its peer waits `BOOT_WAIT` first.
const READY: Duration = Duration::from_secs(45);
/// How long the end may take.
const FINISH: Duration = Duration::from_secs(5);
/// In the environment of the background child.
const CHILD: &str = "MBOXFS_MOUNT_CHILD";

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("error: could not read the command line: {why}\n{}", args::USAGE);
            return ExitCode::from(1);
        }
    };
    let child = std::env::var_os(CHILD).is_some();
    let result = if args.foreground || child {
        foreground(&args)
    } else {
        background(&args)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let text = format!(
                "error: could not mount {} on {}: {why}",
                args.source,
                args.dir.display()
            );
            if child {
                println!("{text}")
            } else {
                eprintln!("{text}")
            }
            ExitCode::from(32)
        }
    }
}

/// Starts this program again as a child that stays, and waits for its word.
fn background(args: &Args) -> Result<(), String> {
    check(args)?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let log = match &args.log_file {
        Some(path) => {
            let file = File::options().append(true).create(true).open(path);
            Stdio::from(file.map_err(|e| format!("the log file {}: {e}", path.display()))?)
        }
        None => Stdio::null(),
    };
    let mut child = Command::new(program)
        .args(std::env::args().skip(1))
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string())?;
    }
    match line.trim() {
        "READY" => Ok(()),
        "" => Err("the mount daemon ended without a word\nhint: run it with -f to see why".into()),
        error => Err(error.rsplit(": ").next().unwrap_or(error).to_owned()),
    }
}

fn check(args: &Args) -> Result<(), String> {
    let meta = std::fs::metadata(&args.dir)
        .map_err(|e| format!("the mount point: {e}\nhint: mkdir -p {}", args.dir.display()))?;
    if !meta.is_dir() {
        return Err("the mount point is not a directory".into());
    }
    let dir = args.dir.canonicalize().map_err(|e| e.to_string())?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let busy = mounts.lines().any(|l| {
        let mut f = l.split(' ');
        f.nth(1) == dir.to_str() && f.next() == Some("fuse.mboxfs")
    });
    if busy {
        return Err(format!(
            "something is mounted there already\nhint: umount {}",
            dir.display()
        ));
    }
    let fuse = std::fs::metadata("/dev/fuse").is_ok_and(|m| m.file_type().is_char_device());
    if !fuse {
        return Err("/dev/fuse is missing\nhint: modprobe fuse".into());
    }
    Ok(())
}

fn foreground(args: &Args) -> Result<(), String> {
    check(args)?;
    start_log(args);
    if std::env::var_os(CHILD).is_some() {
        let _ = rustix::process::setsid(); // fails only for a group leader, which needs none
        let _ = std::env::set_current_dir("/");
    }
    let dir = args.dir.canonicalize().map_err(|e| e.to_string())?;
    let (news, heard) = mpsc::channel();
    let (driver, ends) = Driver::new(config(args, &dir), news);
    let driver: &'static Driver = Box::leak(Box::new(driver));
    driver::run(driver, ends, &dir).map_err(|e| e.to_string())?;
    match heard.recv_timeout(READY) {
        Ok(News::Ready) => {}
        Ok(News::Refused(why)) => return Err(why),
        _ => {
            return Err(format!(
                "no brick serves {}\nhint: mboxfs volume status {}",
                args.volume, args.volume
            ));
        }
    }
    let fd = mount(args, &dir)?;
    let mut config = fuser::Config::default();
    config.acl = fuser::SessionACL::All;
    let session = fuser::Session::from_fd(Ops::new(driver), fd, fuser::SessionACL::All, config)
        .map_err(|e| format!("the kernel's handshake: {e}"))?;
    println!("READY");
    let _ = std::io::stdout().flush();
    unmount_on_signal(dir.clone()).map_err(|e| e.to_string())?;
    let ended = session.run();
    tracing::info!("the volume was unmounted ({ended:?})");
    driver.input(Input::Shutdown);
    while let Ok(news) = heard.recv_timeout(FINISH) {
        if news == News::Finished {
            // Words on their way to the brick leave with the stream.
            std::thread::sleep(Duration::from_millis(50));
            break;
        }
    }
    Ok(())
}

/// mount(2) by ourselves: the FUSE library would unmount whatever is at the mount point when it ends, also when that is
/// somebody else's new mount.
fn mount(args: &Args, dir: &Path) -> Result<OwnedFd, String> {
    let fuse = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|e| format!("/dev/fuse: {e}"))?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=1048576",
        fuse.as_raw_fd()
    );
    let data = std::ffi::CString::new(data).map_err(|e| e.to_string())?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    flags.set(MountFlags::RDONLY, args.read_only);
    rustix::mount::mount(args.source.as_str(), dir, "fuse.mboxfs", flags, data.as_c_str())
        .map_err(|e| format!("mount(2): {e}\nhint: mounting needs root"))?;
    Ok(fuse.into())
}

fn unmount_on_signal(dir: std::path::PathBuf) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
                return;
            };
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        });
        if let Err(e) = rustix::mount::unmount(&dir, UnmountFlags::DETACH) {
            tracing::error!("could not unmount {}: {e}", dir.display());
            std::process::exit(1);
        }
    })?;
    Ok(())
}

fn config(args: &Args, dir: &Path) -> Config {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let stable = format!("{id}\n{host}\n{}", dir.display());
    let nonce = uuid::Uuid::new_v4().as_u64_pair().0;
    let local = args
        .bricks
        .iter()
        .filter_map(|b| b.rsplit_once(':'))
        .map(|(h, _)| h.to_owned());
    let mut local: Vec<String> = local.filter(|h| is_own(h)).collect();
    local.extend([host, "localhost".into(), "127.0.0.1".into()]);
    Config {
        volume: args.volume.clone(),
        client: digest(stable.as_bytes()),
        nonce,
        bricks: args.bricks.clone(),
        local,
    }
}

/// A socket can be bound to an own address only.
fn is_own(host: &str) -> bool {
    (host, 0)
        .to_socket_addrs()
        .is_ok_and(|mut all| all.any(|a| std::net::UdpSocket::bind(a).is_ok()))
}

/// Stable id of a mount point: FNV-1a twice, which is enough to tell the mount points of two hosts apart.
fn digest(bytes: &[u8]) -> [u8; 16] {
    let hash = |basis: u64| {
        bytes
            .iter()
            .fold(basis, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&hash(0xcbf2_9ce4_8422_2325).to_be_bytes());
    id[8..].copy_from_slice(&hash(0x8422_2325_cbf2_9ce4).to_be_bytes());
    id
}

fn start_log(args: &Args) {
    let level = args.log_level.clone().unwrap_or_else(|| "info".into());
    let filter = tracing_subscriber::EnvFilter::try_new(level).unwrap_or_default();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
