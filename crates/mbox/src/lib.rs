//! The bytes of an mbox file: where its messages are, what their headers say, and when two messages are the same.
//!
//! Everything here is a pure function of bytes: no clock, no files, no locale. Any input is allowed; nothing panics, and
//! the work grows linearly with the input even if a sender chose every byte of it. Files are read through a [`source`],
//! so their size does not matter.
//!
//! The format has no standard that mail programs follow. RFC 4155 names it; what counts here is how Dovecot reads
//! it, since Dovecot serves the users; the modules say where that leaves RFC 4155.
//!
//! - [`from_line`]: is this line a separator, and of what time
//! - [`header`]: header lines, and the few headers in which mail programs keep state
//! - [`source`]: a file of any size, read in pieces
//! - [`scan`]: the messages of a file as spans of offsets
//! - [`identity`]: the name of a message, which survives flag changes and line-end changes
//! - [`count`]: is this file sound, and how many messages has it
//! - [`index`]: all that a merge has to know of a file; can be sent
//! - [`manifest`]: what a mailbox said when both sides last agreed; can be kept
//! - [`merge`]: two sides and their ancestor become a plan
//! - [`plan`]: which spans to copy, which bytes to write, and what the result will say
//! - [`files`]: what becomes of files that are no mailboxes
//! - [`maildir`]: what a message of a Maildir is called; [`uidlist`]: which UIDs it has; [`keywords`]: what its letters say
//!
//! Not here: locks, files, the network, and who may decide.
//!
//! # How a brick heals a mailbox
//!
//! Before its first write that the peer does not see, a brick freezes the manifest of the mailbox. When the two talk
//! again, each makes the index of its own file and sends it. Both compute the same plan; each fetches what
//! [`plan::Plan::needs`] names of the other's file, writes the result beside the mailbox, and checks it before it is put in
//! place. The result's manifest is the next ancestor.
//!
//! If one side has the result and the link breaks, that side goes on with it. The other one is merely stale then: its own
//! manifest is the ancestor of the next merge, not the old one (which would do, were there no equal messages).
//!
//! ```
//! use mboxfs_mbox::{index::Index, manifest::Manifest, merge, merge::Input, plan::Side};
//!
//! let mail = |name: &str| format!("From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <{name}@t>\n\nthis is {name}\n\n");
//! let agreed = mail("m1") + &mail("m2");
//! let frozen = Manifest::of(&Index::read(agreed.as_bytes())?).encode();
//!
//! // The link is down. Here somebody removes m1; there a1 comes.
//! let (here, there) = (mail("m2"), agreed + &mail("a1"));
//! let sent = Index::read(there.as_bytes())?.encode();
//!
//! // The link is back.
//! let (own, peers) = (Index::read(here.as_bytes())?, Index::decode(&sent)?);
//! let base = Manifest::decode(&frozen)?;
//! let plan = merge::plan(Some(&base), &Input::new(Some(&own)), &Input::new(Some(&peers)), 1_800_000_000)?;
//! let fetched: u64 = plan.needs(Side::Left).map(|range| range.end - range.start).sum();
//! assert_eq!(fetched, mail("a1").len() as u64); // m2 is here already.
//!
//! let mut result = Vec::new();
//! let write = |piece: &[u8]| Ok::<(), ()>(result.extend_from_slice(piece));
//! plan.carry_out(Side::Left, here.as_bytes(), there.as_bytes(), write).expect("slices can be read");
//! assert_eq!(result, (mail("m2") + &mail("a1")).as_bytes());
//! plan.check(&Index::read(&result[..])?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![no_std]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod count;
pub mod files;
pub mod from_line;
pub mod header;
pub mod identity;
pub mod index;
pub mod keywords;
mod line;
pub mod maildir;
pub mod manifest;
pub mod merge;
pub mod plan;
pub mod scan;
pub mod source;
pub mod uidlist;
pub mod wire;
