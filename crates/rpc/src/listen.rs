//! Accepted sockets.
//!
//! Promises: TCP_NODELAY on each (tonic does not set it on connections from an own listener). At most
//! `tune::CONNECTIONS_MAX`; one that does not begin to speak in time is closed. No error of one ends the server (law L13).
//! Not here: what is spoken (`serve`).

use crate::tune;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Length of what an HTTP/2 client says first.
const PREFACE_BYTES: usize = 24;

/// The connections of a listener. It never ends.
pub(crate) struct Incoming {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
    /// How long a connection may say nothing at first.
    patience: Duration,
}

impl Incoming {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(tune::CONNECTIONS_MAX)),
            pause: None,
            patience: tune::HELLO_TIMEOUT,
        }
    }
}

impl Stream for Incoming {
    type Item = Result<Connection, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => {
                    // Too many, or gone already: dropped, and on to the next.
                    if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
                        && stream.set_nodelay(true).is_ok()
                    {
                        return Poll::Ready(Some(Ok(Connection::new(stream, permit, self.patience))));
                    }
                }
                // One connection's fault, or no descriptors left; without a pause the latter would spin.
                Err(_) => self.pause = Some(Box::pin(sleep(tune::ACCEPT_PAUSE))),
            }
        }
    }
}

/// A socket that must say something soon.
pub(crate) struct Connection {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    /// Until this many bytes came, and no longer than that.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Connection {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit, patience: Duration) -> Self {
        Self {
            stream,
            _permit: permit,
            greeting: Some((PREFACE_BYTES, Box::pin(sleep(patience)))),
        }
    }

    #[cfg(test)]
    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        self.stream.nodelay()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;
    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((missing, deadline)) = &mut self.greeting else {
            return read;
        };
        if read.is_pending() {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *missing = missing.saturating_sub(buf.filled().len() - before);
        if *missing == 0 {
            self.greeting = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Incoming::new(listener);
        incoming.patience = Duration::from_millis(50);
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut server = incoming.next().await.unwrap().unwrap();
        client.write_all(&[b'x'; PREFACE_BYTES - 1]).await.unwrap();
        let mut bytes = [0; 100];
        assert_eq!(server.read(&mut bytes).await.unwrap(), PREFACE_BYTES - 1);
        let error = server.read(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let mut client = TcpStream::connect(address).await.unwrap();
        let mut server = incoming.next().await.unwrap().unwrap();
        client.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        assert_eq!(server.read(&mut bytes).await.unwrap(), PREFACE_BYTES);
        let silence = tokio::time::timeout(Duration::from_millis(150), server.read(&mut bytes));
        assert!(silence.await.is_err(), "once it spoke it may be silent");
    }
}
