//! The daemon's voice: tracing to stderr, one line per event of the brain.
//!
//! Promises: ERROR means that somebody has to look, WARN that the volume is worse off than a moment ago, INFO that it is
//! better off or as it should be.
//! Not here: what happened (`brick::output::Event`), the operator's screens (`cli`).

use mboxfs_brick::output::{Event, Mended};
use mboxfs_types::{SessionId, admin::Status, limits};
use std::io::{IsTerminal, stderr};
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. A second call in one process has no effect.
pub(crate) fn start(filter: &str) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .try_init();
}

/// Says an event of the brain.
pub(crate) fn event(event: &Event) {
    match event {
        Event::Status { from, to, g, v, why } => {
            let line = format!(
                "brick is {} (was {}): {why} [epoch {}, view {v}]",
                word(*to),
                word(*from),
                g.num
            );
            if is_worse(*to) {
                warn!("{line}");
            } else {
                info!("{line}");
            }
        }
        Event::PeerRefused { why } => warn!("peer refused: {why}"),
        Event::Stalled => error!(
            "the disk has not answered for {} ms: this brick serves nobody until it does",
            limits::STALL.0 / 1_000_000
        ),
        Event::Slow { own, peer } => error!(
            "most syncs of the log take {} ms, the peer's {} ms (0: not known): this brick keeps away for a while",
            own.0 / 1_000_000,
            peer.0 / 1_000_000
        ),
        Event::SessionExpired { session } => info!("session {} expired: its locks are gone", Short(*session)),
        Event::Diverged { common, here, there } => error!(
            "both bricks changed the volume while apart: common up to record {common}, then {here} here and {there} there; \
             nothing is lost, one of them merges now what the other one has"
        ),
        Event::GivesUp { records } => {
            info!("peer has merged the {records} records written here alone: following it now")
        }
        Event::Merged {
            objects,
            mailboxes,
            conflicts,
        } => info!(
            "merged what the peer changed: {objects} files and directories, {mailboxes} of them mailboxes changed on both \
             sides, {conflicts} kept twice (see .mboxfs-conflict)"
        ),
        Event::Mended { path, how } => match how {
            Mended::Sent => info!("healed {path}: the peer has it again"),
            Mended::Merged => info!("merged {path}: changed on both bricks while they were apart"),
            Mended::Taken => info!("healed {path}: taken from the peer, which alone changed it"),
            Mended::Damaged => error!(
                "{path} was changed on the peer while they were apart, and one of the copies is damaged: they are not merged; the \
                 peer's is in /.mboxfs-conflict as it is. When it is dealt with, remove it"
            ),
            Mended::KeptTwice => info!("kept {path} twice: changed on both bricks, and no mailbox"),
        },
        Event::MergeFailed { path, why } => {
            error!("could not merge {path}: {why}; nothing is lost, it is tried again in a few seconds");
        }
        Event::Overrun => warn!(
            "the log kept for the absent peer has reached its limit and is trimmed from now on: the peer will be healed by \
             comparing files, and if it went on alone, too, mail that either side removed comes back"
        ),
        Event::LogRotten { n } => error!(
            "record {n} of the log is damaged: the disk is failing; its mail is in the mailboxes, and a peer that lacks it gets \
             files instead"
        ),
        Event::Resynced { files, bytes } => {
            info!("has the files of its peer: {bytes} bytes in {files} files were copied");
        }
        Event::Healed { records } => info!("peer has everything again: {records} records sent"),
        Event::Rotten { path, blocks } => error!(
            "{path}: {} do not hold what was written to them, or cannot be read: the disk is failing, or somebody changed \
             the file; they are not given out before they are repaired with the peer's copy",
            blocks_of(blocks)
        ),
        Event::Repaired { path, block } => info!("{path}: {} repaired with the peer's copy", blocks_of(&[*block])),
        Event::RottenTwice { path, block } => error!(
            "{path}: {} bad on both bricks, and both copies together do not make it: it is not given out; everything else of the \
             file is",
            blocks_of(&[*block])
        ),
        Event::Quarantined { path, messages, kept } => error!(
            "{path}: {messages} messages were damaged on both bricks and are taken out; what is left of them is in \
             /.mboxfs-conflict: {}; all others are served. When it is dealt with, remove these files",
            kept.join(" and ")
        ),
        Event::NotQuarantined { path, why } => error!("{path} is damaged on both bricks and stays as it is: {why}"),
        Event::Differ { path, block } => error!(
            "{path}: {} differ between the bricks, although each holds what was written to it: please report this",
            blocks_of(&[*block])
        ),
        Event::Scrubbed { bytes, bad: 0 } => info!("scrub: all files are good, {bytes} bytes"),
        Event::Scrubbed { bad, .. } => error!("scrub: {bad} files are damaged: mboxfs heal status"),
        Event::Quorum { quorum } => match &quorum.witness {
            Some(at) => info!("quorum is {} now, witness {}", quorum.policy.word(), at.address()),
            None => info!("quorum is {} now", quorum.policy.word()),
        },
        Event::WitnessSilent => warn!("the witness does not answer: if the peer fails now, this brick waits"),
        Event::WitnessForgot => error!(
            "the witness has lost this volume's register: if the peer fails now, this brick waits; with both bricks online: \
             mboxfs volume set NAME witness HOST"
        ),
        Event::Fenced { session } => debug!("session {} spoke of a lease that it does not hold", Short(*session)),
    }
}

/// `bytes 0-65535` for the first block, and so on; the first few.
fn blocks_of(blocks: &[u64]) -> String {
    let bytes = |block: &u64| {
        let from = block * limits::SUM_BLOCK_BYTES;
        format!("{from}-{}", from + limits::SUM_BLOCK_BYTES - 1)
    };
    let named: Vec<String> = blocks.iter().take(4).map(bytes).collect();
    let more = if blocks.len() > 4 { " ..." } else { "" };
    format!("bytes {}{more}", named.join(", "))
}

const fn is_worse(to: Status) -> bool {
    match to {
        Status::Solo | Status::Diverged | Status::Stalled | Status::Waiting => true,
        Status::Boot | Status::Suspect | Status::Normal | Status::Learner => false,
    }
}

const fn word(status: Status) -> &'static str {
    match status {
        Status::Boot => "starting",
        Status::Suspect => "deciding",
        Status::Normal => "in step with its peer",
        Status::Solo => "going on alone",
        Status::Learner => "catching up",
        Status::Diverged => "diverged from its peer",
        Status::Stalled => "out of the way, its disk is sick",
        Status::Waiting => "waiting",
    }
}

/// A session, short enough for a line.
struct Short(SessionId);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.client.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{:x}", self.0.nonce)
    }
}
