//! Conversions: round trips of everything, refusals by name, arbitrary bytes.
//!
//! Promises: V1 to V3 of `convert`.
//! Not here: streams (`tests/link.rs`).

use super::{Frame, Invalid, samples};
use crate::wire as w;
use bytes::Bytes;
use mboxfs_types::call::{Extent, Found, Intent, LeaseRequest, Op, Query, Request, ToBrick, ToMount};
use mboxfs_types::peer::{Beat, Entry, ToPeer};
use mboxfs_types::record::{Body, Record};
use mboxfs_types::{Errno, Ino, Key, LockKind, Name, OpId, Owner, Range, SessionId, Tag, Timestamp, codec, limits};
use proptest::prelude::*;
use prost::Message;
use std::collections::VecDeque;

/// Through the bytes of the wire and back.
fn cross<T: Frame>(frame: T) -> Vec<Result<T, Invalid>> {
    let mut out = VecDeque::new();
    frame.to_wire(&mut out).unwrap();
    out.into_iter()
        .map(|message| T::from_wire(T::Wire::decode(Bytes::from(message.encode_to_vec())).unwrap()))
        .collect()
}

fn throw<T: Frame>(bytes: Vec<u8>) {
    if let Ok(message) = T::Wire::decode(Bytes::from(bytes)) {
        let _ = T::from_wire(message);
    }
}

/// A valid message with one byte changed gets deeper than noise does.
fn damage<T: Frame>(frame: T, at: usize, to: u8) {
    let mut out = VecDeque::new();
    frame.to_wire(&mut out).unwrap();
    for message in out {
        let mut bytes = message.encode_to_vec();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = to;
            throw::<T>(bytes);
        }
    }
}

proptest! {
    #[test]
    fn v1_a_mounts_frames_come_back_the_same(frame in samples::to_brick()) {
        prop_assert_eq!(cross(frame.clone()), vec![Ok(frame)]);
    }

    #[test]
    fn v1_a_bricks_frames_come_back_the_same(frame in samples::to_mount()) {
        prop_assert_eq!(cross(frame.clone()), vec![Ok(frame)]);
    }

    #[test]
    fn v1_frames_between_bricks_come_back_the_same(frame in samples::to_peer()) {
        prop_assert_eq!(cross(frame.clone()), vec![Ok(frame)]);
    }

    #[test]
    fn v1_beats_come_back_the_same(frame in samples::beat()) {
        prop_assert_eq!(cross(frame), vec![Ok(frame)]);
    }

    #[test]
    fn v3_noise_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        throw::<ToBrick>(bytes.clone());
        throw::<ToMount>(bytes.clone());
        throw::<ToPeer>(bytes.clone());
        throw::<Beat>(bytes);
    }

    #[test]
    fn v3_damage_is_no_panic(
        brick in samples::to_brick(), mount in samples::to_mount(), peer in samples::to_peer(),
        at in any::<usize>(), to in any::<u8>(),
    ) {
        damage(brick, at, to);
        damage(mount, at, to);
        damage(peer, at, to);
    }

    /// A damaged record is refused, whichever byte it is (law L12).
    #[test]
    fn a_damaged_record_is_refused(record in samples::record(), at in any::<usize>(), flip in 1..=255u8) {
        let good = w::SealedRecord::from(record.clone());
        prop_assert_eq!(Record::try_from(good.clone()), Ok(record));
        let mut bytes = good.record.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let bad = w::SealedRecord { record: bytes.into(), crc: good.crc };
        prop_assert!(Record::try_from(bad).is_err());
    }
}

fn cross_part(data: Bytes, last: bool) -> Vec<ToPeer> {
    let (ticket, data) = (7, Ok(data));
    cross(ToPeer::Part { ticket, data, last })
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

fn why<T: Frame + std::fmt::Debug>(wire: T::Wire) -> &'static str {
    T::from_wire(wire).unwrap_err().what
}

fn request(op: Op) -> ToBrick {
    ToBrick::Request(Request { seq: 1, acked: 0, op })
}

fn extent(offset: u64, len: usize) -> Extent {
    Extent {
        offset,
        data: vec![7; len].into(),
    }
}

fn commit(extents: Vec<Extent>) -> Op {
    Op::Commit {
        ino: Ino(9),
        staged: false,
        cut: u64::MAX,
        extents,
        size: 10,
        mtime: Timestamp::default(),
        atime: None,
    }
}

/// Refused both when it arrives and when it is about to leave.
fn refused(frame: ToBrick) -> &'static str {
    let arriving = why::<ToBrick>(frame.clone().into());
    let leaving = frame.to_wire(&mut VecDeque::new()).unwrap_err().what;
    assert_eq!(arriving, leaving);
    arriving
}

#[test]
fn v1_extents_are_checked() {
    let max = limits::EXTENT_BYTES_MAX;
    let overlap = "extents overlap or are out of order";
    let stage = |extents| Op::Stage {
        ino: Ino(9),
        first: true,
        extents,
    };
    assert_eq!(refused(request(commit(vec![extent(0, 0)]))), "empty extent");
    assert_eq!(refused(request(commit(vec![extent(0, max + 1)]))), "change too large");
    assert_eq!(
        refused(request(commit(vec![extent(0, max), extent(max as u64, 1)]))),
        "change too large"
    );
    assert_eq!(refused(request(commit(vec![extent(5, 2), extent(6, 1)]))), overlap);
    assert_eq!(refused(request(commit(vec![extent(5, 2), extent(0, 1)]))), overlap);
    assert_eq!(
        refused(request(stage(vec![extent(u64::MAX, 1)]))),
        "extent beyond all offsets"
    );
    let good = request(stage(vec![extent(5, 2), extent(0, 10)]));
    assert_eq!(cross(good.clone()), vec![Ok(good)], "staged extents may overlap");
    let good = request(commit(vec![extent(0, 5), extent(5, 2)]));
    assert_eq!(cross(good.clone()), vec![Ok(good)], "extents may touch");
}

#[test]
fn v1_ranges_times_and_lengths_are_checked() {
    let owner = Owner {
        session: SessionId {
            client: [1; 16],
            nonce: 2,
        },
        id: 3,
    };
    let intent = Intent::Lock {
        owner,
        range: Range { start: 2, end: 1 },
        kind: LockKind::Shared,
        wait: true,
    };
    let lease = ToBrick::Lease(LeaseRequest {
        req: 1,
        key: Key::Inode(Ino(4)),
        mode: mboxfs_types::call::Mode::R,
        intent,
    });
    assert_eq!(refused(lease), "range ends before it starts");
    let set = mboxfs_types::call::SetAttr {
        mtime: Some(Timestamp {
            secs: 0,
            nanos: 1_000_000_000,
        }),
        ..Default::default()
    };
    assert_eq!(
        refused(request(Op::SetAttr { ino: Ino(1), set })),
        "nanoseconds of a time"
    );
    let query = Query::Read {
        ino: Ino(1),
        offset: 0,
        len: limits::EXTENT_BYTES_MAX as u32 + 1,
    };
    assert_eq!(refused(ToBrick::Query { id: 1, query }), "read too long");
    let put = Op::Put {
        dir: Ino(1),
        name: Name::new(b"a").unwrap(),
        mode: 0,
        uid: 0,
        gid: 0,
        content: vec![0; limits::DOTLOCK_BYTES_MAX + 1].into(),
    };
    assert_eq!(refused(request(put)), "content too long");
    let zero = Request {
        seq: 0,
        acked: 0,
        op: Op::Free { ino: Ino(1) },
    };
    assert_eq!(refused(ToBrick::Request(zero)), "number of a request");
}

#[test]
fn v1_what_is_missing_or_unknown_is_refused() {
    use w::{to_brick::Frame as B, to_mount::Frame as M};
    let brick = |frame| w::ToBrick { frame: Some(frame) };
    let mount = |frame| w::ToMount { frame: Some(frame) };
    assert_eq!(why::<ToBrick>(w::ToBrick { frame: None }), "empty frame");
    assert_eq!(why::<ToMount>(w::ToMount { frame: None }), "empty frame");
    assert_eq!(why::<ToPeer>(w::ToPeer { frame: None }), "empty frame");
    assert_eq!(why::<Beat>(w::Beat { frame: None }), "empty frame");
    let no_op = w::Request {
        seq: 1,
        ..Default::default()
    };
    assert_eq!(why::<ToBrick>(brick(B::Request(no_op))), "no operation");
    assert_eq!(why::<ToBrick>(brick(B::Attach(w::Attach::default()))), "no session");
    let short = w::SessionId {
        client: Bytes::from_static(b"fifteen bytes.."),
        nonce: 0,
    };
    assert_eq!(why::<ToMount>(mount(M::SessionGone(short))), "id is not 16 bytes");
    for number in [0, 22, -1] {
        let error = w::reply::Result::Error(number);
        let reply = w::Reply {
            seq: 1,
            result: Some(error),
        };
        assert_eq!(why::<ToMount>(mount(M::Reply(reply))), "unknown error number");
    }
    let slash = w::OpUnlink {
        dir: 1,
        name: Bytes::from_static(b"a/b"),
    };
    let bad_name = w::Request {
        seq: 1,
        acked: 0,
        op: Some(w::request::Op::Unlink(slash)),
    };
    assert_eq!(why::<ToBrick>(brick(B::Request(bad_name))), "not a file name");
    let no_mode = w::LeaseRequest {
        key: Some(Key::Inode(Ino(1)).into()),
        ..Default::default()
    };
    assert_eq!(why::<ToBrick>(brick(B::Lease(no_mode))), "unknown lease mode");
}

#[test]
fn the_errors_have_the_numbers_of_the_types() {
    for errno in Errno::ALL {
        let wire = w::Errno::try_from(errno.code().cast_signed()).unwrap();
        assert_eq!(wire.as_str_name(), format!("ERRNO_{errno:?}"));
    }
    let beyond = i32::try_from(Errno::ALL.len()).unwrap() + 1;
    assert!(w::Errno::try_from(beyond).is_err());
}

fn record(n: u64, op: Op) -> Record {
    let session = SessionId {
        client: [1; 16],
        nonce: 2,
    };
    Record {
        tag: Tag { n, ..Tag::default() },
        time: Timestamp::default(),
        ino: Ino(0),
        body: Body::Op {
            id: OpId { session, seq: 1 },
            acked: 0,
            op,
        },
    }
}

#[test]
fn v1_records_are_checked_inside() {
    let bad = record(1, commit(vec![extent(5, 2), extent(0, 1)]));
    let append = w::Append {
        entry: Some(w::append::Entry::Whole(bad.into())),
    };
    let wire = w::ToPeer {
        frame: Some(w::to_peer::Frame::Append(append)),
    };
    assert_eq!(why::<ToPeer>(wire), "extents overlap or are out of order");
    let longer = [codec::encode(&record(1, Op::Free { ino: Ino(1) })), vec![0]].concat();
    let sealed = w::SealedRecord {
        crc: crc32fast::hash(&longer),
        record: longer.into(),
    };
    assert_eq!(
        Record::try_from(sealed),
        Err(Invalid {
            what: "malformed record"
        })
    );
}

#[test]
fn a_long_batch_becomes_several_messages_in_order() {
    let records: Vec<_> = (1..=5).map(|n| record(n, commit(vec![extent(0, 700_000)]))).collect();
    let parts: Vec<_> = cross(ToPeer::Suffix {
        records: records.clone(),
    })
    .into_iter()
    .map(Result::unwrap)
    .collect();
    assert!(parts.len() > 1);
    let mut joined = Vec::new();
    for part in parts {
        let mut out = VecDeque::new();
        part.clone().to_wire(&mut out).unwrap();
        assert_eq!(out.len(), 1);
        assert!(out[0].encoded_len() <= limits::MESSAGE_BYTES_MAX);
        let ToPeer::Suffix { records } = part else {
            panic!("{part:?}")
        };
        assert!(!records.is_empty(), "an empty batch would end the catch-up");
        joined.extend(records);
    }
    assert_eq!(joined, records);
    let end = ToPeer::Suffix { records: Vec::new() };
    assert_eq!(cross(end.clone()), vec![Ok(end)]);
}

#[test]
fn a_long_answer_becomes_several_parts_and_only_the_final_one_is_the_last() {
    let max = limits::EXTENT_BYTES_MAX;
    for (len, parts) in [(0, 1), (1, 1), (max, 1), (max + 1, 2), (3 * max, 3)] {
        for end in [true, false] {
            let data: Bytes = (0..len).map(|i| (i % 251) as u8).collect();
            let mut joined = Vec::new();
            let mut lasts = Vec::new();
            for part in cross_part(data.clone(), end) {
                let ToPeer::Part {
                    ticket: 7,
                    data: Ok(data),
                    last,
                } = part
                else {
                    panic!("{part:?}")
                };
                assert!(data.len() <= max);
                joined.extend_from_slice(&data);
                lasts.push(last);
            }
            assert!(joined == data, "{len} bytes come back the same");
            assert_eq!(lasts.len(), parts);
            assert_eq!(lasts.pop(), Some(end));
            assert!(!lasts.contains(&true));
        }
    }
}

#[test]
fn v1_parts_of_an_answer_are_checked() {
    let wire = |data: &[u8], crc| {
        let part = w::Part {
            ticket: 1,
            data: Some(w::part::Data::Bytes(Bytes::copy_from_slice(data))),
            last: true,
            crc,
        };
        w::ToPeer {
            frame: Some(w::to_peer::Frame::Part(part)),
        }
    };
    let good = wire(b"mail", crc32fast::hash(b"mail"));
    assert!(ToPeer::from_wire(good).is_ok());
    let damaged = wire(b"mall", crc32fast::hash(b"mail"));
    assert_eq!(why::<ToPeer>(damaged), "checksum of a part"); // law L12
    let long = vec![0; limits::EXTENT_BYTES_MAX + 1];
    assert_eq!(why::<ToPeer>(wire(&long, crc32fast::hash(&long))), "part too long");
    let empty = w::to_peer::Frame::Part(w::Part::default());
    assert_eq!(why::<ToPeer>(w::ToPeer { frame: Some(empty) }), "empty part");
    let error = ToPeer::Part {
        ticket: 1,
        data: Err(Errno::ESTALE),
        last: false,
    };
    assert!(error.to_wire(&mut VecDeque::new()).is_err());
}

#[test]
fn v1_records_of_a_merge_are_bounded_and_checked_inside() {
    let merge = |ops| Record {
        body: Body::Merge {
            theirs: Ino(5),
            version: None,
            ops,
        },
        ..record(1, Op::Free { ino: Ino(1) })
    };
    let append = |record| ToPeer::Append {
        entry: Entry::Whole(record),
    };
    let refusal = |ops| append(merge(ops)).to_wire(&mut VecDeque::new()).unwrap_err().what;
    let overlap = commit(vec![extent(5, 2), extent(0, 1)]);
    assert_eq!(
        refusal(vec![Op::Free { ino: Ino(1) }, overlap]),
        "extents overlap or are out of order"
    );
    let full = commit(vec![extent(0, limits::RECORD_BYTES_MAX)]);
    assert_eq!(refusal(vec![full.clone(), full.clone()]), "merge too large");
    assert_eq!(
        refusal(vec![Op::Free { ino: Ino(1) }; 65]),
        "too many changes in a merge"
    );
    let symlink = Op::Symlink {
        dir: Ino(1),
        name: Name::new(&[b'n'; 255]).unwrap(),
        target: vec![b't'; 1 << 10],
        uid: 0,
        gid: 0,
    };
    let largest = append(merge([vec![symlink; 63], vec![full]].concat()));
    assert_eq!(cross(largest.clone()), vec![Ok(largest.clone())]);
    assert!(largest.weight() > limits::RECORD_BYTES_MAX);
    let mut out = VecDeque::new();
    largest.to_wire(&mut out).unwrap();
    assert!(out[0].encoded_len() <= limits::MESSAGE_BYTES_MAX);
}

#[test]
fn v2_payloads_are_not_copied() {
    let data = Bytes::from(vec![7; 1000]);
    let at = data.as_ptr();
    let frame = ToMount::Found {
        id: 1,
        result: Ok(Found::Data(data)),
    };
    let mut out = VecDeque::new();
    frame.to_wire(&mut out).unwrap();
    let message = out.pop_front().unwrap();
    let w::to_mount::Frame::Found(w::Found {
        result: Some(w::found::Result::Data(inside)),
        ..
    }) = message.frame.as_ref().unwrap()
    else {
        panic!("{message:?}")
    };
    assert_eq!(inside.as_ptr(), at);
    let bytes = Bytes::from(message.encode_to_vec());
    let all = bytes.as_ptr_range();
    let Ok(ToMount::Found {
        result: Ok(Found::Data(data)),
        ..
    }) = ToMount::from_wire(w::ToMount::decode(bytes).unwrap())
    else {
        panic!("not found")
    };
    assert!(all.contains(&data.as_ptr()), "decoding points into the message");
}

#[test]
fn a_full_size_commit_fits_in_a_message() {
    let op = commit(vec![extent(0, limits::RECORD_BYTES_MAX)]);
    for frame in [
        ToPeer::Append {
            entry: Entry::Whole(record(1, op.clone())),
        },
        ToPeer::Relay {
            session: SessionId {
                client: [0; 16],
                nonce: 0,
            },
            frame: request(op),
        },
    ] {
        let mut out = VecDeque::new();
        frame.to_wire(&mut out).unwrap();
        assert!(out[0].encoded_len() <= limits::MESSAGE_BYTES_MAX);
    }
}
