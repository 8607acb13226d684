//! The numbers of the transport, for both ends of a connection.
//!
//! Promises: measured, not guessed (TECH.md section 2): fixed windows, no adaptive ones; a peer that is gone is noticed
//! after [`KEEP_ALIVE`] + [`KEEP_ALIVE_TIMEOUT`] even if nothing is said.
//! Not here: limits of the conversation (`types::limits`).

use std::time::Duration;

/// Flow control of a stream: a round trip of 1 ms at 8 GB/s.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Flow control of a connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// An idle connection is asked this often whether it lives. The brains' own heartbeats are quicker.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// And must answer within this.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(1000);
/// A TLS handshake is done, a connection begins to speak HTTP/2, and a heartbeat stream says who it is, each within this.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// TLS handshakes under way at a time; for one more the oldest is given up: one of ours is done in a few milliseconds.
pub(crate) const HANDSHAKES_MAX: usize = 256;
/// Connections at a time; more are closed at once. Only those who were let in count.
pub(crate) const CONNECTIONS_MAX: usize = 512;
/// Streams and calls of one connection at a time.
pub(crate) const STREAMS_MAX: u32 = 64;
/// A server that stops waits this long for its last answers to leave.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_millis(1000);
/// A link that was dropped has this long to hand over what was sent before.
pub(crate) const LINGER: Duration = Duration::from_millis(1000);
/// Pause after the system refused a connection (no file descriptors left).
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the name of the unix socket is tried while somebody else has it.
pub(crate) const SOCKET_RETRY: Duration = Duration::from_secs(1);
