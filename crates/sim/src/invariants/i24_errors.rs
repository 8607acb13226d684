//! I24, law L9: programs get what POSIX says of a local filesystem, ESTALE, or ENOSPC; nothing else. ESTALE not where a
//! daemon or a stream ended and another one takes its place.

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_client::input::Call;
use mboxfs_types::Errno;

pub(super) struct Errors;

impl Watch for Errors {
    fn names(&self) -> (&'static str, &'static str) {
        ("I24", "L9")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Answers {
            mount,
            call,
            result: Err(errno),
            pid,
        } = fact
        else {
            return Ok(());
        };
        let fine = match errno {
            Errno::ESTALE => !world.gentle,
            // Of an unlock, too: it would else acknowledge what is not there.
            Errno::ENOSPC => matches!(
                call,
                Call::Write { .. }
                    | Call::Create { .. }
                    | Call::Fsync { .. }
                    | Call::Flush { .. }
                    | Call::Link { .. }
                    | Call::SetLock { kind: None, .. }
            ),
            Errno::ENOENT => matches!(call, Call::Lookup { .. } | Call::Unlink { .. } | Call::Link { .. }),
            Errno::EEXIST => matches!(call, Call::Create { .. } | Call::Link { .. }),
            Errno::EAGAIN => matches!(
                call,
                Call::SetLock {
                    wait: false,
                    kind: Some(_),
                    ..
                }
            ),
            Errno::EINTR => matches!(call, Call::SetLock { .. } | Call::Create { .. } | Call::Link { .. }),
            _ => false,
        };
        if fine {
            Ok(())
        } else {
            Err(format!("{errno:?} for {} of {pid} at mount {mount}", call.word()))
        }
    }
}
