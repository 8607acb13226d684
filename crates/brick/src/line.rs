//! Lines of history: what two bricks make of each other when they meet (PROTOCOL.md sections 6.2, 6.3).
//!
//! V1  Both compute the same decision from the same two hellos.
//! V2  A committed record is never dropped: records above the common point are dropped only by a side that cannot have
//!     committed them alone, or whose records above it changed nothing that users see.
//! V3  If both sides changed the volume while apart nothing is dropped: they have diverged.
//! V4  Of two that diverged both name the same one as the leader of the merge.
//!
//! Pure functions. Not here: carrying a decision out (`view`).

use alloc::{format, string::String, vec::Vec};
use mboxfs_types::{BrickId, Tag, call::View, disk::Epoch, limits, peer::Hello, record::Members};

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Both are members. `source` has the longer log; the other one gets the rest, then both work in `view`.
    Rejoin {
        view: View,
        primary: BrickId,
        source: BrickId,
        common: u64,
    },
    /// `source` went on alone; the other one learns from it. `whole`: its log does not go back to `common`, or the other one
    /// has no line of history at all: it gets files first.
    Learn { source: BrickId, common: u64, whole: bool },
    /// Both went on alone and changed the volume.
    Diverged { common: u64 },
    /// They do not belong together.
    Refuse(String),
}

/// The generation and view that position `n` was numbered under.
fn epoch_at(history: &[Epoch], n: u64) -> Option<View> {
    history
        .iter()
        .rev()
        .find(|e| e.first <= n)
        .map(|e| View { g: e.g, v: e.v })
}

/// Last position up to which both lines are the same.
fn common(a: &Hello, b: &Hello) -> u64 {
    let end = a.last.min(b.last);
    // Tags change only at the starts of epochs: between two of them either all positions agree or none does.
    let mut starts: Vec<u64> = a
        .history
        .iter()
        .chain(&b.history)
        .map(|e| e.first.max(1))
        .filter(|f| *f <= end)
        .collect();
    starts.push(1);
    starts.sort_unstable();
    starts.dedup();
    for start in starts {
        if start <= end && epoch_at(&a.history, start) != epoch_at(&b.history, start) {
            return start - 1;
        }
    }
    end
}

/// Brick1, and Brick2.
fn in_order<'a>(x: &'a Hello, y: &'a Hello) -> (&'a Hello, &'a Hello) {
    if x.brick == BrickId::A { (x, y) } else { (y, x) }
}

/// V1: symmetric in its arguments.
pub(crate) fn decide(x: &Hello, y: &Hello) -> Decision {
    if let Some(why) = misfit(x, y) {
        return Decision::Refuse(why);
    }
    let (a, b) = in_order(x, y);
    if let Some(decision) = incomplete(a, b) {
        return decision;
    }
    let by = |brick: BrickId| if brick == BrickId::A { a } else { b };
    match by_lines(a, b) {
        Decision::Learn { source, common, .. } => {
            // Neither does a log help that has records to be dropped, and does not go back to where they begin.
            let learner = by(source.other());
            let stays = learner.last > common && learner.log_start > common + 1;
            let whole = by(source).log_start > common + 1 || stays;
            Decision::Learn { source, common, whole }
        }
        Decision::Rejoin { source, common, .. } if by(source).log_start > common + 1 => {
            let who = source.other().index() + 1;
            Decision::Refuse(format!(
                "Brick{who} lacks records that are not in the log of the other one any more; use `volume reset-brick` for Brick{who}"
            ))
        }
        decision => decision,
    }
}

/// One without a line of history of its own has no say (I29).
fn incomplete(a: &Hello, b: &Hello) -> Option<Decision> {
    let learn = |source| Decision::Learn {
        source,
        common: 0,
        whole: true,
    };
    match (a.incomplete, b.incomplete) {
        (false, false) => None,
        (true, false) => Some(learn(BrickId::B)),
        (false, true) => Some(learn(BrickId::A)),
        (true, true) => Some(Decision::Refuse("neither brick has all of the volume".into())),
    }
}

fn by_lines(a: &Hello, b: &Hello) -> Decision {
    let common = common(a, b);
    if !a.diverged
        && !b.diverged
        && let Some(decision) = joining(a, b, a, b, common).or_else(|| joining(a, b, b, a, common))
    {
        return decision;
    }
    match (a.members, b.members) {
        // Also when they had diverged: one of them has given its line up.
        (Members::Only(p), Members::Only(q)) if p == q => learn(p, common),
        _ if a.diverged || b.diverged => Decision::Diverged { common },
        (Members::Both, Members::Both) => rejoin(a, b, common),
        (Members::Only(BrickId::A), Members::Only(_)) => apart(a, b, common),
        (Members::Only(BrickId::B), Members::Only(_)) => {
            Decision::Refuse("each brick takes the other one for the survivor".into())
        }
        (Members::Only(p), Members::Both) => one_alone(a, b, p, common),
        (Members::Both, Members::Only(p)) => one_alone(b, a, p, common),
    }
}

/// `j` was alone, began to let the other one, `o`, join, and was cut off: since then it committed nothing without `o`,
/// whatever that one knows of it.
fn joining(a: &Hello, b: &Hello, j: &Hello, o: &Hello, common: u64) -> Option<Decision> {
    let joint = j.joint?;
    match o.members {
        Members::Only(p) if p == o.brick => {
            let source = o.brick;
            (common + 1 >= joint).then_some(learn(source, common))
        }
        _ => Some(rejoin(a, b, common)),
    }
}

fn misfit(x: &Hello, y: &Hello) -> Option<String> {
    if x.protocol != y.protocol || x.protocol != limits::PROTOCOL_VERSION {
        return Some(format!(
            "the bricks speak different protocols ({} and {})",
            x.protocol, y.protocol
        ));
    }
    if x.volume != y.volume {
        return Some("the peer's brick belongs to another volume".into());
    }
    if x.brick == y.brick || x.uuid == y.uuid {
        return Some("the peer says that it is this very brick".into());
    }
    None
}

/// V4: who goes on and merges, of two that diverged: who began to already, else who does not know any more what it would have
/// to go back to, else who has more to lose, else Brick1.
pub(crate) fn leader(x: &Hello, y: &Hello, common: u64) -> BrickId {
    let (a, b) = in_order(x, y);
    let weight = |h: &Hello| (h.merging, h.overrun, h.last.saturating_sub(common));
    if weight(a) >= weight(b) { a.brick } else { b.brick }
}

fn rejoin(x: &Hello, y: &Hello, common: u64) -> Decision {
    let (a, b) = in_order(x, y);
    let key = |h: &Hello| (epoch_at(&h.history, h.last), h.last);
    let source = if key(a) >= key(b) { BrickId::A } else { BrickId::B };
    // The one whose memory of leases is intact goes on numbering.
    let primary = match (a.fresh, b.fresh) {
        (false, true) => BrickId::A,
        (true, false) => BrickId::B,
        _ => source,
    };
    let g = a.view.g.max(b.view.g);
    let v = [a, b]
        .iter()
        .filter(|h| h.view.g == g)
        .map(|h| h.view.v)
        .max()
        .unwrap_or(0)
        + 1;
    Decision::Rejoin {
        view: View { g, v },
        primary,
        source,
        common,
    }
}

/// `s` says that `p` is the only member; the other one, `m`, says that both are.
fn one_alone(s: &Hello, m: &Hello, p: BrickId, common: u64) -> Decision {
    let newer_pair = m.view.g > s.view.g;
    if newer_pair && p == s.brick && s.last > common && s.last_change > common {
        return Decision::Diverged { common };
    }
    let heard_of_pair = p == m.brick && m.view.g == s.view.g;
    if newer_pair || heard_of_pair {
        // A generation of both began, and one of them did not get to write down that it did: go on with that one.
        return rejoin(s, m, common);
    }
    // What `m` has above the common point was never committed: it was not alone (V2).
    learn(p, common)
}

fn apart(a: &Hello, b: &Hello, common: u64) -> Decision {
    match (a.last_change > common, b.last_change > common) {
        (true, true) => Decision::Diverged { common },
        (true, false) => learn(BrickId::A, common),
        (false, true) => learn(BrickId::B, common),
        (false, false) => {
            let source = if a.view.g >= b.view.g { BrickId::A } else { BrickId::B };
            learn(source, common)
        }
    }
}

/// By the log, as far as lines go.
const fn learn(source: BrickId, common: u64) -> Decision {
    Decision::Learn {
        source,
        common,
        whole: false,
    }
}

/// Adds what the log says to what the superblock says: tags in it may be newer than the last superblock written.
pub(crate) fn extend(history: &mut Vec<Epoch>, tag: Tag) {
    if history.last().is_none_or(|e| (e.g, e.v) != (tag.g, tag.v)) {
        history.retain(|e| e.first < tag.n);
        history.push(Epoch {
            g: tag.g,
            v: tag.v,
            first: tag.n,
        });
    }
}

/// From `first` on, records are numbered under `view`; earlier stretches that got no record are forgotten.
pub(crate) fn extend_empty(history: &mut Vec<Epoch>, view: View, first: u64) {
    history.retain(|e| e.first < first);
    history.push(Epoch {
        g: view.g,
        v: view.v,
        first,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::{GenId, VolumeId, ids::BrickUuid};

    fn view(g: u32, v: u32) -> View {
        let (num, brick, nonce) = (g, 0, 0);
        View {
            g: GenId { num, brick, nonce },
            v,
        }
    }

    /// `history`: generation and first record of each.
    fn hello(brick: BrickId, view: View, members: Members, history: &[(u32, u64)], last: u64) -> Hello {
        let epoch = |(g, first): &(u32, u64)| Epoch {
            g: self::view(*g, 0).g,
            v: 0,
            first: *first,
        };
        Hello {
            protocol: limits::PROTOCOL_VERSION,
            volume: VolumeId([7; 16]),
            brick,
            uuid: BrickUuid([brick.index() + 1; 16]),
            inc: 1,
            view,
            members,
            history: history.iter().map(epoch).collect(),
            last,
            log_start: 1,
            last_change: last,
            fresh: true,
            diverged: false,
            merging: false,
            joint: None,
            overrun: false,
            incomplete: false,
        }
    }

    /// V2 (seed 115496): a survivor let its peer join, and both lost power before that had got what it lacked. If the survivor
    /// was Brick1 it dropped what it had acknowledged alone.
    #[test]
    fn who_was_alone_keeps_what_its_peer_did_not_get() {
        for alone in [BrickId::A, BrickId::B] {
            let long = [(0, 1), (1, 29), (2, 30)];
            let survivor = hello(alone, view(2, 1), Members::Both, &long, 30);
            let other = hello(alone.other(), view(1, 0), Members::Only(alone), &[(0, 1)], 27);
            let expected = Decision::Rejoin {
                view: view(2, 2),
                primary: alone,
                source: alone,
                common: 27,
            };
            assert_eq!(decide(&survivor, &other), expected);
            assert_eq!(decide(&other, &survivor), expected, "V1");
        }
    }

    /// V1, V2: whatever two members say, both decide the same, and the one with the newer records is the source.
    #[test]
    fn two_members_agree_on_the_source() {
        for (last_a, last_b) in [(5, 5), (5, 9), (9, 5)] {
            let a = hello(BrickId::A, view(0, 1), Members::Both, &[(0, 1)], last_a);
            let b = hello(BrickId::B, view(0, 1), Members::Both, &[(0, 1)], last_b);
            let decision = decide(&a, &b);
            assert_eq!(decide(&b, &a), decision, "V1");
            let Decision::Rejoin { source, common, .. } = decision else {
                panic!("{decision:?}");
            };
            let expected = if last_b > last_a { BrickId::B } else { BrickId::A };
            assert_eq!((source, common), (expected, last_a.min(last_b)));
        }
    }
}
