//! `brickd --witness`: keeps registers, and nothing else (PROTOCOL.md 6.7).
//!
//! G-1  What is told is durable. After a failed write nothing is told any more: the process ends.
//! G-2  Questions are answered one after the other.
//! G-3  Any host may have a register made; that one answers the first host that asks in the name of each brick, and no other
//!      (`brick::witness` T4). Its name is drawn by the bricks and goes over the wire only inside TLS.
//!
//! Not here: what a register is (`brick::witness`), its file (`store`), the wire (`rpc`).

use crate::{Signals, config::Config, failure::Failure, fatal::Fatal, identity, listen, say_ready};
use mboxfs_brick::witness::Witness;
use mboxfs_rpc::{Registrar, serve_witness};
use mboxfs_store::{RegisterFile, StoreError};
use mboxfs_types::{
    Fingerprint, codec,
    quorum::{AskWitness, WitnessTell, WitnessVerb},
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{sync::oneshot, task::spawn_blocking};
use tracing::{debug, info};

struct Kept {
    witness: Witness,
    file: RegisterFile,
}

#[derive(Clone)]
struct Keeper {
    kept: Arc<Mutex<Kept>>,
    fatal: Fatal,
}

impl Registrar for Keeper {
    async fn obey(&self, caller: Fingerprint, ask: AskWitness) -> Result<WitnessTell, String> {
        let me = self.clone();
        // An fsync can take long, and this is the thread that listens.
        spawn_blocking(move || me.obey_now(caller, &ask))
            .await
            .map_err(|e| e.to_string())?
    }
}

impl Keeper {
    fn obey_now(&self, caller: Fingerprint, ask: &AskWitness) -> Result<WitnessTell, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.witness.admits(caller, ask) {
            return Err("that brick is another host".to_owned());
        }
        let mut next = kept.witness.clone();
        let (tell, changed) = next.obey(ask);
        if next.pin(caller, ask) || changed {
            let written = kept.file.write(&codec::encode(&next));
            if let Err(why) = written {
                let why = why.to_string();
                self.fatal.end("write the registers", why.clone());
                return Err(why); // G-1
            }
            kept.witness = next;
        }
        say(ask, &tell);
        Ok(tell)
    }
}

fn say(ask: &AskWitness, tell: &WitnessTell) {
    let brick = ask.brick.index() + 1;
    match (&ask.verb, tell) {
        (WitnessVerb::Read, _) => debug!("Brick{brick} looks at its register"),
        (_, WitnessTell::Unknown) => info!("Brick{brick} asks for a register that is not here"),
        (WitnessVerb::Create { .. }, WitnessTell::Register { .. }) => info!("a volume has a register here now"),
        (WitnessVerb::Cas { want, members, .. }, WitnessTell::Register { done: true, .. }) => {
            info!("epoch {}: {members:?} (Brick{brick} asked)", want.num);
        }
        (WitnessVerb::Cas { members, .. }, WitnessTell::Register { register, .. }) => {
            info!(
                "Brick{brick} asks for {members:?} and is refused: epoch {} is {:?}",
                register.g.num, register.members
            );
        }
    }
}

/// Serves until told to stop.
///
/// Errors: the directory is a brick's or cannot be used; the port is taken; a register could not be written.
pub(crate) async fn run(config: Config) -> Result<(), Failure> {
    let shown = config.data.display();
    let refused = |why: StoreError| {
        let hint = match &why {
            StoreError::AlreadyABrick { .. } => Some("a witness needs a directory of its own".to_string()),
            _ => why.hint().map(str::to_string),
        };
        Failure::refused(format!("use witness directory {shown}"), why).hint(hint)
    };
    let empty = codec::encode(&Witness::default());
    let (content, file) = RegisterFile::open(&config.data, &empty).map_err(refused)?;
    let witness: Witness = codec::decode(&content).map_err(|_| refused(StoreError::Registers))?;
    info!("witness {shown} keeps {} registers", witness.len());
    let mut signals = Signals::new().map_err(|why| Failure::refused("watch for signals", why))?;
    let trust = identity(&config)?;
    let guard = trust.guard().map_err(|why| Failure::refused("serve", why))?;
    let listeners = listen(config.listen).await?;
    let address = listeners.address();
    let (fatal, mut end) = Fatal::channel();
    let kept = Arc::new(Mutex::new(Kept { witness, file }));
    let keeper = Keeper { kept, fatal };
    let (close, closed) = oneshot::channel::<()>();
    let mut server = tokio::spawn(serve_witness(listeners, guard, keeper, async {
        let _ = closed.await;
    }));
    say_ready(&format!("witness {shown}"), address);
    tokio::select! {
        () = signals.stop() => {}
        Some(why) = end.recv() => return Err(Failure::refused("go on", why)),
        served = &mut server => {
            let why = served.map_or_else(|e| e.to_string(), |r| r.map_or_else(|e| e.to_string(), |()| "it ended".into()));
            return Err(Failure::refused("serve", why));
        }
    }
    info!("told to stop");
    drop(close);
    let _ = tokio::time::timeout(crate::FLUSH_WAIT, server).await;
    Ok(())
}
