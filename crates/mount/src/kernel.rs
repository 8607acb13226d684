//! Mounting in the kernel, and unmounting: only ever what this process mounted itself.
//!
//! M1  The FUSE library never mounts and so never unmounts: its check of whether something is still mounted is inverted
//!     (0.18.0), and its cleanup could hit somebody else's new mount on the same directory.
//! M2  What is mounted where is read from /proc, never asked of a filesystem that may hang.
//! M3  A mount whose daemon and supervisor are gone answers ENOTCONN for ever: it never is in the way of the next one.
//!
//! Not here: what happens on the mounted filesystem (`ops`).

use crate::args::{Args, Failure};
use fuser::SessionACL;
use rustix::{
    io::{Errno, FdFlags, fcntl_setfd},
    mount::{MountFlags, UnmountFlags},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use std::{
    ffi::CString,
    fs::File,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::FileTypeExt,
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Type of the mount in /proc/mounts.
const TYPE: &str = "fuse.mboxfs";
/// How long a mount that is alive may take to say so.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
const HELPER: &str = "fusermount3";
/// Largest READ, as `ops::IO_BYTES_MAX`.
const MAX_READ: usize = mboxfs_types::limits::EXTENT_BYTES_MAX;

/// A mount of this process.
#[derive(Debug)]
pub(crate) struct Mounted {
    dir: PathBuf,
    /// `major:minor` of its filesystem: nobody else's has it while this one lives.
    device: Option<String>,
    by_helper: bool,
}

/// Can `dir` be mounted on? Its absolute path without symbolic links. A mount there that died is taken away (M3).
///
/// Errors: it is not there, not a directory, or in use by another mboxfs mount.
pub(crate) fn check(dir: &Path) -> Result<PathBuf, Failure> {
    let dir = std::path::absolute(dir).map_err(|e| e.to_string())?;
    if mounted_at(&dir).is_some_and(|there| there.kind == TYPE) && is_dead(&dir) {
        let gone = rustix::mount::unmount(&dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        gone.map_err(|e| {
            let why = format!("what is mounted there is dead and does not go: {e}");
            Failure::new(why, format!("umount -l {}", dir.display()))
        })?;
        tracing::warn!("took away a dead mount on {}", dir.display());
    }
    // First /proc (M2): a look at a mount whose daemon hangs or died would hang or fail.
    check_free(&dir)?;
    let meta = std::fs::metadata(&dir).map_err(|e| match e.raw_os_error() {
        Some(107) => Failure::new("what is mounted there is dead", format!("umount -l {}", dir.display())),
        _ => Failure::new(format!("the mount point: {e}"), format!("mkdir -p {}", dir.display())),
    })?;
    if !meta.is_dir() {
        return Err(Failure::new(
            "the mount point is not a directory",
            "give a directory, empty as a rule",
        ));
    }
    let dir = dir.canonicalize().map_err(|e| format!("the mount point: {e}"))?;
    check_free(&dir)?;
    if !std::fs::metadata("/dev/fuse").is_ok_and(|m| m.file_type().is_char_device()) {
        return Err(Failure::new("/dev/fuse is missing", "modprobe fuse"));
    }
    Ok(dir)
}

/// Is the kernel's stream closed? Asked with a call that the kernel never answers by itself, on a thread of its own: a
/// mount that only hangs does not answer, and is not dead.
fn is_dead(dir: &Path) -> bool {
    let (said, heard) = std::sync::mpsc::channel();
    let dir = dir.to_owned();
    std::thread::spawn(move || said.send(rustix::fs::statfs(dir).err()).is_ok());
    matches!(heard.recv_timeout(LOOK), Ok(Some(Errno::NOTCONN)))
}

fn check_free(dir: &Path) -> Result<(), Failure> {
    match mounted_at(dir) {
        Some(there) if there.kind == TYPE => {
            let why = format!("the mount point is busy: {} is mounted there", there.source);
            Err(Failure::new(why, format!("umount {}", dir.display())))
        }
        _ => Ok(()),
    }
}

/// Mounts on `dir`: by mount(2), or by fusermount3 for those who may not. The stream of requests, and who may use it.
///
/// Errors: the kernel's reasons.
pub(crate) fn mount(args: &Args, dir: &Path) -> Result<(OwnedFd, SessionACL, Mounted), Failure> {
    let (fd, acl, by_helper) = match mount_directly(args, dir) {
        Ok(fd) => (fd, SessionACL::All, false),
        Err(Errno::PERM | Errno::ACCESS) => match mount_by_helper(args, dir, true) {
            Ok(fd) => (fd, SessionACL::All, true),
            // allow_other needs `user_allow_other` in /etc/fuse.conf.
            Err(_) => (mount_by_helper(args, dir, false)?, SessionACL::Owner, true),
        },
        Err(e) => return Err(format!("mount(2): {e}").into()),
    };
    Ok((fd, acl, Mounted::here(dir, by_helper)))
}

fn mount_directly(args: &Args, dir: &Path) -> Result<OwnedFd, Errno> {
    let of_io = |e: io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let fuse = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(of_io)?;
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions,max_read={MAX_READ}",
        fuse.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    flags.set(MountFlags::RDONLY, args.options.read_only);
    flags.set(MountFlags::NOEXEC, args.options.no_exec);
    rustix::mount::mount(args.source.as_str(), dir, TYPE, flags, data.as_c_str())?;
    Ok(fuse.into())
}

/// fusermount3 is setuid; it mounts and hands the open /dev/fuse over on a socket.
fn mount_by_helper(args: &Args, dir: &Path, allow_other: bool) -> Result<OwnedFd, Failure> {
    let failed = |why: String| {
        Failure::new(
            why,
            "mounting as an ordinary user needs fusermount3 (package fuse3), or be root",
        )
    };
    let (ours, theirs) = UnixStream::pair().map_err(|e| e.to_string())?;
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(|e| e.to_string())?;
    let source = args.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut options =
        format!("fsname={source},subtype=mboxfs,default_permissions,nosuid,nodev,noatime,max_read={MAX_READ}");
    for (wanted, option) in [
        (allow_other, ",allow_other"),
        (args.options.read_only, ",ro"),
        (args.options.no_exec, ",noexec"),
    ] {
        options += if wanted { option } else { "" };
    }
    let mut command = Command::new(HELPER);
    command
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(dir)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("{HELPER}: {e}")))?;
    drop(theirs);
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failed(text.lines().last().unwrap_or("fusermount3 failed").to_owned()));
    }
    received(&ours).map_err(|e| failed(format!("{HELPER} handed nothing over: {e}")))
}

/// The descriptor that comes over `socket`.
fn received(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.ok_or_else(|| io::Error::other("no descriptor"))
}

impl Mounted {
    /// The mount on `dir`, which the caller knows to be its own.
    pub(crate) fn here(dir: &Path, by_helper: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            device: mounted_at(dir).filter(|m| m.kind == TYPE).map(|m| m.device),
            by_helper,
        }
    }

    pub(crate) const fn is_by_helper(&self) -> bool {
        self.by_helper
    }

    /// Takes it out of the tree, if it is still there (M1); files that are open stay usable while this process lives.
    pub(crate) fn unmount(&self) {
        let there = mounted_at(&self.dir);
        if self.device.is_none() || there.map(|t| t.device) != self.device {
            return;
        }
        let done = if self.by_helper {
            let status = Command::new(HELPER)
                .args(["-u", "-q", "-z", "--"])
                .arg(&self.dir)
                .stdin(Stdio::null())
                .status();
            status.is_ok_and(|s| s.success())
        } else {
            rustix::mount::unmount(&self.dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok()
        };
        if !done {
            tracing::warn!("could not unmount {}", self.dir.display());
        }
    }
}

/// A line of /proc/self/mountinfo.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    device: String,
    kind: String,
    source: String,
}

/// What is mounted on this directory, on top.
fn mounted_at(dir: &Path) -> Option<Line> {
    find(&std::fs::read("/proc/self/mountinfo").ok()?, dir)
}

fn find(mountinfo: &[u8], dir: &Path) -> Option<Line> {
    let lines = mountinfo.split(|b| *b == b'\n');
    lines.filter_map(|line| read(line, dir)).next_back()
}

/// proc_pid_mountinfo(5): `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw`.
fn read(line: &[u8], dir: &Path) -> Option<Line> {
    let mut words = line.split(|b| *b == b' ');
    let device = words.nth(2)?;
    if unescaped(words.nth(1)?) != dir.as_os_str().as_bytes() {
        return None;
    }
    words.find(|w| *w == b"-")?;
    let text = |word: &[u8]| {
        std::ffi::OsString::from_vec(unescaped(word))
            .to_string_lossy()
            .into_owned()
    };
    Some(Line {
        device: text(device),
        kind: text(words.next()?),
        source: text(words.next()?),
    })
}

/// Blanks, line ends and backslashes are written as three octal digits after a backslash.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, others)) = rest.split_first() {
        let digits = others
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|d| std::str::from_utf8(d).ok());
        if let Some(byte) = digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            plain.push(byte);
            rest = &others[3..];
        } else {
            plain.push(*first);
            rest = others;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        40 22 0:52 / /var/spool/mail rw,nosuid shared:7 master:1 - fuse.mboxfs h1:/gVol0 rw,user_id=0\n\
        41 22 0:53 / /a\\040b rw - fuse.mboxfs h1:/v rw\n\
        42 40 0:54 / /var/spool/mail rw - tmpfs tmpfs rw\nshort line\n";

    #[test]
    fn the_mount_on_top_counts() {
        let at = |dir: &str| find(MOUNTINFO, Path::new(dir));
        assert_eq!(at("/var/spool/mail").map(|l| l.kind).as_deref(), Some("tmpfs"));
        let blank = at("/a b").unwrap();
        assert_eq!(
            (blank.device.as_str(), blank.kind.as_str(), blank.source.as_str()),
            ("0:53", TYPE, "h1:/v")
        );
        assert_eq!(at("/var/spool"), None);
        assert_eq!(find(b"", Path::new("/")), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounted_at(Path::new("/")).is_some());
    }

    #[test]
    fn mount_points_that_cannot_be() {
        let none = check(Path::new("/no/such/place")).unwrap_err();
        assert!(none.hint.is_some_and(|h| h == "mkdir -p /no/such/place"));
        assert!(
            check(Path::new("/etc/passwd"))
                .unwrap_err()
                .why
                .contains("not a directory")
        );
    }

    #[test]
    fn a_descriptor_over_a_socket() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        use std::{io::IoSlice, os::fd::AsFd};
        let (a, b) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&a, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).unwrap();
        assert!(received(&b).is_ok());
        drop(a);
        assert!(received(&b).is_err());
    }

    #[test]
    fn somebody_elses_mount_is_left_alone() {
        // No device, or another one: nothing is unmounted; `/` would be missed.
        for device in [None, Some("999:999".to_owned())] {
            Mounted {
                dir: "/".into(),
                device,
                by_helper: false,
            }
            .unmount();
        }
        assert!(mounted_at(Path::new("/")).is_some());
    }
}
