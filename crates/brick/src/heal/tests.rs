//! Two lines of history that changed names, attributes and content at random are merged; nothing is lost, nothing that one
//! side removed returns, and it comes to an end (law L8).
//!
//! Content is a set of tokens, one for each commit: what `mbox` does with messages.

mod again;
mod interrupted;
mod maildir;
mod order;

use super::decide::{self, Next};
use crate::{
    fork::Fork,
    state::{Data, State},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use mboxfs_types::{
    BrickId, Errno, GenId, Ino, Kind, Name, Tag, Timestamp,
    call::{Op, SetAttr},
    heal::{Change, Of},
    record::{Body, Record},
};

type Tokens = BTreeMap<Ino, BTreeSet<u64>>;

/// xorshift64*.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len() as u64) as usize].clone())
    }
}

#[derive(Clone)]
struct Line {
    state: State,
    tokens: Tokens,
    /// By version.
    versions: BTreeMap<(Ino, u64), BTreeSet<u64>>,
    brick: u64,
    last: Option<Record>,
}

impl Line {
    fn new() -> Self {
        Self {
            state: State::new(),
            tokens: Tokens::new(),
            versions: BTreeMap::new(),
            brick: 1,
            last: None,
        }
    }

    fn run(&mut self, op: Op, ino: Option<Ino>, theirs: Ino, version: Option<u64>) -> Result<(), Errno> {
        let body = Body::Merge {
            theirs,
            version,
            ops: vec![op],
        };
        self.record(body, ino)
    }

    fn record(&mut self, body: Body, ino: Option<Ino>) -> Result<(), Errno> {
        let n = self.state.applied + 1;
        let record = Record {
            tag: Tag {
                n,
                g: GenId::default(),
                v: 0,
            },
            time: Timestamp {
                secs: 1_000 + n as i64,
                nanos: 0,
            },
            ino: ino.unwrap_or(Ino(self.brick << 32 | n)),
            body,
        };
        let outcome = self.state.execute(&record);
        self.last = Some(record);
        self.state.check();
        outcome.reply.expect("an operation has a reply").1.map(|_| ())
    }

    fn mark(&mut self, theirs: Ino, version: u64) {
        let body = Body::Merge {
            theirs,
            version: Some(version),
            ops: vec![],
        };
        self.record(body, None).expect("nothing is done");
    }

    fn commit(&mut self, ino: Ino, tokens: BTreeSet<u64>, theirs: Ino, version: Option<u64>) {
        let op = Op::Commit {
            ino,
            staged: false,
            cut: u64::MAX,
            extents: vec![],
            size: tokens.len() as u64,
            mtime: Timestamp::default(),
            atime: None,
        };
        self.run(op, None, theirs, version).expect("a file can be written");
        self.versions.insert((ino, self.state.applied), tokens.clone());
        self.tokens.insert(ino, tokens);
    }

    /// Inodes with names: directories, others.
    fn named(&self) -> (Vec<Ino>, Vec<Ino>) {
        let named = self.state.inodes().filter(|(_, i)| i.orphan.is_none());
        let (dirs, others): (Vec<_>, Vec<_>) = named.partition(|(_, i)| i.kind() == Kind::Dir);
        let list = |v: Vec<(&Ino, _)>| v.into_iter().map(|(ino, _)| *ino).collect();
        (list(dirs), list(others))
    }

    fn all_tokens(&self) -> BTreeSet<u64> {
        let (_, files) = self.named();
        files
            .iter()
            .filter_map(|f| self.tokens.get(f))
            .flatten()
            .copied()
            .collect()
    }

    fn act(&mut self, rng: &mut Rng) {
        let (dirs, others) = self.named();
        let dir = rng.pick(&dirs).expect("there is a root");
        let to_dir = rng.pick(&dirs).expect("there is a root");
        let name = |n: u64| Name::new(format!("n{n}").as_bytes()).expect("a name");
        let (from, to) = (name(rng.below(6)), name(rng.below(6)));
        let (mode, uid, gid) = (0o600 + rng.below(8) as u32, 0, 0);
        let op = match rng.below(12) {
            0..3 => Op::Create {
                dir,
                name: from,
                mode,
                uid,
                gid,
                excl: true,
            },
            3 => Op::Mkdir {
                dir,
                name: from,
                mode,
                uid,
                gid,
            },
            4 => Op::Unlink { dir, name: from },
            5 => Op::Rmdir { dir, name: from },
            6 => Op::Rename {
                dir,
                name: from,
                to_dir,
                to_name: to,
                noreplace: rng.below(2) == 0,
            },
            7 => Op::Symlink {
                dir,
                name: from,
                target: b"x".to_vec(),
                uid,
                gid,
            },
            8 if !others.is_empty() => Op::Link {
                ino: rng.pick(&others).expect("looked at"),
                dir,
                name: from,
            },
            9 => Op::SetAttr {
                ino: dir,
                set: SetAttr {
                    mode: Some(mode),
                    ..SetAttr::default()
                },
            },
            _ => {
                let files: Vec<Ino> = others
                    .into_iter()
                    .filter(|f| self.state.inode(*f).is_ok_and(|i| i.kind() == Kind::File))
                    .collect();
                if let Some(ino) = rng.pick(&files) {
                    let mut tokens = self.tokens.get(&ino).cloned().unwrap_or_default();
                    tokens.insert(self.brick << 32 | (self.state.applied + 1));
                    self.commit(ino, tokens, Ino(0), None);
                }
                return;
            }
        };
        // What cannot be done changes nothing: as good a step as any.
        let _ = self.run(op, None, Ino(0), None);
    }
}

/// What one step came to.
enum Step {
    Done,
    Later,
    Another,
}

/// The line that goes on, the other one, and what they had in common.
struct Merge<'a> {
    ours: &'a mut Line,
    theirs: &'a Line,
    base: &'a Line,
    fork: &'a Fork,
    alias: BTreeMap<Ino, Ino>,
    freed: BTreeMap<(Ino, Name), Ino>,
    /// Steps until it is interrupted.
    steps: u32,
}

impl Merge<'_> {
    fn step(&mut self, c: &Change, stuck: bool) -> Step {
        let look = decide::Look {
            state: &self.ours.state,
            alias: &self.alias,
            freed: &self.freed,
            common: self.base.state.applied,
            at: self.theirs.state.applied,
            stuck,
        };
        let next = decide::next(&look, c);
        let ours = &mut *self.ours;
        match next {
            Next::Done => return Step::Done,
            Next::Later => return Step::Later,
            Next::Alias(ino) => {
                self.alias.insert(c.ino, ino);
            }
            Next::Again(op, ino) => {
                ours.run(op, Some(ino), c.ino, None).expect("its name is free");
                ours.commit(ino, BTreeSet::new(), c.ino, None);
            }
            Next::Moved(op, ino) => {
                ours.run(op, Some(ino), c.ino, None).expect("its name is free");
                ours.commit(ino, BTreeSet::new(), c.ino, Some(0));
            }
            Next::Op(op, ino) | Next::Conflict(op, ino) => {
                ours.run(op.clone(), ino, c.ino, decide::made(ino, c))
                    .unwrap_or_else(|e| panic!("{op:?} of {c:?}: {e:?}"));
            }
            Next::Mark(version) => {
                ours.mark(c.ino, version);
            }
            Next::Take(take) => {
                assert_eq!(ours.state.inode(take.into).map(|i| i.version), Ok(take.expect));
                let tokens = self.theirs.tokens.get(&c.ino).cloned().unwrap_or_default();
                ours.commit(take.into, tokens, c.ino, take.version);
            }
            Next::Both(both) => {
                let of = |line: &Line, ino: Ino| line.tokens.get(&ino).cloned().unwrap_or_default();
                let before = match both.base {
                    Some(Of::Version(version))
                        if self
                            .fork
                            .find(c.ino, Of::Version(version), self.base.state.applied)
                            .map(|at| at.fork)
                            != Some(self.fork.at()) =>
                    {
                        self.theirs.versions.get(&(c.ino, version)).cloned().unwrap_or_default()
                    }
                    Some(_) => of(self.base, c.ino),
                    None => BTreeSet::new(),
                };
                let there = if both.gone {
                    BTreeSet::new()
                } else {
                    of(self.theirs, c.ino)
                };
                let merged = merge(&before, &of(ours, both.into), &there);
                let version = c.now.as_ref().map_or(u64::MAX, |n| n.attr.version);
                ours.commit(both.into, merged, c.ino, Some(version));
            }
        }
        Step::Another
    }

    /// Brings one change to its end. None: interrupted.
    fn one(&mut self, c: &Change, stuck: bool) -> Option<bool> {
        for _ in 0..100 {
            self.steps = self.steps.checked_sub(1)?;
            match self.step(c, stuck) {
                Step::Done => return Some(true),
                Step::Later => return Some(false),
                Step::Another => {}
            }
        }
        panic!("no end with {c:?}");
    }

    fn all(&mut self, changes: &[Change]) -> Option<()> {
        let mut todo = decide::in_order(changes.to_vec());
        let mut put_off = 0;
        while let Some(c) = todo.pop_front() {
            if self.one(&c, put_off > todo.len())? {
                put_off = 0;
            } else {
                put_off += 1;
                todo.push_back(c);
                if put_off == todo.len() {
                    todo = decide::in_order(todo.into());
                }
            }
        }
        Some(())
    }
}

/// MAIL.md 6.5, for sets.
fn merge(base: &BTreeSet<u64>, left: &BTreeSet<u64>, right: &BTreeSet<u64>) -> BTreeSet<u64> {
    let kept = left.intersection(right);
    let added = left.union(right).filter(|t| !base.contains(t));
    kept.chain(added).copied().collect()
}

fn merge_all(ours: &mut Line, theirs: &Line, base: &Line, fork: &Fork) {
    let done = merge_some(ours, theirs, base, fork, u32::MAX);
    done.expect("nothing interrupts it");
}

fn merge_some(ours: &mut Line, theirs: &Line, base: &Line, fork: &Fork, steps: u32) -> Option<()> {
    let changes = fork.changes(&theirs.state, base.state.applied);
    ours.mark(State::MERGE, theirs.state.applied);
    let merge = &mut Merge {
        ours,
        theirs,
        base,
        fork,
        alias: BTreeMap::new(),
        freed: decide::freed(&changes),
        steps,
    };
    merge.all(&changes)
}

fn lines(seed: u64) -> (Line, Line, Line, Fork) {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut base = Line::new();
    for _ in 0..rng.below(30) {
        base.act(&mut rng);
    }
    let (mut left, mut right) = (base.clone(), base.clone());
    right.brick = 2;
    let fork = Fork::new(&base.state);
    for _ in 0..rng.below(20) {
        left.act(&mut rng);
    }
    for _ in 0..rng.below(20) {
        right.act(&mut rng);
    }
    (base, left, right, fork)
}

#[test]
fn a_copy_that_is_kept_says_whose_it_was() {
    for (name, brick) in [
        ("/.mboxfs-conflict/old.gz.Brick2.7", Some(BrickId::B)),
        ("/.mboxfs-conflict/x.Brick1.12", Some(BrickId::A)),
        ("/.mboxfs-conflict/link.1", None),
        ("/.mboxfs-conflict/x.Brick3.7", None),
        ("/.mboxfs-conflict/x.Brick1.y", None),
    ] {
        assert_eq!(super::whose(name), brick, "{name}");
    }
}

#[test]
fn nothing_is_lost_and_nothing_returns() {
    for seed in 1..=3000 {
        let (base, left, right, fork) = lines(seed);
        let expected = merge(&base.all_tokens(), &left.all_tokens(), &right.all_tokens());
        let mut merged = left.clone();
        merge_all(&mut merged, &right, &base, &fork);
        let found = merged.all_tokens();
        let lost: Vec<_> = expected.difference(&found).collect();
        assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
        // Removed on one side and renamed on the other: it stays.
        let renamed = |token: &u64| {
            let was = |ino: &Ino| homes(&base.state, *ino);
            let now = |ino: &Ino| [&left, &right].map(|line| homes(&line.state, *ino));
            let mut files = base.tokens.iter().filter(|(_, tokens)| tokens.contains(token));
            files.any(|(ino, _)| now(ino).iter().any(|now| *now != was(ino)))
        };
        let returned: Vec<_> = found.difference(&expected).filter(|t| !renamed(t)).collect();
        assert!(returned.is_empty(), "seed {seed}: returned {returned:?}");
    }
}

#[test]
fn merging_again_changes_nothing() {
    for seed in 1..=500 {
        let (base, left, right, fork) = lines(seed);
        let mut merged = left.clone();
        merge_all(&mut merged, &right, &base, &fork);
        let before = shape(&merged.state);
        merge_all(&mut merged, &right, &base, &fork);
        assert_eq!(shape(&merged.state), before, "seed {seed}");
    }
}

#[test]
fn a_side_that_did_nothing_takes_all() {
    for seed in 1..=1000 {
        let (base, _, right, fork) = lines(seed);
        let mut merged = base.clone();
        merge_all(&mut merged, &right, &base, &fork);
        assert_eq!(shape(&merged.state), shape(&right.state), "seed {seed}");
        assert_eq!(merged.all_tokens(), right.all_tokens(), "seed {seed}");
    }
}

fn homes(state: &State, ino: Ino) -> Vec<(Ino, Name)> {
    let mut homes = Vec::new();
    for (dir, inode) in state.inodes() {
        if let Data::Dir { entries, .. } = &inode.data {
            homes.extend(entries.iter().filter(|e| *e.1 == ino).map(|e| (*dir, e.0.clone())));
        }
    }
    homes
}

/// Names, kinds and modes from the root down.
fn shape(state: &State) -> Vec<(Vec<Name>, Kind, u32)> {
    fn walk(state: &State, dir: Ino, path: &[Name], out: &mut Vec<(Vec<Name>, Kind, u32)>) {
        let Ok(Data::Dir { entries, .. }) = state.inode(dir).map(|i| &i.data) else {
            return;
        };
        for (name, ino) in entries {
            let mut path = path.to_vec();
            path.push(name.clone());
            let inode = state.inode(*ino).expect("no dangling names");
            out.push((path.clone(), inode.kind(), inode.mode));
            walk(state, *ino, &path, out);
        }
    }
    let mut out = Vec::new();
    walk(state, Ino::ROOT, &[], &mut out);
    out
}
