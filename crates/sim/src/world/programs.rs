//! Processes: they make one system call after the other; killed ones leave what their kernel closes.
//!
//! Promises: a killed process is told nothing more; its open files are closed as by exit(2), with the word that it was killed.
//! Not here: what they do (`mailers`).

use super::{Event, MS, Rng, US, World};
use crate::{
    invariants::{Broken, Fact},
    kernel::Asked,
    mailers::{Around, Next, Postfix, Program},
    oracle::Fate,
};
use mboxfs_client::{
    input::{Call, CallId, Caller, Fh, Input, KILLED},
    output::Answer,
};
use mboxfs_types::{Errno, Ino, LockKind, Name, Range};
use std::collections::VecDeque;

const FIRST_PID: u32 = 100;
/// The world itself.
const PROBE: u32 = 99;
/// Each process has a parent of its own, which dies with it.
const PARENTS: u32 = 1_000_000;

/// See above.
pub struct Process {
    pub mount: usize,
    pub pid: u32,
    program: Box<dyn Program>,
    call: Option<CallId>,
    /// That call, answered.
    asked: Option<Asked>,
    /// File that the kernel has locked for it.
    locks: Option<Ino>,
    /// For which it waits, to make this call.
    waits: Option<(Call, Ino)>,
    pub over: bool,
    killed: bool,
    files: Vec<(Ino, Fh)>,
    closing: VecDeque<Call>,
}

impl World {
    /// A program begins.
    pub fn spawn(&mut self, mount: usize, program: Box<dyn Program>) {
        let pid = FIRST_PID + self.processes.len() as u32;
        self.journal
            .event(self.now, format_args!("{pid} at mount{mount}: {}", program.name()));
        self.processes.push(Process {
            mount,
            pid,
            program,
            call: None,
            asked: None,
            locks: None,
            waits: None,
            over: !self.hosts[mount].power,
            killed: false,
            files: Vec::new(),
            closing: VecDeque::new(),
        });
        let process = self.processes.len() - 1;
        self.at(self.now, Event::Resume { process });
    }

    /// Postfix at a mount gets a message.
    pub fn deliver(&mut self, mount: usize, mailbox: &str) {
        let (lines, writes) = (1 + self.rng.below(4) as u32, 1 + self.rng.below(2) as usize);
        self.oracle.mailboxes.insert(mailbox.into());
        self.spawn(mount, Box::new(Postfix::new(mailbox, lines, writes)));
    }

    /// So many deliveries, one soon after the other, at either mount, to as many mailboxes.
    pub fn deliver_some(&mut self, rng: &mut Rng, count: usize, boxes: u64) {
        for _ in 0..count {
            let mailbox = format!("user{}", rng.below(boxes));
            self.deliver(rng.side(), &mailbox);
            self.run(rng.below(20));
        }
    }

    /// Programs that have begun.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.processes.len()
    }

    /// Programs that have not ended.
    #[must_use]
    pub fn left(&self) -> usize {
        self.processes.iter().filter(|p| !p.over).count()
    }

    /// Messages that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.oracle.letters.values().filter(|l| l.fate == Fate::Kept).count()
    }

    pub(crate) fn close_dotlock(&mut self, m: usize, ino: Ino, fh: Fh) {
        self.call(m, Caller::default(), Call::Release { ino, fh, flock: None });
    }

    /// Programs that have not ended.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let left = self.processes.iter().filter(|p| !p.over);
        left.map(|p| format!("{} at mount {}: {}", p.pid, p.mount, p.program.name()))
            .collect()
    }

    /// The world itself asks, and waits.
    fn probe(&mut self, mount: usize, call: Call) -> Result<Result<Answer, Errno>, Broken> {
        let word = call.word();
        self.probe = (CallId(self.next_call + 1), None);
        let caller = Caller {
            uid: 0,
            gid: 8,
            pid: PROBE,
            thread: PROBE,
            ppid: 1,
        };
        self.call(mount, caller, call);
        let end = self.now + 5_000 * MS;
        while self.now < end {
            if let Some(answer) = self.probe.1.take() {
                return Ok(answer);
            }
            self.run(5);
            self.ok()?;
        }
        Err(Broken::new(
            "I32",
            "L13",
            format!("mount {mount} does not answer a {word} in 5 s, at rest"),
        ))
    }

    /// What a name is.
    ///
    /// # Errors
    /// What broke.
    pub fn look_now(&mut self, mount: usize, name: &str) -> Result<Option<Ino>, Broken> {
        let name = Name::new(name.as_bytes()).expect("names of a world are names");
        match self.probe(mount, Call::Lookup { dir: Ino::ROOT, name })? {
            Ok(Answer::Entry { attr, .. }) => Ok(Some(attr.ino)),
            _ => Ok(None),
        }
    }

    /// Can a file be locked?
    ///
    /// # Errors
    /// What broke.
    pub fn lock_now(&mut self, mount: usize, ino: Ino) -> Result<bool, Broken> {
        let (owner, range) = (u64::from(PROBE), Range::ALL);
        let kind = Some(LockKind::Exclusive);
        let got = self
            .probe(
                mount,
                Call::SetLock {
                    ino,
                    owner,
                    range,
                    kind,
                    wait: false,
                },
            )?
            .is_ok();
        self.probe(
            mount,
            Call::SetLock {
                ino,
                owner,
                range,
                kind: None,
                wait: false,
            },
        )?
        .ok();
        Ok(got)
    }

    pub(crate) fn lives(&self, mount: usize, pid: u32) -> bool {
        let pid = if pid >= PARENTS { pid - PARENTS } else { pid };
        let process = self.processes.get((pid.max(FIRST_PID) - FIRST_PID) as usize);
        process.is_some_and(|p| p.mount == mount && !p.over)
    }

    pub(crate) fn resume(&mut self, process: usize) {
        let p = &mut self.processes[process];
        if p.over || p.call.is_some() {
            return;
        }
        match p.waits.take() {
            Some((call, ino)) => self.ask_locked(process, call, Some(ino)),
            None => self.go_on(process, None),
        }
    }

    /// The daemon has answered: the program has it a moment later.
    pub(crate) fn answered(&mut self, m: usize, id: CallId, asked: Asked, result: Result<Answer, Errno>) {
        let call = &asked.0;
        let process = self.processes.iter().rposition(|p| p.call == Some(id));
        let pid = process.map_or(0, |p| self.processes[p].pid);
        self.see(&Fact::Answers {
            mount: m,
            pid,
            call,
            result: &result,
        });
        if self.probe.0 == id {
            self.looks(m, &asked, &result);
            self.probe.1 = Some(result);
            return;
        }
        if let (Call::Create { name, .. }, Ok(_)) = (call, &result) {
            self.note_made(name);
        }
        if let Ok(Answer::Created {
            attr,
            fh,
            dotlock: true,
            ..
        }) = &result
        {
            // It is closed at once, without a FLUSH (FOPEN_NOFLUSH).
            let (ino, fh) = (attr.ino, *fh);
            self.after(US, Event::CloseDotlock { mount: m, ino, fh });
        }
        if let Some(process) = process {
            self.note_files(process, call, &result);
            // Now and then another process has its turn first.
            let late = if self.rng.chance(4) {
                self.rng.below(15 * MS)
            } else {
                self.rng.between(2, 30) * US
            };
            self.processes[process].asked = Some(asked);
            self.after(
                late,
                Event::Answer {
                    process,
                    answer: result,
                },
            );
        } else {
            self.looks(m, &asked, &result);
        }
    }

    fn looks(&mut self, m: usize, asked: &Asked, result: &Result<Answer, Errno>) {
        let (mono, _) = self.clock(m);
        self.mounts[m].kernel.looks(mono, asked, result);
    }

    fn note_files(&mut self, process: usize, call: &Call, result: &Result<Answer, Errno>) {
        let files = &mut self.processes[process].files;
        match (call, result) {
            (Call::Open { ino, .. }, Ok(Answer::Opened { fh, .. })) => files.push((*ino, *fh)),
            (
                _,
                Ok(Answer::Created {
                    attr,
                    fh,
                    dotlock: false,
                    ..
                }),
            ) => files.push((attr.ino, *fh)),
            (Call::Release { fh, .. }, _) => files.retain(|(_, f)| f != fh),
            _ => {}
        }
    }

    pub(crate) fn on_answer(&mut self, process: usize, answer: Result<Answer, Errno>) {
        self.processes[process].call = None;
        let asked = self.processes[process].asked.take();
        if self.processes[process].over {
            return;
        }
        if let Some(ino) = self.processes[process].locks.take() {
            let mount = self.processes[process].mount;
            self.mounts[mount].kernel.unlock(ino);
        }
        if let Some(asked) = asked {
            self.looks(self.processes[process].mount, &asked, &answer);
        }
        if self.processes[process].killed {
            return self.close_next(process);
        }
        self.go_on(process, Some(answer));
    }

    fn go_on(&mut self, process: usize, answer: Option<Result<Answer, Errno>>) {
        let mount = self.processes[process].mount;
        self.oracle.attached[mount] = self.mounts[mount].attached();
        if self.rots > 0 {
            let taken_out = |name: &String| self.hosts.iter().map(|host| host.disk.image.taken_out(name)).max();
            let all = self.oracle.mailboxes.iter();
            let all = all.map(|name| (name.clone(), taken_out(name).unwrap_or(0) as usize));
            self.oracle.taken_out = all.collect();
        }
        let (mono, _) = self.clock(mount);
        let p = &mut self.processes[process];
        let mut around = Around {
            oracle: &mut self.oracle,
            kernel: &self.mounts[mount].kernel,
            mono,
            now: self.now,
            mount,
            pid: p.pid,
        };
        match p.program.next(&mut around, answer) {
            Ok(Next::Call(call)) => {
                let locks = match call {
                    Call::SetAttr { ino, .. } | Call::Write { ino, .. } => Some(ino),
                    _ => None,
                };
                self.ask_locked(process, call, locks);
            }
            Ok(Next::Seek(ino)) => self.ask_locked(process, Call::GetAttr { ino }, Some(ino)),
            Ok(Next::Pause(ms)) => {
                let late = self.rng.below(ms);
                self.after((ms / 2 + late) * MS, Event::Resume { process });
            }
            Ok(Next::Exit) => {
                self.processes[process].over = true;
                let pid = self.processes[process].pid;
                self.journal.event(self.now, format_args!("{pid} has ended"));
            }
            Err(wrong) => {
                let pid = self.processes[process].pid;
                let name = self.processes[process].program.name();
                self.fails(Broken::new(wrong.0, wrong.1, format!("{pid} ({name}): {}", wrong.2)));
            }
        }
    }

    /// A call that the kernel makes when it has locked the file.
    fn ask_locked(&mut self, process: usize, call: Call, locks: Option<Ino>) {
        let p = &mut self.processes[process];
        if let Some(ino) = locks
            && !self.mounts[p.mount].kernel.lock(ino)
        {
            p.waits = Some((call, ino));
            let late = self.rng.between(5, 50) * US;
            return self.after(late, Event::Resume { process });
        }
        p.locks = locks;
        self.ask(process, call);
    }

    fn ask(&mut self, process: usize, call: Call) {
        let p = &self.processes[process];
        let (mount, pid) = (p.mount, p.pid);
        let ends = matches!(call, Call::Flush { .. });
        let parent = if ends { 0 } else { PARENTS + pid };
        let ppid = if ends && p.killed { KILLED } else { parent };
        let caller = Caller {
            uid: 0,
            gid: 8,
            pid,
            thread: pid,
            ppid,
        };
        // Known before the daemon is asked: it may answer at once.
        self.processes[process].call = Some(CallId(self.next_call + 1));
        let id = self.call(mount, caller, call);
        debug_assert_eq!(id.0, id.0.max(1));
    }

    /// SIGKILL.
    pub(crate) fn kill_process(&mut self, process: usize) {
        let p = &mut self.processes[process];
        if p.over || std::mem::replace(&mut p.killed, true) {
            return;
        }
        let pid = p.pid;
        self.journal.event(self.now, format_args!("{pid} is killed"));
        p.waits = None;
        for (ino, fh) in std::mem::take(&mut p.files) {
            p.closing.push_back(Call::Flush {
                ino,
                fh,
                owner: u64::from(pid),
            });
            p.closing.push_back(Call::Release { ino, fh, flock: None });
        }
        match p.call {
            Some(id) => {
                let mount = p.mount;
                self.mount_step(mount, Input::Interrupt(id));
            }
            None => self.close_next(process),
        }
    }

    fn close_next(&mut self, process: usize) {
        // What it opened with its last call.
        for (ino, fh) in std::mem::take(&mut self.processes[process].files) {
            let owner = u64::from(self.processes[process].pid);
            let closing = &mut self.processes[process].closing;
            closing.push_back(Call::Flush { ino, fh, owner });
            closing.push_back(Call::Release { ino, fh, flock: None });
        }
        match self.processes[process].closing.pop_front() {
            Some(call) => self.ask(process, call),
            None => self.processes[process].over = true,
        }
    }

    /// The server has lost power: they are no more.
    pub(crate) fn processes_vanish(&mut self, mount: usize) {
        for p in self.processes.iter_mut().filter(|p| p.mount == mount) {
            p.over = true;
            p.call = None;
        }
    }
}
