//! Getting the files of the peer, when its log does not tell all that is missing (PROTOCOL.md 6.4).
//!
//! Y1  First it is written down that the files are being changed. From then on this brick has no history and no say; whatever
//!     comes between, it begins here again. What is whole already is remembered by its version (`Known`).
//! Y2  The peer tells a state, and keeps its log from there on. Names, attributes and sizes become those of that state at
//!     once; bytes are copied as they are then, at that moment or later. So when all are here, the log of the peer after that
//!     state makes every file right: a byte that a record of it wrote is written again, any other one has never changed.
//! Y3  For the same reason nothing of that log is executed before all bytes are here, and no file is left longer than it is
//!     in that state.
//! Y4  The end is on disk in this order: files and the state, a log that begins after it, the superblock that says so. Then
//!     it catches up like any brick that was away (`view::catch_up`).
//! Y5  One question at a time, and not more bytes in a second than `limits::COPY_RATE`; what is written is made durable
//!     before much more is asked for.
//!
//! Here: the steps. Not here: one file (`copy`), names and attributes (`tree`), the other side (`feed`).

mod copy;

use crate::{
    brick::Brick,
    debt::{Known, Snapshot},
    feed::Rate,
    output::{Event, Output},
    query::Asker,
    tree,
    view::Stand,
};
use alloc::{collections::VecDeque, vec::Vec};
use bytes::Bytes;
use copy::Copy;
use mboxfs_types::{
    BrickId, Errno, Ino, Kind, Nanos,
    admin::ResyncReport,
    call::View,
    codec,
    disk::{DiskOp, Effect, Epoch, Look, Worth, Xattrs},
    heal::Ask,
    limits,
    peer::{Hello, ToPeer},
    record::Members,
};

/// Bytes of a state, at most: some million mailboxes.
const STATE_BYTES_MAX: usize = 1 << 30;

/// A resync under way.
#[derive(Debug)]
pub(crate) struct Resync {
    step: Step,
    /// Lines of history of the peer.
    history: Vec<Epoch>,
    /// Of the last question, and when it was asked.
    ticket: u64,
    asked: Nanos,
    answer: Vec<u8>,
    /// What the files are to be.
    target: Option<Snapshot>,
    known: Known,
    todo: VecDeque<Ino>,
    /// Y5: of what was asked for so far.
    rate: Rate,
    /// Bytes written since the last checkpoint.
    unsaved: usize,
    began: Nanos,
    report: ResyncReport,
}

impl Resync {
    /// So many bytes of a file.
    fn came(&mut self, bytes: usize) {
        self.report.bytes_done += bytes as u64;
        self.report.copied += bytes as u64;
        self.unsaved += bytes;
    }
}

/// What is waited for.
#[derive(Debug)]
enum Step {
    /// What is known so far is made durable.
    Saving,
    /// The superblock says that files are being changed.
    Marking,
    /// The state of the peer.
    State,
    /// Extended attributes.
    Xattrs,
    /// Something of a file.
    File(Copy),
    /// What was written is made durable; then the next file.
    Settling,
    /// Everything is made durable, with the state.
    Ending,
    /// The log begins anew, and the superblock says so.
    Restarting,
}

impl Brick {
    /// The peer, which is alone, has everything; its log does not go back to `common`, or this brick has no history at all.
    pub(crate) fn begin_resync(&mut self, common: u64, theirs: &Hello, out: &mut Vec<Output>) {
        let again = self.sb.files == Worth::Copying;
        // A line of its own, of which nothing is left where the two parted.
        let lost = !again && self.log.start > common + 1;
        if theirs.members != Members::Only(theirs.brick) {
            return; // it does not serve yet: it comes again when it does
        }
        if self.log.checkpointing {
            out.push(Output::DropPeer);
            self.peer.up = false;
            return;
        }
        self.drop_mounts(out);
        let why = "gets the files of its peer";
        let known = if again || lost {
            core::mem::take(&mut self.known)
        } else {
            self.set_stand(Stand::Learner { commit: common }, why, out);
            self.execute_committed(out);
            self.versions(common)
        };
        self.log.pending.clear();
        self.follow(theirs.brick, theirs.view);
        self.sb.peer_uuid = Some(theirs.uuid);
        self.set_stand(Stand::Copying, why, out);
        self.resync = Some(Resync {
            step: if again || lost { Step::Marking } else { Step::Saving },
            history: theirs.history.clone(),
            ticket: 0,
            asked: self.clock.mono,
            answer: Vec::new(),
            target: None,
            known,
            todo: VecDeque::new(),
            rate: Rate::default(),
            unsaved: 0,
            began: self.clock.mono,
            report: ResyncReport::default(),
        });
        if again || lost {
            self.sb.files = Worth::Copying; // Y1
            self.write_superblock(out);
        } else {
            self.save(out);
        }
    }

    /// The only member is `brick`, in this view.
    pub(crate) fn follow(&mut self, brick: BrickId, view: View) {
        self.view = view;
        self.sb.g = view.g;
        self.sb.v = view.v;
        self.sb.members = Members::Only(brick);
        self.sb.primary = brick;
        self.sb.fork = None;
        self.sb.overrun = false;
        self.sb.forced = false;
    }

    /// Files here that are as of a version which the peer knows too.
    fn versions(&self, common: u64) -> Known {
        let files = self.state.inodes().filter(|(_, i)| i.kind() == Kind::File);
        files
            .map(|(ino, inode)| (*ino, inode.version))
            .filter(|(_, version)| *version <= common)
            .collect()
    }

    /// Makes durable what was written, and what is known of it.
    fn save(&mut self, out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        resync.unsaved = 0;
        let known = core::mem::take(&mut resync.known);
        self.log.checkpointing = true;
        out.push(Output::Disk(DiskOp::Checkpoint {
            n: self.state.applied,
            snapshot: self.snapshot_of(&self.state, &known),
        }));
        if let Some(resync) = &mut self.resync {
            resync.known = known;
        }
    }

    pub(crate) fn on_saved(&mut self, out: &mut Vec<Output>) {
        if self.stopping {
            return out.push(Output::Stopped);
        }
        let Some(resync) = &mut self.resync else { return };
        match resync.step {
            Step::Saving => {
                resync.step = Step::Marking;
                self.sb.files = Worth::Copying; // Y1
                self.write_superblock(out);
            }
            Step::Settling => self.next_file(out),
            Step::Ending => self.restart_log(out),
            _ => {}
        }
    }

    /// All superblocks are written.
    pub(crate) fn on_resync_written(&mut self, out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        match resync.step {
            Step::Marking => {
                resync.step = Step::State;
                self.end_fork(out);
                self.ask_source(Ask::State { offset: 0 }, out);
            }
            Step::Restarting => self.end_resync(out),
            _ => {}
        }
    }

    /// False: it is through, but for what the disk has to say, and needs no peer any more.
    pub(crate) fn stop_resync(&mut self) -> bool {
        match self.resync.take() {
            Some(resync) if matches!(resync.step, Step::Ending | Step::Restarting) => {
                self.resync = Some(resync);
                false
            }
            Some(resync) => {
                self.known = resync.known;
                true
            }
            None => true,
        }
    }

    /// It cannot go on like this; it begins again.
    fn fail_resync(&mut self, why: &'static str, out: &mut Vec<Output>) {
        self.refuse_peer(why, out);
    }

    pub(crate) fn tick_resync(&mut self, out: &mut Vec<Output>) {
        self.take_turn(out);
        let Some(resync) = &self.resync else { return };
        match &resync.step {
            Step::File(copy) if copy.waits() => self.go_on_copying(out),
            Step::State | Step::Xattrs | Step::File(_) if self.clock.mono >= resync.asked + limits::COPY_PATIENCE => {
                self.fail_resync("it does not answer", out);
            }
            _ => {}
        }
    }

    // ---- questions and answers

    fn ask_source(&mut self, ask: Ask, out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        resync.ticket += 1;
        resync.asked = self.clock.mono;
        let ticket = resync.ticket;
        out.push(Output::Peer(ToPeer::Ask { ticket, ask }));
    }

    fn look_here(&mut self, look: Look, out: &mut Vec<Output>) {
        if let Some(resync) = &mut self.resync {
            resync.asked = self.clock.mono;
        }
        self.look(Asker::Heal, look, out);
    }

    pub(crate) fn on_copy_part(&mut self, ticket: u64, data: Result<Bytes, Errno>, last: bool, out: &mut Vec<Output>) {
        let Some(resync) = self.resync.as_mut().filter(|r| r.ticket == ticket) else {
            return;
        };
        let data = match data {
            Ok(data) if resync.answer.len() + data.len() <= STATE_BYTES_MAX => {
                resync.answer.extend_from_slice(&data);
                if !last {
                    return;
                }
                if matches!(resync.step, Step::State) {
                    return self.on_state_part(data.is_empty(), out);
                }
                Ok(Bytes::from(core::mem::take(&mut resync.answer)))
            }
            Ok(_) => return self.fail_resync("an answer is too long", out),
            Err(errno) => Err(errno),
        };
        match (&resync.step, data) {
            (Step::File(_), data) => self.on_file_answer(data, out),
            (Step::Xattrs, Ok(data)) => self.on_xattrs(&data, out),
            (Step::State, Err(_)) => self.fail_resync("it cannot tell its state now", out),
            (Step::Xattrs, Err(_)) => self.fail_resync("it cannot read extended attributes", out),
            _ => {}
        }
    }

    // ---- the state

    fn on_state_part(&mut self, was_last: bool, out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        if !was_last {
            let offset = resync.answer.len() as u64;
            return self.ask_source(Ask::State { offset }, out);
        }
        let Ok(target) = codec::decode::<Snapshot>(&core::mem::take(&mut resync.answer)) else {
            return self.fail_resync("its state cannot be decoded", out);
        };
        for batch in tree::all(&target.state) {
            out.push(Output::Disk(DiskOp::Apply(batch)));
        }
        let mut files: Vec<_> = target
            .state
            .inodes()
            .filter(|(_, i)| i.kind() == Kind::File)
            .map(|(ino, i)| (i.mtime, *ino, i.size, i.version))
            .collect();
        files.sort_unstable_by(|a, b| b.cmp(a)); // the newest first
        resync.report.files = files.len() as u64;
        for (_, ino, size, version) in files {
            resync.report.bytes += size;
            if resync.known.get(&ino) == Some(&version) {
                resync.report.files_done += 1;
                resync.report.bytes_done += size;
            } else {
                resync.todo.push_back(ino);
            }
        }
        resync.known.retain(|ino, _| target.state.inode(*ino).is_ok());
        resync.target = Some(target);
        resync.step = Step::Xattrs;
        self.ask_source(Ask::Xattrs { after: None }, out);
    }

    fn on_xattrs(&mut self, data: &[u8], out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        let (Ok(all), Some(target)) = (codec::decode::<Xattrs>(data), &resync.target) else {
            return self.fail_resync("its extended attributes cannot be decoded", out);
        };
        let Some(after) = all.last().map(|(ino, _)| *ino) else {
            return self.next_file(out);
        };
        let ours = all.into_iter().filter(|(ino, _)| target.state.inode(*ino).is_ok());
        let effects: Vec<Effect> = ours.map(|(ino, all)| Effect::AllXattrs { ino, all }).collect();
        out.push(Output::Disk(DiskOp::Apply(effects)));
        let after = Some(after);
        self.ask_source(Ask::Xattrs { after }, out);
    }

    // ---- the end

    fn end_copying(&mut self, out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        let Some(target) = &resync.target else { return };
        resync.step = Step::Ending;
        let state = &target.state;
        let n = state.applied;
        let mut known = Known::new();
        for (ino, inode) in state.inodes().filter(|(_, i)| i.kind() == Kind::File) {
            known.insert(*ino, inode.version); // for a start before the superblock is written
        }
        let (debt, owed) = (crate::debt::Debt::default(), crate::owed::Owed::default());
        let snapshot = codec::encode(&(state, &debt, &owed, &known, &target.quorum, target.peer_inc));
        self.log.checkpointing = true;
        out.push(Output::Disk(DiskOp::Checkpoint {
            n,
            snapshot: snapshot.into(),
        }));
    }

    /// Y4.
    fn restart_log(&mut self, out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        let Some(target) = &resync.target else { return };
        resync.step = Step::Restarting;
        let n = target.state.applied;
        out.push(Output::Disk(DiskOp::Restart { next: n + 1 }));
        self.sb.files = Worth::Ahead;
        self.sb.history = resync.history.iter().filter(|e| e.first <= n).copied().collect();
        self.sb.quorum = target.quorum.clone();
        self.sb.diverged = None;
        // A new directory in the place of an old one counts on: inode numbers are never given twice.
        self.sb.inc = self.sb.inc.max(target.peer_inc.saturating_add(1));
        self.write_superblock(out);
    }

    fn end_resync(&mut self, out: &mut Vec<Output>) {
        let Some(Resync {
            target: Some(target),
            report,
            ..
        }) = self.resync.take()
        else {
            return;
        };
        let n = target.state.applied;
        self.state = target.state;
        self.forget_debt();
        self.known.clear();
        (self.log.last, self.log.durable, self.log.start) = (n, n, n + 1);
        self.log.since_checkpoint = 0;
        let (files, bytes) = (report.files_copied, report.copied);
        Self::event(Event::Resynced { files, bytes }, out);
        if !self.peer.up {
            let alone_at = self.clock.mono + limits::PROMISE;
            return self.set_stand(Stand::waiting(alone_at), "the peer went away", out);
        }
        let why = "has the files of its peer, and gets what came meanwhile";
        self.set_stand(Stand::Learner { commit: n }, why, out);
        out.push(Output::Peer(ToPeer::Copied { n }));
    }

    pub(crate) fn resync_report(&self) -> Option<ResyncReport> {
        let resync = self.resync.as_ref()?;
        Some(ResyncReport {
            elapsed: self.clock.mono - resync.began,
            ..resync.report
        })
    }
}
