//! TLS between hosts: raw public keys, each known by its fingerprint (RFC 7250, RFC 8446).
//!
//! T1  No name, no date and no authority is believed, only keys: there is no certificate to parse, to renew or to revoke.
//! T2  Each connection proves the key anew: no tickets, no resumption, no early data. Who is trusted no more gets in no more.
//! T3  Both ends have a key; who has none, or one that the other end does not admit, gets an alert and not one byte more.
//!
//! Not here: keys (`identity`), which ones are admitted (`brickd`), the handshake's time (`listen`, `dial`).

use crate::identity::{Identity, fingerprint};
use mboxfs_types::Fingerprint;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig,
    SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use std::{error, fmt, io, sync::Arc};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// What a key must be for the other end to be spoken to.
type Admits = Box<dyn Fn(&Fingerprint) -> bool + Send + Sync>;

/// The key of the other end is not admitted.
#[derive(Debug)]
pub(crate) struct NotAdmitted(pub(crate) Fingerprint);

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its key is not known here: {}", self.0)
    }
}

impl error::Error for NotAdmitted {}

struct Verifier {
    admits: Admits,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(provider: &CryptoProvider, admits: Admits) -> Arc<Self> {
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(Self { admits, algorithms })
    }

    fn admit(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        let key = fingerprint(key);
        if (self.admits)(&key) {
            return Ok(());
        }
        let why = OtherError(Arc::new(NotAdmitted(key)));
        Err(Error::InvalidCertificate(CertificateError::Other(why)))
    }

    fn proves(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken here".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.admit(key).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proves(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.admit(key).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proves(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Of a server.
///
/// Errors: none is known for keys that `identity` made.
pub(crate) fn acceptor(identity: &Identity, admits: Admits) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(&provider, admits);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(
            &identity.key,
        ))));
    config.send_tls13_tickets = 0; // T2
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Of a client.
///
/// Errors: as `acceptor`.
pub(crate) fn connector(identity: &Identity, admits: Admits) -> Result<TlsConnector, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(&provider, admits);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // the builder's word for a verifier of one's own
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(
            &identity.key,
        ))));
    config.resumption = Resumption::disabled(); // T2
    config.enable_sni = false;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The key of the other end; none before the handshake is done.
pub(crate) fn key_of<T>(stream: &TlsStream<T>) -> Option<Fingerprint> {
    let (_, session) = stream.get_ref();
    session.peer_certificates()?.first().map(|key| fingerprint(key))
}

/// Why a handshake failed.
pub(crate) enum Fault {
    /// Our end does not admit the other end's key.
    NotAdmitted(Fingerprint),
    /// The other end does not admit ours.
    Unwanted,
    /// The other end speaks something else, or wrongly.
    NotTls(String),
    /// The connection broke.
    Broken(String),
}

impl Fault {
    pub(crate) fn of(error: &io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Broken(error.to_string());
        };
        match tls {
            Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => match why.downcast_ref() {
                Some(NotAdmitted(key)) => Self::NotAdmitted(*key),
                None => Self::NotTls(tls.to_string()),
            },
            Error::AlertReceived(rustls::AlertDescription::CertificateUnknown) => Self::Unwanted,
            _ => Self::NotTls(tls.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAdmitted(key) => NotAdmitted(*key).fmt(f),
            Self::Unwanted => f.write_str("it does not know our key"),
            Self::NotTls(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}
