//! `mboxfs drill`: one brick of a live pair, or the link between both, fails for some seconds while messages are delivered, and what users would have
//! noticed of it is measured.
//!
//! W1  It asks first, and begins only if both bricks are online and healed: the other one has everything.
//! W2  Its messages go to a directory of its own in the mounted volume, which it removes at the end, also when it is
//!     interrupted; mailboxes are not touched. The fault ends by itself (`limits::DRILL`), whatever becomes of this program.
//! W3  Passed means: every acknowledged message is there once, whole and in order, and nothing else; both bricks are whole
//!     again.
//!
//! Not here: the fault (`brickd::drill`), how a message is delivered (`demo::delivery`).

use crate::{
    DONE, Options, REFUSED, SIGNALLED, UNREACHABLE, USAGE, confirmed,
    demo::{Signals, delivery},
    hint_at, say, show, talk,
    words::Drill,
};
use mboxfs_rpc::{RpcError, admin};
use mboxfs_types::{
    admin::{Ask, Fault, HostState, Tell},
    limits,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Before the fault and after the end of it.
const CALM: Duration = Duration::from_secs(2);
/// The bricks are whole again within this, or the drill has failed.
const HEAL_MAX: Duration = Duration::from_secs(120);
/// Between two looks at the bricks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two messages: mail goes on beside the drill.
const PAUSE: Duration = Duration::from_millis(10);
const ANSWER: Duration = Duration::from_secs(10);

/// Why it did not take place, or did not come to its end; exit code.
struct Refused {
    why: String,
    hint: String,
    code: u8,
}

fn refused<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Refused> {
    let (why, hint) = (why.into(), hint.into());
    let code = REFUSED;
    Err(Refused { why, hint, code })
}

/// The exit code.
pub(crate) fn run(options: &Options, drill: &Drill) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(perform(options, drill)),
        Err(e) => refused(e.to_string(), ""),
    };
    ended.unwrap_or_else(|r| {
        talk(format!("error: could not run the drill: {}", show::clean(&r.why)));
        hint_at(&r.hint);
        r.code
    })
}

async fn perform(options: &Options, drill: &Drill) -> Result<u8, Refused> {
    let fault = drill.fault;
    let state = status(&options.brickd).await?;
    let brick = whole(&state, drill)?; // W1
    let Some(spool) = mounted(&drill.volume) else {
        let why = format!("volume {} is not mounted on this host", drill.volume);
        return refused(why, format!("mount -t mboxfs localhost:/{} DIR", drill.volume));
    };
    let seconds = limits::DRILL.0 / 1_000_000_000;
    talk(format!(
        "For {seconds} s {}. Meanwhile messages are delivered to a new directory in {}, which is removed at the end.\n\
         Mail goes on; until the brick has everything again there is one copy of what comes in.",
        match fault {
            Fault::Crash => format!("the brickd of {brick} is gone as after a crash"),
            Fault::SlowDisk => format!("the log of {brick} stands still as on a disk that does not answer"),
            Fault::Partition => "the bricks do not hear one another, as on a cut link".to_owned(),
        },
        spool.display()
    ));
    if !options.yes {
        match confirmed("Do you want to continue?") {
            Some(true) => {}
            Some(false) => return Ok(DONE),
            None => {
                let (why, hint) = ("it asks first, and there is no terminal to answer on", drill.words());
                let (why, hint, code) = (why.to_owned(), format!("mboxfs --yes {hint}"), USAGE);
                return Err(Refused { why, hint, code });
            }
        }
    }
    let mut signals = Signals::new().map_err(|e| plain(&e))?;
    let mut mailer = Mailer::start(&spool).map_err(|e| plain(&e))?;
    tokio::select! {
        played = play(options, drill, fault, &mut mailer) => report(&brick, drill, played?, mailer.finish()?),
        number = signals.next() => {
            talk("Interrupted; what was broken mends itself.");
            mailer.finish()?;
            Ok(SIGNALLED + number)
        }
    }
}

fn plain(error: &io::Error) -> Refused {
    let (why, hint) = (error.to_string(), String::new());
    let code = REFUSED;
    Refused { why, hint, code }
}

/// Calm, the fault, and the time until both bricks are whole again: that is what is returned.
async fn play(options: &Options, drill: &Drill, fault: Fault, mailer: &mut Mailer) -> Result<Duration, Refused> {
    sleep(CALM).await;
    mailer.broken_at = Instant::now();
    let (name, here) = (drill.volume.clone(), drill.here);
    match admin::ask(
        &options.brickd,
        &crate::credentials(),
        Ask::Drill { name, fault, here },
        ANSWER,
    )
    .await
    {
        Ok(Tell::Refused { why, hint }) => return refused(why, hint),
        Ok(_) => {}
        Err(error) => return unreachable(&options.brickd, &error),
    }
    let begun = Instant::now();
    // No sooner: at first nobody has noticed anything.
    sleep(Duration::from_nanos(limits::DRILL.0)).await;
    loop {
        // The brickd that is asked may be the one that is gone.
        let state = status(&options.brickd).await;
        if state.is_ok_and(|s| whole(&s, drill).is_ok()) {
            break;
        }
        if begun.elapsed() > HEAL_MAX {
            let why = format!("the bricks are not whole again after {} s", HEAL_MAX.as_secs());
            return refused(why, format!("mboxfs heal status {}", drill.volume));
        }
        sleep(LOOK_EVERY).await;
    }
    let whole_after = begun.elapsed();
    sleep(CALM).await;
    Ok(whole_after)
}

fn unreachable<T>(brickd: &str, error: &RpcError) -> Result<T, Refused> {
    Err(Refused {
        why: error.to_string(),
        hint: format!("is brickd running at {brickd}? systemctl status brickd"),
        code: UNREACHABLE,
    })
}

async fn status(brickd: &str) -> Result<HostState, Refused> {
    match admin::ask(brickd, &crate::credentials(), Ask::Status { deep: true }, ANSWER).await {
        Ok(Tell::Done(state)) => Ok(*state),
        Ok(Tell::Already(why)) => refused(why, ""),
        Ok(Tell::History(_) | Tell::Kept(_)) => refused("that is no answer", ""),
        Ok(Tell::Refused { why, hint }) => refused(why, hint),
        Err(error) => unreachable(brickd, &error),
    }
}

/// W1. The brick that is to fail, by its name.
fn whole(state: &HostState, drill: &Drill) -> Result<String, Refused> {
    let found = show::started(state, Some(&drill.volume));
    let volume = match found {
        Ok(Some(volume)) => volume,
        Ok(None) => return refused(format!("Volume {} does not exist", drill.volume), "mboxfs volume list"),
        Err(why) => return refused(why, "mboxfs volume list"),
    };
    let sides = show::sides(state, volume);
    if !sides.iter().all(|s| s.report.is_some_and(show::is_good)) {
        let hint = format!("mboxfs heal status {}", drill.volume);
        return refused("the bricks are not both online and healed", hint);
    }
    let brick = sides
        .iter()
        .find(|s| s.here == drill.here)
        .map(|s| show::place(s.brick));
    Ok(show::clean(&brick.unwrap_or_default()))
}

/// Where a volume is mounted on this host (proc(5), mountinfo).
pub(crate) fn mounted(volume: &str) -> Option<PathBuf> {
    mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?, volume)
}

fn mount_point(mountinfo: &str, volume: &str) -> Option<PathBuf> {
    mountinfo.lines().rev().find_map(|line| {
        let (place, device) = line.split_once(" - ")?;
        let mut words = device.split(' ');
        let is_it = words.next()? == "fuse.mboxfs" && words.next()?.rsplit_once(":/")?.1 == volume;
        let at = place.split(' ').nth(4)?;
        is_it.then(|| PathBuf::from(at.replace("\\040", " ")))
    })
}

/// One message.
struct Sent {
    number: usize,
    begun: Instant,
    took: Duration,
    acknowledged: bool,
}

/// Delivers, one message after the other, until it is told to finish.
struct Mailer {
    dir: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sent>>>,
    broken_at: Instant,
}

/// What became of the messages.
struct Count {
    acknowledged: usize,
    put_off: usize,
    longest: Duration,
    median_before: Duration,
    /// First thing that is not as it must be.
    wrong: Option<String>,
}

impl Mailer {
    fn start(spool: &Path) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(".mboxfs-drill-").tempdir_in(spool)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (mailbox, stopped) = (dir.path().join("box"), Arc::clone(&stop));
        let thread = thread::spawn(move || send(&mailbox, &stopped));
        let (thread, broken_at) = (Some(thread), Instant::now());
        Ok(Self {
            dir,
            stop,
            thread,
            broken_at,
        })
    }

    /// Stops, counts, cleans up.
    fn finish(mut self) -> Result<Count, Refused> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().map(JoinHandle::join);
        let Some(Ok(sent)) = thread else {
            return refused("the mailer of the drill failed", "");
        };
        let content = fs::read_to_string(self.dir.path().join("box")).map_err(|e| plain(&e));
        let removed = self.dir.close();
        let count = count(&sent, &content?, self.broken_at);
        removed.map_err(|e| plain(&e))?; // W2
        Ok(count)
    }
}

fn send(mailbox: &Path, stop: &AtomicBool) -> Vec<Sent> {
    let mut sent = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let (number, begun) = (sent.len(), Instant::now());
        let acknowledged = delivery::deliver(mailbox, &delivery::message(number)).is_ok();
        sent.push(Sent {
            number,
            begun,
            took: begun.elapsed(),
            acknowledged,
        });
        thread::sleep(PAUSE);
    }
    sent
}

/// W3.
fn count(sent: &[Sent], content: &str, broken_at: Instant) -> Count {
    let mut rest = content;
    let mut wrong = None;
    for s in sent {
        match rest.strip_prefix(&*delivery::message(s.number)) {
            Some(behind) => rest = behind,
            None if s.acknowledged => {
                let at = content.len() - rest.len();
                wrong = wrong.or(Some(format!(
                    "message {} was acknowledged and is not there, at byte {at}",
                    s.number
                )));
            }
            None => {}
        }
    }
    if wrong.is_none() && !rest.is_empty() {
        wrong = Some(format!(
            "{} bytes are there that nobody sent, or sent once only",
            rest.len()
        ));
    }
    let mut before: Vec<Duration> = sent
        .iter()
        .filter(|s| s.begun + s.took < broken_at)
        .map(|s| s.took)
        .collect();
    before.sort_unstable();
    let after = sent.iter().filter(|s| s.begun + s.took >= broken_at);
    let acknowledged = sent.iter().filter(|s| s.acknowledged).count();
    Count {
        acknowledged,
        put_off: sent.len() - acknowledged,
        longest: after.map(|s| s.took).max().unwrap_or_default(),
        median_before: before.get(before.len() / 2).copied().unwrap_or_default(),
        wrong,
    }
}

fn report(brick: &str, drill: &Drill, whole_after: Duration, count: Count) -> Result<u8, Refused> {
    if let Some(why) = count.wrong {
        return refused(
            format!("it FAILED: {why}"),
            "keep both bricks as they are, and ask for help",
        );
    }
    let place = match drill.fault {
        Fault::Partition => String::new(),
        Fault::Crash | Fault::SlowDisk => format!(" on {brick}"),
    };
    let text = format!(
        "{}{place}: passed\n\
         Messages: {} acknowledged, {} put off, 0 lost, 0 twice\n\
         Longest wait of a delivery: {} ms (median before: {} ms)\n\
         Both bricks whole again: {:.1} s after the fault began",
        drill.words(),
        count.acknowledged,
        count.put_off,
        count.longest.as_millis(),
        count.median_before.as_millis(),
        whole_after.as_secs_f64()
    );
    Ok(say(text, DONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: usize, acknowledged: bool) -> Sent {
        let (begun, took) = (Instant::now(), Duration::ZERO);
        Sent {
            number,
            begun,
            took,
            acknowledged,
        }
    }

    fn wrong(all: &[Sent], numbers: &[usize]) -> Option<String> {
        let content: String = numbers.iter().map(|n| delivery::message(*n)).collect();
        count(all, &content, Instant::now()).wrong
    }

    #[test]
    fn w3_what_is_lost_doubled_or_foreign_is_found() {
        let all = [sent(0, true), sent(1, false), sent(2, true)];
        assert_eq!(wrong(&all, &[0, 2]), None);
        assert_eq!(wrong(&all, &[0, 1, 2]), None, "put off, and there all the same");
        assert!(wrong(&all, &[0, 1]).unwrap().contains("message 2 was acknowledged"));
        assert!(wrong(&all, &[2]).unwrap().contains("message 0 was acknowledged"));
        assert!(wrong(&all, &[0, 0, 2]).is_some());
        assert!(wrong(&all, &[0, 2, 2]).is_some());
        assert!(wrong(&all, &[2, 0]).is_some(), "order");
    }

    #[test]
    fn the_mount_of_the_volume_is_found() {
        let text = "40 22 0:52 / /var/spool/mail rw shared:7 master:1 - fuse.mboxfs h1:/gVol0 rw\n\
                    41 22 0:53 / /a\\040b rw - fuse.mboxfs h1:/v rw\n\
                    42 22 0:54 / /c rw - ext4 h1:/w rw\n";
        assert_eq!(mount_point(text, "gVol0"), Some("/var/spool/mail".into()));
        assert_eq!(mount_point(text, "v"), Some("/a b".into()));
        assert_eq!(mount_point(text, "w"), None);
    }
}
