//! I22, I21 and I25, laws L1, L6 and L8: at rest each acknowledged message is in its mailbox exactly once and whole, in the
//! place of no other; one that nobody acknowledged at most once; what was removed, and said to be, is gone; what was refused
//! is not there (I23, L11). What rotted on both bricks may be in `.mboxfs-conflict` instead (L12): so many messages of a
//! mailbox as the files there tell of.

use super::Broken;
use crate::{
    letter::{self, Id},
    oracle::{Fate, Letter, Removal},
    world::World,
};
use std::collections::BTreeMap;

/// At rest.
pub(crate) fn mailboxes_are_right(world: &World) -> Result<(), Broken> {
    for brick in 0..2 {
        let mut found: BTreeMap<Id, u32> = BTreeMap::new();
        for mailbox in &world.oracle.mailboxes {
            let content = world.hosts[brick].disk.image.mailbox(mailbox).unwrap_or_default();
            let letters = letter::split(content)
                .map_err(|why| Broken::new("I21", "L6", format!("{mailbox} on brick {brick}: {why}")))?;
            for (id, _) in letters {
                *found.entry(id).or_default() += 1;
                let belongs = world.oracle.letters.get(&id).map(|l| l.mailbox.as_str());
                if belongs != Some(mailbox) {
                    let why = format!("message {id} of {belongs:?} is in {mailbox} on brick {brick}");
                    return Err(Broken::new("I21", "L6", why));
                }
            }
        }
        let mut taken_out: BTreeMap<&str, u32> = BTreeMap::new();
        for (id, letter) in &world.oracle.letters {
            let count = found.get(id).copied().unwrap_or(0);
            let (least, most) = may_be(letter, world.forks > 0);
            if count < least && world.rots > 0 {
                let image = &world.hosts[brick].disk.image;
                let left = taken_out
                    .entry(&letter.mailbox)
                    .or_insert_with(|| image.taken_out(&letter.mailbox));
                if *left > 0 {
                    *left -= 1;
                    continue;
                }
            }
            if !(least..=most).contains(&count) {
                let why = format!(
                    "message {id} ({:?}, removal {:?}) is {count} times in {} on brick {brick}, not {least} to {most}",
                    letter.fate, letter.removal, letter.mailbox
                );
                let law = if world.forks > 0 { "L8" } else { "L1" };
                return Err(Broken::new("I22", law, why));
            }
        }
    }
    Ok(())
}

/// How often it may be there. `forked`: both sides went on without each other: one may have removed what the other changed.
const fn may_be(letter: &Letter, forked: bool) -> (u32, u32) {
    match (letter.fate, letter.removal) {
        (Fate::Refused, _) => (0, 0),
        (_, Removal::Done) => (0, forked as u32),
        (Fate::Kept, Removal::No) => (1, 1),
        (Fate::Kept, Removal::Doubt) | (Fate::Doubt, _) => (0, 1),
    }
}
