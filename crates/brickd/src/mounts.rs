//! Streams of mounts: who is let in, and their frames, in order, to and from the brain.
//!
//! N1  A stream has a number that is never used again; frames of a stream that was dropped reach nobody.
//! N2  A stream whose first frame is not a fitting `Attach` never reaches the brain.
//! N3  What was said before a stream is dropped still goes out.
//!
//! Not here: sessions and what frames mean (`brick::attach`), which hosts may connect (`gate`).

use crate::driver::{Driver, Joined};
use mboxfs_brick::input::MountConn;
use mboxfs_rpc::{Link, Sender};
use mboxfs_types::{
    call::{Attach, Attached, ToBrick, ToMount},
    limits,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};
use tracing::{debug, info};

/// A stream says who it is within this time, or is dropped.
const ATTACH_WAIT: Duration = Duration::from_secs(5);

struct MountLink {
    send: Sender<ToMount>,
    /// Dropped with the link: ends the task that reads.
    _gone: oneshot::Sender<()>,
}

/// The streams that the brain knows.
#[derive(Default)]
pub(crate) struct MountTable(BTreeMap<MountConn, MountLink>);

impl MountTable {
    /// The receiver resolves when the stream is dropped from this side.
    pub(crate) fn insert(&mut self, conn: MountConn, send: Sender<ToMount>) -> oneshot::Receiver<()> {
        let (gone, ended) = oneshot::channel();
        let old = self.0.insert(conn, MountLink { send, _gone: gone });
        assert!(old.is_none(), "N1: stream number used twice");
        ended
    }

    pub(crate) fn contains(&self, conn: MountConn) -> bool {
        self.0.contains_key(&conn)
    }

    /// False: the stream has just been found to be broken, and is gone.
    pub(crate) fn say(&mut self, conn: MountConn, frame: ToMount) -> bool {
        let Some(link) = self.0.get(&conn) else {
            return true; // N1: the brain will learn, or has said so itself
        };
        let sent = link.send.send(frame).is_ok();
        if !sent {
            self.0.remove(&conn);
        }
        sent
    }

    /// N3: the sender's queue is flushed by `rpc` after it is dropped. False: it was gone already.
    pub(crate) fn remove(&mut self, conn: MountConn) -> bool {
        self.0.remove(&conn).is_some()
    }
}

/// What a brick says to a mount that comes at the wrong time or to the wrong place.
///
/// `wanted`: name and addresses of the volume that is to be served here. `known`: name of the volume that this brick
/// belongs to. `ready`: is the brain there?
pub(crate) fn admit(
    attach: &Attach,
    wanted: Option<(&str, &[String])>,
    known: Option<&str>,
    ready: bool,
) -> Result<(), Attached> {
    let Attach { protocol, volume, .. } = attach;
    if *protocol != limits::PROTOCOL_VERSION {
        let own = limits::PROTOCOL_VERSION;
        let why = format!("the mount speaks protocol {protocol}, this brick speaks {own}");
        return Err(Attached::Refused { why });
    }
    match wanted {
        Some((name, _)) if name == volume && ready => Ok(()),
        Some((name, bricks)) if name == volume => Err(Attached::NotServing {
            why: "this brick is about to stop, or to start again".to_string(),
            bricks: bricks.to_vec(),
        }),
        _ if known == Some(volume) => {
            let why = format!("volume {volume} is not started");
            Err(Attached::Refused { why })
        }
        _ => {
            let why = format!("volume {volume} does not exist on this brick");
            Err(Attached::Refused { why })
        }
    }
}

/// Serves one accepted stream to its end. `known`: the volume that this brick belongs to.
pub(crate) async fn serve(driver: Arc<Driver>, known: Option<String>, link: Link<ToMount, ToBrick>) {
    let Link { send, mut recv, remote } = link;
    let attach = match timeout(ATTACH_WAIT, recv.recv()).await {
        Ok(Some(ToBrick::Attach(attach))) => attach,
        Ok(Some(_)) => return info!("mount from {remote} dropped: its first word was not Attach"), // N2
        Ok(None) => return,
        Err(_) => return info!("mount from {remote} dropped: it did not say who it is"),
    };
    debug!("mount from {remote} attaches to volume {}", attach.volume);
    let joined = match driver.join(attach, send, known.as_deref()) {
        Ok(joined) => joined,
        Err((answer, send)) => {
            match &answer {
                Attached::Refused { why } => info!("mount from {remote} refused: {why}"),
                _ => debug!("mount from {remote} not attached: {answer:?}"), // it tries again, often
            }
            let _ = send.send(ToMount::Attached(answer));
            return;
        }
    };
    let Joined {
        life,
        conn,
        mut ended,
        load,
    } = joined;
    loop {
        let next = async {
            load.room().await;
            recv.recv().await
        };
        let frame = tokio::select! {
            biased;
            _ = &mut ended => return,
            frame = next => frame,
        };
        let Some(frame) = frame else {
            driver.with(life, |r| r.mount_lost(conn));
            return;
        };
        if driver.with(life, |r| r.mount_frame(conn, frame)) != Some(true) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::SessionId;

    fn attach(protocol: u32, volume: &str) -> Attach {
        Attach {
            protocol,
            volume: volume.to_string(),
            session: SessionId {
                client: [0; 16],
                nonce: 1,
            },
            attach_no: 1,
            fresh: true,
        }
    }

    fn refusal(attach: &Attach, wanted: Option<(&str, &[String])>, known: Option<&str>) -> String {
        match admit(attach, wanted, known, true) {
            Err(Attached::Refused { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_started_volume_is_let_in() {
        let own = limits::PROTOCOL_VERSION;
        let bricks = ["a:1".to_string(), "b:1".to_string()];
        let wanted = Some(("gVol0", &bricks[..]));
        assert_eq!(admit(&attach(own, "gVol0"), wanted, Some("gVol0"), true), Ok(()));
        assert_eq!(
            refusal(&attach(own, "gVol0"), None, Some("gVol0")),
            "volume gVol0 is not started"
        );
        assert_eq!(
            refusal(&attach(own, "other"), wanted, Some("gVol0")),
            "volume other does not exist on this brick"
        );
        assert_eq!(
            refusal(&attach(own + 1, "gVol0"), wanted, Some("gVol0")),
            format!("the mount speaks protocol {}, this brick speaks {own}", own + 1)
        );
    }

    #[test]
    fn while_the_brick_reopens_mounts_are_sent_to_the_other_one() {
        let bricks = ["a:1".to_string(), "b:1".to_string()];
        let answer = admit(
            &attach(limits::PROTOCOL_VERSION, "gVol0"),
            Some(("gVol0", &bricks)),
            Some("gVol0"),
            false,
        );
        assert!(matches!(answer, Err(Attached::NotServing { bricks: b, .. }) if b == bricks));
    }
}
