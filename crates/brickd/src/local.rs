//! What the cluster side of the daemon may ask of its brick: start, stop, report, and obey.
//!
//! Promises: no method waits for the network; none may be called from inside a step of the brain.
//! Not here: what a volume is and who may say so (`cluster`), how a brick runs (`driver`).

use mboxfs_brick::quorum::Order;
use mboxfs_types::{
    BrickId, VolumeId,
    admin::{BrickReport, Fault},
    quorum::Quorum,
};
use std::path::PathBuf;

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
    /// The brick's directory.
    fn data_dir(&self) -> PathBuf;
}
