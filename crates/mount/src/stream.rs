//! The stream to a brick, and the brain's ticks: one thread, one tokio runtime.
//!
//! S1  At most one stream: the one wanted last. A stream that is not wanted any more is dropped at once.
//! S2  This thread never ends while the program runs.
//!
//! Not here: which brick, when to try again (`client`); sending (`driver` puts frames into the queue itself).

use crate::driver::{Driver, OnStream, Wanted};
use mboxfs_rpc::Credentials;
use mboxfs_types::call::{Attached, ToMount};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// How long a brick may take to accept a stream.
const DIAL: Duration = Duration::from_millis(1000);
/// How late a deadline of the brain may be met.
const TICK: Duration = Duration::from_millis(20);

/// Starts the thread.
pub(crate) fn start(driver: &'static Driver, wanted: watch::Receiver<Wanted>, as_whom: Credentials) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("brick".into()).spawn(move || {
        loop {
            let mut wanted = wanted.clone();
            wanted.mark_changed();
            let work = || runtime.block_on(async { tokio::join!(streams(driver, wanted, &as_whom), ticks(driver)) });
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("the thread of the stream panicked; it starts again"); // S2
            }
        }
    })?;
    Ok(())
}

async fn ticks(driver: &'static Driver) {
    let mut ticks = interval(TICK);
    // After a suspend one tick is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        driver.tick();
    }
}

async fn streams(driver: &'static Driver, mut wanted: watch::Receiver<Wanted>, as_whom: &Credentials) {
    loop {
        let now = wanted.borrow_and_update().clone();
        if let Some(address) = now.address {
            tokio::select! {
                biased;
                _ = wanted.changed() => continue, // S1
                () = serve(driver, now.stream, &address, as_whom) => {}
            }
        }
        if wanted.changed().await.is_err() {
            return std::future::pending().await; // the driver lives as long as the program
        }
    }
}

/// One stream, for as long as it lasts.
async fn serve(driver: &Driver, stream: u64, address: &str, as_whom: &Credentials) {
    let mut recv = match mboxfs_rpc::dial_mount(address, as_whom, DIAL).await {
        Ok(link) => {
            if !driver.on_stream(stream, OnStream::Up(link.send)) {
                return;
            }
            link.recv
        }
        Err(error) => {
            tracing::debug!("{error}");
            driver.troubled_by(error.to_string());
            driver.on_stream(stream, OnStream::Down);
            return;
        }
    };
    while let Some(frame) = recv.recv().await {
        if let ToMount::Attached(Attached::NotServing { why, .. }) = &frame {
            tracing::debug!("{address}: not serving: {why}");
            driver.troubled_by(format!("{address}: {why}"));
        }
        if !driver.on_stream(stream, OnStream::Frame(frame)) {
            return;
        }
    }
    let why = recv.why_ended().unwrap_or_default();
    if driver.on_stream(stream, OnStream::Down) {
        tracing::info!("the stream to {address} ended: {why}");
        driver.troubled_by(format!("{address}: {why}"));
    }
}
