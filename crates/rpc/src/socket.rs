//! The unix socket of a brickd, for those on its own host.
//!
//! U1  Its name is abstract and holds the port of brickd: one for each network namespace and port, no file to clean up.
//! U2  Each end looks at the other's user, which the kernel vouches for: who is neither root nor the user of this process is not
//!     spoken to. So a name that somebody else took is worth nothing to him, and its loss costs brickd only the socket.
//!
//! Not here: what is spoken (`serve`), who else may (`tls`).

use rustix::process::geteuid;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::linux::net::SocketAddrExt,
    os::unix::net,
};
use tokio::net::{UnixListener, UnixStream, unix::UCred};

/// Any user of another user namespace is seen as this one (`user_namespaces(7)`): it proves nothing, also if it is ours.
const OVERFLOW_UID: u32 = 65534;

fn name(port: u16) -> String {
    format!("mboxfs-{port}")
}

/// Takes the name.
///
/// Errors: `AddrInUse`: somebody has it.
pub(crate) fn listen(port: u16) -> io::Result<UnixListener> {
    let address = net::SocketAddr::from_abstract_name(name(port))?;
    let listener = net::UnixListener::bind_addr(&address)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// What became of a connection to the socket.
pub(crate) enum Met {
    /// One of ours serves it.
    Brickd(UnixStream),
    /// Nobody, or somebody else: not spoken to.
    Nobody,
    /// Root's brickd, and this process is not of root.
    NotAllowed,
}

/// Goes to the socket of the brickd at `port`.
pub(crate) async fn connect(port: u16) -> Met {
    let Ok(stream) = UnixStream::connect(format!("\0{}", name(port))).await else {
        return Met::Nobody;
    };
    match stream.peer_cred() {
        // U2. The credentials are those of the time of listen(2).
        Ok(user) if !is_trusted(user) => Met::Nobody,
        Ok(user) if geteuid().is_root() || geteuid().as_raw() == user.uid() => Met::Brickd(stream),
        Ok(_) => Met::NotAllowed,
        Err(_) => Met::Nobody,
    }
}

/// U2.
pub(crate) fn is_trusted(user: UCred) -> bool {
    trusts(user.uid(), geteuid().as_raw())
}

const fn trusts(uid: u32, own: u32) -> bool {
    uid == 0 || (uid == own && uid != OVERFLOW_UID)
}

/// Is this an address of this host? Being able to bind it proves nothing: with `ip_nonlocal_bind`, usual beside keepalived
/// and haproxy, every address can be bound. But a datagram to an own address would leave from that very address. Nothing
/// is sent.
#[must_use]
pub fn is_own_address(ip: IpAddr) -> bool {
    if ip.is_loopback() {
        return true;
    }
    if ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(SocketAddr::new(ip, 9))?; // any port: no packet leaves
        socket.local_addr()
    };
    source().is_ok_and(|from| from.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_told_from_others() {
        for own in ["127.0.0.1", "127.0.1.1", "::1"] {
            assert!(is_own_address(own.parse().unwrap()), "{own}");
        }
        for other in [
            "192.0.2.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "2001:db8::1",
            "::",
        ] {
            assert!(!is_own_address(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn u2_root_and_oneself_only() {
        assert!(trusts(0, 1000) && trusts(1000, 1000) && trusts(0, 0));
        assert!(!trusts(1000, 0) && !trusts(1001, 1000));
        assert!(!trusts(OVERFLOW_UID, OVERFLOW_UID), "it may be anybody");
    }
}
