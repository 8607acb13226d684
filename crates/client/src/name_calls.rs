//! Calls on names: lookup, create, mkdir, link, unlink, rename, directory listings.
//!
//! Promises: a name is looked up under its group's lease or asked for (L3); a change of names is done by the brick, and
//! what the mount knows under its own leases is brought up to date from the reply.
//! Not here: dotlocks (`dot_calls`).

use crate::{
    calls::{Done, Pending, Wait},
    client::{Client, Handle, Kind},
    input::{Call, CallId, Fh, OpenFlags},
    link::For,
    output::{Answer, Listed, Output},
};
use alloc::vec::Vec;
use mboxfs_types::{
    Attr, Errno, Group, Ino, Kind as InodeKind, Name, Nanos,
    call::{Found, Intent, Mode, Op, Query},
};

/// Entries in one answer to the kernel; it asks on.
const LISTED_MAX: usize = 1024;

impl Client {
    pub(crate) fn lookup(&mut self, id: CallId, p: &mut Pending, dir: Ino, name: &Name, out: &mut Vec<Output>) -> Done {
        if name.is_dotlock() {
            return self.lookup_dot(id, p, dir, name, out);
        }
        let group = Group::of(dir, name);
        let state = self.want_name(id, p, &group, Mode::R, Intent::Read, out)?;
        let Some(ino) = state.entry else {
            return Some(Err(Errno::ENOENT));
        };
        let attr = self.want_inode(id, p, ino, Mode::R, Intent::Read, out)?;
        self.dot_groups.remove(&ino); // another mount's dotlock that is linked to it: this is the file itself
        Some(Ok(self.entry(p, attr)))
    }

    /// The kernel learns an inode.
    pub(crate) fn entry(&mut self, p: &Pending, attr: Attr) -> Answer {
        let (attr, attr_ttl) = if self.dot_groups.contains_key(&attr.ino) {
            (attr, Nanos(0))
        } else {
            let attr = self.shown(attr);
            (attr, self.tell(&attr, p.caller.thread))
        };
        self.node(attr.ino).lookups += 1;
        Answer::Entry {
            attr,
            entry_ttl: Nanos(0),
            attr_ttl,
        }
    }

    pub(crate) fn lookup_parent(&mut self, id: CallId, p: &mut Pending, ino: Ino, out: &mut Vec<Output>) -> Done {
        match p.found.take() {
            None if p.step == 0 => {
                p.wait = self.query(Query::Parent { ino }, id, out);
                None
            }
            Some(Ok(Found::Ino(parent))) => {
                p.step = 1;
                p.block = parent.0;
                self.lookup_parent(id, p, ino, out)
            }
            Some(Err(errno)) => Some(Err(errno)),
            Some(Ok(_)) => Some(Err(Errno::ESTALE)),
            None => {
                let attr = self.want_inode(id, p, Ino(p.block), Mode::R, Intent::Read, out)?;
                Some(Ok(self.entry(p, attr)))
            }
        }
    }

    pub(crate) fn read_link(&mut self, id: CallId, p: &mut Pending, ino: Ino, out: &mut Vec<Output>) -> Done {
        match p.found.take() {
            None => {
                p.wait = self.query(Query::ReadLink { ino }, id, out);
                None
            }
            Some(Ok(Found::Data(target))) => Some(Ok(Answer::Data(target))),
            Some(Ok(_)) => Some(Err(Errno::ESTALE)),
            Some(Err(errno)) => Some(Err(errno)),
        }
    }

    /// Under an own lease: `name` is `ino` now.
    pub(crate) fn name_is(&mut self, dir: Ino, name: &Name, ino: Option<Ino>) {
        if let Some(lease) = self.names.get_mut(&Group::of(dir, name)) {
            lease.entry = ino;
        }
    }

    /// Nobody waits for the reply to this any more, which would make the names what they are now.
    pub(crate) fn name_as_done(&mut self, op: &Op, attrs: &[Attr]) {
        if let Some((dir, name)) = op.takes() {
            self.name_is(dir, name, None);
        }
        if let Some((dir, name)) = op.gives() {
            self.name_is(dir, name, attrs.first().map(|a| a.ino));
        }
    }

    /// Sends `op` for this call, or gives the reply that came.
    fn ask_brick(
        &mut self,
        id: CallId,
        p: &mut Pending,
        op: Op,
        out: &mut Vec<Output>,
    ) -> Option<Result<Vec<Attr>, Errno>> {
        if let Some(reply) = p.reply.take() {
            return Some(reply);
        }
        let seq = self.request(op, For::Call(id), out);
        p.wait = Wait::Request(seq);
        None
    }

    /// mkdir, symlink, rmdir.
    pub(crate) fn change_names(&mut self, id: CallId, p: &mut Pending, out: &mut Vec<Output>) -> Done {
        let (uid, gid) = (p.caller.uid, p.caller.gid);
        let (op, dir, name) = match p.call.clone() {
            Call::Mkdir { dir, name, mode } => (
                Op::Mkdir {
                    dir,
                    name: name.clone(),
                    mode,
                    uid,
                    gid,
                },
                dir,
                name,
            ),
            Call::Symlink { dir, name, target } => (
                Op::Symlink {
                    dir,
                    name: name.clone(),
                    target,
                    uid,
                    gid,
                },
                dir,
                name,
            ),
            Call::Rmdir { dir, name } => (
                Op::Rmdir {
                    dir,
                    name: name.clone(),
                },
                dir,
                name,
            ),
            _ => return Some(Err(Errno::EINVAL)),
        };
        if name.is_dotlock() {
            return Some(Err(if matches!(op, Op::Rmdir { .. }) {
                Errno::ENOTDIR
            } else {
                Errno::EPERM
            }));
        }
        let removes = matches!(op, Op::Rmdir { .. });
        let attrs = match self.ask_brick(id, p, op, out)? {
            Ok(attrs) => attrs,
            Err(errno) => return Some(Err(errno)),
        };
        if removes {
            self.name_is(dir, &name, None);
            return Some(Ok(Answer::Empty));
        }
        let made = attrs.first().copied();
        self.name_is(dir, &name, made.map(|a| a.ino));
        Some(made.map_or(Err(Errno::ESTALE), |attr| Ok(self.entry(p, attr))))
    }

    pub(crate) fn mknod(
        &mut self,
        id: CallId,
        p: &mut Pending,
        dir: Ino,
        name: &Name,
        mode: u32,
        out: &mut Vec<Output>,
    ) -> Done {
        if name.is_dotlock() {
            let done = self.create_dot(id, p, dir, name, mode, true, out)?;
            return Some(done.map(|answer| match answer {
                Answer::Created { attr, fh, .. } => {
                    self.close_handle(fh);
                    self.entry(p, attr)
                }
                other => other,
            }));
        }
        let (uid, gid) = (p.caller.uid, p.caller.gid);
        let op = Op::Create {
            dir,
            name: name.clone(),
            mode,
            uid,
            gid,
            excl: true,
        };
        Some(match self.ask_brick(id, p, op, out)?.and_then(|a| Self::subject(&a)) {
            Ok(attr) => {
                self.name_is(dir, name, Some(attr.ino));
                Ok(self.entry(p, attr))
            }
            Err(errno) => Err(errno),
        })
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn create(
        &mut self,
        id: CallId,
        p: &mut Pending,
        dir: Ino,
        name: &Name,
        mode: u32,
        flags: OpenFlags,
        excl: bool,
        out: &mut Vec<Output>,
    ) -> Done {
        if name.is_dotlock() {
            let done = self.create_dot(id, p, dir, name, mode, excl, out)?;
            if let Ok(Answer::Created { attr, .. }) = &done {
                self.node(attr.ino).lookups += 1;
            }
            return Some(done);
        }
        if p.step == 0 {
            let (uid, gid) = (p.caller.uid, p.caller.gid);
            let op = Op::Create {
                dir,
                name: name.clone(),
                mode,
                uid,
                gid,
                excl,
            };
            let attr = match self.ask_brick(id, p, op, out)?.and_then(|a| Self::subject(&a)) {
                Ok(attr) => attr,
                Err(errno) => return Some(Err(errno)),
            };
            self.name_is(dir, name, Some(attr.ino));
            p.step = 1;
            p.block = attr.ino.0;
        }
        let ino = Ino(p.block);
        // It may have existed with content, if the name came between the kernel's lookup and this call.
        let mode = if flags.truncate { Mode::W } else { Mode::R };
        let intent = if flags.truncate { Intent::Write } else { Intent::Read };
        let attr = self.want_inode(id, p, ino, mode, intent, out)?;
        let fh = self.new_handle(
            id,
            ino,
            Kind::File {
                append: flags.append,
                sync: flags.sync,
            },
        );
        if flags.truncate && self.shown(attr).size > 0 {
            let now = self.clock.real;
            let staging = self.staging(ino);
            staging.truncate(0);
            staging.mtime = staging.mtime.max(now);
            staging.writers.insert(fh);
            self.keep_staged(ino);
        }
        self.node(ino).lookups += 1;
        self.untold(ino);
        let attr = self.shown(attr);
        Some(Ok(Answer::Created {
            attr,
            fh,
            dotlock: false,
            entry_ttl: Nanos(0),
            attr_ttl: Nanos(0),
        }))
    }

    pub(crate) fn link_name(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        dir: Ino,
        name: &Name,
        out: &mut Vec<Output>,
    ) -> Done {
        if name.is_dotlock() {
            let done = self.link_dot(id, p, ino, dir, name, out)?;
            if done.is_ok() {
                self.node(ino).lookups += 1;
            }
            return Some(done);
        }
        if self.dot_groups.contains_key(&ino) {
            return Some(Err(Errno::EPERM));
        }
        Some(
            match self
                .ask_brick(
                    id,
                    p,
                    Op::Link {
                        ino,
                        dir,
                        name: name.clone(),
                    },
                    out,
                )?
                .and_then(|a| Self::subject(&a))
            {
                Ok(attr) => {
                    self.name_is(dir, name, Some(ino));
                    Ok(self.entry(p, attr))
                }
                Err(errno) => Err(errno),
            },
        )
    }

    pub(crate) fn unlink(&mut self, id: CallId, p: &mut Pending, dir: Ino, name: &Name, out: &mut Vec<Output>) -> Done {
        if name.is_dotlock() {
            return self.unlink_dot(id, p, dir, name, out);
        }
        Some(
            match self.ask_brick(
                id,
                p,
                Op::Unlink {
                    dir,
                    name: name.clone(),
                },
                out,
            )? {
                Ok(_) => {
                    self.name_is(dir, name, None);
                    Ok(Answer::Empty)
                }
                Err(errno) => Err(errno),
            },
        )
    }

    pub(crate) fn rename(
        &mut self,
        id: CallId,
        p: &mut Pending,
        from: (Ino, &Name),
        to: (Ino, &Name),
        noreplace: bool,
        out: &mut Vec<Output>,
    ) -> Done {
        if from.1.is_dotlock() {
            return self.rename_dot(id, p, from, to, out);
        }
        if to.1.is_dotlock() {
            // A dotlock is no file: rename(2) onto one cannot be done in one step. link(2) can.
            return Some(Err(Errno::EXDEV));
        }
        let op = Op::Rename {
            dir: from.0,
            name: from.1.clone(),
            to_dir: to.0,
            to_name: to.1.clone(),
            noreplace,
        };
        Some(match self.ask_brick(id, p, op, out)? {
            Ok(attrs) => {
                // One attribute alone: both names were of the same file and stay (rename(2)).
                if attrs.len() > 1 {
                    self.name_is(from.0, from.1, None);
                    self.name_is(to.0, to.1, attrs.first().map(|a| a.ino));
                }
                Ok(Answer::Empty)
            }
            Err(errno) => Err(errno),
        })
    }

    // ---- listings

    pub(crate) fn open_dir(&mut self, id: CallId, ino: Ino) -> Done {
        let fh = self.new_handle(id, ino, Kind::Dir(Vec::new()));
        Some(Ok(Answer::Opened { fh, dotlock: false }))
    }

    /// A listing is taken whole at offset 0 and kept with the handle: a name present throughout appears exactly once.
    pub(crate) fn read_dir(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        fh: Fh,
        offset: u64,
        out: &mut Vec<Output>,
    ) -> Done {
        if offset == 0 {
            match p.found.take() {
                None => {
                    p.wait = self.query(Query::ReadDir { dir: ino, after: None }, id, out);
                    return None;
                }
                Some(Ok(Found::Entries { entries, end })) => {
                    let after = entries.last().map(|e| e.name.clone());
                    p.listing
                        .extend(entries.into_iter().map(|e| listed(e.ino, e.kind, e.name.as_bytes())));
                    if !end {
                        p.wait = self.query(Query::ReadDir { dir: ino, after }, id, out);
                        return None;
                    }
                }
                Some(Ok(_)) => return Some(Err(Errno::ESTALE)),
                Some(Err(errno)) => return Some(Err(errno)),
            }
            let mut all = alloc::vec![listed(ino, InodeKind::Dir, b"."), listed(ino, InodeKind::Dir, b"..")];
            all.append(&mut p.listing);
            let dots = self.own_dots.iter().filter(|(g, _)| g.dir == ino);
            all.extend(dots.map(|(_, d)| listed(d.ino, InodeKind::File, d.name.as_bytes())));
            for (i, entry) in all.iter_mut().enumerate() {
                entry.offset = i as u64 + 1;
            }
            match self.handles.get_mut(&fh) {
                Some(Handle {
                    kind: Kind::Dir(listing),
                    dead,
                    ..
                }) => (*listing, *dead) = (all, false),
                _ => return Some(Err(Errno::EBADF)),
            }
        }
        let listing = match self.handles.get(&fh) {
            // A former daemon took the listing with it: the rest of it is not known, the whole can be had again.
            Some(h) if h.dead => return Some(Err(Errno::ESTALE)),
            Some(Handle {
                kind: Kind::Dir(listing),
                ..
            }) => listing,
            _ => return Some(Err(Errno::EBADF)),
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(listing.len());
        let to = (from + LISTED_MAX).min(listing.len());
        Some(Ok(Answer::Entries(listing[from..to].to_vec())))
    }
}

fn listed(ino: Ino, kind: InodeKind, name: &[u8]) -> Listed {
    Listed {
        ino,
        offset: 0,
        kind,
        name: name.to_vec(),
    }
}
