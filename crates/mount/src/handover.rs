//! Between the supervisor and the daemon that serves: descriptors, and a FUSE session that goes on.
//!
//! H1  The kernel says FUSE_INIT once. A successor lets the FUSE library read the same words again, from a socket in the
//!     place where the kernel's stream is put afterwards: the library is not changed, and nothing stands between it and
//!     /dev/fuse once it serves.
//! H2  Requests that a former daemon had read and not answered are asked for again (FUSE_NOTIFY_RESEND, Linux 6.9).
//!
//! Not here: what a successor knows of open files (`journal`), when one is started (`supervisor`).

use crate::{journal, ops::Ops};
use fuser::{Session, SessionACL};
use mboxfs_types::codec;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

/// `fuse_notify_code` (Linux, `include/uapi/linux/fuse.h`).
const FUSE_NOTIFY_RESEND: u32 = 7;
/// Bit of `fuse_in_header.unique`: asked again.
const FUSE_UNIQUE_RESEND: u64 = 1 << 63;
/// The kernel wants room for the largest request, whichever it hands out.
const READ_BYTES: usize = (mboxfs_types::limits::EXTENT_BYTES_MAX) + (64 << 10);
/// The most descriptors in one message.
const FDS_MAX: usize = 4;
/// PATH_MAX and room.
const MESSAGE_BYTES_MAX: usize = 4096 + 256;

/// The kernel's number of a call, the same when it is asked again.
pub(crate) const fn number(unique: u64) -> u64 {
    unique & !FUSE_UNIQUE_RESEND
}

/// What the supervisor says; the descriptors that go with it in brackets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// First message: the number of this daemon of the mount, from 0, and the mount point [both journal files, notes].
    Begin { life: u32, dir: Vec<u8> },
    /// The stream of requests [/dev/fuse]. It may be used by all, or by the mount's owner only; fusermount3 mounted it.
    Serve { all: bool, by_helper: bool },
    /// Files may be open still: commit what is staged, say goodbye, end.
    End,
}

/// What daemons of one mount tell each other beside the journal, in a memory file of the supervisor.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    /// FUSE_INIT as the kernel said it; empty: it was not read yet.
    pub(crate) init: Vec<u8>,
    /// `Config::local`: finding it out may take seconds when a resolver is dead.
    pub(crate) local: Vec<String>,
    /// Processes of this mount that wake watchers, with their start times (`poke` P2).
    pub(crate) pokers: Vec<(u32, u64)>,
}

impl Notes {
    /// The last ones that were written whole: a daemon may be killed while it writes. Few and small, so none is removed.
    pub(crate) fn read(file: &File) -> Self {
        Self::scan(file).0
    }

    /// They, and where the next ones go.
    fn scan(file: &File) -> (Self, u64) {
        let (mut last, mut end) = (Self::default(), 0);
        let mut bytes = vec![0; file.metadata().map_or(0, |m| m.len() as usize)];
        if file.read_exact_at(&mut bytes, 0).is_err() {
            return (last, end);
        }
        let mut rest = &bytes[..];
        while let Some((len, more)) = rest.split_first_chunk::<4>()
            && let Some((frame, next)) = more.split_at_checked(u32::from_le_bytes(*len) as usize)
            && let Ok(notes) = codec::decode(frame)
        {
            (last, rest) = (notes, next);
            end = (bytes.len() - rest.len()) as u64;
        }
        (last, end)
    }

    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        let bytes = codec::encode(self);
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let frame = [&len.to_le_bytes()[..], &bytes].concat();
        let end = Self::scan(file).1;
        file.set_len(end)?;
        file.write_all_at(&frame, end)
    }
}

/// Memory that outlives a daemon.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) journal: journal::Files,
    pub(crate) notes: File,
}

impl Memory {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        Ok(Self {
            journal: journal::files()?,
            notes: File::from(rustix::fs::memfd_create("mboxfs-notes", flags)?),
        })
    }

    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 3] {
        [self.journal[0].as_fd(), self.journal[1].as_fd(), self.notes.as_fd()]
    }

    /// From the descriptors of [`ToWorker::Begin`].
    pub(crate) fn received(fds: Vec<OwnedFd>) -> io::Result<Self> {
        let fds: [OwnedFd; 3] = fds
            .try_into()
            .map_err(|_| io::Error::other("three descriptors expected"))?;
        let [one, two, notes] = fds.map(File::from);
        Ok(Self {
            journal: [one, two],
            notes,
        })
    }
}

/// Both ends of the talk between a supervisor and a daemon.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

pub(crate) fn send(socket: &OwnedFd, word: &ToWorker, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&codec::encode(word))],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The next word, with its descriptors. Errors: the other end is gone.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<(ToWorker, Vec<OwnedFd>)> {
    let mut bytes = [0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.flatten().collect();
    let word = codec::decode(&bytes[..got.bytes]).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Ok((word, fds))
}

/// The FUSE session on `fuse`: a new one, or the one that a former daemon began (H1).
///
/// Uses descriptor 0, which the caller must not need any more.
pub(crate) fn session(ops: Ops, fuse: &OwnedFd, acl: SessionACL, notes: &File) -> io::Result<Session<Ops>> {
    let mut noted = Notes::read(notes);
    let first = noted.init.is_empty();
    if first {
        let mut bytes = vec![0; READ_BYTES];
        let len = rustix::io::retry_on_intr(|| rustix::io::read(fuse, &mut bytes[..]))?;
        noted.init = bytes[..len].to_vec();
        noted.write(notes)?;
    }
    let (theirs, ours) = pair()?;
    rustix::io::write(&ours, &noted.init)?;
    rustix::stdio::dup2_stdin(&theirs)?;
    let session = Session::from_fd(ops, own_stdin(), acl, fuser::Config::default())?;
    let mut reply = [0; 4096];
    let len = rustix::io::retry_on_intr(|| rustix::io::read(&ours, &mut reply[..]))?;
    if first {
        rustix::io::write(fuse, &reply[..len])?;
    }
    rustix::stdio::dup2_stdin(fuse)?;
    Ok(session)
}

/// Descriptor 0 as one that the FUSE library can own: the only one whose file can be changed from outside without touching
/// the library.
#[allow(unsafe_code, reason = "the one way to own a descriptor of a known number")]
fn own_stdin() -> OwnedFd {
    // SAFETY: descriptor 0 is open (dup2 has just put a socket there), and from here on the session alone uses it as its
    // own: this program reads nothing from stdin, and programs that it starts get another one.
    unsafe { rustix::stdio::take_stdin() }
}

/// H2. Errors: EINVAL from a kernel that cannot.
pub(crate) fn ask_again(fuse: &OwnedFd) -> Result<(), Errno> {
    // struct fuse_out_header: length, code in place of an error, 0 for a notification.
    let mut message = [0; 16];
    message[..4].copy_from_slice(&16u32.to_ne_bytes());
    message[4..8].copy_from_slice(&FUSE_NOTIFY_RESEND.to_ne_bytes());
    rustix::io::write(fuse, &message).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_descriptors_go_over() {
        let (a, b) = pair().unwrap();
        let memory = Memory::new().unwrap();
        let notes = Notes {
            init: vec![1, 2],
            local: vec!["h1".to_owned()],
            pokers: vec![(7, 8)],
        };
        Notes::default().write(&memory.notes).unwrap();
        notes.write(&memory.notes).unwrap();
        let begin = ToWorker::Begin {
            life: 3,
            dir: vec![b'/'; 4096],
        };
        send(&a, &begin, &memory.fds()).unwrap();
        send(&a, &ToWorker::End, &[]).unwrap();
        let (word, fds) = receive(&b).unwrap();
        assert_eq!(word, begin);
        assert_eq!(Notes::read(&Memory::received(fds).unwrap().notes), notes);
        let (word, fds) = receive(&b).unwrap();
        assert!(word == ToWorker::End && fds.is_empty());
        drop(a);
        assert!(receive(&b).is_err());
    }

    #[test]
    fn notes_that_were_torn_were_never_written() {
        let file = Memory::new().unwrap().notes;
        let notes = |byte| Notes {
            init: vec![byte; 9],
            ..Notes::default()
        };
        notes(1).write(&file).unwrap();
        let whole = file.metadata().unwrap().len();
        notes(2).write(&file).unwrap();
        let end = file.metadata().unwrap().len();
        assert_eq!(Notes::read(&file), notes(2));
        for cut in (whole..end).rev() {
            file.set_len(cut).unwrap();
            assert_eq!(Notes::read(&file), notes(1), "{cut}");
        }
        for cut in whole..end {
            notes(2).write(&file).unwrap();
            file.set_len(cut).unwrap();
            notes(3).write(&file).unwrap();
            assert_eq!(Notes::read(&file), notes(3), "{cut}");
            file.set_len(whole).unwrap();
        }
    }

    #[test]
    fn a_call_keeps_its_number_when_it_is_asked_again() {
        assert_eq!(number(FUSE_UNIQUE_RESEND | 42), 42);
        assert_eq!(number(42), 42);
    }
}
