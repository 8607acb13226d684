//! The processes of a mount: the one that serves it, and the one that watches over that.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::host::Host;
use super::pair::Node;
use super::wait::{START_MAX, wait_for};

/// Processes of the mount in this host: those that serve, or those that watch over them.
pub(crate) fn daemons(host: &Host, serving: bool) -> Vec<i32> {
    let text = |pid: i32, what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let is_wanted = |pid: &i32| {
        // In this order: a helper shows the words of the daemon that starts it until it becomes the program that it runs.
        let name = text(*pid, "comm");
        let words = text(*pid, "cmdline");
        name.starts_with(b"mount-mboxfs")
            && !words.is_empty() // a zombie
            && !words.ends_with(b"\0--poke\0")
            && words.split(|b| *b == 0).any(|w| w == b"--worker") == serving
    };
    host.pids().into_iter().filter(is_wanted).collect()
}

#[track_caller]
pub(crate) fn only(pids: &[i32]) -> Pid {
    let [pid] = pids[..] else {
        panic!("one process expected: {pids:?}")
    };
    Pid::from_raw(pid).expect("a pid")
}

#[track_caller]
pub(crate) fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("a process of ours");
}

/// SIGKILL to the process that serves; another one is there when this returns.
#[track_caller]
pub(crate) fn kill_daemon(node: &Node) {
    let old = only(&daemons(&node.host, true));
    send(old, Signal::KILL);
    wait_for(
        "another daemon takes its place",
        START_MAX,
        || matches!(daemons(&node.host, true)[..], [new] if Pid::from_raw(new) != Some(old)),
    );
}
