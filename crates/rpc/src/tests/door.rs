//! Who is let in by the port, and what others see (law L14).
//!
//! Not here: who is pinned and why (`brickd`).

use super::*;
use crate::tune::HANDSHAKES_MAX;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio_rustls::TlsConnector;

fn reasons(server: &Server) -> Vec<String> {
    server.porter.refused.lock().unwrap().clone()
}

#[tokio::test]
async fn a_key_that_is_not_known_is_refused_in_words() {
    let mut server = start().await;
    for _ in 0..20 {
        let error = dial_mount(&server.address, &as_whom(1), SOON).await.unwrap_err();
        let address = server.address.clone();
        assert_eq!(
            error,
            RpcError::Unwanted { address },
            "always, not a reset now and then"
        );
    }
    let hello = BeatHello {
        protocol: limits::PROTOCOL_VERSION,
        volume: VolumeId([9; 16]),
        brick: BrickId::B,
    };
    assert!(dial_peer(&server.address, &as_whom(1), SOON).await.is_err());
    assert!(dial_beat(&server.address, &as_whom(1), hello, SOON).await.is_err());
    let stranger = identities()[1].fingerprint().to_string();
    assert_eq!(reasons(&server).len(), 22);
    assert!(reasons(&server).iter().all(|why| why.contains(&stranger)));
    assert!(server.mounts.try_recv().is_err() && server.peers.try_recv().is_err());
    assert!(server.beats.try_recv().is_err());
    mount_pair(&mut server).await;
}

#[tokio::test]
async fn a_server_with_another_key_is_not_spoken_to() {
    let server = start().await;
    let fingerprint = identities()[0].fingerprint();
    let wrong = Credentials::Hosts(Arc::new(identities()[0].clone()), vec![identities()[1].fingerprint()]);
    let error = dial_mount(&server.address, &wrong, SOON).await.unwrap_err();
    let address = server.address.clone();
    assert_eq!(error, RpcError::WrongKey { address, fingerprint });
    // One that was never met shows whom it met.
    let stranger = Credentials::Stranger(Arc::new(identities()[0].clone()));
    let (_, key) = dial::connect(&server.address, &stranger).await.unwrap();
    assert_eq!(key, Some(fingerprint));
}

/// As a program that reads the host's identity, where the socket's name is not taken by a brickd.
#[tokio::test]
async fn whom_the_file_trusts_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.pem");
    let tcp = Listeners::bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = tcp.address().to_string();
    let mut incoming = listen::Incoming::new(tcp, guard(&Arc::default()));
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    let file = Credentials::File(path.clone());
    let error = dial::connect(&address, &file).await.unwrap_err();
    assert!(
        matches!(&error, RpcError::NoKey { why, .. } if why.contains("identity.pem")),
        "{error}"
    );
    identities()[1].save(&path, &[]).unwrap();
    let error = dial::connect(&address, &file).await.unwrap_err();
    assert!(matches!(error, RpcError::WrongKey { .. }), "{error}");
    identities()[1].save(&path, &[identities()[0].fingerprint()]).unwrap();
    dial::connect(&address, &file).await.unwrap();
    // The host itself, when somebody else has the name.
    identities()[0].save(&path, &[]).unwrap();
    dial::connect(&address, &file).await.unwrap();
}

/// Believes everybody.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn who_has_no_key_at_all_stays_out() {
    let mut server = start().await;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    let socket = TcpStream::connect(&server.address).await.unwrap();
    let name = ServerName::try_from("mboxfs").unwrap();
    // With TLS 1.3 the client hears of it when it reads.
    if let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, socket).await {
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut answer = Vec::new();
        let ended = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("closed");
        assert!(ended.is_err(), "an alert, not {answer:?}");
        assert!(answer.is_empty());
    }
    assert_eq!(reasons(&server).len(), 1, "{:?}", reasons(&server));
    mount_pair(&mut server).await;
}

/// HTTP/2 without TLS, as everything here once spoke.
#[tokio::test]
async fn what_is_not_encrypted_is_not_heard() {
    let mut server = start().await;
    let mut socket = TcpStream::connect(&server.address).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let words = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat();
    socket.write_all(&words).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, socket.read_to_end(&mut answer)).await.expect("closed");
    assert!(answer.len() < 20, "an alert at most: {answer:?}");
    assert_eq!(reasons(&server).len(), 1, "{:?}", reasons(&server));
    mount_pair(&mut server).await;
}

/// More than there is room for, and nobody waits for their time to pass.
#[tokio::test]
async fn handshakes_that_stand_still_are_in_nobodys_way() {
    let mut server = start().await;
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX + 20 {
        let mut socket = TcpStream::connect(&server.address).await.unwrap();
        socket.write_all(&[0x16, 3, 1]).await.unwrap(); // a record begins
        silent.push(socket);
    }
    let began = Instant::now();
    mount_pair(&mut server).await;
    assert!(
        began.elapsed() < tune::HELLO_TIMEOUT,
        "served before any of them timed out"
    );
    let mut oldest = Vec::new();
    let _ = timeout(SOON, silent[0].read_to_end(&mut oldest))
        .await
        .expect("given up");
}
