//! The mailer of the bench: the delivery trace on one directory, from inside a host.
//!
//! Promises: the calls of a delivery in the order in which Postfix makes them (dotlock, append, fcntl lock, fsync); each
//! stream delivers into a mailbox of its own, 4 KiB a message; only the delivery itself is timed, by the one who makes it.
//! Not here: how many streams, on which system, for how long (`loads`).

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock, fstat};

use crate::common::host::Host;

/// Makes the bench executable a worker in the directory that follows.
pub(crate) const ARGUMENT: &str = "--deliver-in";

const MESSAGE_BYTES: usize = 4096;

/// Some deliveries.
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    /// What each took.
    pub(crate) nanos: Vec<u64>,
}

/// A worker inside a host. It ends when this is dropped.
pub(crate) struct Worker {
    child: Child,
    /// Dropped to end it.
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(host: &Host, dir: &Path) -> Self {
        let own = std::env::current_exe().expect("the bench knows its own file");
        let mut command = host.command(own.to_str().expect("ASCII paths"));
        command.arg(ARGUMENT).arg(dir);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        let say = child.stdin.take();
        let hear = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, say, hear }
    }

    /// Mailboxes for that many streams, empty, each with one message delivered: leases and caches are warm.
    pub(crate) fn prepare(&mut self, boxes: &str, streams: usize) {
        self.ask(&format!("prepare {boxes} {streams} 0"));
    }

    /// Deliveries of that many streams for that long; at least one of each.
    pub(crate) fn run(&mut self, boxes: &str, streams: usize, time: Duration) -> Sample {
        let line = self.ask(&format!("run {boxes} {streams} {}", time.as_millis()));
        let mut words = line.split_whitespace().map(|w| w.parse().expect("numbers"));
        Sample {
            wall: Duration::from_nanos(words.next().expect("the time comes first")),
            nanos: words.collect(),
        }
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        let say = self.say.as_mut().expect("open until the end");
        writeln!(say, "{line}").expect("the worker listens");
        let mut answer = String::new();
        self.hear.read_line(&mut answer).expect("the worker speaks");
        assert!(answer.ends_with('\n'), "the worker ended; see its words above");
        answer
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.say.take());
        let _ = self.child.wait();
    }
}

/// The worker's side: does what it is told on stdin, until that ends.
pub(crate) fn main(dir: &Path) -> io::Result<()> {
    let message = message();
    for line in io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, boxes, streams, millis] = words[..] else {
            return Err(io::Error::other(format!("not understood: {line}")));
        };
        let streams: usize = streams.parse().map_err(io::Error::other)?;
        let time = Duration::from_millis(millis.parse().map_err(io::Error::other)?);
        let paths: Vec<PathBuf> = (0..streams).map(|i| dir.join(format!("{boxes}{i:02}"))).collect();
        if what == "prepare" {
            for path in &paths {
                File::create(path)?.sync_all()?;
                deliver(path, &message)?;
            }
            println!("done");
            continue;
        }
        let sample = run(&paths, &message, time)?;
        let mut answer = sample.wall.as_nanos().to_string();
        for nanos in sample.nanos {
            answer.push_str(&format!(" {nanos}"));
        }
        println!("{answer}");
    }
    Ok(())
}

/// One thread for each mailbox, all released at once.
fn run(paths: &[PathBuf], message: &[u8], time: Duration) -> io::Result<Sample> {
    let gate = Barrier::new(paths.len() + 1);
    let stream = |path: &Path| {
        let mut nanos = Vec::new();
        gate.wait();
        let begun = Instant::now();
        loop {
            let start = Instant::now();
            deliver(path, message)?;
            nanos.push(u64::try_from(start.elapsed().as_nanos()).map_err(io::Error::other)?);
            if begun.elapsed() >= time {
                return Ok(nanos);
            }
        }
    };
    std::thread::scope(|scope| {
        let streams: Vec<_> = paths.iter().map(|path| scope.spawn(|| stream(path))).collect();
        gate.wait();
        let begun = Instant::now();
        let done: io::Result<Vec<Vec<u64>>> = streams
            .into_iter()
            .map(|s| s.join().expect("a stream does not panic"))
            .collect();
        Ok(Sample {
            wall: begun.elapsed(),
            nanos: done?.concat(),
        })
    })
}

/// One delivery into a mailbox that exists.
fn deliver(mailbox: &Path, message: &[u8]) -> io::Result<()> {
    let mut dotlock = mailbox.as_os_str().to_owned();
    dotlock.push(".lock");
    drop(
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o000)
            .open(&dotlock)?,
    );
    let mut file = OpenOptions::new().append(true).open(mailbox)?;
    fcntl_lock(&file, FlockOperation::LockExclusive)?;
    fstat(&file)?;
    file.write_all(message)?;
    file.sync_all()?;
    fcntl_lock(&file, FlockOperation::Unlock)?;
    drop(file);
    remove_file(&dotlock)
}

fn message() -> Vec<u8> {
    let mut text =
        b"From sender@mail.test Mon Nov  2 10:00:00 2026\nFrom: sender@mail.test\nSubject: bench\n\n".to_vec();
    while text.len() < MESSAGE_BYTES - 2 {
        text.push(if text.len() % 72 == 71 { b'\n' } else { b'x' });
    }
    text.extend_from_slice(b"\n\n");
    text
}
