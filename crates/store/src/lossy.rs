//! A medium in memory that forgets what was not synced: for tests and the simulator.
//!
//! Promises: after [`LossyMedium::crash`] each unsynced sector is, independently, the old one or the new one; of the
//! unsynced changes of names in a directory a prefix has happened. What was synced stays. A sync can be made to fail, the
//! medium to be full.
//!
//! Not here: rot (a test changes bytes with [`Medium::write_at`] and syncs), latency.

use crate::medium::Medium;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes that a device writes all or not at all.
pub const SECTOR_BYTES: usize = 512;

/// The medium. Clones share the content.
#[derive(Clone, Debug, Default)]
pub struct LossyMedium {
    world: Arc<Mutex<World>>,
}

/// An open file of a [`LossyMedium`].
#[derive(Clone, Copy, Debug)]
pub struct LossyFile(usize);

#[derive(Debug, Default)]
struct World {
    files: Vec<Content>,
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes of names that are not durable yet, in order.
    pending: Vec<Change>,
    syncs: u64,
    fail_at_sync: Option<u64>,
    /// No file grows any more.
    full: bool,
}

#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Set(String, usize),
    Remove(String),
    Rename(String, String),
}

impl Change {
    fn dir(&self) -> &str {
        let (Self::Set(path, _) | Self::Remove(path) | Self::Rename(path, _)) = self;
        path.rsplit_once('/').map_or("", |(dir, _)| dir)
    }

    fn make(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

impl LossyMedium {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes. `keep` is asked for each unsynced sector and each unsynced change of names.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut world = self.world();
        for file in &mut world.files {
            let mut after = file.durable.clone();
            for sector in std::mem::take(&mut file.dirty) {
                let from = sector * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES).min(file.now.len());
                if from < to && keep() {
                    if after.len() < to {
                        after.resize(to, 0);
                    }
                    after[from..to].copy_from_slice(&file.now[from..to]);
                }
            }
            file.durable.clone_from(&after);
            file.now = after;
        }
        let mut stopped: BTreeSet<String> = BTreeSet::new();
        let mut durable = world.durable.clone();
        for change in std::mem::take(&mut world.pending) {
            if !stopped.contains(change.dir()) {
                if keep() {
                    change.make(&mut durable);
                } else {
                    stopped.insert(change.dir().to_string());
                }
            }
        }
        world.now.clone_from(&durable);
        world.durable = durable;
        world.fail_at_sync = None;
    }

    /// Bytes of a file that a test has changed are on the device; nobody counts that as a sync.
    pub fn overlook_sync(&self, file: &LossyFile) {
        let file = &mut self.world().files[file.0];
        file.durable.clone_from(&file.now);
        file.dirty.clear();
    }

    /// What was being written to a file tears: each unsynced sector is neither the old one nor the new one.
    pub fn tear(&self, path: &str, mut garbage: impl FnMut() -> u8) {
        let mut world = self.world();
        let Some(file) = world.now.get(path).copied() else {
            return;
        };
        let file = &mut world.files[file];
        for sector in std::mem::take(&mut file.dirty) {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(file.now.len());
            file.durable.resize(file.durable.len().max(to), 0);
            for at in from..to {
                file.durable[at] = garbage();
                file.now[at] = file.durable[at];
            }
        }
    }

    /// The sync after the next `good` ones fails.
    pub fn fail_sync_after(&self, good: u64) {
        let mut world = self.world();
        world.fail_at_sync = Some(world.syncs + good + 1);
    }

    /// No sync fails any more.
    pub fn repair(&self) {
        self.world().fail_at_sync = None;
    }

    /// Full: no file grows, until it is not.
    pub fn fill(&self, full: bool) {
        self.world().full = full;
    }

    /// Syncs of files and directories so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }
}

impl World {
    fn count_sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        if self.fail_at_sync == Some(self.syncs) {
            return Err(io::Error::other("the simulated device failed"));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.make(&mut self.now);
        self.pending.push(change);
    }
}

impl Medium for LossyMedium {
    type File = LossyFile;

    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let world = self.world();
        let names = world.now.keys().filter_map(|path| path.strip_prefix(prefix.as_str()));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_string).collect())
    }

    fn open(&self, path: &str) -> io::Result<LossyFile> {
        let world = self.world();
        let file = world.now.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(LossyFile(*file))
    }

    fn create(&self, path: &str) -> io::Result<LossyFile> {
        let mut world = self.world();
        let file = world.files.len();
        world.files.push(Content::default());
        world.change(Change::Set(path.to_string(), file));
        Ok(LossyFile(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        if !world.now.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(Change::Rename(from.to_string(), to.to_string()));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.world().change(Change::Remove(path.to_string()));
        Ok(())
    }

    fn make_dir(&self, _: &str) -> io::Result<()> {
        Ok(()) // a directory is there with its first file
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.world();
        world.count_sync()?;
        let (done, rest) = std::mem::take(&mut world.pending)
            .into_iter()
            .partition(|c: &Change| c.dir() == dir);
        world.pending = rest;
        let done: Vec<Change> = done;
        for change in done {
            change.make(&mut world.durable);
        }
        Ok(())
    }

    fn len(&self, file: &LossyFile) -> io::Result<u64> {
        Ok(self.world().files[file.0].now.len() as u64)
    }

    fn read_at(&self, file: &LossyFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let world = self.world();
        let now = &world.files[file.0].now;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = now.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, file: &LossyFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world();
        let full = world.full;
        let file = &mut world.files[file.0];
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let to = from + bytes.len();
        if full && file.now.len() < to {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if file.now.len() < to {
            file.now.resize(to, 0);
        }
        file.now[from..to].copy_from_slice(bytes);
        file.dirty.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
        Ok(())
    }

    fn sync(&self, file: &LossyFile) -> io::Result<()> {
        let mut world = self.world();
        world.count_sync()?;
        let file = &mut world.files[file.0];
        file.durable.clone_from(&file.now);
        file.dirty.clear();
        Ok(())
    }

    fn settle(&self, file: &LossyFile) -> io::Result<()> {
        self.sync(file)
    }
}
