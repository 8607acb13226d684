//! What the cluster side of the daemon may ask of its brick: start, stop, report, and obey.
//!
//! Promises: no method waits for the network; none may be called from inside a step of the brain.
//! Not here: what a volume is and who may say so (`cluster`), how a brick runs (`driver`).

use mboxfs_brick::quorum::Order;
use mboxfs_types::{
    BrickId, VolumeId,
    admin::{BrickReport, Fault},
    history::{Page, Place, Question},
    quorum::Quorum,
};
use std::path::PathBuf;
use tokio::sync::oneshot;

/// A volume as this brick has to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeConfig {
    /// Name, for example `gVol0`.
    pub name: String,
    /// Its identity.
    pub id: VolumeId,
    /// Where both bricks listen (`host:port`), Brick1 first.
    pub bricks: Vec<String>,
    /// Which of them is here.
    pub own: BrickId,
    /// Was it started? Read at boot; `Local::start` starts it whatever this says.
    pub started: bool,
}

/// How much of the history a brick keeps; none: the usual (`limits`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// Seconds.
    pub age_secs: Option<u64>,
    /// Bytes; 0: no history at all.
    pub bytes: Option<u64>,
}

/// What an operator wants to know of the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HistoryAsk {
    /// What happened.
    Page(Question),
    /// Bytes of a message that was removed.
    Message {
        /// Where.
        place: Place,
        /// Its bytes, all of them.
        len: u64,
        /// From there on.
        skip: u64,
    },
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HistoryTell {
    /// What happened.
    Page(Page),
    /// Bytes, at most `history::KEPT_BYTES_MAX`.
    Message(Vec<u8>),
}

/// A question to the history.
#[derive(Debug)]
pub struct HistoryJob {
    /// What.
    pub ask: HistoryAsk,
    /// For the answer, or one line that says why there is none.
    pub tell: oneshot::Sender<Result<HistoryTell, String>>,
}

/// The brick of this daemon.
pub trait Local: Send + Sync {
    /// Starts to serve `volume`. No effect if it is served already. May read the whole log: it can take a second.
    /// While a stop is still under way it is started anew as soon as that is done.
    ///
    /// Errors: one line, for the person who typed `volume start`.
    fn start(&self, volume: VolumeConfig) -> Result<(), String>;
    /// Begins to stop: mounts are refused from now on, the peer is told, the state is checkpointed in the background. No
    /// effect if nothing runs.
    ///
    /// Errors: one line.
    fn stop(&self) -> Result<(), String>;
    /// Makes the directory, an empty one, that of a brick which gets everything from its peer. Before the first start.
    ///
    /// Errors: it is served, or was used before.
    fn take_over(&self, volume: &VolumeConfig) -> Result<(), String>;
    /// The state of the brain; none if no volume is started.
    fn report(&self) -> Option<BrickReport>;
    /// Lets the brick fail for `limits::DRILL` (a crash takes the whole daemon with it). The caller has asked whether it may.
    ///
    /// Errors: it is not served.
    fn drill(&self, fault: Fault) -> Result<(), String>;

    /// The policy of the volume, as this brick knows it; also while none is started.
    fn quorum(&self) -> Quorum;
    /// An operator's word to the brain.
    ///
    /// Errors: why not, in one line.
    fn order(&self, order: Order) -> Result<(), String>;
    /// Asks the history of the brick; the answer comes when it was read.
    ///
    /// Errors: it is not served.
    fn look_back(&self, job: HistoryJob) -> Result<(), String>;
    /// The brick's directory.
    fn data_dir(&self) -> PathBuf;
}
