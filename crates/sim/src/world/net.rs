//! Wires and streams.
//!
//! Promises
//! W1  A stream is in order and dies whole, each end for itself: what was on its way still arrives at an end that has not
//!     heard of the end, also when a newer stream is up by then.
//! W2  Streams know nothing of each other: beats overtake words of the peer, and the other way round.
//! W3  A wire that is cut holds words back, as TCP does, until it is mended or the stream is given up; the two ways are cut
//!     one by one.
//!
//! Not here: what is said.

use super::{Event, MS, US, World};
use mboxfs_types::{
    call::{ToBrick, ToMount},
    peer::{Beat, ToPeer},
};
use std::collections::{BTreeMap, VecDeque};

/// A stream that is not answered ends after so long (`rpc::tune`), looked at so often.
const SILENT: u64 = 1500 * MS;
pub(crate) const LOOK: u64 = 250 * MS;
/// A blocked word is sent again after so long.
const RESEND: u64 = 30 * MS;

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Peer,
    Beat,
    Mount(usize),
}

/// What goes over it.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// The other end has accepted.
    Open,
    /// The other end has closed, or knows nothing of this stream.
    End,
    ToBrick(ToBrick),
    ToMount(ToMount),
    Peer(ToPeer),
    Beat(Beat),
}

#[derive(Debug, Default)]
struct Way {
    words: VecDeque<(u64, Word)>,
    last: u64,
    /// Its `End` was said.
    ended: bool,
}

#[derive(Debug)]
struct Conn {
    kind: Kind,
    /// Servers: who dialled, who accepted.
    ends: [usize; 2],
    ways: [Way; 2],
    /// Since when nobody answers at one of its ends.
    silent: Option<u64>,
}

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Net {
    conns: BTreeMap<u64, Conn>,
    next: u64,
    /// Until when, in ns: from, to.
    pub(crate) cut: [[u64; 2]; 2],
    /// A rule refuses connections while it is cut.
    pub(crate) refuses: bool,
    /// More delay of each kind of stream (peer, beat, mount between servers), in ns, until then.
    pub(crate) slow: [(u64, u64); 3],
}

impl World {
    pub(crate) const fn open(&self, from: usize, to: usize) -> bool {
        from == to || self.now >= self.net.cut[from][to]
    }

    /// A word gets there now.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        self.hosts[from].power && self.hosts[to].power && self.open(from, to)
    }

    pub(crate) fn both_ways(&self, a: usize, b: usize) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    pub(crate) fn delay(&mut self, kind: Kind, local: bool) -> u64 {
        if local {
            return 10 * US + self.rng.below(50 * US);
        }
        let (low, high) = self.settings.net_us;
        let slot = match kind {
            Kind::Peer => 0,
            Kind::Beat => 1,
            Kind::Mount(_) => 2,
        };
        let (more, until) = self.net.slow[slot];
        let extra = if self.now < until { self.rng.below(more + 1) } else { 0 };
        self.rng.between(low, high) * US + extra
    }

    pub(crate) fn open_conn(&mut self, kind: Kind, from: usize, to: usize) -> u64 {
        self.net.next += 1;
        let conn = Conn {
            kind,
            ends: [from, to],
            ways: Default::default(),
            silent: None,
        };
        self.net.conns.insert(self.net.next, conn);
        self.net.next
    }

    /// Says a word; `way` 0: from who dialled.
    pub(crate) fn send(&mut self, conn: u64, way: u8, word: Word) {
        let Some(c) = self.net.conns.get(&conn) else {
            return;
        };
        let (kind, local) = (c.kind, c.ends[0] == c.ends[1]);
        let delay = self.delay(kind, local);
        let now = self.now;
        let Some(c) = self.net.conns.get_mut(&conn) else {
            return;
        };
        let way_ = &mut c.ways[usize::from(way)];
        if way_.ended {
            return;
        }
        way_.ended = matches!(word, Word::End);
        let ready = way_.last.max(now + delay);
        way_.last = ready;
        way_.words.push_back((ready, word));
        if way_.words.len() == 1 {
            self.at(ready, Event::Word { conn, way });
        }
    }

    pub(crate) fn on_word(&mut self, conn: u64, way: u8) {
        let Some(c) = self.net.conns.get(&conn) else {
            return;
        };
        let (from, to) = (c.ends[usize::from(way)], c.ends[usize::from(1 - way)]);
        // The sender's kernel goes on sending for a dead process, not for a dead server.
        if !self.hosts[from].power && self.open(from, to) {
            let c = self.net.conns.get_mut(&conn).expect("looked at");
            let way = &mut c.ways[usize::from(way)];
            way.words.clear();
            way.ended = false; // it may have to be said again
            return;
        }
        if !self.hosts[to].power || !self.open(from, to) {
            return self.after(RESEND, Event::Word { conn, way });
        }
        let c = self.net.conns.get_mut(&conn).expect("looked at");
        let kind = c.kind;
        let words = &mut c.ways[usize::from(way)].words;
        let Some((_, word)) = words.pop_front() else {
            return;
        };
        if let Some((ready, _)) = words.front() {
            let ready = *ready;
            self.at(ready, Event::Word { conn, way });
        }
        if self.journal.traces() && !matches!(word, Word::Beat(_)) {
            self.journal
                .trace(self.now, format_args!("{kind:?} {conn} {from}>{to} {word:?}"));
        }
        self.arrive(kind, conn, way, to, word);
    }

    fn arrive(&mut self, kind: Kind, conn: u64, way: u8, to: usize, word: Word) {
        let end = matches!(word, Word::End);
        let known = match (kind, word) {
            (Kind::Peer, word) => self.on_peer_word(to, conn, word),
            (Kind::Beat, word) => self.on_beat_word(to, conn, word),
            (Kind::Mount(_), Word::ToBrick(frame)) => self.on_mount_frame(to, conn, frame),
            (Kind::Mount(_), Word::End) if way == 0 => self.on_mount_end(to, conn),
            (Kind::Mount(mount), word) => self.on_brick_word(mount, conn, word),
        };
        if end {
            let c = self.net.conns.get_mut(&conn).expect("it has just said something");
            let other = &c.ways[usize::from(1 - way)];
            if other.ended && other.words.is_empty() {
                self.net.conns.remove(&conn);
            }
        } else if !known {
            // A reset: nobody has this stream there.
            self.send(conn, 1 - way, Word::End);
        }
    }

    /// Both ends ask each other whether they are there; one that gets no answer ends the stream for itself.
    pub(crate) fn look_at_streams(&mut self) {
        self.after(LOOK, Event::LookAtStreams);
        let conns: Vec<(u64, Kind, [usize; 2])> = self.net.conns.iter().map(|(n, c)| (*n, c.kind, c.ends)).collect();
        for (conn, kind, ends) in conns {
            let there = [self.has(ends[0], kind, conn, 0), self.has(ends[1], kind, conn, 1)];
            let fine = there == [true; 2] && self.both_ways(ends[0], ends[1]);
            let now = self.now;
            let c = self.net.conns.get_mut(&conn).expect("listed");
            let since = *c.silent.get_or_insert(now);
            if fine {
                c.silent = None;
            } else if now >= since + SILENT {
                self.net.conns.remove(&conn);
                for way in [0, 1] {
                    let to = ends[usize::from(1 - way)];
                    if self.hosts[to].power {
                        self.tell_end(kind, conn, way, to);
                    }
                }
            }
        }
    }

    /// A process that runs has this stream at this end.
    fn has(&self, host: usize, kind: Kind, conn: u64, end: usize) -> bool {
        let brick = || self.hosts[host].brick.is_some() && self.now >= self.hosts[host].stopped_until;
        match kind {
            Kind::Mount(m) if end == 0 => {
                self.mounts[m].conn == Some(conn)
                    && self.mounts[m].client.is_some()
                    && self.now >= self.mounts[m].stopped_until
            }
            _ => brick() && self.has_stream(host, conn),
        }
    }

    fn tell_end(&mut self, kind: Kind, conn: u64, way: u8, to: usize) {
        match kind {
            Kind::Peer => drop(self.on_peer_word(to, conn, Word::End)),
            Kind::Beat => drop(self.on_beat_word(to, conn, Word::End)),
            Kind::Mount(_) if way == 0 => drop(self.on_mount_end(to, conn)),
            Kind::Mount(mount) => drop(self.on_brick_word(mount, conn, Word::End)),
        }
    }

    /// A stream of this kind between the servers breaks; its ends hear of it at different times.
    pub(crate) fn break_conn(&mut self, kind: Kind) {
        let all: Vec<u64> = self
            .net
            .conns
            .iter()
            .filter(|(_, c)| c.kind == kind)
            .map(|(n, _)| *n)
            .collect();
        for conn in all {
            for way in [0, 1] {
                let late = if self.rng.chance(30) {
                    self.rng.below(900 * MS)
                } else {
                    0
                };
                let c = self.net.conns.get_mut(&conn).expect("listed");
                let way_ = &mut c.ways[usize::from(way)];
                way_.last = way_.last.max(self.now + late);
                self.send(conn, way, Word::End);
            }
        }
    }
}
