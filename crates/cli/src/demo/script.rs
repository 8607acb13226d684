//! The story of the demo, step by step.
//!
//! Promises: every delivery is read back whole on the other server before the next one begins; what is told of times is the
//! measured one.
//! Not here: how things are started and ended (`stage`).

use super::{
    Failure,
    delivery::{deliver, message},
    stage::{Stage, VOLUME},
};
use std::{
    fmt::Display,
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tokio::{task::spawn_blocking, time::sleep};

const MAILBOX: &str = "alice";
/// Deliveries in each part of the story.
const ROUND: usize = 20;
/// How long a brick may take to write down what is acknowledged.
const APPLY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// A line on stdout, where nobody may listen any more.
pub(super) fn tell(text: impl Display) {
    crate::say(text, crate::DONE);
}

/// From two empty directories to two equal bricks.
pub(super) async fn play(stage: &mut Stage) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut mail = Mail::default();
    tell(format!(
        "Two mail servers on this machine, in {}. Ctrl-C ends it and cleans up.",
        stage.root().display()
    ));
    set_up(stage).await?;

    tell("\n3. Mail comes in on server1 and is read on server2, and the other way round.");
    let took = mail.deliver(stage, 0).await?;
    tell(format!(
        "  server1: dotlock, fcntl lock, append, fsync: acknowledged after {}; both bricks have it",
        shown(took)
    ));
    tell("  server2: reads it at once, with \"Subject: message 1\"");
    let round = mail.round(stage, ROUND).await?;
    tell(format!(
        "  {ROUND} more, on both in turn, each read on the other: median {}, longest {}",
        shown(median(&round)),
        shown(longest(&round))
    ));

    break_and_mend(stage, &mut mail).await?;

    tell("\n6. Both bricks hold the same plain mbox file.");
    mail.compare(stage).await?;
    for at in [0, 1] {
        stage.unmount(at).await?;
    }
    tell(format!("\nThat took {}.", shown(begun.elapsed())));
    Ok(())
}

/// Steps 1 and 2.
async fn set_up(stage: &mut Stage) -> Result<(), Failure> {
    tell("\n1. Each server has a brick: a directory with plain mbox files, kept by brickd.");
    for at in [0, 1] {
        stage.start_brickd(at).await?;
    }
    tell("\n2. The two bricks become one volume, mounted on both servers.");
    let [one, two] = [0, 1].map(|i| {
        (
            stage.servers[i].address.clone(),
            stage.servers[i].brick.display().to_string(),
        )
    });
    stage.ask(0);
    stage.mboxfs(&format!("peer probe {}", two.0), 0).await?;
    // The bricks are on the disk of the system, which a real server's should not be.
    let bricks = format!("{}:{} {}:{}", one.0, one.1, two.0, two.1);
    stage
        .mboxfs(
            &format!("volume create {VOLUME} replica 2 transport tcp {bricks} force"),
            0,
        )
        .await?;
    stage.mboxfs(&format!("volume start {VOLUME}"), 0).await?;
    for at in [0, 1] {
        stage.mount(at).await?;
    }
    stage.mboxfs_until(&format!("volume status {VOLUME}")).await?;
    if is_namespace() {
        // The group mail, which the root of a volume has, does not exist in there, and so nobody may write.
        let dir = stage.servers[0].mail.display().to_string();
        stage.errand(Path::new("chgrp"), &["0", &dir]).await?;
    }
    Ok(())
}

/// Steps 4 and 5.
async fn break_and_mend(stage: &mut Stage, mail: &mut Mail) -> Result<(), Failure> {
    tell("\n4. The brick of server1, through which mail goes, is killed. Mail goes on, on both servers.");
    // Both bricks are on this host, and so both mounts prefer the first one: this is the one that is missed most.
    stage.kill_brickd(0)?;
    mail.last = 1; // the next delivery is on server1, whose own brick is gone
    let round = mail.round(stage, ROUND).await?;
    tell(format!(
        "  {ROUND} deliveries, on both in turn: the longest waited {} (the stall), median {}",
        shown(longest(&round)),
        shown(median(&round))
    ));
    stage.ask(1);
    stage.mboxfs(&format!("volume status {VOLUME}"), 1).await?;
    stage.mboxfs("heal status", 1).await?;

    tell("\n5. The brick comes back and gets what it missed, while mail flows.");
    let begun = Instant::now();
    stage.start_brickd(0).await?;
    let mut times = Vec::new();
    while times.is_empty() || stage.quietly("heal status").await?.0 != 0 {
        times.extend(mail.round(stage, 2).await?);
        if begun.elapsed() > Duration::from_secs(30) {
            return Err("the brick that came back was not healed within 30 s".into());
        }
    }
    tell(format!(
        "  healed after {}; {} deliveries meanwhile, longest {}",
        shown(begun.elapsed()),
        times.len(),
        shown(longest(&times))
    ));
    stage.mboxfs("heal status", 0).await
}

/// What was delivered so far.
#[derive(Default)]
struct Mail {
    /// All of it, as the mailbox must be.
    text: String,
    count: usize,
    /// The server of the last delivery.
    last: usize,
}

impl Mail {
    /// The next message on a server, read back on the other one. How long the delivery took.
    async fn deliver(&mut self, stage: &Stage, at: usize) -> Result<Duration, Failure> {
        self.count += 1;
        self.last = at;
        let text = message(self.count);
        self.text.push_str(&text);
        let [here, there] = [at, 1 - at].map(|i| stage.servers[i].mail.join(MAILBOX));
        // Both may wait in the kernel; a signal must be heard meanwhile.
        let done = spawn_blocking(move || {
            let took = deliver(&here, &text)?;
            fs::read_to_string(there).map(|read| (took, read))
        });
        let (took, read) = done
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| format!("message {} on {}: {e}", self.count, stage.servers[at].name))?;
        if read != self.text {
            let other = stage.servers[1 - at].name;
            return Err(format!("message {} is not whole on {other}", self.count).into());
        }
        Ok(took)
    }

    /// `count` messages, on both servers in turn.
    async fn round(&mut self, stage: &Stage, count: usize) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(self.deliver(stage, 1 - self.last).await?);
        }
        Ok(times)
    }

    /// The files in both bricks against each other and against what was delivered.
    async fn compare(&self, stage: &Stage) -> Result<(), Failure> {
        let files = [0, 1].map(|i| stage.servers[i].brick.join(MAILBOX));
        let until = Instant::now() + APPLY;
        // A brick acknowledges from its log and writes the file a moment later.
        while files
            .iter()
            .any(|f| fs::read_to_string(f).ok().as_ref() != Some(&self.text))
        {
            if Instant::now() > until {
                return Err(format!("the bricks' files are not what was delivered: {files:?}").into());
            }
            sleep(LOOK).await;
        }
        for file in files {
            tell(format!(
                "  {}: {} messages, {} bytes",
                file.display(),
                self.count,
                self.text.len()
            ));
        }
        tell("  They are identical, byte for byte. No message was lost, doubled or torn.");
        Ok(())
    }
}

/// Does root in here stand for an ordinary user outside?
fn is_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

fn longest(times: &[Duration]) -> Duration {
    times.iter().max().copied().unwrap_or_default()
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 100.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_people() {
        let ms = |n: u64| Duration::from_micros(n * 1000);
        assert_eq!([shown(ms(3)), shown(ms(1050))], ["3.0 ms", "1.05 s"]);
        assert_eq!(
            (median(&[ms(9), ms(1), ms(2)]), longest(&[ms(9), ms(10)])),
            (ms(2), ms(10))
        );
        assert_eq!((median(&[]), longest(&[])), (Duration::ZERO, Duration::ZERO));
    }
}
