//! An ext4 filesystem of its own: a loop-mounted image that can be filled, cut off in mid-air and mounted again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::Host;

/// Shuts the filesystem down as a power cut would: EXT4_IOC_SHUTDOWN with flag 2 (the journal is not flushed).
/// Python, because an ioctl needs `unsafe` in Rust and this workspace has none.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A mounted image. Unmounted (lazily) and removed when dropped; a mount inside a host would also go with the host.
pub(crate) struct Image {
    file: PathBuf,
    /// The first one made the loop device; the others share its superblock, as bind mounts would.
    mounts: Vec<Mount>,
}

struct Mount {
    /// `None`: the machine's own mount namespace.
    host: Option<Host>,
    at: PathBuf,
}

impl Image {
    /// Makes `file` an ext4 image of `mib` MiB and mounts it at `at` (created if missing) inside `host`.
    #[track_caller]
    pub(crate) fn create(host: Option<&Host>, file: &Path, mib: u64, at: &Path) -> Self {
        let image = fs::File::create_new(file).expect("the image file is new");
        image.set_len(mib << 20).expect("a sparse file of that size");
        // 512-byte inodes keep the extended attributes of a brick inside the inode.
        run(None, "mkfs.ext4", &["-q", "-I", "512", path(file)]);
        let mut this = Self {
            file: file.to_owned(),
            mounts: Vec::new(),
        };
        this.mount(host, at);
        this
    }

    /// Mounts it at one more place: the same filesystem, not a copy, also when `host` is another one.
    #[track_caller]
    pub(crate) fn mount(&mut self, host: Option<&Host>, at: &Path) {
        fs::create_dir_all(at).expect("the mount point can be made");
        if self.mounts.is_empty() {
            // `-o loop` frees the loop device with the last unmount, however that comes about.
            run(
                host,
                "mount",
                &["-t", "ext4", "-o", "loop,noatime", path(&self.file), path(at)],
            );
        } else {
            let device = run(
                None,
                "losetup",
                &["--noheadings", "--output", "NAME", "--associated", path(&self.file)],
            );
            run(host, "mount", &["-t", "ext4", "-o", "noatime", device.trim(), path(at)]);
        }
        self.mounts.push(Mount {
            host: host.cloned(),
            at: at.to_owned(),
        });
    }

    /// The first mount point.
    pub(crate) fn at(&self) -> &Path {
        &self.mounts.first().expect("mounted").at
    }

    /// Nothing that was not synced survives this, and every later call on the filesystem fails with EIO.
    /// `unmount_all` and `mount` bring back what a disk would hold after a power cut.
    #[track_caller]
    pub(crate) fn shutdown(&self) {
        let first = self.mounts.first().expect("mounted");
        shut_down(first.host.as_ref(), &first.at);
    }

    /// Unmounts it everywhere. Panics if a process still uses it: end that one first.
    #[track_caller]
    pub(crate) fn unmount_all(&mut self) {
        for mount in self.mounts.drain(..) {
            run(mount.host.as_ref(), "umount", &[path(&mount.at)]);
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for mount in self.mounts.drain(..) {
            // Lazily and without a complaint: a test that failed may have left users behind.
            let _ = command(mount.host.as_ref(), "umount")
                .args(["--lazy", path(&mount.at)])
                .output();
        }
        let _ = fs::remove_file(&self.file);
    }
}

/// See `Image::shutdown`; of the filesystem that is mounted at `at`.
#[track_caller]
pub(crate) fn shut_down(host: Option<&Host>, at: &Path) {
    run(host, "python3", &["-c", SHUTDOWN, path(at)]);
}

fn command(host: Option<&Host>, program: &str) -> Command {
    host.map_or_else(|| Command::new(program), |host| host.command(program))
}

#[track_caller]
fn run(host: Option<&Host>, program: &str, args: &[&str]) -> String {
    let output = command(host, program).args(args).output().expect("the program starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}: {complaint}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are ASCII")
}
