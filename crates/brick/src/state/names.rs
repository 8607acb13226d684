//! Changes of names: create, mkdir, symlink, link, unlink, rmdir, rename, put.
//!
//! Promises: as rename(2), link(2), unlink(2), mkdir(2) say, sticky bits and permissions excepted (the kernel checks them).
//! Dotlocks never get here: they are no files.
//! Not here: leases on the names (`arbiter`).

use super::{Data, Inode, Outcome, State, exec::Context};
use alloc::{collections::BTreeMap, vec, vec::Vec};
use mboxfs_types::{
    Attr, Errno, Ino, Kind, Name, Timestamp,
    call::{Extent, Op},
    disk::Effect,
    limits,
};

const SETGID: u32 = 0o2000;

/// Who and how for a new inode.
#[derive(Clone, Copy)]
struct New {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl State {
    pub(super) fn run_names(&mut self, cx: Context, op: &Op, out: &mut Outcome) -> Result<Vec<Attr>, Errno> {
        match op {
            Op::Create {
                dir,
                name,
                mode,
                uid,
                gid,
                excl,
            } => match self.lookup(*dir, name)? {
                Some(_) if *excl => Err(Errno::EEXIST),
                Some(ino) if self.inode(ino)?.kind() == Kind::Dir => Err(Errno::EISDIR),
                Some(ino) => Ok(vec![self.attr(ino)?, self.attr(*dir)?]),
                None => self.make(
                    cx,
                    *dir,
                    name,
                    Data::File,
                    New {
                        mode: *mode,
                        uid: *uid,
                        gid: *gid,
                    },
                    out,
                ),
            },
            Op::Mkdir {
                dir,
                name,
                mode,
                uid,
                gid,
            } => {
                let data = Data::Dir {
                    parent: *dir,
                    entries: BTreeMap::new(),
                };
                self.make(
                    cx,
                    *dir,
                    name,
                    data,
                    New {
                        mode: *mode,
                        uid: *uid,
                        gid: *gid,
                    },
                    out,
                )
            }
            Op::Symlink {
                dir,
                name,
                target,
                uid,
                gid,
            } => {
                if target.is_empty() || target.len() > limits::VALUE_BYTES_MAX {
                    return Err(Errno::EINVAL);
                }
                let data = Data::Symlink { target: target.clone() };
                self.make(
                    cx,
                    *dir,
                    name,
                    data,
                    New {
                        mode: 0o777,
                        uid: *uid,
                        gid: *gid,
                    },
                    out,
                )
            }
            Op::Link { ino, dir, name } => self.link(cx, *ino, *dir, name, out),
            Op::Unlink { dir, name } => self.unlink(cx, *dir, name, out),
            Op::Rmdir { dir, name } => self.rmdir(cx, *dir, name, out),
            Op::Rename {
                dir,
                name,
                to_dir,
                to_name,
                noreplace,
            } => self.rename(cx, (*dir, name), (*to_dir, to_name), *noreplace, out),
            Op::Put {
                dir,
                name,
                mode,
                uid,
                gid,
                content,
            } => self.put(
                cx,
                *dir,
                name,
                New {
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                },
                content,
                out,
            ),
            _ => unreachable!("run() sends only names here"),
        }
    }

    fn touch_dir(&mut self, dir: Ino, time: Timestamp) {
        if let Some(inode) = self.inodes.get_mut(&dir) {
            inode.mtime = inode.mtime.max(time);
            inode.ctime = inode.ctime.max(time);
        }
    }

    fn make(
        &mut self,
        cx: Context,
        dir: Ino,
        name: &Name,
        data: Data,
        new: New,
        out: &mut Outcome,
    ) -> Result<Vec<Attr>, Errno> {
        if name.is_dotlock() {
            return Err(Errno::EPERM);
        }
        if dir == Ino::ROOT && name.as_bytes() == b".mboxfs" {
            return Err(Errno::EPERM);
        }
        if self.lookup(dir, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let parent = self.inode(dir)?;
        // A setgid directory gives its group to what is made in it, and its bit to directories (inode(7)).
        let inherits = parent.mode & SETGID != 0;
        let gid = if inherits { parent.gid } else { new.gid };
        let is_dir = matches!(data, Data::Dir { .. });
        let mode = (new.mode & 0o7777) | if inherits && is_dir { SETGID } else { 0 };
        let target = if let Data::Symlink { target } = &data {
            target.clone()
        } else {
            vec![]
        };
        let inode = Inode::new(data, mode, new.uid, gid, cx.time, (dir, name.clone()));
        out.effects.push(Effect::Make {
            ino: cx.ino,
            kind: inode.kind(),
            mode,
            uid: new.uid,
            gid,
            target,
            dir,
            name: name.clone(),
        });
        self.inodes.insert(cx.ino, inode);
        let parent = self.inodes.get_mut(&dir).expect("looked up above");
        parent.entries_mut()?.insert(name.clone(), cx.ino);
        parent.nlink += u32::from(is_dir);
        self.touch_dir(dir, cx.time);
        Ok(vec![self.attr(cx.ino)?, self.attr(dir)?])
    }

    fn link(&mut self, cx: Context, ino: Ino, dir: Ino, name: &Name, out: &mut Outcome) -> Result<Vec<Attr>, Errno> {
        if name.is_dotlock() {
            return Err(Errno::EPERM);
        }
        if self.lookup(dir, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        match inode.kind() {
            Kind::Dir => return Err(Errno::EPERM),
            _ if inode.orphan.is_some() => return Err(Errno::ENOENT),
            _ if inode.nlink >= limits::LINKS_MAX => return Err(Errno::EMLINK),
            _ => {}
        }
        inode.nlink += 1;
        inode.ctime = inode.ctime.max(cx.time);
        self.inodes
            .get_mut(&dir)
            .expect("looked up above")
            .entries_mut()?
            .insert(name.clone(), ino);
        self.touch_dir(dir, cx.time);
        out.effects.push(Effect::Link {
            ino,
            dir,
            name: name.clone(),
        });
        Ok(vec![self.attr(ino)?, self.attr(dir)?])
    }

    fn unlink(&mut self, cx: Context, dir: Ino, name: &Name, out: &mut Outcome) -> Result<Vec<Attr>, Errno> {
        let ino = self.lookup(dir, name)?.ok_or(Errno::ENOENT)?;
        if self.inode(ino)?.kind() == Kind::Dir {
            return Err(Errno::EISDIR);
        }
        let attr = self.drop_name(cx, ino, dir, name, out);
        Ok(attr.into_iter().chain([self.attr(dir)?]).collect())
    }

    fn drop_name(&mut self, cx: Context, ino: Ino, dir: Ino, name: &Name, out: &mut Outcome) -> Option<Attr> {
        self.inodes.get_mut(&dir)?.entries_mut().ok()?.remove(name);
        self.touch_dir(dir, cx.time);
        out.effects.push(Effect::Unlink {
            ino,
            dir,
            name: name.clone(),
        });
        self.forget_home(ino, dir, name);
        self.unlinked(ino, cx.time, out)
    }

    fn forget_home(&mut self, ino: Ino, dir: Ino, name: &Name) {
        if let Some(inode) = self.inodes.get_mut(&ino)
            && inode.home.as_ref().is_some_and(|(d, n)| *d == dir && n == name)
        {
            inode.home = None;
        }
    }

    fn rmdir(&mut self, cx: Context, dir: Ino, name: &Name, out: &mut Outcome) -> Result<Vec<Attr>, Errno> {
        let ino = self.lookup(dir, name)?.ok_or(Errno::ENOENT)?;
        if !self.inode(ino)?.entries()?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove_dir(cx, ino, dir, name, out);
        Ok(vec![self.attr(dir)?])
    }

    fn remove_dir(&mut self, cx: Context, ino: Ino, dir: Ino, name: &Name, out: &mut Outcome) {
        self.inodes.remove(&ino);
        if let Some(parent) = self.inodes.get_mut(&dir) {
            parent.nlink -= 1;
            if let Ok(entries) = parent.entries_mut() {
                entries.remove(name);
            }
        }
        self.touch_dir(dir, cx.time);
        out.effects.push(Effect::RemoveDir { ino });
    }

    /// Is `dir` the directory `ino` or below it? Moving a directory into itself is EINVAL (rename(2)).
    pub(crate) fn is_below(&self, dir: Ino, ino: Ino) -> bool {
        let mut at = dir;
        while at != Ino::ROOT {
            if at == ino {
                return true;
            }
            match self.inodes.get(&at).map(|i| &i.data) {
                Some(Data::Dir { parent, .. }) => at = *parent,
                _ => return false,
            }
        }
        ino == Ino::ROOT
    }

    fn rename(
        &mut self,
        cx: Context,
        from: (Ino, &Name),
        to: (Ino, &Name),
        noreplace: bool,
        out: &mut Outcome,
    ) -> Result<Vec<Attr>, Errno> {
        let ino = self.lookup(from.0, from.1)?.ok_or(Errno::ENOENT)?;
        let old = self.lookup(to.0, to.1)?;
        let is_dir = self.inode(ino)?.kind() == Kind::Dir;
        if is_dir && self.is_below(to.0, ino) {
            return Err(Errno::EINVAL);
        }
        if to.1.is_dotlock() || (to.0 == Ino::ROOT && to.1.as_bytes() == b".mboxfs") {
            return Err(Errno::EPERM);
        }
        if let Some(old) = old {
            if noreplace {
                return Err(Errno::EEXIST);
            }
            if old == ino {
                // Two names of one file: rename(2) does nothing.
                return Ok(vec![self.attr(ino)?]);
            }
            match (is_dir, self.inode(old)?.entries()) {
                (false, Ok(_)) => return Err(Errno::EISDIR),
                (true, Err(_)) => return Err(Errno::ENOTDIR),
                (true, Ok(entries)) if !entries.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        let mut attrs = Vec::new();
        if let Some(old) = old {
            if is_dir {
                self.remove_dir(cx, old, to.0, to.1, out);
            } else {
                attrs.extend(self.drop_name(cx, old, to.0, to.1, out));
            }
        }
        self.move_entry(cx, ino, from, to, is_dir, out)?;
        let mut all = vec![self.attr(ino)?, self.attr(from.0)?, self.attr(to.0)?];
        all.extend(attrs);
        Ok(all)
    }

    fn move_entry(
        &mut self,
        cx: Context,
        ino: Ino,
        from: (Ino, &Name),
        to: (Ino, &Name),
        is_dir: bool,
        out: &mut Outcome,
    ) -> Result<(), Errno> {
        let source = self.inodes.get_mut(&from.0).ok_or(Errno::ESTALE)?;
        source.entries_mut()?.remove(from.1);
        source.nlink -= u32::from(is_dir);
        let target = self.inodes.get_mut(&to.0).ok_or(Errno::ESTALE)?;
        target.entries_mut()?.insert(to.1.clone(), ino);
        target.nlink += u32::from(is_dir);
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        inode.home = Some((to.0, to.1.clone()));
        inode.ctime = inode.ctime.max(cx.time);
        if let Data::Dir { parent, .. } = &mut inode.data {
            *parent = to.0;
            out.effects.push(Effect::MoveDir {
                ino,
                dir: to.0,
                name: to.1.clone(),
            });
        } else {
            out.effects.push(Effect::Link {
                ino,
                dir: to.0,
                name: to.1.clone(),
            });
            out.effects.push(Effect::Unlink {
                ino,
                dir: from.0,
                name: from.1.clone(),
            });
        }
        self.touch_dir(from.0, cx.time);
        self.touch_dir(to.0, cx.time);
        Ok(())
    }

    fn put(
        &mut self,
        cx: Context,
        dir: Ino,
        name: &Name,
        new: New,
        content: &bytes::Bytes,
        out: &mut Outcome,
    ) -> Result<Vec<Attr>, Errno> {
        let old = self.lookup(dir, name)?;
        let mut replaced = None;
        if let Some(old) = old {
            if self.inode(old)?.kind() == Kind::Dir {
                return Err(Errno::EISDIR);
            }
            replaced = self.drop_name(cx, old, dir, name, out);
        }
        let mut attrs = self.make(cx, dir, name, Data::File, new, out)?;
        let inode = self.inodes.get_mut(&cx.ino).expect("made above");
        inode.size = content.len() as u64;
        inode.version = cx.tag.n;
        inode.writer = Some(cx.session);
        attrs[0] = inode.attr(cx.ino);
        let extents = if content.is_empty() {
            vec![]
        } else {
            vec![Extent {
                offset: 0,
                data: content.clone(),
            }]
        };
        out.effects.push(Effect::Write {
            ino: cx.ino,
            cut: 0,
            extents,
            size: content.len() as u64,
            mtime: cx.time,
            atime: cx.time,
            stamp: cx.tag,
        });
        attrs.extend(replaced);
        Ok(attrs)
    }
}
