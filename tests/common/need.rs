//! What a test needs of the machine. A missing need skips the test loudly, or fails it when MBOXFS_REQUIRE names it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// One thing that not every machine has. The lower-case names are those of MBOXFS_REQUIRE.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// `root`: uid 0, for namespaces, mounts and the mail programs' own users.
    Root,
    /// `fuse`: /dev/fuse and fusermount3.
    Fuse,
    /// `netns`: own network, mount and UTS namespaces may be made, and veth pairs exist.
    Netns,
    /// `loop`: loop devices and mkfs.ext4.
    Loop,
    /// `python`: python3, for processes that do one system call at a time and can be killed by pid.
    Python,
    /// `mailers`: Postfix, Dovecot 2.3 with its LDA, s-nail and python3 as a client.
    Mailers,
    /// `userns`: an ordinary user may mount in a user namespace of his own.
    Userns,
    /// `systemd`: the program that checks units.
    Systemd,
    /// `overlay`: a mount namespace in which overlayfs may be mounted.
    Overlay,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Fuse => "fuse",
            Self::Netns => "netns",
            Self::Loop => "loop",
            Self::Python => "python",
            Self::Mailers => "mailers",
            Self::Userns => "userns",
            Self::Systemd => "systemd",
            Self::Overlay => "overlay",
        }
    }

    /// Says what is missing, or nothing.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "this is not root".to_owned()),
            Self::Fuse => absent(&["/dev/fuse", "/usr/bin/fusermount3"]),
            Self::Netns => {
                absent(&["/usr/bin/unshare", "/usr/bin/nsenter"]).or_else(|| (!namespaces_work()).then(no_namespaces))
            }
            Self::Loop => absent(&["/dev/loop-control", "/usr/sbin/mkfs.ext4"]),
            Self::Python => absent(&["/usr/bin/python3"]),
            Self::Mailers => absent(&[
                "/usr/sbin/postfix",
                "/usr/sbin/dovecot",
                "/usr/lib/dovecot/dovecot-lda",
                "/usr/lib/dovecot/imap",
                "/usr/lib/dovecot/pop3",
                "/usr/bin/s-nail",
                "/usr/bin/python3",
            ]),
            Self::Systemd => absent(&["/usr/bin/systemd-analyze"]),
            Self::Overlay => (!overlay_works()).then(|| "mounting an overlay on a tmpfs was refused".to_owned()),
            Self::Userns => (!user_namespaces_work()).then(|| "unshare -rm was refused to uid 65534".to_owned()),
        }
    }
}

/// True if the machine has all of `needs`. Otherwise prints one line past the test harness's capture and returns
/// false; panics instead if MBOXFS_REQUIRE lists a missing one (or `all`), so that CI cannot skip by accident.
#[track_caller]
pub(crate) fn have(test: &str, needs: &[Need]) -> bool {
    let required = std::env::var("MBOXFS_REQUIRE").unwrap_or_default();
    for need in needs {
        let Some(why) = need.missing() else { continue };
        let listed = required
            .split(',')
            .any(|word| word.trim() == need.name() || word.trim() == "all");
        assert!(!listed, "{test}: MBOXFS_REQUIRE asks for {}, but {why}", need.name());
        // Not eprintln: the harness swallows that for a test that passes, and a skip counts as passed.
        let line = format!("SKIPPED {test}: needs {}, but {why}\n", need.name());
        std::io::stderr()
            .write_all(line.as_bytes())
            .expect("stderr takes a line");
        return false;
    }
    true
}

fn absent(paths: &[&str]) -> Option<String> {
    paths
        .iter()
        .find(|path| !Path::new(path).exists())
        .map(|path| format!("{path} is not there"))
}

fn no_namespaces() -> String {
    "unshare of mount, UTS and network with a veth pair was refused".to_owned()
}

fn namespaces_work() -> bool {
    let link = ["ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"];
    succeeds(Command::new("unshare").args(["-m", "-u", "-n", "--"]).args(link))
}

fn user_namespaces_work() -> bool {
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    succeeds(Command::new("setpriv").args(nobody).args(["unshare", "-rm", "true"]))
}

fn overlay_works() -> bool {
    let script = "mount -t tmpfs probe /mnt && mkdir /mnt/l /mnt/u /mnt/w &&
        mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w probe /mnt/l";
    succeeds(Command::new("unshare").args(["-m", "--", "sh", "-c", script]))
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
