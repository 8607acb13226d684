//! Valid values of every type, for the tests.
//!
//! Promises: every variant and every optional part occurs; sizes stay small.
//! Not here: invalid ones (`tests`).

use bytes::Bytes;
use mboxfs_types::call::*;
use mboxfs_types::disk::Epoch;
use mboxfs_types::heal::{Ask, Of};
use mboxfs_types::ids::BrickUuid;
use mboxfs_types::peer::{Beat, Check, Entry, Hello, Ping, Pong, ToPeer};
use mboxfs_types::quorum::{Policy, Quorum, WitnessAt};
use mboxfs_types::record::{Body, Members, Record};
use mboxfs_types::*;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..40).prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
}

fn lock_name() -> impl Strategy<Value = Name> {
    name().prop_map(|stem| Name::new(&[stem.as_bytes(), b".lock"].concat()).unwrap())
}

fn xattr_name() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255u8, 1..40)
}

fn ino() -> impl Strategy<Value = Ino> {
    any::<u64>().prop_map(Ino)
}

fn brick() -> impl Strategy<Value = BrickId> {
    prop_oneof![Just(BrickId::A), Just(BrickId::B)]
}

fn errno() -> impl Strategy<Value = Errno> {
    proptest::sample::select(Errno::ALL.to_vec())
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<([u8; 16], u64)>().prop_map(|(client, nonce)| SessionId { client, nonce })
}

fn generation() -> impl Strategy<Value = GenId> {
    (any::<u32>(), 0..=1u8, any::<u32>()).prop_map(|(num, brick, nonce)| GenId { num, brick, nonce })
}

fn view() -> impl Strategy<Value = View> {
    (generation(), any::<u32>()).prop_map(|(g, v)| View { g, v })
}

fn tag(n: impl Strategy<Value = u64>) -> impl Strategy<Value = Tag> {
    (n, generation(), any::<u32>()).prop_map(|(n, g, v)| Tag { n, g, v })
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

fn range() -> impl Strategy<Value = Range> {
    let any_range = any::<(u64, u64)>().prop_map(|(a, b)| Range {
        start: a.min(b),
        end: a.max(b),
    });
    prop_oneof![Just(Range::ALL), any_range]
}

fn owner() -> impl Strategy<Value = Owner> {
    (session(), any::<u64>()).prop_map(|(session, id)| Owner { session, id })
}

fn lock_kind() -> impl Strategy<Value = LockKind> {
    prop_oneof![Just(LockKind::Shared), Just(LockKind::Exclusive)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::File), Just(Kind::Dir), Just(Kind::Symlink)]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::R), Just(Mode::W)]
}

fn lock() -> impl Strategy<Value = HeldLock> {
    (owner(), range(), lock_kind(), any::<u32>()).prop_map(|(owner, range, kind, pid)| HeldLock {
        owner,
        range,
        kind,
        pid,
    })
}

fn dotlock(name: impl Strategy<Value = Name>) -> impl Strategy<Value = Dotlock> {
    (session(), name, ino(), any::<[u32; 5]>(), bytes(30), time(), time()).prop_map(
        |(session, name, ino, [mode, uid, gid, pid, ppid], content, ctime, mtime)| Dotlock {
            session,
            name,
            ino,
            mode,
            uid,
            gid,
            pid,
            ppid,
            content,
            ctime,
            mtime,
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    (ino(), name()).prop_map(|(dir, name)| Group::of(dir, &name))
}

fn group_dot() -> impl Strategy<Value = (Group, Dotlock)> {
    (ino(), dotlock(lock_name())).prop_map(|(dir, dot)| (Group::of(dir, &dot.name), dot))
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![group().prop_map(Key::Name), ino().prop_map(Key::Inode)]
}

fn attr() -> impl Strategy<Value = Attr> {
    let times = (time(), time(), time());
    (
        ino(),
        kind(),
        0..=0o7777u32,
        any::<[u32; 3]>(),
        any::<[u64; 2]>(),
        times,
        option::of(session()),
    )
        .prop_map(
            |(ino, kind, mode, [uid, gid, nlink], [size, version], (atime, mtime, ctime), writer)| Attr {
                ino,
                kind,
                mode,
                uid,
                gid,
                nlink,
                size,
                atime,
                mtime,
                ctime,
                version,
                writer,
            },
        )
}

fn space() -> impl Strategy<Value = Space> {
    any::<[u64; 4]>().prop_map(|[total, free, inodes, inodes_free]| Space {
        total,
        free,
        inodes,
        inodes_free,
    })
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 1..100).prop_map(Bytes::from)
}

fn extents() -> impl Strategy<Value = Vec<Extent>> {
    let extent = (0..u64::MAX / 2, data()).prop_map(|(offset, data)| Extent { offset, data });
    vec(extent, 0..4)
}

/// Extents with gaps between them, the first at an offset of its own.
fn sorted_extents() -> impl Strategy<Value = Vec<Extent>> {
    vec((0..1_000_000u64, data()), 0..4).prop_map(|parts| {
        let mut offset = 0;
        let mut extents = Vec::new();
        for (gap, data) in parts {
            offset += gap;
            let end = offset + data.len() as u64;
            extents.push(Extent { offset, data });
            offset = end;
        }
        extents
    })
}

fn content_op() -> impl Strategy<Value = Op> {
    let commit = (
        ino(),
        any::<(bool, u64, u64)>(),
        sorted_extents(),
        time(),
        option::of(time()),
    );
    let set = (any::<[Option<u32>; 3]>(), option::of(time()), option::of(time()));
    prop_oneof![
        (ino(), any::<bool>(), extents()).prop_map(|(ino, first, extents)| Op::Stage { ino, first, extents }),
        commit.prop_map(|(ino, (staged, cut, size), extents, mtime, atime)| Op::Commit {
            ino,
            staged,
            cut,
            extents,
            size,
            mtime,
            atime
        }),
        (ino(), set).prop_map(|(ino, ([mode, uid, gid], atime, mtime))| Op::SetAttr {
            ino,
            set: SetAttr {
                mode,
                uid,
                gid,
                atime,
                mtime
            }
        }),
        (ino(), xattr_name(), bytes(50), any::<(bool, bool)>()).prop_map(|(ino, name, value, (create, replace))| {
            Op::SetXattr {
                ino,
                name,
                value,
                create,
                replace,
            }
        }),
        (ino(), xattr_name()).prop_map(|(ino, name)| Op::RemoveXattr { ino, name }),
        ino().prop_map(|ino| Op::Free { ino }),
    ]
}

fn name_op() -> impl Strategy<Value = Op> {
    let at = || (ino(), name());
    let owned = || any::<(u32, u32, u32)>();
    prop_oneof![
        (at(), owned(), any::<bool>()).prop_map(|((dir, name), (mode, uid, gid), excl)| Op::Create {
            dir,
            name,
            mode,
            uid,
            gid,
            excl
        }),
        (at(), owned()).prop_map(|((dir, name), (mode, uid, gid))| Op::Mkdir {
            dir,
            name,
            mode,
            uid,
            gid
        }),
        (at(), owned(), bytes(50)).prop_map(|((dir, name), (uid, gid, _), target)| Op::Symlink {
            dir,
            name,
            target,
            uid,
            gid
        }),
        (at(), ino()).prop_map(|((dir, name), ino)| Op::Link { ino, dir, name }),
        at().prop_map(|(dir, name)| Op::Unlink { dir, name }),
        at().prop_map(|(dir, name)| Op::Rmdir { dir, name }),
        (at(), at(), any::<bool>()).prop_map(|((dir, name), (to_dir, to_name), noreplace)| Op::Rename {
            dir,
            name,
            to_dir,
            to_name,
            noreplace
        }),
        (at(), owned(), bytes(50)).prop_map(|((dir, name), (mode, uid, gid), content)| Op::Put {
            dir,
            name,
            mode,
            uid,
            gid,
            content: content.into()
        }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![content_op(), name_op()]
}

/// A request's number, and up to where replies came.
fn seq_acked() -> impl Strategy<Value = (u64, u64)> {
    (1..=u64::MAX, any::<u64>()).prop_map(|(seq, acked)| (seq, acked.min(seq)))
}

fn intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        Just(Intent::Read),
        Just(Intent::Write),
        (owner(), range(), lock_kind(), any::<bool>()).prop_map(|(owner, range, kind, wait)| Intent::Lock {
            owner,
            range,
            kind,
            wait
        }),
        Just(Intent::Unlock),
        Just(Intent::Excl),
        Just(Intent::Op),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let keyed = prop_oneof![
        key().prop_map(|key| (key, None)),
        group_dot().prop_map(|(group, dot)| (Key::Name(group), Some(dot))),
    ];
    (
        any::<(u64, u64)>(),
        keyed,
        any::<bool>(),
        option::of(mode()),
        vec(lock(), 0..3),
        option::of(errno()),
    )
        .prop_map(|((id, seq), (key, dot), give, keep, locks, error)| Answer {
            id,
            key,
            seq,
            verdict: if give {
                Verdict::Give { keep, locks, dot }
            } else {
                Verdict::Once { error, dot }
            },
        })
}

fn query() -> impl Strategy<Value = Query> {
    let read = (ino(), 0..u64::MAX / 2, 0..=limits::EXTENT_BYTES_MAX as u32);
    prop_oneof![
        read.prop_map(|(ino, offset, len)| Query::Read { ino, offset, len }),
        (ino(), option::of(name())).prop_map(|(dir, after)| Query::ReadDir { dir, after }),
        ino().prop_map(|ino| Query::ReadLink { ino }),
        (ino(), xattr_name()).prop_map(|(ino, name)| Query::GetXattr { ino, name }),
        ino().prop_map(|ino| Query::ListXattr { ino }),
        Just(Query::StatFs),
        ino().prop_map(|ino| Query::Parent { ino }),
    ]
}

pub(crate) fn to_brick() -> impl Strategy<Value = ToBrick> {
    let attach = (any::<(u32, u64, bool)>(), text(), session());
    let reclaim = (
        (view(), view()),
        vec((key(), mode()), 0..3),
        vec((ino(), lock()), 0..3),
        vec(group_dot(), 0..3),
    );
    prop_oneof![
        attach.prop_map(
            |((protocol, attach_no, fresh), volume, session)| ToBrick::Attach(Attach {
                protocol,
                volume,
                session,
                attach_no,
                fresh
            })
        ),
        (seq_acked(), op()).prop_map(|((seq, acked), op)| ToBrick::Request(Request { seq, acked, op })),
        (any::<u64>(), key(), mode(), intent()).prop_map(|(req, key, mode, intent)| ToBrick::Lease(LeaseRequest {
            req,
            key,
            mode,
            intent
        })),
        any::<u64>().prop_map(|req| ToBrick::Cancel { req }),
        answer().prop_map(ToBrick::Answer),
        (reclaim, vec(attr(), 0..3), any::<u64>()).prop_map(
            |(((view, from), leases, locks, dots), known, unanswered)| {
                ToBrick::Reclaim(Reclaim {
                    view,
                    from,
                    leases,
                    locks,
                    dots,
                    known,
                    unanswered,
                })
            }
        ),
        (any::<u64>(), query()).prop_map(|(id, query)| ToBrick::Query { id, query }),
        any::<u64>().prop_map(|sent| ToBrick::Ping { sent: Nanos(sent) }),
        any::<bool>().prop_map(|end| ToBrick::Detach { end }),
    ]
}

fn attached() -> impl Strategy<Value = Attached> {
    prop_oneof![
        (brick(), vec(text(), 0..3)).prop_map(|(brick, bricks)| Attached::Ok { brick, bricks }),
        Just(Attached::Expired),
        (text(), vec(text(), 0..3)).prop_map(|(why, bricks)| Attached::NotServing { why, bricks }),
        text().prop_map(|why| Attached::Refused { why }),
    ]
}

fn lease() -> impl Strategy<Value = Lease> {
    (key(), mode(), any::<u64>()).prop_map(|(key, mode, seq)| Lease { key, mode, seq })
}

fn grant() -> impl Strategy<Value = Grant> {
    let name = (group_dot(), option::of(ino()), any::<bool>()).prop_map(|((group, dot), entry, held)| NameState {
        group,
        entry,
        dot: held.then_some(dot),
    });
    (
        vec(lease(), 0..3),
        option::of(name),
        option::of(attr()),
        vec(lock(), 0..3),
    )
        .prop_map(|(leases, name, attr, locks)| Grant {
            leases,
            name,
            attr,
            locks,
        })
}

fn found() -> impl Strategy<Value = Found> {
    let entries = (btree_set(name(), 0..5), ino(), kind(), any::<bool>());
    prop_oneof![
        bytes(100).prop_map(|data| Found::Data(data.into())),
        entries.prop_map(|(names, ino, kind, end)| Found::Entries {
            entries: names.into_iter().map(|name| DirEntry { name, ino, kind }).collect(),
            end
        }),
        vec(xattr_name(), 0..3).prop_map(Found::Names),
        space().prop_map(Found::Space),
        ino().prop_map(Found::Ino),
    ]
}

fn result<T: std::fmt::Debug + Clone>(ok: impl Strategy<Value = T>) -> impl Strategy<Value = Result<T, Errno>> {
    prop_oneof![ok.prop_map(Ok), errno().prop_map(Err)]
}

pub(crate) fn to_mount() -> impl Strategy<Value = ToMount> {
    let reclaimed = (
        view(),
        vec(lease(), 0..3),
        vec((ino(), lock()), 0..3),
        vec(group_dot(), 0..3),
        vec(key(), 0..3),
        vec((group(), ino()), 0..3),
    );
    prop_oneof![
        attached().prop_map(ToMount::Attached),
        (view(), any::<bool>()).prop_map(|(view, together)| ToMount::View { view, together }),
        reclaimed.prop_map(
            |(view, leases, locks, dots, lost, entries)| ToMount::Reclaimed(Reclaimed {
                view,
                leases,
                locks,
                dots,
                lost,
                entries
            })
        ),
        (any::<u64>(), result(vec(attr(), 0..3))).prop_map(|(seq, result)| ToMount::Reply(Reply { seq, result })),
        (any::<u64>(), result(grant())).prop_map(|(req, result)| ToMount::Granted(Granted { req, result })),
        (any::<(u64, u64)>(), key(), intent()).prop_map(|((id, seq), key, intent)| ToMount::Recall(Recall {
            id,
            key,
            seq,
            intent
        })),
        (any::<u64>(), result(found())).prop_map(|(id, result)| ToMount::Found { id, result }),
        any::<(u64, u64)>().prop_map(|(sent, serve)| ToMount::Pong {
            sent: Nanos(sent),
            serve: Nanos(serve)
        }),
        (ino(), vec(name(), 0..4)).prop_map(|(ino, path)| ToMount::Changed { ino, path }),
        ino().prop_map(|ino| ToMount::Orphaned { ino }),
        session().prop_map(|session| ToMount::SessionGone { session }),
    ]
}

fn members() -> impl Strategy<Value = Members> {
    prop_oneof![Just(Members::Both), brick().prop_map(Members::Only)]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (generation(), members(), brick()).prop_map(|(g, members, primary)| Body::NewGen { g, members, primary }),
        (session(), brick(), text()).prop_map(|(session, brick, host)| Body::SessionOpen { session, brick, host }),
        session().prop_map(|session| Body::SessionExpire { session }),
        (any::<u64>(), 1..=u16::MAX).prop_map(|(register, port)| Body::Quorum {
            quorum: Quorum {
                policy: Policy::Witness,
                witness: Some(WitnessAt {
                    host: "w".into(),
                    port,
                    register,
                    fingerprint: Fingerprint([register as u8; 32]),
                }),
            }
        }),
        (session(), seq_acked(), op()).prop_map(|(session, (seq, acked), op)| Body::Op {
            id: OpId { session, seq },
            acked,
            op
        }),
        op().prop_map(|op| Body::Quarantine { op }),
        (ino(), option::of(any::<u64>()), vec(op(), 0..4)).prop_map(|(theirs, version, ops)| Body::Merge {
            theirs,
            version,
            ops
        }),
    ]
}

fn record_at(n: impl Strategy<Value = u64>) -> impl Strategy<Value = Record> {
    (tag(n), time(), ino(), body()).prop_map(|(tag, time, ino, body)| Record { tag, time, ino, body })
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    record_at(1..=u64::MAX)
}

fn hello() -> impl Strategy<Value = Hello> {
    let ids = any::<([u8; 16], [u8; 16])>();
    let epochs = vec((generation(), any::<u32>(), 0..100u64), 0..4);
    (
        any::<(u32, u32, bool, bool, bool, bool, bool, Option<u64>)>(),
        ids,
        brick(),
        view(),
        members(),
        epochs,
        any::<[u64; 3]>(),
    )
        .prop_map(
            |(
                (protocol, inc, fresh, diverged, merging, overrun, incomplete, joint),
                (volume, uuid),
                brick,
                view,
                members,
                mut epochs,
                positions,
            )| {
                epochs.sort_by_key(|(.., first)| *first);
                let [last, log_start, last_change] = positions;
                Hello {
                    protocol,
                    volume: VolumeId(volume),
                    brick,
                    uuid: BrickUuid(uuid),
                    inc,
                    view,
                    members,
                    history: epochs.into_iter().map(|(g, v, first)| Epoch { g, v, first }).collect(),
                    last,
                    log_start,
                    last_change,
                    fresh,
                    diverged,
                    merging,
                    joint,
                    overrun,
                    incomplete,
                }
            },
        )
}

fn ask() -> impl Strategy<Value = Ask> {
    let of = || prop_oneof![Just(Of::Now), Just(Of::Fork), (1..u64::MAX).prop_map(Of::Version)];
    let read = (ino(), of(), 0..u64::MAX / 2, 0..=limits::EXTENT_BYTES_MAX as u32);
    prop_oneof![
        Just(Ask::Changes),
        (ino(), of()).prop_map(|(ino, of)| Ask::Index { ino, of }),
        read.prop_map(|(ino, of, offset, len)| Ask::Read { ino, of, offset, len }),
        (ino(), any::<u64>()).prop_map(|(ino, block)| Ask::Raw { ino, block }),
        any::<u64>().prop_map(|offset| Ask::State { offset }),
        (ino(), 0..u64::MAX / 2, 0..=limits::DIGEST_SPAN).prop_map(|(ino, offset, len)| Ask::Digests {
            ino,
            offset,
            len
        }),
        option::of(ino()).prop_map(|after| Ask::Xattrs { after }),
    ]
}

fn checked() -> impl Strategy<Value = ToPeer> {
    let data = prop_oneof![data().prop_map(Ok), errno().prop_map(Err)];
    (any::<(u64, u64, bool)>(), data).prop_map(|((ticket, version, sure), data)| ToPeer::Checked {
        ticket,
        version,
        sure,
        data,
    })
}

/// An error is always the last part.
fn part() -> impl Strategy<Value = ToPeer> {
    let data = bytes(100).prop_map(Bytes::from);
    prop_oneof![
        (any::<(u64, bool)>(), data).prop_map(|((ticket, last), data)| ToPeer::Part {
            ticket,
            data: Ok(data),
            last
        }),
        (any::<u64>(), errno()).prop_map(|(ticket, errno)| ToPeer::Part {
            ticket,
            data: Err(errno),
            last: true
        }),
    ]
}

pub(crate) fn to_peer() -> impl Strategy<Value = ToPeer> {
    let suffix = vec(record(), 0..4).prop_map(|mut records| {
        records.sort_by_key(|record| record.tag.n);
        records.dedup_by_key(|record| record.tag.n);
        ToPeer::Suffix { records }
    });
    let numbered = (tag(1..=u64::MAX), time(), ino(), session(), 1..=u64::MAX);
    prop_oneof![
        hello().prop_map(ToPeer::Hello),
        suffix,
        record().prop_map(|record| ToPeer::Append {
            entry: Entry::Whole(record)
        }),
        numbered.prop_map(|(tag, time, ino, session, seq)| ToPeer::Append {
            entry: Entry::Numbered {
                tag,
                time,
                ino,
                session,
                seq
            }
        }),
        any::<u64>().prop_map(|n| ToPeer::Durable { n }),
        any::<u64>().prop_map(|n| ToPeer::Commit { n }),
        (session(), to_brick()).prop_map(|(session, frame)| ToPeer::Relay { session, frame }),
        (session(), to_mount()).prop_map(|(session, frame)| ToPeer::Deliver { session, frame }),
        session().prop_map(|session| ToPeer::Lost { session }),
        (any::<u64>(), ask()).prop_map(|(ticket, ask)| ToPeer::Ask { ticket, ask }),
        part(),
        (any::<(u64, u64)>(), ino()).prop_map(|((ticket, block), ino)| ToPeer::Check {
            ticket,
            check: if ticket % 2 == 0 {
                Check::Block { ino, block }
            } else {
                Check::Raw { ino, block }
            },
        }),
        (any::<(u64, u64)>(), ino(), 1..=limits::SCRUB_BLOCKS).prop_map(|((ticket, first), ino, count)| {
            let check = Check::Sums { ino, first, count };
            ToPeer::Check { ticket, check }
        }),
        checked(),
        Just(ToPeer::Merged),
        any::<u64>().prop_map(|n| ToPeer::Copied { n }),
        text().prop_map(|why| ToPeer::Goodbye { why }),
    ]
}

pub(crate) fn beat() -> impl Strategy<Value = Beat> {
    prop_oneof![
        (any::<u64>(), view(), time(), space(), any::<u64>()).prop_map(|(sent, view, real, space, sync)| Beat::Ping(
            Ping {
                sent: Nanos(sent),
                view,
                real,
                space,
                sync: Nanos(sync),
            }
        )),
        (any::<u64>(), view()).prop_map(|(sent, view)| Beat::Pong(Pong {
            sent: Nanos(sent),
            view
        })),
    ]
}
