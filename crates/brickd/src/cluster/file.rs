//! The cluster's configuration on disk: a small TOML file, replaced atomically.
//!
//! Promises: after a crash either the old or the new file is there, whole. Not here: what it means (`cluster`).

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

/// Everything that is remembered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) uuid: String,
    #[serde(default)]
    pub(crate) peers: Vec<Peer>,
    pub(crate) volume: Option<Volume>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) uuid: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) id: [u8; 16],
    pub(crate) own: u32,
    pub(crate) started: bool,
    pub(crate) bricks: Vec<Brick>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Brick {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// The file's content; a new identity if there is no file yet.
pub(crate) fn read(path: &Path) -> Result<Config, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Config {
                uuid: uuid::Uuid::new_v4().to_string(),
                peers: Vec::new(),
                volume: None,
            });
        }
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    toml::from_str(&text).map_err(|e| format!("{}: {}", path.display(), e.message()))
}

/// Temp file, fsync, rename, fsync of the directory.
pub(crate) fn write(path: &Path, config: &Config) -> Result<(), String> {
    let text = toml::to_string(config).map_err(|e| e.to_string())?;
    let temp = path.with_extension("toml.new");
    let replace = || -> std::io::Result<()> {
        let mut file = File::create(&temp)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temp, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    replace().map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.toml");
        let mut config = read(&path).unwrap();
        let brick = Brick {
            host: "h1".into(),
            port: 24009,
            path: "/glusterfs/vol0".into(),
        };
        config.peers.push(Peer {
            uuid: "u".into(),
            host: "h2".into(),
            port: 24009,
        });
        config.volume = Some(Volume {
            name: "gVol0".into(),
            id: [7; 16],
            own: 0,
            started: true,
            bricks: vec![brick.clone(), brick],
        });
        write(&path, &config).unwrap();
        assert_eq!(read(&path).unwrap(), config);
        fs::write(&path, "uuid = ").unwrap();
        assert!(read(&path).unwrap_err().contains("cluster.toml"));
    }
}
