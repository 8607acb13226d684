//! The daemon: one loop around the brain of a brick.
//!
//! `main` -> `run`: directory (`open`), listener, `driver` (the loop; `running`: a step and its outputs), `cluster` (peers,
//! volumes, admin verbs), `trust` and `gate` (who may connect), then READY. Streams: `mounts`, `peers`. Threads: `disk`.
//! Or `witness`, and nothing of this.
//!
//! Promises: ends with 0 when told to stop, 1 when it was refused something or cannot go on, 2 on wrong usage.
//! Not here: decisions (`brick`), durability (`store`), the wire (`rpc`).

mod args;
mod clock;
mod cluster;
mod config;
mod disk;
mod drill;
mod driver;
mod failure;
mod fatal;
mod gate;
pub mod local;
mod mounts;
mod open;
mod peers;
mod running;
mod telemetry;
#[cfg(test)]
mod tests;
mod trust;
mod witness;

use crate::{
    args::Args, cluster::Cluster, config::Config, driver::Driver, failure::Failure, fatal::Fatal, gate::Gate,
    local::Local, trust::Trust,
};
use clap::Parser;
use mboxfs_rpc::Listeners;
use sd_notify::NotifyState;
use std::{io::Write, net::SocketAddr, panic, process, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// The brick gets this long to stop: it tells the peer and writes a checkpoint.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// Last words on the wire get this long.
const FLUSH_WAIT: Duration = Duration::from_millis(200);

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    drill::lie_dead();
    let result = config::settle(Args::parse()).and_then(|config| {
        telemetry::start(&config.log_level);
        end_on_panic();
        // D-1 of `driver`: one thread for all that is networked.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Failure::refused("start", why))?;
        let result = runtime.block_on(async {
            if config.witness {
                witness::run(config).await
            } else {
                run(config).await
            }
        });
        // A thread that is still busy with the disk is not waited for.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// A brain that found itself inconsistent must not be stepped again; the next start goes on from the log.
fn end_on_panic() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        say(info);
        process::exit(101);
    }));
}

async fn run(config: Config) -> Result<(), Failure> {
    let (_claimed, quorum) = open::directory(&config.data)?;
    let mut signals = Signals::new().map_err(|why| Failure::refused("watch for signals", why))?;
    let trust = identity(&config)?;
    let listeners = listen(config.listen).await?;
    let address = listeners.address();
    let (fatal, mut end) = Fatal::channel();
    let driver = Driver::new(&config.data, quorum, config.kept_log, Arc::clone(&trust), fatal);
    driver.keep(config.keep);
    let local: Arc<dyn Local> = Arc::<Driver>::clone(&driver);
    let cluster = Cluster::open(&config.data, address, local, Arc::clone(&trust))
        .map_err(|why| Failure::refused("read the cluster's configuration", why))?;
    if let Some(volume) = cluster.volume().filter(|v| v.started) {
        let what = format!("start volume {}", volume.name);
        driver.start(volume).map_err(|why| Failure::refused(what, why))?;
    }
    let gate = Gate {
        driver: Arc::clone(&driver),
        cluster: Arc::clone(&cluster),
        trust: Arc::clone(&trust),
    };
    let guard = trust.guard().map_err(|why| Failure::refused("serve", why))?;
    let (close, closed) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = closed.await;
    };
    let mut server = tokio::spawn(mboxfs_rpc::serve(
        listeners,
        guard,
        gate,
        Some(Cluster::routes(&cluster)),
        shutdown,
    ));
    say_ready(&format!("brick {}", config.data.display()), address);
    tokio::select! {
        () = signals.stop() => {}
        Some(why) = end.recv() => {
            driver.fail(&why);
            sleep(FLUSH_WAIT).await;
            return Err(Failure::refused("go on", why));
        }
        served = &mut server => {
            let why = served.map_or_else(|e| e.to_string(), |r| r.map_or_else(|e| e.to_string(), |()| "it ended".into()));
            return Err(Failure::refused("serve", why));
        }
    }
    stop(&driver).await;
    drop(close);
    let _ = timeout(FLUSH_WAIT, server).await;
    Ok(())
}

fn identity(config: &Config) -> Result<Arc<Trust>, Failure> {
    Trust::open(&config.identity).map_err(|why| {
        let hint = "name another file for the key of this host: --identity FILE".to_string();
        Failure::refused("use the identity of this host", why).hint(hint)
    })
}

async fn listen(address: SocketAddr) -> Result<Listeners, Failure> {
    let refuse = |why: std::io::Error| {
        let busy = why.kind() == std::io::ErrorKind::AddrInUse;
        let hint = "another brickd may run on this host; --listen takes another port".to_string();
        Failure::refused(format!("listen on {address}"), why).hint(busy.then_some(hint))
    };
    let listeners = Listeners::bind(address).await.map_err(refuse)?;
    if listeners.is_socket_taken() {
        warn!("the name of the unix socket is taken by another process: mounts and mboxfs on this host use the port");
    }
    Ok(listeners)
}

fn say_ready(what: &str, address: SocketAddr) {
    info!("{what} serves on {address}");
    // Nobody may read standard output or be systemd: neither is a reason not to serve.
    let _ = writeln!(std::io::stdout(), "READY {address}");
    if let Err(why) = sd_notify::notify(false, &[NotifyState::Ready]) {
        warn!("systemd could not be told: {why}");
    }
}

async fn stop(driver: &Driver) {
    info!("told to stop");
    let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
    if timeout(STOP_WAIT, driver.quit()).await.is_err() {
        warn!("the brick did not stop within {STOP_WAIT:?}; the next start goes on from the log");
    }
    sleep(FLUSH_WAIT).await;
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
