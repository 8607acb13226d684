//! A merge that is interrupted anywhere, again and again, while both sides go on adding and removing messages: what either
//! side added is there unless either side removed it, and what was removed does not return (law L8, PROTOCOL.md section 8).

use super::*;
use mboxfs_types::record::Members;

/// Both lines, and what was ever added and removed.
struct Apart {
    rng: Rng,
    left: Line,
    right: Line,
    added: BTreeSet<u64>,
    removed: BTreeSet<u64>,
}

impl Apart {
    /// One side delivers, expunges, makes or removes a mailbox; names stay what they are.
    fn act(&mut self, right: bool) {
        let Self {
            rng,
            left,
            right: other,
            added,
            removed,
        } = self;
        let line = if right { other } else { left };
        let name = Name::new(format!("n{}", rng.below(4)).as_bytes()).expect("a name");
        let dir = Ino::ROOT;
        let Ok(Some(ino)) = line.state.lookup(dir, &name) else {
            let (mode, uid, gid, excl) = (0o600, 0, 0, true);
            let op = Op::Create {
                dir,
                name,
                mode,
                uid,
                gid,
                excl,
            };
            line.run(op, None, Ino(0), None).expect("the name is free");
            return;
        };
        let mut tokens = line.tokens.get(&ino).cloned().unwrap_or_default();
        match rng.below(8) {
            0 => {
                removed.extend(&tokens);
                line.run(Op::Unlink { dir, name }, None, Ino(0), None)
                    .expect("it is there");
                return;
            }
            1..4 if !tokens.is_empty() => {
                let all: Vec<u64> = tokens.iter().copied().collect();
                let token = rng.pick(&all).expect("not empty");
                tokens.remove(&token);
                removed.insert(token);
            }
            _ => {
                let token = line.brick << 32 | (line.state.applied + 1);
                tokens.insert(token);
                added.insert(token);
            }
        }
        line.commit(ino, tokens, Ino(0), None);
    }

    /// As `act`, of what was numbered before its brick was left alone.
    fn under_way(&mut self, right: bool, fork: &mut Fork) {
        let line = |apart: &Self| if right { apart.right.clone() } else { apart.left.clone() };
        let before = line(self).state;
        self.act(right);
        fork.follow(&line(self).last.expect("it did something"), &before);
    }
}

/// The right side goes on alone again.
pub(super) fn alone_again(line: &mut Line, fork: &mut Fork) {
    let record = Record {
        tag: Tag {
            n: line.state.applied + 1,
            g: GenId::default(),
            v: 0,
        },
        time: Timestamp::default(),
        ino: Ino(0),
        body: Body::NewGen {
            g: GenId::default(),
            members: Members::Only(BrickId::B),
            primary: BrickId::B,
        },
    };
    fork.follow(&record, &line.state);
    line.state.execute(&record);
}

#[test]
fn nothing_is_lost_and_nothing_returns_however_often_it_is_interrupted() {
    for seed in 1..=3000 {
        let mut rng = Rng(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15) | 1);
        let (rounds, before) = (1 + rng.below(5), rng.below(20));
        let line = Line::new();
        let (left, right) = (line.clone(), line);
        let (added, removed) = (BTreeSet::new(), BTreeSet::new());
        let mut apart = Apart {
            rng,
            left,
            right,
            added,
            removed,
        };
        for _ in 0..before {
            apart.act(false);
        }
        let mut fork = Fork::new(&apart.left.state);
        // Under way when the link broke, and in both logs; then what is in the right one only (N4).
        for _ in 0..apart.rng.below(4) {
            apart.under_way(false, &mut fork);
        }
        let base = apart.left.clone();
        apart.right = base.clone();
        apart.right.brick = 2;
        for _ in 0..apart.rng.below(3) {
            apart.under_way(true, &mut fork);
        }
        for round in 0..=rounds {
            alone_again(&mut apart.right, &mut fork);
            for _ in 0..apart.rng.below(16) {
                let right = apart.rng.below(2) == 0;
                apart.act(right);
            }
            let steps = if round == rounds {
                u32::MAX
            } else {
                apart.rng.below(12) as u32
            };
            let _ = merge_some(&mut apart.left, &apart.right, &base, &fork, steps);
        }
        let expected: BTreeSet<u64> = apart.added.difference(&apart.removed).copied().collect();
        assert_eq!(apart.left.all_tokens(), expected, "seed {seed}");
    }
}
