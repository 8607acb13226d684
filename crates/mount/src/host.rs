//! This host: its names and addresses, and the identity of a mount on it.
//!
//! Promises: asks no other host but the resolver, and that for `LOOKUP` at most.
//! Not here: which brick is preferred for it (`client`).

use mboxfs_rpc::is_own_address;
use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, ToSocketAddrs},
    path::Path,
    sync::mpsc,
    time::Duration,
};

/// How long names may take to resolve, in all.
const LOOKUP: Duration = Duration::from_secs(2);

/// Names and addresses of this host by which a brick on it may be called; `asked`: hosts that the caller wrote.
pub(crate) fn own_names(asked: &[String]) -> Vec<String> {
    let mut own: BTreeSet<String> = ["localhost", "127.0.0.1", "::1", "[::1]"].map(str::to_owned).into();
    own.insert(hostname());
    let trie = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let addresses = local_addresses(&trie);
    own.extend(addresses.iter().map(ToString::to_string));
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    own.extend(names_of(&hosts, |ip| addresses.contains(&ip) || is_own_address(ip)));
    own.extend(resolved_here(asked));
    own.into_iter().filter(|n| !n.is_empty()).collect()
}

pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Stable id of a mount point on this host, another one for every host and directory.
pub(crate) fn client_id(dir: &Path) -> [u8; 16] {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    // Cloned machines have one machine-id; their names differ.
    let text = format!("{}\n{}\n{}", machine.trim(), hostname(), dir.display());
    digest(text.as_bytes())
}

/// FNV-1a from two bases: enough to tell the few mount points of two hosts apart.
fn digest(bytes: &[u8]) -> [u8; 16] {
    let hash = |basis: u64| {
        bytes
            .iter()
            .fold(basis, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&hash(0xcbf2_9ce4_8422_2325).to_be_bytes());
    id[8..].copy_from_slice(&hash(0x8422_2325_cbf2_9ce4).to_be_bytes());
    id
}

/// IPv4 addresses of this host: the `/32 host LOCAL` leaves of the routing trie.
fn local_addresses(trie: &str) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last: Option<IpAddr> = None;
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.trim() == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    found
}

/// Names in a hosts(5) file that stand for own addresses.
fn names_of(hosts: &str, is_own: impl Fn(IpAddr) -> bool) -> Vec<String> {
    let lines = hosts.lines().map(|l| l.split('#').next().unwrap_or_default());
    let own = lines.filter_map(|l| {
        let mut words = l.split_whitespace();
        let ip: IpAddr = words.next()?.parse().ok()?;
        (ip.is_loopback() || is_own(ip)).then_some(words)
    });
    own.flatten().map(str::to_owned).collect()
}

/// Those of `asked` that resolve to this host.
fn resolved_here(asked: &[String]) -> Vec<String> {
    let (found, heard) = mpsc::channel();
    let asked = asked.to_vec();
    // A resolver that hangs keeps only this thread.
    std::thread::spawn(move || {
        for host in asked {
            let name = host.trim_start_matches('[').trim_end_matches(']');
            let here = (name, 0)
                .to_socket_addrs()
                .is_ok_and(|mut all| all.any(|a| is_own_address(a.ip())));
            if found.send(here.then_some(host)).is_err() {
                return;
            }
        }
    });
    let until = std::time::Instant::now() + LOOKUP;
    let mut own = Vec::new();
    while let Ok(one) = heard.recv_timeout(until.saturating_duration_since(std::time::Instant::now())) {
        own.extend(one);
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_out_of_the_routing_trie() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.255\n        \
                    /32 link BROADCAST\n     |-- 127.0.0.0\n        /8 host LOCAL\n";
        assert_eq!(local_addresses(trie), ["10.0.0.1".parse::<IpAddr>().unwrap()].into());
    }

    #[test]
    fn names_out_of_the_hosts_file() {
        let hosts =
            "127.0.0.1 localhost\n127.0.1.1 h1.example.org h1 # me\n10.0.0.1 a b\n10.0.0.2 c\n# 127.0.0.1 x\nbad y\n";
        let own = |ip: IpAddr| ip.to_string() == "10.0.0.1";
        assert_eq!(names_of(hosts, own), ["localhost", "h1.example.org", "h1", "a", "b"]);
    }

    #[test]
    fn this_host() {
        let own = own_names(&["127.0.0.1".into(), "192.0.2.77".into()]);
        assert!(own.contains(&"localhost".to_owned()) && own.contains(&"127.0.0.1".to_owned()));
        assert!(!own.contains(&"192.0.2.77".to_owned()));
    }

    #[test]
    fn every_mount_point_has_an_id_of_its_own() {
        assert_eq!(client_id(Path::new("/a")), client_id(Path::new("/a")));
        assert_ne!(client_id(Path::new("/a")), client_id(Path::new("/b")));
    }
}
