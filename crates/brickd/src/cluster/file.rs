//! The cluster's configuration on disk: a small TOML file with a generation and a checksum, and the one before it.
//!
//! F1  After a crash either the old or the new file is there, whole: temp file, fsync, rename, fsync of the directory.
//! F2  A file whose checksum is wrong is never believed: the former one is taken, and that is said in the log.
//! F3  A file that is not believed never becomes the former one.
//!
//! Not here: what it means (`cluster`).

use mboxfs_types::{
    BrickId, Fingerprint, VolumeId,
    admin::{BrickAt, HostId, PEERS_MAX, Phase, Volume, is_brick_path, is_host, is_volume_name},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};
use tracing::warn;
use uuid::Uuid;

/// Everything that is remembered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Config {
    /// Counts the writings.
    pub(super) generation: u64,
    /// This brickd.
    pub(super) id: HostId,
    /// What others call this host.
    pub(super) names: Vec<String>,
    /// The volume that was served from this directory. It stays when the volume is deleted: the mail in it stays too.
    pub(super) claimed: Option<VolumeId>,
    /// The last plan of a peer that was done here.
    pub(super) last_plan: Option<[u8; 16]>,
    pub(super) peers: Vec<Peer>,
    /// The volume, and which side is here.
    pub(super) volume: Option<(Volume, BrickId)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    pub(super) id: HostId,
    /// The name by which it is dialled.
    pub(super) host: String,
    pub(super) port: u16,
    /// Of its key: nobody else is it.
    pub(super) fingerprint: Fingerprint,
    /// Other names, and the address it came from.
    pub(super) names: Vec<String>,
}

// ---- as it stands in the file: ids as UUIDs, for people

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    generation: u64,
    uuid: String,
    #[serde(default)]
    names: Vec<String>,
    claimed: Option<String>,
    last_plan: Option<String>,
    #[serde(default)]
    peers: Vec<SavedPeer>,
    volume: Option<SavedVolume>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPeer {
    uuid: String,
    host: String,
    port: u16,
    fingerprint: String,
    #[serde(default)]
    names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedVolume {
    name: String,
    id: String,
    phase: Phase,
    /// 1 or 2: Brick1 or Brick2.
    own: u32,
    bricks: Vec<BrickAt>,
}

fn shown(id: [u8; 16]) -> String {
    Uuid::from_bytes(id).to_string()
}

fn id(text: &str) -> Result<[u8; 16], String> {
    let id = Uuid::parse_str(text).map_err(|_| format!("'{text}' is no UUID"))?;
    Ok(*id.as_bytes())
}

impl From<&Config> for Saved {
    fn from(c: &Config) -> Self {
        let peer = |p: &Peer| SavedPeer {
            uuid: shown(p.id.0),
            host: p.host.clone(),
            port: p.port,
            fingerprint: p.fingerprint.to_string(),
            names: p.names.clone(),
        };
        let volume = |(v, own): &(Volume, BrickId)| SavedVolume {
            name: v.name.clone(),
            id: shown(v.id.0),
            phase: v.phase,
            own: u32::from(own.index()) + 1,
            bricks: v.bricks.to_vec(),
        };
        Self {
            generation: c.generation,
            uuid: shown(c.id.0),
            names: c.names.clone(),
            claimed: c.claimed.map(|v| shown(v.0)),
            last_plan: c.last_plan.map(shown),
            peers: c.peers.iter().map(peer).collect(),
            volume: c.volume.as_ref().map(volume),
        }
    }
}

impl TryFrom<Saved> for Config {
    type Error = String;
    /// Checked like a frame from the wire: a checksum is no proof that a hand did not write it.
    fn try_from(s: Saved) -> Result<Self, String> {
        let named = |h: &String| is_host(h).then_some(()).ok_or_else(|| format!("'{h}' is no host"));
        s.names.iter().try_for_each(named)?;
        if s.peers.len() > PEERS_MAX {
            return Err("too many peers".to_string());
        }
        let peer = |p: SavedPeer| {
            named(&p.host)?;
            p.names.iter().try_for_each(named)?;
            let id = HostId(id(&p.uuid)?);
            Ok::<_, String>(Peer {
                id,
                host: p.host,
                port: p.port,
                fingerprint: p
                    .fingerprint
                    .parse()
                    .map_err(|()| format!("'{}' is no fingerprint", p.fingerprint))?,
                names: p.names,
            })
        };
        Ok(Self {
            generation: s.generation,
            id: HostId(id(&s.uuid)?),
            names: s.names,
            claimed: s.claimed.as_deref().map(id).transpose()?.map(VolumeId),
            last_plan: s.last_plan.as_deref().map(id).transpose()?,
            peers: s.peers.into_iter().map(peer).collect::<Result<_, _>>()?,
            volume: s.volume.map(volume).transpose()?,
        })
    }
}

fn volume(v: SavedVolume) -> Result<(Volume, BrickId), String> {
    let own = v.own.checked_sub(1).and_then(BrickId::from_index);
    let own = own.ok_or_else(|| format!("brick {} of a volume of two", v.own))?;
    let bricks = <[BrickAt; 2]>::try_from(v.bricks).map_err(|_| "a volume has two bricks".to_string())?;
    let good = |b: &BrickAt| is_host(&b.host) && b.port != 0 && is_brick_path(&b.path);
    if !is_volume_name(&v.name) || !bricks.iter().all(good) {
        return Err(format!("volume '{}' makes no sense", v.name));
    }
    let volume = Volume {
        name: v.name,
        id: VolumeId(id(&v.id)?),
        phase: v.phase,
        bricks,
    };
    Ok((volume, own))
}

// ---- bytes

const HEAD: &str =
    "# Written by brickd. Change it with mboxfs, not by hand: the checksum is over what follows it.\ncrc32 = \"";

/// IEEE, bit by bit: a few hundred bytes, a few times a year.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 }
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

fn encode(config: &Config) -> Result<String, String> {
    let body = toml::to_string(&Saved::from(config)).map_err(|e| e.to_string())?;
    Ok(format!("{HEAD}{:08x}\"\n{body}", crc32(body.as_bytes())))
}

fn decode(text: &str) -> Result<Config, String> {
    let rest = text.strip_prefix(HEAD).ok_or("no checksum at its head")?;
    let (crc, body) = rest.split_once("\"\n").ok_or("no checksum at its head")?;
    if crc != format!("{:08x}", crc32(body.as_bytes())) {
        return Err("its checksum is wrong".to_string());
    }
    let saved: Saved = toml::from_str(body).map_err(|e| e.message().replace('\n', " "))?;
    saved.try_into()
}

/// None: no such file.
fn load(path: &Path) -> Result<Option<Config>, String> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| "it is no text".to_string())?;
            decode(&text).map(Some)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

fn former(path: &Path) -> PathBuf {
    path.with_extension("toml.old")
}

/// The configuration; a new identity if there is none yet. F2.
///
/// Errors: neither the file nor the former one can be believed; one line.
pub(super) fn read(path: &Path) -> Result<Config, String> {
    let old = former(path);
    let why = match load(path) {
        Ok(Some(config)) => return Ok(config),
        Ok(None) if !old.exists() => {
            return Ok(Config {
                id: HostId(*Uuid::new_v4().as_bytes()),
                ..Config::default()
            });
        }
        Ok(None) => "it is gone".to_string(),
        Err(why) => why,
    };
    match load(&old) {
        Ok(Some(config)) => {
            let (at, generation) = (path.display(), config.generation);
            warn!("{at}: {why}; the former one is used, generation {generation}: look at mboxfs volume info");
            Ok(config)
        }
        Ok(None) => Err(format!("{}: {why}, and there is no former one", path.display())),
        Err(worse) => Err(format!("{}: {why}; {}: {worse}", path.display(), old.display())),
    }
}

/// F1, F3. The file that is there becomes the former one.
///
/// Errors: one line; the file that was there is still there.
pub(super) fn write(path: &Path, config: &Config) -> Result<(), String> {
    let text = encode(config)?;
    replace(path, text.as_bytes()).map_err(|e| format!("{} cannot be written: {e}", path.display()))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("toml.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if matches!(load(path), Ok(Some(_))) {
        // By a link of its own, so that there is no moment without the file.
        let link = path.with_extension("toml.link");
        match fs::remove_file(&link) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::hard_link(path, &link)?;
        fs::rename(&link, former(path))?;
    }
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Config {
        let brick = |host: &str| BrickAt {
            host: host.into(),
            port: 24009,
            path: "/glusterfs/vol0".into(),
        };
        let volume = Volume {
            name: "gVol0".into(),
            id: VolumeId([7; 16]),
            phase: Phase::Started,
            bricks: [brick("h1"), brick("h2")],
        };
        Config {
            generation: 3,
            id: HostId([1; 16]),
            names: vec!["h1".into()],
            claimed: Some(VolumeId([7; 16])),
            last_plan: Some([8; 16]),
            peers: vec![Peer {
                id: HostId([2; 16]),
                host: "h2".into(),
                port: 24009,
                fingerprint: Fingerprint([5; 32]),
                names: vec!["10.0.0.2".into()],
            }],
            volume: Some((volume, BrickId::B)),
        }
    }

    fn next(config: &Config) -> Config {
        Config {
            generation: config.generation + 1,
            ..config.clone()
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        let fresh = read(&path).unwrap();
        assert_ne!(fresh.id, read(&path).unwrap().id, "an identity is random");
        for config in [fresh, full()] {
            write(&path, &config).unwrap();
            assert_eq!(read(&path).unwrap(), config);
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["cluster.toml", "cluster.toml.old"], "nothing is left behind");
    }

    #[test]
    fn f2_every_torn_or_changed_file_gives_the_former_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        write(&path, &full()).unwrap();
        write(&path, &next(&full())).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(read(&path).unwrap(), full(), "torn at {len}");
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            assert_eq!(read(&path).unwrap(), full(), "changed at {at}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path).unwrap(), full(), "gone");
        fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).unwrap(), next(&full()));
    }

    #[test]
    fn f3_a_bad_file_does_not_become_the_former_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        write(&path, &full()).unwrap();
        write(&path, &next(&full())).unwrap();
        fs::write(&path, "torn").unwrap();
        let config = read(&path).unwrap();
        write(&path, &next(&config)).unwrap();
        assert_eq!(load(&former(&path)).unwrap(), Some(full()));
        assert_eq!(read(&path).unwrap().generation, 4);
    }

    #[test]
    fn two_bad_files_are_no_fresh_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        fs::write(&path, "x").unwrap();
        assert!(read(&path).unwrap_err().contains("no former one"));
        fs::write(former(&path), "y").unwrap();
        assert!(read(&path).unwrap_err().contains("cluster.toml.old"));
    }

    #[test]
    fn a_good_checksum_does_not_make_nonsense_good() {
        let text = encode(&full()).unwrap();
        let sealed = |body: &str| format!("{HEAD}{:08x}\"\n{body}", crc32(body.as_bytes()));
        let body = text.split_once("\"\n").unwrap().1;
        assert_eq!(decode(&sealed(body)), Ok(full()));
        for (from, to) in [
            ("own = 2", "own = 3"),
            ("own = 2", "own = 0"),
            ("\"gVol0\"", "\"../x\""),
            ("host = \"h1\"", "host = \"a b\""),
            ("generation = 3", "generation = -1"),
        ] {
            assert!(body.contains(from), "{from} in {body}");
            assert!(decode(&sealed(&body.replace(from, to))).is_err(), "{to}");
        }
    }
}
