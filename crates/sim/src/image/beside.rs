//! The real files of a brick beside its image: `store::Files` in a directory of its own gets the same effects and the same
//! questions.
//!
//! Promises: a panic, which is a broken world, where an answer or, when a process ends, a name or a file is another one. What a killed
//! process did is there for the next one; after a power cut there is what the image says is left (disk D2: the replay is the
//! real one).
//! Not here: rot, of which only the image knows (its first byte ends this); what a real disk leaves of a power cut
//! (`tests/crash.rs`).

use super::{File, Tree};
use crate::invariants::difference;
use bytes::Bytes;
use mboxfs_store::{Files, format, open_files};
use mboxfs_types::{
    Errno, Ino, Kind, Name, Tag, Timestamp,
    call::Extent,
    codec,
    disk::{Effect, Look, Seen, Xattrs},
    ids::BrickUuid,
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};
use tempfile::TempDir;

/// The mark of an inode (`store`): its number and the tag of its last write.
const MARK: &str = "user.mboxfs";
/// What is the brick's own in its directory.
const HOME: &str = ".mboxfs";

#[derive(Debug)]
pub(super) struct Beside {
    dir: TempDir,
    /// None: no process has it open.
    files: Option<Files>,
}

/// In memory, where that is possible: nothing here asks what a disk forgets.
fn new_dir() -> io::Result<TempDir> {
    let mut named = tempfile::Builder::new();
    named.prefix("mboxfs-sim-");
    named.tempdir_in("/dev/shm").or_else(|_| named.tempdir())
}

fn formatted() -> TempDir {
    let dir = new_dir().expect("a temporary directory can be made");
    format(dir.path(), BrickUuid([1; 16])).expect("an empty directory can be formatted");
    dir
}

impl Beside {
    pub(super) fn new() -> Self {
        let (dir, files) = (formatted(), None);
        Self { dir, files }
    }

    pub(super) fn open(&mut self, sums: &[u8], horizon: u64) {
        self.files = None; // of a process whose disk has failed
        let files = open_files(self.dir.path(), sums, horizon);
        self.files = Some(files.expect("files that were closed can be opened"));
    }

    /// The process is gone.
    pub(super) fn close(&mut self, tree: &Tree) {
        self.compare(tree);
        self.files = None;
    }

    pub(super) fn apply(&mut self, effects: &[Effect]) {
        if let Some(files) = &mut self.files {
            files.apply(effects).expect("effects succeed on files that have room");
        }
    }

    pub(super) fn look(&mut self, look: &Look, seen: &Result<Seen, Errno>) {
        let Some(files) = &mut self.files else { return };
        let mut real = files.look(look);
        let mut seen = seen.clone();
        if matches!(look, Look::Digests { .. }) {
            // The image's are others, and as long.
            let length = |seen: Seen| match seen {
                Seen::Data(bytes) => Seen::Data(vec![0; bytes.len()].into()),
                other => other,
            };
            (real, seen) = (real.map(length), seen.map(length));
        }
        assert!(
            real == seen,
            "the real files answer {real:?} to {look:?}, and the image {seen:?}"
        );
    }

    pub(super) fn scrub(&self, (ino, first, count): (Ino, u64, u64), suspects: &[u64]) {
        let Some(files) = &self.files else { return };
        let real = files.scrub(ino).map(|scrub| scrub.suspects(first, count));
        let real = real.transpose().expect("files can be read").unwrap_or_default();
        assert_eq!(real, suspects, "blocks of {ino} that do not fit");
    }

    /// Names and files as they should be?
    pub(super) fn compare(&mut self, tree: &Tree) {
        if self.files.is_some()
            && let Some(what) = difference(&self.tree().expect("files can be read"), tree)
        {
            panic!("the real files and the image differ in {what}");
        }
    }

    /// The power was cut: this is left.
    pub(super) fn left(&mut self, tree: &Tree) {
        let dir = formatted();
        let kept = |dir: &TempDir| dir.path().join(HOME).join("fork");
        fs::remove_dir(kept(&dir)).expect("it is empty");
        fs::rename(kept(&self.dir), kept(&dir)).expect("what was kept for a fork is durable at once");
        self.dir = dir;
        self.open(&[], 0);
        self.apply(&making(tree));
        self.close(tree);
    }

    /// As it is on disk.
    fn tree(&mut self) -> io::Result<Tree> {
        let mut tree = Tree::default();
        let mut inodes = BTreeMap::new();
        for bucket in fs::read_dir(self.dir.path().join(HOME).join("ino"))? {
            for entry in fs::read_dir(bucket?.path())? {
                let path = entry?.path();
                // Or else it is in a directory that has no place.
                if let Some(ino) = named_after(&path) {
                    tree.files.insert(ino, file_of(&path)?);
                    inodes.insert(fs::symlink_metadata(&path)?.ino(), ino);
                }
            }
        }
        read_names(self.dir.path(), Ino::ROOT, &inodes, &mut tree)?;
        let inos = tree.files.keys().copied().collect();
        let files = self.files.as_mut().expect("somebody has it open");
        if let Ok(Seen::Data(bytes)) = files.look(&Look::Xattrs { inos }) {
            let all: Xattrs = codec::decode(&bytes).map_err(io::Error::other)?;
            for (ino, xattrs) in all {
                tree.files.entry(ino).or_default().xattrs = xattrs.into_iter().collect();
            }
        }
        Ok(tree)
    }
}

/// The inode that a path in `.mboxfs/ino` is named after.
fn named_after(path: &Path) -> Option<Ino> {
    let name = path.file_name()?.to_str()?;
    u64::from_str_radix(name, 16).ok().map(Ino)
}

/// Of a directory.
fn marked(path: &Path) -> io::Result<Ino> {
    let mut buf = [0; 64];
    let len = rustix::fs::lgetxattr(path, MARK, &mut buf[..])?;
    let mark: Result<(Ino, Tag), _> = codec::decode(&buf[..len]);
    mark.map(|(ino, _)| ino).map_err(io::Error::other)
}

fn file_of(path: &Path) -> io::Result<File> {
    let stat = fs::symlink_metadata(path)?;
    let mut file = File {
        mode: stat.mode() & 0o7777,
        owner: (stat.uid(), stat.gid()),
        mtime: Timestamp {
            secs: stat.mtime(),
            nanos: u32::try_from(stat.mtime_nsec()).map_err(io::Error::other)?,
        },
        ..File::default()
    };
    if stat.is_symlink() {
        file.target = fs::read_link(path)?.as_os_str().as_bytes().to_vec();
    } else {
        file.data = fs::read(path)?;
    }
    Ok(file)
}

/// `inodes`: by their number on disk.
fn read_names(path: &Path, dir: Ino, inodes: &BTreeMap<u64, Ino>, tree: &mut Tree) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == HOME {
            continue;
        }
        let stat = fs::symlink_metadata(entry.path())?;
        let ino = if stat.is_dir() {
            marked(&entry.path())?
        } else {
            *inodes
                .get(&stat.ino())
                .ok_or_else(|| io::Error::other("a name of no inode"))?
        };
        let name = Name::new(entry.file_name().as_bytes()).map_err(|_| io::ErrorKind::InvalidFilename)?;
        tree.names.insert((dir, name), ino);
        if stat.is_dir() {
            read_names(&entry.path(), ino, inodes, tree)?;
        }
    }
    Ok(())
}

/// Effects that make a tree from nothing.
fn making(tree: &Tree) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (ino, file) in &tree.files {
        making_file(*ino, file, &mut effects);
    }
    let mut dirs = vec![Ino::ROOT];
    while let Some(at) = dirs.pop() {
        for ((dir, name), ino) in tree.names.iter().filter(|((dir, _), _)| *dir == at) {
            let (ino, dir, name) = (*ino, *dir, name.clone());
            if tree.files.contains_key(&ino) {
                effects.push(Effect::Link { ino, dir, name });
            } else {
                dirs.push(ino);
                let file = File {
                    mode: 0o755,
                    ..File::default()
                };
                effects.push(make((ino, Kind::Dir), &file, (dir, name)));
            }
        }
    }
    effects
}

fn make((ino, kind): (Ino, Kind), file: &File, (dir, name): (Ino, Name)) -> Effect {
    Effect::Make {
        ino,
        kind,
        mode: file.mode,
        uid: file.owner.0,
        gid: file.owner.1,
        target: file.target.clone(),
        dir,
        name,
    }
}

/// Without a name.
fn making_file(ino: Ino, file: &File, effects: &mut Vec<Effect>) {
    let (mode, (uid, gid), mtime) = (file.mode, file.owner, file.mtime);
    let nowhere = (Ino(0), Name::new(b"-").expect("a name"));
    if !file.target.is_empty() {
        return effects.push(make((ino, Kind::Symlink), file, nowhere));
    }
    effects.push(make((ino, Kind::File), file, nowhere));
    let all = file.xattrs.clone().into_iter().collect();
    effects.push(Effect::AllXattrs { ino, all });
    let data = Bytes::copy_from_slice(&file.data);
    effects.push(Effect::Write {
        ino,
        cut: 0,
        size: data.len() as u64,
        extents: vec![Extent { offset: 0, data }],
        mtime,
        atime: mtime,
        stamp: Tag::default(),
    });
    effects.push(Effect::SetAttr {
        ino,
        mode,
        uid,
        gid,
        atime: mtime,
        mtime,
    });
}

#[cfg(test)]
mod tests {
    use super::{super::Image, *};
    use mboxfs_store::LossyMedium;

    /// An image with a mailbox, and the path of the real one.
    fn mailbox() -> (Image, std::path::PathBuf) {
        let mut image = Image::default();
        image.add_files();
        image.open(LossyMedium::new(), &[], 0).expect("opened");
        let (ino, mut effects) = (Ino(77), Vec::new());
        let (data, mode) = (b"From a@b\n".to_vec(), 0o600);
        let file = File {
            data,
            mode,
            ..File::default()
        };
        making_file(ino, &file, &mut effects);
        let (dir, name) = (Ino::ROOT, Name::new(b"box").expect("a name"));
        effects.push(Effect::Link { ino, dir, name });
        image.apply(effects).expect("applied");
        image.compare_files();
        let dir = image.beside.as_ref().expect("added").dir.path();
        let path = dir.join("box");
        (image, path)
    }

    #[test]
    #[should_panic(expected = "the real files and the image differ in box")]
    fn a_file_that_is_another_one_is_noticed() {
        let (mut image, path) = mailbox();
        fs::write(path, "From a@c\n").expect("written");
        image.compare_files();
    }

    #[test]
    #[should_panic(expected = "the real files and the image differ in box")]
    fn a_name_that_is_gone_is_noticed_when_the_process_ends() {
        let (mut image, path) = mailbox();
        fs::remove_file(path).expect("removed");
        image.close();
    }
}
