//! Where the programs are: beside this one, where an installation puts them, or in PATH.
//!
//! Not here: what they do.

use super::Failure;
use std::{
    env,
    path::{Path, PathBuf},
};

/// Where `deploy/install` puts the mount helper; PATH of an ordinary user lacks it.
const SBIN: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Absolute paths.
pub(super) struct Programs {
    pub(super) mboxfs: PathBuf,
    pub(super) brickd: PathBuf,
    pub(super) mount: PathBuf,
}

impl Programs {
    /// Errors: one of them is nowhere.
    pub(super) fn find() -> Result<Self, Failure> {
        let mboxfs = env::current_exe().map_err(|e| format!("its own program: {e}"))?;
        let mut dirs: Vec<PathBuf> = mboxfs.parent().map(Path::to_owned).into_iter().collect();
        dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()).filter(|d| d.is_absolute()));
        dirs.extend(SBIN.iter().map(PathBuf::from));
        Ok(Self {
            brickd: first(&dirs, &["brickd"])?,
            // As built, and as installed.
            mount: first(&dirs, &["mount-mboxfs", "mount.mboxfs"])?,
            mboxfs,
        })
    }
}

fn first(dirs: &[PathBuf], names: &[&str]) -> Result<PathBuf, Failure> {
    let all = dirs.iter().flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    all.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let why = format!("{} is neither beside mboxfs nor in PATH", names.join(" or "));
        Failure::new(why, "cargo build --release, then target/release/mboxfs demo")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_one_is_taken() {
        let [near, far] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let dirs = [near.path().to_owned(), far.path().to_owned()];
        assert!(
            first(&dirs, &["brickd"])
                .unwrap_err()
                .why
                .starts_with("brickd is neither")
        );
        std::fs::write(far.path().join("mount.mboxfs"), "").unwrap();
        assert_eq!(
            first(&dirs, &["mount-mboxfs", "mount.mboxfs"]).unwrap(),
            far.path().join("mount.mboxfs")
        );
        std::fs::write(near.path().join("mount-mboxfs"), "").unwrap();
        assert_eq!(
            first(&dirs, &["mount-mboxfs", "mount.mboxfs"]).unwrap(),
            near.path().join("mount-mboxfs")
        );
    }
}
