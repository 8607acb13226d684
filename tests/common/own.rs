//! A test host's own copies of the machine's directories: what is written to them in the host stays in the host.
//!
//! Promises: the host sees the machine's files and its own changes; the machine sees none of these (overlayfs, whose upper
//! layer is a tmpfs in the host's mount namespace). Gone with the host.

use std::path::PathBuf;

use super::host::Host;

/// `dirs` are the host's own from now on. Its name and account files stay what they are.
#[track_caller]
pub(crate) fn own_dirs(host: &Host, dirs: &[&str]) {
    let layers = host.dir().join("own");
    let script = r#"set -eu
layers=$1 names=$2
shift 2
mkdir "$layers"
mount -t tmpfs own "$layers"
for dir; do
    dir=$(readlink -f "$dir")
    name=$(echo "$dir" | tr / _)
    mkdir "$layers/$name.up" "$layers/$name.work"
    # Files that were put over the machine's, one by one, would be under the overlay.
    [ "$dir" != /etc ] || cp -a "$names/." "$layers/$name.up"
    mount -t overlay -o "lowerdir=$dir,upperdir=$layers/$name.up,workdir=$layers/$name.work" overlay "$dir"
done"#;
    let [layers, names] = [layers, host.dir().join("etc")].map(|p| p.to_str().expect("ASCII paths").to_owned());
    host.run("sh", &[&["-c", script, "sh", &layers, &names], dirs].concat());
}

/// A root directory of the host's own: what is written anywhere below it stays in the host. For chroot(8) in the host.
///
/// The host's `dir` is the same inside and outside; /proc, /sys and /dev are the machine's.
#[track_caller]
pub(crate) fn own_root(host: &Host) -> PathBuf {
    let layers = host.dir().join("own-root");
    let script = r#"set -eu
layers=$1 dir=$2
mkdir "$layers"
mount -t tmpfs own "$layers"
mkdir "$layers/up" "$layers/work" "$layers/root"
cp -a "$dir/etc" "$layers/up/"
mount -t overlay -o "lowerdir=/,upperdir=$layers/up,workdir=$layers/work" overlay "$layers/root"
for shared in /proc /sys /dev; do
    mount --rbind "$shared" "$layers/root$shared"
done
mkdir -p "$layers/root$dir"
mount --bind "$dir" "$layers/root$dir""#;
    let words = [&layers, host.dir()].map(|p| p.to_str().expect("ASCII paths"));
    host.run("sh", &[&["-c", script, "sh"], &words[..]].concat());
    layers.join("root")
}
