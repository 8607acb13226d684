//! Mounts: daemon, kernel, stream to a brick.
//!
//! Promises: as `mount::driver`: what a successor must know is written down before anything else of a step is carried out; a
//! daemon that dies is succeeded, and the kernel asks again what has no answer.
//! Not here: who calls (`programs`).

use super::{
    Event, MS, US, World,
    net::{Kind, Word},
};
use crate::{
    invariants::{Broken, Fact},
    kernel::Kernel,
};
use mboxfs_client::{
    Client,
    input::{Call, CallId, Caller, Clock, Config, Input},
    output::Output,
};
use mboxfs_types::{Ino, Name, Nanos, kept::Kept, limits};
use std::collections::VecDeque;

/// A connection that nobody answers is given up after so long.
const DIAL_TIMEOUT: u64 = 1000 * MS;

/// See above.
pub struct Mount {
    /// None: between two daemons.
    pub client: Option<Client>,
    pub(crate) kernel: Kernel,
    pub conn: Option<u64>,
    /// The brick at the other end.
    brick: usize,
    dial: u64,
    words: Vec<Kept>,
    answered: Vec<CallId>,
    /// Daemons so far.
    life: u32,
    pub(crate) nonce: u64,
    pub(crate) stopped_until: u64,
    /// It is killed in the middle of a step: the next write, or the next that is none.
    dies: Option<bool>,
    late: VecDeque<Input>,
    doubtful_until: Nanos,
}

fn config(i: usize, nonce: u64) -> Config {
    Config {
        volume: "gVol0".into(),
        client: [i as u8 + 1; 16],
        nonce: 1000 * (i as u64 + 1) + nonce,
        bricks: vec![format!("h{i}:24009"), format!("h{}:24009", 1 - i)],
        local: vec![format!("h{i}")],
    }
}

impl Mount {
    pub(crate) fn new(i: usize, nonce: u64) -> Self {
        Self {
            client: Some(Client::new(config(i, nonce), Clock::default())),
            kernel: Kernel::default(),
            conn: None,
            brick: i,
            dial: 0,
            words: Vec::new(),
            answered: Vec::new(),
            life: 0,
            nonce,
            stopped_until: 0,
            dies: None,
            late: VecDeque::new(),
            doubtful_until: Nanos(0),
        }
    }

    /// Where it is attached, as far as it knows.
    #[must_use]
    pub fn attached(&self) -> Option<usize> {
        self.conn.map(|_| self.brick)
    }
}

impl World {
    fn mount_clock(&self, m: usize) -> Clock {
        let (mono, real) = self.clock(m);
        Clock { mono, real }
    }

    /// One thing happens to a mount.
    pub(crate) fn mount_step(&mut self, m: usize, input: Input) {
        let clock = self.mount_clock(m);
        let now = self.now;
        let mount = &mut self.mounts[m];
        if now < mount.stopped_until {
            if input != Input::Tick {
                mount.late.push_back(input);
            }
            return;
        }
        let Some(client) = mount.client.as_mut() else {
            return;
        };
        let quiet = matches!(
            input,
            Input::Tick | Input::Frame(mboxfs_types::call::ToMount::Pong { .. })
        );
        if !quiet && self.journal.traces() {
            self.journal.trace(now, format_args!("mount{m} <- {input:?}"));
        }
        let writes = matches!(
            input,
            Input::Call {
                call: Call::Write { .. },
                ..
            }
        );
        let mut out = Vec::new();
        client.answered(&std::mem::take(&mut mount.answered));
        client.step(clock, input, &mut out);
        let (anew, words) = client.kept();
        if anew {
            mount.words.clear();
        }
        mount.words.extend(words);
        let dies = mount.dies.is_some_and(|dies| dies == writes);
        if dies {
            out.truncate(self.rng.below(1 + out.len() as u64) as usize);
        }
        for output in out {
            self.carry_out_mount(m, output);
        }
        if dies {
            self.daemon_dies(m);
        }
        self.check_kernel(m);
    }

    fn carry_out_mount(&mut self, m: usize, output: Output) {
        match output {
            Output::Done { id, result } => {
                self.mounts[m].answered.push(id);
                self.oracle.attached[m] = self.mounts[m].attached();
                let Some(asked) = self.mounts[m].kernel.answered(id) else {
                    return;
                };
                if self.journal.traces() {
                    self.journal
                        .trace(self.now, format_args!("mount{m} -> {id:?} {:?} {result:?}", asked.0));
                }
                self.answered(m, id, asked, result);
            }
            Output::Connect { address } => {
                self.close_mount(m);
                self.mounts[m].dial += 1;
                let dial = self.mounts[m].dial;
                let late = self.rng.between(40, 200) * US;
                self.after(
                    late,
                    Event::Dial {
                        mount: m,
                        dial,
                        address,
                    },
                );
            }
            Output::Disconnect => self.close_mount(m),
            Output::Send(frame) => {
                if let Some(conn) = self.mounts[m].conn {
                    self.send(conn, 0, Word::ToBrick(frame));
                }
            }
            Output::Invalidate { ino } => self.mounts[m].kernel.forget(ino),
            Output::Event(event) => self.journal.event(self.now, format_args!("mount{m} ** {event:?}")),
            _ => {}
        }
    }

    fn check_kernel(&mut self, m: usize) {
        let (mono, _) = self.clock(m);
        let mount = &self.mounts[m];
        let Some(client) = &mount.client else { return };
        if mono < mount.doubtful_until {
            return; // what the kernel keeps was told by another daemon (B4 of `client::keep`)
        }
        match mount.kernel.check(mono, client) {
            Ok(count) => self.kept += count,
            Err(why) => self.fails(Broken::new("I10", "L3", why)),
        }
    }

    fn close_mount(&mut self, m: usize) {
        if let Some(conn) = self.mounts[m].conn.take() {
            self.send(conn, 0, Word::End);
        }
    }

    pub(crate) fn on_dial(&mut self, m: usize, dial: u64, address: &str) {
        if self.mounts[m].dial != dial || self.mounts[m].client.is_none() {
            return;
        }
        let brick = usize::from(address.starts_with("h1"));
        if !self.both_ways(m, brick) {
            let time = if self.net.refuses { MS } else { DIAL_TIMEOUT };
            self.after(time, Event::Refused { mount: m, dial });
        } else if self.hosts[brick].brick.is_none() {
            self.after(MS / 5, Event::Refused { mount: m, dial });
        } else {
            let conn = self.open_conn(Kind::Mount(m), m, brick);
            self.mounts[m].conn = Some(conn);
            self.mounts[m].brick = brick;
            self.send(conn, 1, Word::Open);
        }
    }

    pub(crate) fn on_refused(&mut self, m: usize, dial: u64) {
        if self.mounts[m].dial == dial && self.mounts[m].conn.is_none() {
            self.mount_step(m, Input::Disconnected);
        }
    }

    pub(crate) fn on_brick_word(&mut self, m: usize, conn: u64, word: Word) -> bool {
        if self.mounts[m].conn != Some(conn) {
            return false;
        }
        match word {
            Word::Open => self.mount_step(m, Input::Connected),
            Word::ToMount(frame) => {
                self.see(&Fact::Hears {
                    mount: m,
                    frame: &frame,
                });
                self.mount_step(m, Input::Frame(frame));
            }
            Word::End => {
                self.close_mount(m);
                self.mount_step(m, Input::Disconnected);
            }
            _ => {}
        }
        true
    }

    pub(crate) fn tick_mount(&mut self, m: usize) {
        self.mount_step(m, Input::Tick);
        let Some(client) = &self.mounts[m].client else {
            return;
        };
        for pid in client.watched() {
            if !self.lives(m, pid) {
                self.mount_step(m, Input::Gone { pid });
            }
        }
        // Somebody looks at a mailbox, as Dovecot does in IDLE.
        let boxes = self.oracle.mailboxes.len() as u64;
        if boxes > 0 && !self.settings.quiet && self.rng.chance(20) && !self.mounts[m].kernel.asks_for_nobody() {
            let nth = self.rng.below(boxes) as usize;
            let name = self.oracle.mailboxes.iter().nth(nth).map(|n| Name::new(n.as_bytes()));
            if let Some(Ok(name)) = name {
                let call = Call::Lookup { dir: Ino::ROOT, name };
                self.call(m, Caller::default(), call);
            }
        }
    }

    /// The kernel asks the daemon, or waits for the next one.
    pub(crate) fn call(&mut self, m: usize, caller: Caller, call: Call) -> CallId {
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.mounts[m].kernel.ask(id, caller, &call);
        self.see(&Fact::Asks {
            mount: m,
            caller,
            call: &call,
        });
        self.mount_step(m, Input::Call { id, caller, call });
        id
    }

    pub(crate) fn wake_mount(&mut self, m: usize) {
        if self.now >= self.mounts[m].stopped_until {
            for input in std::mem::take(&mut self.mounts[m].late) {
                self.mount_step(m, input);
            }
        }
    }

    /// The daemon is killed, now or soon, behind what it has written down of a step.
    pub(crate) fn kill_daemon(&mut self, m: usize) {
        match self.rng.below(4) {
            0 | 1 => self.daemon_dies(m),
            step => self.mounts[m].dies = Some(step == 2),
        }
    }

    /// The supervisor starts the next one.
    fn daemon_dies(&mut self, m: usize) {
        self.mounts[m].dies = None;
        if self.hosts[m].power && self.mounts[m].client.take().is_some() {
            self.mounts[m].late.clear();
            self.mounts[m].stopped_until = 0;
            self.mounts[m].answered.clear();
            self.close_mount(m);
            let late = self.rng.between(20, 400) * MS;
            self.after(late, Event::NextDaemon { mount: m });
        }
    }

    pub(crate) fn next_daemon(&mut self, m: usize) {
        if self.mounts[m].client.is_some() || !self.hosts[m].power {
            return;
        }
        let clock = self.mount_clock(m);
        let mount = &mut self.mounts[m];
        mount.life += 1;
        let words = std::mem::take(&mut mount.words);
        let client = Client::resume(config(m, mount.nonce), clock, mount.life, words);
        mount.words = client.kept_all();
        mount.client = Some(client);
        mount.doubtful_until = clock.mono + limits::ATTR_TTL;
        self.journal
            .event(self.now, format_args!("mount{m} goes on with another daemon"));
        for (id, caller, call) in self.mounts[m].kernel.under_way() {
            self.mount_step(m, Input::Call { id, caller, call });
        }
    }

    /// The mount and all that use it are gone; it is mounted anew.
    pub(crate) fn mount_anew(&mut self, m: usize) {
        self.close_mount(m);
        let nonce = self.mounts[m].nonce + 100;
        let dial = self.mounts[m].dial;
        self.mounts[m] = Mount::new(m, nonce);
        self.mounts[m].dial = dial + 1;
    }
}
