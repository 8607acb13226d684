//! One stream, both ways: a bounded queue towards the network, validated frames from it.
//!
//! Promises
//! K1  `send` never blocks. A full queue ends the link: who does not read in time is treated as lost (law L13).
//! K2  A link dies whole, and says why: garbage, an invalid frame, a full queue, an end of the other side or of the
//!     connection ends both directions. After an end nothing more is received.
//! K3  Frames sent before the link was dropped are still handed to the network, then the stream ends.
//!
//! Not here: sockets (`dial`, `serve`), what a frame is (`convert`).

use crate::convert::Frame;
use crate::tune;
use mboxfs_types::{BrickId, VolumeId, limits};
use prost::Message;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

/// Frames that may wait for the network.
pub const LINK_FRAMES_MAX: usize = 4096;
/// Bytes of payload that may wait for the network; one frame of any size may always wait.
pub const LINK_BYTES_MAX: usize = 256 << 20;

/// The link has ended; [`Receiver::why_ended`] tells why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the link has ended")]
pub struct Closed;

/// First message of a heartbeat stream, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BeatHello {
    /// `limits::PROTOCOL_VERSION` of the speaker.
    pub protocol: u32,
    /// Volume.
    pub volume: VolumeId,
    /// Which brick the speaker is.
    pub brick: BrickId,
}

/// One stream, both ways. Dropping both halves ends it at the other end too.
#[derive(Debug)]
pub struct Link<Out, In> {
    /// Towards the other end.
    pub send: Sender<Out>,
    /// From the other end.
    pub recv: Receiver<In>,
    /// The other end, for logs: the address dialled, or the one that the connection came from.
    pub remote: String,
}

struct State<T> {
    /// Frames with their weights.
    queue: VecDeque<(T, usize)>,
    bytes: usize,
    senders: usize,
    receiver: bool,
    /// The transport still takes frames.
    outbound: bool,
    why: Option<String>,
    wake_outbound: Option<Waker>,
    wake_receiver: Option<Waker>,
}

/// What the halves of a link share.
struct Core<T> {
    state: Mutex<State<T>>,
    weigh: fn(&T) -> usize,
}

impl<T> Core<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the transport.
    fn nudge(&self, change: impl FnOnce(&mut State<T>)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.wake_outbound.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The shared part as the receiving half and the server see it: whatever the frames are.
pub(crate) trait Ends: Send + Sync {
    /// Ends both directions; the first reason stays.
    fn end(&self, why: String);
    fn why(&self) -> Option<String>;
    /// Has it ended? If not, `waker` is woken when it does.
    fn has_ended(&self, waker: &Waker) -> bool;
    fn receiver_gone(&self);
}

impl<T: Send> Ends for Core<T> {
    fn end(&self, why: String) {
        let (outbound, receiver, queue) = {
            let mut state = self.lock();
            state.why.get_or_insert(why);
            state.bytes = 0;
            let queue = std::mem::take(&mut state.queue);
            (state.wake_outbound.take(), state.wake_receiver.take(), queue)
        };
        drop(queue); // long, perhaps: not under the lock
        for waker in [outbound, receiver].into_iter().flatten() {
            waker.wake();
        }
    }

    fn why(&self) -> Option<String> {
        self.lock().why.clone()
    }

    fn has_ended(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if state.why.is_none() && !state.wake_receiver.as_ref().is_some_and(|old| old.will_wake(waker)) {
            state.wake_receiver = Some(waker.clone());
        }
        state.why.is_some()
    }

    fn receiver_gone(&self) {
        self.nudge(|state| state.receiver = false);
    }
}

/// Sending half. Clones share the queue; the link ends when the last one is dropped.
pub struct Sender<Out> {
    core: Arc<Core<Out>>,
}

impl<Out> Sender<Out> {
    /// Puts a frame into the queue. Never blocks.
    ///
    /// Errors: [`Closed`] if the link has ended, or ends now since the queue is full (K1).
    pub fn send(&self, frame: Out) -> Result<(), Closed>
    where
        Out: Send,
    {
        let weight = (self.core.weigh)(&frame);
        let waker = {
            let mut state = self.core.lock();
            if state.why.is_some() || !state.receiver || !state.outbound {
                return Err(Closed);
            }
            let (frames, bytes) = (state.queue.len(), state.bytes);
            if frames >= LINK_FRAMES_MAX || (frames > 0 && bytes.saturating_add(weight) > LINK_BYTES_MAX) {
                drop(state);
                self.core.end(format!(
                    "the other side does not read: {frames} frames, {bytes} bytes wait"
                ));
                return Err(Closed);
            }
            state.bytes += weight;
            state.queue.push_back((frame, weight));
            state.wake_outbound.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Frames and bytes of payload that wait for the network, for those who can go slower.
    #[must_use]
    pub fn backlog(&self) -> (usize, usize) {
        let state = self.core.lock();
        (state.queue.len(), state.bytes)
    }

    /// Has the link ended?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let state = self.core.lock();
        state.why.is_some() || !state.receiver || !state.outbound
    }
}

impl<Out> Clone for Sender<Out> {
    fn clone(&self) -> Self {
        self.core.lock().senders += 1;
        Self {
            core: Arc::clone(&self.core),
        }
    }
}

impl<Out> Drop for Sender<Out> {
    fn drop(&mut self) {
        self.core.nudge(|state| state.senders -= 1);
    }
}

impl<Out> std::fmt::Debug for Sender<Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// Where frames come from.
trait Source<In>: Send {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<In, String>>>;
    /// Reads on until the other side ends too, not for ever.
    fn linger(self: Box<Self>, runtime: &Handle);
}

/// Receiving half.
pub struct Receiver<In> {
    /// None after the end.
    source: Option<Box<dyn Source<In>>>,
    core: Arc<dyn Ends>,
    runtime: Handle,
}

impl<In> Receiver<In> {
    /// The next frame; none when the link has ended. Safe to cancel.
    pub async fn recv(&mut self) -> Option<In> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Receiver::recv`], for those who poll.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<In>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let why = if self.core.has_ended(cx.waker()) {
            String::new() // it has one already
        } else {
            match source.poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(frame)),
                Poll::Ready(Some(Err(why))) => why,
                Poll::Ready(None) => "closed by the other side, or connection lost".to_owned(),
            }
        };
        self.core.end(why);
        self.source = None; // the transport learns that nobody reads any more
        Poll::Ready(None)
    }

    /// Why the link ended, on one line; none while it lives.
    #[must_use]
    pub fn why_ended(&self) -> Option<String> {
        self.core.why()
    }
}

impl<In> Drop for Receiver<In> {
    fn drop(&mut self) {
        let Some(source) = self.source.take() else { return };
        self.core.receiver_gone();
        if self.core.why().is_none() {
            // HTTP/2 resets a stream that nobody reads, and what was sent but has not left would be lost (K3).
            source.linger(&self.runtime);
        }
    }
}

impl<In> std::fmt::Debug for Receiver<In> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("why", &self.why_ended())
            .finish_non_exhaustive()
    }
}

/// The queue as the transport sees it.
pub(crate) struct Outbound<Out: Frame> {
    core: Arc<Core<Out>>,
    /// Messages made already: a long batch becomes several.
    ready: VecDeque<Out::Wire>,
}

// The messages in `ready` are never pinned.
impl<Out: Frame> Unpin for Outbound<Out> {}

impl<Out: Frame> Stream for Outbound<Out> {
    type Item = Out::Wire;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Out::Wire>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                let bytes = message.encoded_len();
                if bytes <= limits::MESSAGE_BYTES_MAX {
                    return Poll::Ready(Some(message));
                }
                self.core.end(format!("own frame too long: {bytes} bytes"));
                return Poll::Ready(None);
            }
            let frame = {
                let mut state = self.core.lock();
                match state.queue.pop_front() {
                    Some((frame, weight)) => {
                        state.bytes -= weight;
                        frame
                    }
                    None if state.why.is_some() || state.senders == 0 || !state.receiver => return Poll::Ready(None),
                    None => {
                        state.wake_outbound = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            if let Err(invalid) = frame.to_wire(&mut self.ready) {
                self.core.end(format!("own frame: {invalid}"));
                return Poll::Ready(None);
            }
        }
    }
}

impl<Out: Frame> Drop for Outbound<Out> {
    fn drop(&mut self) {
        // Not an end: what has arrived may still be received, and the source knows better why there is no more.
        self.core.lock().outbound = false;
    }
}

/// The queue as a server's answer.
pub(crate) struct Replies<Out: Frame>(pub(crate) Outbound<Out>);

impl<Out: Frame> Stream for Replies<Out> {
    type Item = Result<Out::Wire, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|message| message.map(Ok))
    }
}

/// Frames out of messages.
struct Inbound<In: Frame>(Streaming<In::Wire>);

impl<In: Frame> Source<In> for Inbound<In> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<In, String>>> {
        Pin::new(&mut self.0).poll_next(cx).map(|next| match next? {
            Ok(message) => Some(In::from_wire(message).map_err(|invalid| invalid.to_string())),
            Err(status) => Some(Err(crate::error::one_line(&status))),
        })
    }

    fn linger(mut self: Box<Self>, runtime: &Handle) {
        runtime.spawn(async move {
            let rest = async { while let Ok(Some(_)) = self.0.message().await {} };
            let _ = tokio::time::timeout(tune::LINGER, rest).await;
        });
    }
}

/// The sending half of a link to be, with `first` at the head of the queue.
pub(crate) fn outbound<Out: Frame>(first: Option<Out::Wire>) -> (Sender<Out>, Outbound<Out>) {
    let core = Arc::new(Core {
        state: Mutex::new(State {
            queue: VecDeque::new(),
            bytes: 0,
            senders: 1,
            receiver: true,
            outbound: true,
            why: None,
            wake_outbound: None,
            wake_receiver: None,
        }),
        weigh: Out::weight,
    });
    let outbound = Outbound {
        core: Arc::clone(&core),
        ready: first.into_iter().collect(),
    };
    (Sender { core }, outbound)
}

/// The whole link, and a handle that can end it.
pub(crate) fn assemble<Out: Frame, In: Frame>(
    send: Sender<Out>,
    source: Streaming<In::Wire>,
    remote: String,
) -> (Link<Out, In>, Weak<dyn Ends>) {
    let core: Arc<dyn Ends> = send.core.clone();
    let ends = Arc::downgrade(&core);
    let recv = Receiver {
        source: Some(Box::new(Inbound::<In>(source))),
        core,
        runtime: Handle::current(),
    };
    (Link { send, recv, remote }, ends)
}
