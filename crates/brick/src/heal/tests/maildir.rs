//! Messages of a Maildir that both lines called otherwise, whichever line goes on.

use super::*;

/// The root holds `new` and `cur`, with these messages.
fn line(messages: &[&str]) -> Line {
    let mut line = Line::new();
    for name in ["new", "cur", "tmp", "other"] {
        let (mode, uid, gid) = (0o700, 0, 0);
        let (dir, name) = (Ino::ROOT, Name::new(name.as_bytes()).expect("a name"));
        line.do_it(Op::Mkdir {
            dir,
            name,
            mode,
            uid,
            gid,
        });
    }
    for path in messages {
        line.deliver(path);
    }
    line
}

impl Line {
    fn do_it(&mut self, op: Op) {
        self.run(op, None, Ino(0), None).expect("it can be done");
    }

    fn place(&self, path: &str) -> (Ino, Name) {
        let (dir, name) = path.split_once('/').unwrap_or(("", path));
        let dir = Name::new(dir.as_bytes())
            .ok()
            .and_then(|dir| self.state.lookup(Ino::ROOT, &dir).expect("root"));
        (dir.unwrap_or(Ino::ROOT), Name::new(name.as_bytes()).expect("a name"))
    }

    fn deliver(&mut self, path: &str) {
        let (dir, name) = self.place(path);
        let (mode, uid, gid, excl) = (0o600, 0, 0, true);
        self.do_it(Op::Create {
            dir,
            name: name.clone(),
            mode,
            uid,
            gid,
            excl,
        });
        let ino = self.state.lookup(dir, &name).expect("a directory").expect("made above");
        let token = self.brick << 32 | self.state.applied;
        self.commit(ino, BTreeSet::from([token]), Ino(0), None);
    }

    /// `a>b` renames, `a+b` links, `-a` removes, `*a` delivers, `/a` makes a directory, `a=640` sets a mode.
    pub(super) fn play(&mut self, steps: &str) {
        for step in steps.split_whitespace() {
            if let Some((from, to)) = step.split_once('>') {
                let ((dir, name), (to_dir, to_name)) = (self.place(from), self.place(to));
                let noreplace = true;
                self.do_it(Op::Rename {
                    dir,
                    name,
                    to_dir,
                    to_name,
                    noreplace,
                });
            } else if let Some((from, to)) = step.split_once('+') {
                let ((old, old_name), (dir, name)) = (self.place(from), self.place(to));
                let ino = self
                    .state
                    .lookup(old, &old_name)
                    .expect("a directory")
                    .expect("it is there");
                self.do_it(Op::Link { ino, dir, name });
            } else if let Some((path, mode)) = step.split_once('=') {
                let (dir, name) = self.place(path);
                let ino = self
                    .state
                    .lookup(dir, &name)
                    .expect("a directory")
                    .expect("it is there");
                let mode = Some(u32::from_str_radix(mode, 8).expect("octal"));
                let set = SetAttr {
                    mode,
                    ..SetAttr::default()
                };
                self.do_it(Op::SetAttr { ino, set });
            } else if let Some(path) = step.strip_prefix('/') {
                let (dir, name) = self.place(path);
                let (mode, uid, gid) = (0o700, 0, 0);
                self.do_it(Op::Mkdir {
                    dir,
                    name,
                    mode,
                    uid,
                    gid,
                });
            } else if let Some(path) = step.strip_prefix('-') {
                let (dir, name) = self.place(path);
                self.do_it(Op::Unlink { dir, name });
            } else if let Some(path) = step.strip_prefix('*') {
                self.deliver(path);
            }
        }
    }

    /// Messages that have their content, by directory and name.
    fn messages(&self) -> String {
        let mut found = Vec::new();
        for (path, kind, _) in shape(&self.state) {
            if kind == Kind::File {
                let path = path.iter().map(ToString::to_string).collect::<Vec<_>>().join("/");
                let (dir, name) = self.place(&path);
                let ino = self
                    .state
                    .lookup(dir, &name)
                    .expect("a directory")
                    .expect("it is there");
                let whole = self.tokens.get(&ino).is_some_and(|tokens| tokens.len() == 1);
                found.push(if whole {
                    path
                } else {
                    path + " is not what was delivered"
                });
            }
        }
        found.join(" ")
    }
}

/// Both ways.
#[track_caller]
fn merged(base: &[&str], left: &str, right: &str, expected: &str) {
    let base = line(base);
    let fork = Fork::new(&base.state);
    let play = |steps: &str, brick: u64| {
        let mut line = base.clone();
        line.brick = brick;
        line.play(steps);
        line
    };
    for (ours, theirs) in [(left, right), (right, left)] {
        let (mut ours, theirs) = (play(ours, 1), play(theirs, 2));
        merge_all(&mut ours, &theirs, &base, &fork);
        assert_eq!(ours.messages(), expected, "{left:?} and {right:?}");
        merge_all(&mut ours, &theirs, &base, &fork);
        assert_eq!(ours.messages(), expected, "again");
    }
}

#[test]
fn flags_are_united() {
    merged(&["cur/x:2,"], "cur/x:2,>cur/x:2,S", "cur/x:2,>cur/x:2,F", "cur/x:2,FS");
    merged(
        &["cur/x:2,FS"],
        "cur/x:2,FS>cur/x:2,S",
        "cur/x:2,FS>cur/x:2,FRS",
        "cur/x:2,RS",
    );
    merged(&["new/x"], "new/x>cur/x:2,", "new/x>cur/x:2,S", "cur/x:2,S");
    merged(&["new/x"], "new/x>cur/x:2,S", "new/x>cur/x:2,S", "cur/x:2,S");
    merged(&["new/x"], "new/x>cur/x:2,S", "", "cur/x:2,S");
    // Names that begin alike are other messages.
    merged(
        &["cur/x:2,", "cur/x,S=9:2,"],
        "cur/x:2,>cur/x:2,S",
        "cur/x,S=9:2,>cur/x,S=9:2,F",
        "cur/x,S=9:2,F cur/x:2,S",
    );
}

#[test]
fn a_removed_message_stays_removed() {
    merged(&["cur/x:2,", "cur/y:2,"], "-cur/x:2,", "cur/x:2,>cur/x:2,S", "cur/y:2,");
    merged(&["new/x", "new/y"], "-new/x", "new/x>cur/x:2,T", "new/y");
    merged(&["new/x"], "new/x>cur/x:2, -cur/x:2,", "new/x>cur/x:2,S", "");
}

#[test]
fn a_message_moved_elsewhere_is_kept_there() {
    merged(&["cur/x:2,"], "-cur/x:2,", "cur/x:2,>other/z", "other/z");
    merged(&["cur/x:2,"], "cur/x:2,>cur/x:2,S", "cur/x:2,>other/z", "other/z");
    merged(
        &["cur/x:2,"],
        "cur/x:2,>cur/x:2,S",
        "cur/x:2,+other/z -cur/x:2,",
        "other/z",
    );
    merged(
        &["cur/x:2,"],
        "cur/x:2,>cur/x:2,S",
        "cur/x:2,+other/z",
        "cur/x:2,S other/z",
    );
    merged(&["cur/x:2,"], "-cur/x:2,", "cur/x:2,+other/z", "other/z");
}

#[test]
fn deliveries_are_united() {
    merged(
        &["cur/x:2,"],
        "*new/a",
        "*new/b cur/x:2,>cur/x:2,S",
        "cur/x:2,S new/a new/b",
    );
    merged(&["tmp/x"], "*new/a", "tmp/x>new/x", "new/a new/x");
}
