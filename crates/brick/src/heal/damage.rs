//! Files that a merge cannot read, here or there.
//!
//! D1  What cannot be read is put off, while each brick asks the other one for it (`rot` T6): all else is merged first.
//! D2  If all that is left cannot be read, because it is damaged and the other brick has not what is missing, a file is not
//!     merged: the one here stays as it is, that of the other line is kept as it is, and the operator is told (`quarantine` Q6).
//!     If only the ancestor is damaged it counts for nothing.
//! D3  What may be read later, for all that is known, is waited for: the merge is tried again.
//!
//! Not here: damage to both copies of what is the same on both bricks (`quarantine`).

use super::{
    Step,
    decide::{self, Next},
};
use crate::{
    brick::Brick,
    output::{Mended, Output},
};
use alloc::vec::Vec;
use bytes::Bytes;
use mboxfs_types::{Errno, SessionId};

impl Brick {
    /// D1
    pub(super) fn on_unread(&mut self, errno: Errno, there: bool, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        heal.unreadable += 1;
        if matches!(heal.step, Step::List) || heal.unreadable >= heal.todo.len() {
            return self.on_nothing_else_left(errno, there, out);
        }
        heal.todo.rotate_left(1);
        heal.begin_front();
        self.release(out);
        self.arbiter.remove(SessionId::HEAL);
        self.next_object(out);
    }

    fn on_nothing_else_left(&mut self, errno: Errno, there: bool, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        let damaged = errno == Errno::ENODATA;
        match &mut heal.step {
            Step::Indexes(i) if damaged && there && i.theirs.is_some() => {
                (i.both.base, i.base) = (None, Some(Bytes::new()));
                self.gather_indexes(out);
            }
            Step::Texts(texts) if damaged && texts.wants_base() => {
                texts.forget_base();
                self.gather_texts(out);
            }
            Step::Indexes(_) | Step::Texts(_) | Step::Bytes(_)
                if damaged && heal.todo.front().is_some_and(|c| heal.damaged.insert(c.ino)) =>
            {
                heal.step = Step::List;
                self.release(out);
                self.next_object(out);
            }
            _ if there => self.stop_merge("the peer cannot read it", out),
            _ => self.stop_merge("it cannot be read here", out), // D3
        }
    }

    /// D2: what to do next with the front of the list.
    pub(super) fn unless_damaged(&mut self, next: Next) -> Next {
        let front = self.heal.as_ref().and_then(|heal| {
            let front = heal.todo.front();
            front.filter(|change| heal.damaged.contains(&change.ino))
        });
        let Some(change) = front.filter(|_| matches!(next, Next::Take(_) | Next::Both(_))) else {
            return next;
        };
        let path = self.path_of(change);
        let next = decide::damaged(&self.state, change, &path, self.me.other());
        if let Some(heal) = &mut self.heal {
            heal.did = Some(Mended::Damaged);
        }
        next
    }
}
