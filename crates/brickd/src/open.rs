//! The brick's directory at the start of the daemon and at the start of a life.
//!
//! O1  A directory belongs to one volume and one place in it, for ever; another volume is refused.
//! O2  Whose it is is durable before the brain begins.
//! O3  Only an empty directory is formatted; nothing that was there is ever removed.
//!
//! Not here: what is in the directory (`store`), which volumes there are (`cluster`).

use crate::{
    disk::Parts,
    failure::Failure,
    local::{Keep, VolumeConfig},
};
use mboxfs_brick::input::Recovered;
use mboxfs_store::{Inspection, Opened, Retention, StoreError};
use mboxfs_types::{
    VolumeId,
    disk::{Superblock, Worth},
    ids::BrickUuid,
    quorum::Quorum,
    record::Members,
};
use rustix::{
    fd::OwnedFd,
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};
use std::path::Path;
use tracing::{error, info};
use uuid::Uuid;

/// What a life begins with.
pub(crate) struct Opening {
    pub(crate) recovered: Recovered,
    pub(crate) parts: Parts,
}

/// A brick's directory that is this daemon's, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Claimed {
    _lock: OwnedFd,
}

/// Makes sure that `data` is a brick's directory, good and ours: an empty one is formatted (O3). Returns the policy of its
/// volume, too.
///
/// Errors: it does not exist, is no directory, another brickd has it, it is not empty and no brick, or the store refuses
/// what is in it.
pub(crate) fn directory(data: &Path) -> Result<(Claimed, Quorum), Failure> {
    let shown = data.display();
    let refused = |why: StoreError| {
        let hint = why.hint().map(str::to_string);
        Failure::refused(format!("use brick directory {shown}"), why).hint(hint)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(data, flags, Mode::empty()).map_err(|why| {
        let hint = format!("make it first, on a file system of its own: mkdir -p {shown}");
        let missing = why == Errno::NOENT;
        Failure::refused(format!("open brick directory {shown}"), why).hint(missing.then_some(hint))
    })?;
    // The store's own lock covers a life; this one covers the daemon, also while no volume is started.
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|why| {
        if why == Errno::WOULDBLOCK {
            refused(StoreError::Locked {
                path: data.to_path_buf(),
            })
        } else {
            Failure::refused(format!("lock brick directory {shown}"), why)
        }
    })?;
    if matches!(
        mboxfs_store::inspect(data),
        Ok(Inspection::Empty | Inspection::HalfMade { used: false })
    ) {
        let uuid = Uuid::new_v4();
        mboxfs_store::format(data, BrickUuid(*uuid.as_bytes())).map_err(refused)?;
        info!("{shown} was empty and is a brick now ({uuid})");
        info!(
            "if a brick of a volume was in {shown} before, its disk is not mounted, or new: for a new one, on the other host: \
             mboxfs volume reset-brick NAME HOST:{shown} HOST:{shown} commit force"
        );
    }
    // Better refused now than at `volume start`.
    let opened = Opened::open(data).map_err(refused)?;
    Ok((Claimed { _lock: lock }, opened.superblock.quorum.quorum))
}

/// Opens the directory for `volume`; `kept_log`: bytes of log kept for an absent peer; `keep`: of the history.
///
/// Errors: one line, with the store's hint if it has one.
pub(crate) fn volume(data: &Path, volume: &VolumeConfig, kept_log: usize, keep: Keep) -> Result<Opening, String> {
    let opened = Opened::open(data).map_err(|e| match e.hint() {
        Some(hint) => format!("{e}; {hint}"),
        None => e.to_string(),
    })?;
    let Opened {
        mut superblock,
        snapshot,
        records,
        log_start,
        log,
        mut files,
        checkpointer,
        superblock_writer,
    } = opened;
    if log.damaged() > 0 {
        let n = log.damaged();
        error!("record {n} of the log is damaged, and not needed any more: the disk is failing");
    }
    let total = files
        .disk_bytes()
        .map_err(|e| format!("the brick's disk cannot be asked: {e}"))?;
    let usual = Retention::of_disk(total);
    files.retain(Retention {
        age_secs: keep.age_secs.unwrap_or(usual.age_secs),
        bytes: keep.bytes.unwrap_or(usual.bytes),
    });
    let mut writer = superblock_writer;
    if claim(&mut superblock, volume)? {
        writer
            .write(&superblock)
            .map_err(|e| format!("the superblock cannot be written: {e}"))?; // O2
        info!(
            "brick directory {} belongs to volume {} now",
            data.display(),
            volume.name
        );
    }
    let recovered = Recovered {
        superblock,
        snapshot,
        records,
        log_start,
        bricks: volume.bricks.clone(),
        checkpoint_bytes: mboxfs_types::limits::CHECKPOINT_BYTES,
        log_debt_bytes: kept_log,
        nonce: Uuid::new_v4().as_fields().0,
    };
    let parts = Parts {
        log,
        superblock: writer,
        files,
        checkpointer,
    };
    Ok(Opening { recovered, parts })
}

/// Makes the directory that of a brick of `volume` which knows nothing yet, and may be nothing but a learner.
///
/// Errors: it was used before.
pub(crate) fn take_over(data: &Path, volume: &VolumeConfig) -> Result<(), String> {
    let mut opened = Opened::open(data).map_err(|e| e.to_string())?;
    let sb = &mut opened.superblock;
    let fresh = sb.volume.is_none() && opened.log.last() == 0 && opened.snapshot.is_empty();
    let again = (sb.volume, sb.brick, sb.files) == (Some(volume.id), volume.own, Worth::Copying);
    if !fresh && !again {
        return Err("its brick directory was used before: an empty one is needed".to_string());
    }
    sb.volume = Some(volume.id);
    sb.brick = volume.own;
    sb.members = Members::Only(volume.own.other());
    sb.files = Worth::Copying;
    opened
        .superblock_writer
        .write(sb)
        .map_err(|e| format!("the superblock cannot be written: {e}"))
}

/// O1. True: it belonged to no volume and now belongs to this one.
fn claim(superblock: &mut Superblock, volume: &VolumeConfig) -> Result<bool, String> {
    match superblock.volume {
        None => {
            superblock.volume = Some(volume.id);
            superblock.brick = volume.own;
            Ok(true)
        }
        Some(other) if other != volume.id => Err(format!(
            "the brick directory belongs to another volume ({}), not to {} ({})",
            shown(other),
            volume.name,
            shown(volume.id)
        )),
        Some(_) if superblock.brick != volume.own => Err(format!(
            "the brick directory is Brick{} of volume {}, not Brick{}",
            superblock.brick.index() + 1,
            volume.name,
            volume.own.index() + 1
        )),
        Some(_) => Ok(false),
    }
}

fn shown(id: VolumeId) -> Uuid {
    Uuid::from_bytes(id.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::BrickId;

    fn superblock() -> Superblock {
        Superblock {
            inc: 1,
            ..Superblock::new(BrickUuid::default())
        }
    }

    fn gvol0() -> VolumeConfig {
        VolumeConfig {
            name: "gVol0".to_string(),
            id: VolumeId([7; 16]),
            bricks: vec!["a:1".to_string(), "b:1".to_string()],
            own: BrickId::B,
            started: true,
        }
    }

    #[test]
    fn a_fresh_directory_is_claimed_once() {
        let mut sb = superblock();
        assert_eq!(claim(&mut sb, &gvol0()), Ok(true));
        assert_eq!((sb.volume, sb.brick), (Some(VolumeId([7; 16])), BrickId::B));
        assert_eq!(claim(&mut sb, &gvol0()), Ok(false));
    }

    #[test]
    fn another_volume_or_another_place_is_refused() {
        let mut sb = superblock();
        claim(&mut sb, &gvol0()).unwrap();
        let other = VolumeConfig {
            id: VolumeId([8; 16]),
            ..gvol0()
        };
        assert_eq!(
            claim(&mut sb, &other).unwrap_err(),
            "the brick directory belongs to another volume (07070707-0707-0707-0707-070707070707), \
             not to gVol0 (08080808-0808-0808-0808-080808080808)"
        );
        let moved = VolumeConfig {
            own: BrickId::A,
            ..gvol0()
        };
        assert_eq!(
            claim(&mut sb, &moved).unwrap_err(),
            "the brick directory is Brick2 of volume gVol0, not Brick1"
        );
    }
}
