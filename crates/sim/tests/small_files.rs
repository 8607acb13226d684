//! Files of Dovecot that are no mailboxes, changed on both sides of a partition: sets of lines, keywords of a Maildir.

use bytes::Bytes;
use mboxfs_client::{
    input::{Call, Fh, OpenFlags},
    output::Answer,
};
use mboxfs_sim::{
    mailers::{Around, Next, Program, Wrong},
    world::World,
};
use mboxfs_types::{Errno, Ino, Name};
use std::{cell::RefCell, collections::BTreeSet, collections::VecDeque, rc::Rc};

/// What a program does; paths begin at the root of the volume.
#[derive(Clone, Debug)]
enum Do {
    Mkdir(&'static str),
    /// As Dovecot does it: a new file takes the name.
    Put(&'static str, String),
    /// Within a directory.
    Rename(&'static str, &'static str),
    Cat(&'static str),
}

/// What `Cat` found, in order; none: there is no such file.
type Found = Rc<RefCell<Vec<Option<String>>>>;

struct Shell {
    todo: VecDeque<Do>,
    found: Found,
    /// Names to walk down, the last one first.
    way: Vec<Name>,
    dir: Ino,
    file: (Ino, Fh),
    /// Calls made for the front of `todo` since the way was gone.
    step: u32,
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

impl Do {
    fn path(&self) -> &'static str {
        match self {
            Self::Mkdir(path) | Self::Put(path, _) | Self::Rename(path, _) | Self::Cat(path) => path,
        }
    }

    fn name(&self) -> Name {
        name(self.path().rsplit('/').next().expect("a path"))
    }
}

impl Shell {
    fn new(todo: Vec<Do>, found: &Found) -> Self {
        let mut shell = Self {
            todo: todo.into(),
            found: Rc::clone(found),
            way: vec![],
            dir: Ino::ROOT,
            file: (Ino(0), Fh(0)),
            step: 0,
        };
        shell.begin();
        shell
    }

    fn begin(&mut self) {
        (self.dir, self.step) = (Ino::ROOT, 0);
        let path = self.todo.front().map_or("", Do::path);
        self.way = path.rsplit('/').skip(1).map(name).collect();
    }

    fn take(&mut self, answer: Result<Answer, Errno>) {
        let cat = matches!(self.todo.front(), Some(Do::Cat(_)));
        match answer {
            Ok(Answer::Entry { attr, .. }) if !self.way.is_empty() => {
                self.dir = attr.ino;
                self.way.pop();
                return;
            }
            Ok(Answer::Entry { attr, .. }) => self.file.0 = attr.ino,
            Ok(Answer::Created { attr, fh, .. }) => self.file = (attr.ino, fh),
            Ok(Answer::Opened { fh, .. }) => self.file.1 = fh,
            Ok(Answer::Data(data)) if cat => {
                let text = String::from_utf8(data.to_vec()).expect("text");
                self.found.borrow_mut().push(Some(text));
            }
            Ok(_) => {}
            Err(Errno::ENOENT) if cat => {
                self.found.borrow_mut().push(None);
                self.step = 99;
            }
            // What was open is not any more: as mail programs, from the beginning.
            Err(Errno::ESTALE) => return self.begin(),
            Err(errno) => panic!("{:?}: {errno:?}", self.todo.front()),
        }
        self.step += 1;
    }

    /// None: this one is done.
    fn call(&self) -> Option<Call> {
        let ((ino, fh), dir, front) = (self.file, self.dir, self.todo.front()?);
        if let Some(name) = self.way.last() {
            let name = name.clone();
            return Some(Call::Lookup { dir, name });
        }
        let (own, flags) = (front.name(), READ_WRITE);
        let release = Call::Release { ino, fh, flock: None };
        Some(match (front, self.step) {
            (Do::Mkdir(_), 0) => Call::Mkdir {
                dir,
                name: own,
                mode: 0o700,
            },
            (Do::Put(..), 0) => Call::Create {
                dir,
                name: name("temp"),
                mode: 0o600,
                flags,
                excl: false,
            },
            (Do::Put(_, text), 1) => Call::Write {
                ino,
                fh,
                offset: 0,
                data: Bytes::from(text.clone()),
            },
            (Do::Put(..), 2) => Call::Fsync { ino, fh },
            (Do::Put(..), 3) | (Do::Cat(_), 3) => release,
            (Do::Put(..), 4) => Call::Rename {
                dir,
                name: name("temp"),
                to_dir: dir,
                to_name: own,
                noreplace: false,
            },
            (Do::Rename(_, to), 0) => Call::Rename {
                dir,
                name: own,
                to_dir: dir,
                to_name: name(to),
                noreplace: true,
            },
            (Do::Cat(_), 0) => Call::Lookup { dir, name: own },
            (Do::Cat(_), 1) => Call::Open { ino, flags },
            (Do::Cat(_), 2) => Call::Read {
                ino,
                fh,
                offset: 0,
                len: 4096,
            },
            _ => return None,
        })
    }
}

const READ_WRITE: OpenFlags = OpenFlags {
    read: true,
    write: true,
    append: false,
    truncate: false,
    sync: false,
};

impl Program for Shell {
    fn next(&mut self, _: &mut Around<'_>, answer: Option<Result<Answer, Errno>>) -> Result<Next, Wrong> {
        if let Some(answer) = answer {
            self.take(answer);
        }
        while !self.todo.is_empty() {
            if let Some(call) = self.call() {
                return Ok(Next::Call(call));
            }
            self.todo.pop_front();
            self.begin();
        }
        Ok(Next::Exit)
    }

    fn name(&self) -> String {
        format!("{:?}", self.todo)
    }
}

/// What a mount's program found, which ends.
fn run(world: &mut World, mount: usize, todo: &[Do]) -> Vec<Option<String>> {
    let found = Found::default();
    let before = world.left();
    world.spawn(mount, Box::new(Shell::new(todo.to_vec(), &found)));
    for _ in 0..1000 {
        world.run(20);
        world
            .ok()
            .unwrap_or_else(|broken| panic!("seed {}: {broken}", world.settings.seed));
        if world.left() <= before {
            break;
        }
    }
    assert!(world.left() <= before, "{todo:?} does not end");
    found.take()
}

fn part(world: &mut World) {
    world.part();
    world.run(5_000);
}

const SET: &str = "box/subscriptions";

#[test]
fn a_line_that_was_merged_and_removed_stays_away() {
    lines([true, true]);
}

#[test]
fn lines_that_one_side_changes_again_are_merged() {
    lines([true, false]);
    lines([false, true]);
}

/// Lines that each side added go when the other side, to which they came in a merge that was interrupted, removes them.
/// `again`: which side goes on changing them.
fn lines(again: [bool; 2]) {
    let mut interrupted = 0;
    for delay in 0..40 {
        let mut world = World::new(1000 + delay);
        world.run(200);
        run(&mut world, 0, &[Do::Mkdir("box"), Do::Put(SET, "common\n".into())]);
        part(&mut world);
        for (mount, text) in ["common\nx0\n", "common\nx1\n"].into_iter().enumerate() {
            for mailbox in 0..4 {
                world.deliver(mount, &format!("user{mailbox}"));
            }
            run(&mut world, mount, &[Do::Put(SET, text.into())]);
        }
        world.mend_wires();
        world.run(20 + 2 * delay);
        part(&mut world);
        if world.reloads > 0 {
            continue; // it was not interrupted
        }
        let mut gone = BTreeSet::new();
        for (mount, goes_on) in again.into_iter().enumerate() {
            let found = run(&mut world, mount, &[Do::Cat(SET)]).remove(0).expect("it is there");
            let others = format!("x{}", 1 - mount);
            let is_merged = found.lines().any(|line| line == others);
            interrupted += u32::from(is_merged);
            if !goes_on {
                continue;
            }
            let kept = found.lines().filter(|line| *line != others);
            let text: String = kept.map(|line| format!("{line}\n")).collect();
            run(&mut world, mount, &[Do::Put(SET, format!("{text}y{mount}\n"))]);
            gone.extend(is_merged.then_some(others));
        }
        world.mend_wires();
        world.settle(60_000);
        let all = ["common", "x0", "x1"].map(String::from).into_iter();
        let late = (0..2).filter(|mount| again[*mount]).map(|mount| format!("y{mount}"));
        let expected: BTreeSet<String> = all.chain(late).filter(|line| !gone.contains(line)).collect();
        for mount in 0..2 {
            let found = run(&mut world, mount, &[Do::Cat(SET)]).remove(0).expect("it is there");
            let found: BTreeSet<String> = found.lines().map(String::from).collect();
            assert_eq!(found, expected, "after {delay}, at mount {mount}");
        }
    }
    assert!(
        interrupted > 0,
        "no merge was interrupted behind it: the test tested nothing"
    );
}

const LIST: &str = "box/dovecot-keywords";

/// Each side gives a keyword, of one number; each message has in the end what either side said.
#[test]
fn keywords_of_one_number_stay_two() {
    let mut interrupted = 0;
    for delay in 0..40 {
        let mut world = World::new(2000 + delay);
        world.run(200);
        let (text, first) = ("text", delay % 2);
        let known = ["", "0 Old\n"][first as usize];
        let letter = |number: u64| char::from(b'a' + number as u8);
        let named = |name: &str, numbers: &[u64]| {
            let letters: String = numbers.iter().map(|number| letter(*number)).collect();
            &*format!("{name}:2,{letters}").leak()
        };
        let at = |name: &str| &*format!("box/cur/{name}").leak();
        run(
            &mut world,
            0,
            &[
                Do::Mkdir("box"),
                Do::Mkdir("box/new"),
                Do::Mkdir("box/cur"),
                Do::Put(LIST, known.into()),
                Do::Put("box/cur/both:2,", text.into()),
                Do::Put("box/cur/one:2,", text.into()),
                Do::Put("box/cur/two:2,", text.into()),
            ],
        );
        part(&mut world);
        run(
            &mut world,
            0,
            &[
                Do::Put(LIST, format!("{known}{first} Work\n")),
                Do::Rename("box/cur/both:2,", named("both", &[first])),
                Do::Rename("box/cur/one:2,", named("one", &[first])),
            ],
        );
        run(
            &mut world,
            1,
            &[
                Do::Put(LIST, format!("{known}{first} Home\n")),
                Do::Rename("box/cur/both:2,", named("both", &[first])),
                Do::Rename("box/cur/two:2,", named("two", &[first])),
                Do::Put(at(named("new", &[first])), text.into()),
            ],
        );
        world.mend_wires();
        world.run(20 + 2 * delay);
        part(&mut world);
        interrupted += u32::from(world.reloads == 0);
        world.mend_wires();
        world.settle(60_000);
        let (second, third) = (first + 1, first + 2);
        for mount in 0..2 {
            let list = run(&mut world, mount, &[Do::Cat(LIST)]).remove(0).expect("it is there");
            let both = |a: &str, b: &str| format!("{known}{first} moved:{a}\n{second} {a}\n{third} {b}\n");
            let [work, home] = if list == both("Work", "Home") {
                [second, third]
            } else {
                assert_eq!(list, both("Home", "Work"), "after {delay}");
                [third, second]
            };
            let names = [
                named("both", &[second, third]),
                named("one", &[work]),
                named("two", &[home]),
                named("new", &[home]),
            ];
            let found = run(&mut world, mount, &names.map(|name| Do::Cat(at(name))));
            assert_eq!(found, vec![Some(text.to_owned()); 4], "after {delay}: {names:?}");
        }
    }
    assert!(interrupted > 0, "no merge was interrupted: the test tested nothing");
}

/// More keywords than there are letters: the later list stays, the other one is kept beside it.
#[test]
fn lists_of_keywords_that_cannot_be_merged_are_both_kept() {
    let mut world = World::new(3000);
    world.run(200);
    run(&mut world, 0, &[Do::Mkdir("box"), Do::Mkdir("box/cur")]);
    part(&mut world);
    let full = |mount: usize| (0..26).map(|n| format!("{n} {n}-of-{mount}\n")).collect::<String>();
    for mount in 0..2 {
        let message = ["box/cur/x:2,a", "box/cur/y:2,b"][mount];
        run(
            &mut world,
            mount,
            &[Do::Put(LIST, full(mount)), Do::Put(message, "text".into())],
        );
    }
    world.mend_wires();
    world.settle(60_000);
    for mount in 0..2 {
        let all = [LIST, "box/cur/x:2,a", "box/cur/y:2,b"].map(Do::Cat);
        let found = run(&mut world, mount, &all);
        assert_eq!(found, [full(1), "text".into(), "text".into()].map(Some));
        assert!(world.look_now(mount, ".mboxfs-conflict").is_ok_and(|dir| dir.is_some()));
    }
}
