//! Who this host is: its key, and the file in which it is kept.
//!
//! I1  The file is for root only (or for the user that brickd runs as): one that others may read is not used.
//! I2  After a crash either the old or the new file is there, whole; two that make one at the same time end with one key.
//! I3  Besides the key it names the hosts that are trusted, so that a mount knows them while no brickd runs.
//!
//! The key is Ed25519, in PEM as openssl(1) reads it. Lines outside of it are ours.
//!
//! Not here: what the key is used for (`tls`), who is trusted (`brickd`).

use base64::{Engine, engine::general_purpose::STANDARD};
use mboxfs_types::Fingerprint;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use rustls::{
    crypto::ring::sign::any_eddsa_type,
    pki_types::{PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where it is unless something else was said.
pub const IDENTITY: &str = "/var/lib/mboxfs/identity.pem";

/// `IDENTITY`, or what the environment says (`MBOXFS_IDENTITY`).
#[must_use]
pub fn identity_path() -> PathBuf {
    std::env::var_os("MBOXFS_IDENTITY").map_or_else(|| IDENTITY.into(), PathBuf::from)
}

/// What stands before the 32 secret bytes of an Ed25519 key in PKCS #8 (RFC 8410 section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const HEAD: &str =
    "# The key of this host for mboxfs, made by brickd. Keep it secret, and never give it to another host.\n";
const TRUSTED: &str = "trusted: ";

/// The key of a host.
#[derive(Clone)]
pub struct Identity {
    pkcs8: Vec<u8>,
    pub(crate) key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.fingerprint).finish()
    }
}

/// Of a public key.
pub(crate) fn fingerprint(spki: &[u8]) -> Fingerprint {
    let hash = digest::digest(&digest::SHA256, spki);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.as_ref());
    Fingerprint(bytes)
}

impl Identity {
    /// A new one. Errors: the system has no random numbers.
    pub fn generate() -> Result<Self, String> {
        let mut secret = [0; 32];
        let random = SystemRandom::new();
        random.fill(&mut secret).map_err(|_| "no random numbers".to_owned())?;
        Self::from_pkcs8([&PKCS8_HEAD[..], &secret].concat())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, String> {
        let wrong = |_| "it is no Ed25519 key".to_owned();
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.clone())).map_err(wrong)?;
        let public = key.public_key().ok_or("a key without its public half")?;
        let spki = public.as_ref().to_vec();
        Ok(Self {
            pkcs8,
            fingerprint: fingerprint(&spki),
            key: Arc::new(CertifiedKey::new(vec![spki.into()], key)),
        })
    }

    /// Of its public key.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The host's identity, and the hosts that it trusts.
    ///
    /// Errors: no such file, one that others may read, or nonsense in it; one line with the path.
    pub fn load(path: &Path) -> Result<(Self, Vec<Fingerprint>), String> {
        Self::read(path).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn read(path: &Path) -> Result<(Self, Vec<Fingerprint>), String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        if file.metadata().map_err(|e| e.to_string())?.mode() & 0o077 != 0 {
            return Err("others than its owner may read or write it".to_owned()); // I1
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| e.to_string())?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|e| format!("it has no key: {e}"))?;
        let identity = Self::from_pkcs8(key.secret_pkcs8_der().to_vec())?;
        let trusted = text.lines().filter_map(|line| line.strip_prefix(TRUSTED)).map(|line| {
            let wrong = |()| format!("'{line}' is no fingerprint");
            line.trim().parse().map_err(wrong)
        });
        Ok((identity, trusted.collect::<Result<_, _>>()?))
    }

    /// As `load`; a new one if there is none, in a directory that is made if it is missing.
    ///
    /// Errors: one line with the path.
    pub fn load_or_make(path: &Path) -> Result<(Self, Vec<Fingerprint>), String> {
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        if !path.try_exists().map_err(failed)? {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            if let Some(dir) = parent {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir)
                    .map_err(failed)?;
            }
            let new = written(path, &Self::generate()?.text(&[])).map_err(failed)?;
            // I2: a rename would take the place of one that another process has made meanwhile.
            let linked = fs::hard_link(&new, path);
            fs::remove_file(&new).map_err(failed)?;
            match linked {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e)),
                _ => sync_dir_of(path).map_err(failed)?,
            }
        }
        Self::load(path)
    }

    /// Writes it again, with these hosts.
    ///
    /// Errors: one line with the path; the former file is still there.
    pub fn save(&self, path: &Path, trusted: &[Fingerprint]) -> Result<(), String> {
        let save = || {
            fs::rename(written(path, &self.text(trusted))?, path)?;
            sync_dir_of(path)
        };
        save().map_err(|e: io::Error| format!("{}: {e}", path.display()))
    }

    fn text(&self, trusted: &[Fingerprint]) -> String {
        let mut text = HEAD.to_owned();
        let _ = writeln!(text, "# Fingerprint: {}", self.fingerprint);
        let _ = writeln!(text, "-----BEGIN PRIVATE KEY-----"); // 48 bytes: one line
        let _ = writeln!(text, "{}", STANDARD.encode(&self.pkcs8));
        let _ = writeln!(text, "-----END PRIVATE KEY-----");
        for host in trusted {
            let _ = writeln!(text, "{TRUSTED}{host}");
        }
        text
    }
}

/// A durable file beside `path`, of this process alone.
fn written(path: &Path, text: &str) -> io::Result<PathBuf> {
    let new = path.with_extension(format!("new.{}", std::process::id()));
    match fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(new)
}

fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory of the test's own, gone with it.
    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn it_is_made_once_and_kept() {
        let dir = dir();
        let path = dir.path().join("new/identity.pem");
        let (made, trusted) = Identity::load_or_make(&path).unwrap();
        assert_eq!(trusted, []);
        let again = Identity::load_or_make(&path).unwrap().0;
        assert_eq!(again.fingerprint(), made.fingerprint());
        assert_ne!(Identity::generate().unwrap().fingerprint(), made.fingerprint());
        let mode = |p: &Path| fs::metadata(p).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let friends = [Fingerprint([7; 32]), Fingerprint([0xa5; 32])];
        made.save(&path, &friends).unwrap();
        let (read, trusted) = Identity::load(&path).unwrap();
        assert_eq!((read.fingerprint(), &trusted[..]), (made.fingerprint(), &friends[..]));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn i1_what_others_may_read_is_not_used() {
        let dir = dir();
        let path = dir.path().join("identity.pem");
        Identity::load_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let why = Identity::load(&path).unwrap_err();
        assert!(why.contains("others than its owner"), "{why}");
    }

    #[test]
    fn nonsense_is_said_with_the_path_and_never_replaced() {
        let dir = dir();
        let path = dir.path().join("identity.pem");
        for text in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let why = Identity::load_or_make(&path).unwrap_err();
            assert!(why.starts_with(path.to_str().unwrap()) && !why.contains('\n'), "{why}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
