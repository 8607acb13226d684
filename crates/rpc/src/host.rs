//! A connection by the unix socket.
//!
//! Promises: bytes in order, as a `UnixStream` has them. Who has sent a frame is not woken when the other end reads it: of a
//! unix socket the kernel tells each time that there is room, also if there was some before, to all who want to hear it. Here
//! that is only who found none.
//! Not here: its name, and who is at the other end (`socket`).

use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::os::unix::net;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixStream, unix::pipe};

/// An open connection on this host. To the runtime it is the end of a pipe, which it watches for one direction only.
#[derive(Debug)]
pub(crate) struct HostStream {
    own: net::UnixStream,
    from: pipe::Receiver,
    /// While a write waits for room.
    to: Option<pipe::Sender>,
}

impl HostStream {
    /// Errors: the system's.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        let own = stream.into_std()?;
        let from = pipe::Receiver::from_owned_fd_unchecked(own.try_clone()?.into())?;
        Ok(Self { own, from, to: None })
    }

    fn poll_put(
        &mut self,
        now: impl FnOnce(&mut net::UnixStream) -> io::Result<usize>,
        later: impl FnOnce(Pin<&mut pipe::Sender>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.to.is_none() {
            match now(&mut self.own) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
        let to = match &mut self.to {
            Some(to) => to,
            none => none.insert(pipe::Sender::from_owned_fd_unchecked(self.own.try_clone()?.into())?),
        };
        let done = ready!(later(Pin::new(to)));
        self.to = None;
        Poll::Ready(done)
    }
}

impl AsyncRead for HostStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.from).poll_read(cx, buf)
    }
}

impl AsyncWrite for HostStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(|own| own.write(bytes), |to| to.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(
            |own| own.write_vectored(slices),
            |to| to.poll_write_vectored(cx, slices),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.own.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (HostStream, HostStream) {
        let (a, b) = UnixStream::pair().unwrap();
        (HostStream::new(a).unwrap(), HostStream::new(b).unwrap())
    }

    #[tokio::test]
    async fn who_finds_no_room_goes_on_when_there_is_some() {
        let (mut from, mut to) = pair();
        let bytes: Vec<u8> = (0..5_000_000u32).map(|i| (i % 251) as u8).collect();
        let expected = bytes.clone();
        let writing = tokio::spawn(async move {
            from.write_all(&bytes).await.unwrap();
            from.shutdown().await.unwrap();
            from
        });
        let mut got = Vec::new();
        to.read_to_end(&mut got).await.unwrap();
        assert!(got == expected, "{} bytes came", got.len());
        let mut from = writing.await.unwrap();
        to.write_all(b"heard").await.unwrap();
        drop(to);
        let mut answer = Vec::new();
        from.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"heard");
    }

    #[tokio::test]
    async fn the_end_of_the_other_side_is_an_error_of_the_next_write() {
        let (mut from, to) = pair();
        drop(to);
        assert_eq!(from.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(from.read(&mut [0; 9]).await.unwrap(), 0);
    }
}
