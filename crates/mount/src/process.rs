//! What /proc says of a process.
//!
//! Promises
//! O1  A process that cannot be looked at counts as gone. Numbers may be those of threads: /proc has them too.
//! O2  Nothing here waits for the process. One that is about to become another program (execve) closes files, which waits for
//!     the answer of this mount; meanwhile newer kernels let nobody read its /proc/PID/stat. Its status they do.
//!
//! Not here: what follows from it.

use rustix::{
    fs::{fstat, fstatfs},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{fs, path::Path};

/// `PIDFD_THREAD` (Linux 6.9, `include/uapi/linux/pidfd.h`).
const PIDFD_THREAD: u32 = 0o200;
/// `PID_FS_MAGIC` (Linux 6.9, `include/uapi/linux/magic.h`).
const PID_FS_MAGIC: i64 = 0x5049_4446;

/// `PF_EXITING` and `PF_SIGNALED` of the task's flags (Linux, `include/linux/sched.h`).
const EXITING_BY_SIGNAL: u64 = 0x4 | 0x400;

/// What is read of /proc/PID/stat (proc_pid_stat(5)), where O2 allows that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    flags: u64,
    /// Clock ticks since boot.
    started: u64,
    /// As of wait(2), once it exits: the low seven bits are the signal. 0 if this process may not know.
    exit_code: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The command, in parentheses, may hold blanks, parentheses and any byte: count from its end.
    let rest = &text[text.iter().rposition(|b| *b == b')')? + 1..];
    let fields: Vec<&str> = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().collect();
    Some(Stat {
        flags: fields.get(6)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        exit_code: fields.get(49).and_then(|f| f.parse().ok()).unwrap_or(0),
    })
}

/// The process of this thread, and that one's parent.
pub(crate) fn family(pid: u32) -> Option<(u32, u32)> {
    let text = status(pid)?;
    Some((field(&text, "Tgid:", 10)? as u32, field(&text, "PPid:", 10)? as u32))
}

/// Is this thread one of that process? Much cheaper than its `family`.
pub(crate) fn is_thread_of(thread: u32, process: u32) -> bool {
    Path::new(&format!("/proc/{process}/task/{thread}")).exists()
}

/// Tells a process from a later one with the same number. `None`: it is no more.
pub(crate) fn started(pid: u32) -> Option<u64> {
    if is_over(&status(pid)?) {
        return None;
    }
    let number = Pid::from_raw(pid.cast_signed())?;
    match pidfd_open(number, PidfdFlags::from_bits_retain(PIDFD_THREAD)) {
        Ok(fd) if fstatfs(&fd).is_ok_and(|fs| fs.f_type == PID_FS_MAGIC) => fstat(&fd).ok().map(|s| s.st_ino),
        Err(Errno::SRCH) => None,
        // A kernel before 6.9: nor does its stat wait for anybody.
        _ => stat(pid).map(|s| s.started),
    }
}

/// Is it on its way out because a signal killed it?
pub(crate) fn killed(pid: u32) -> bool {
    // Who ends has no memory any more when it closes its files; who becomes another program has (O2).
    status(pid).is_some_and(|status| !has_memory(&status)) && stat(pid).is_some_and(is_killed)
}

fn status(pid: u32) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

fn is_over(status: &str) -> bool {
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| state.trim_start().starts_with(['Z', 'X']))
}

fn is_killed(stat: Stat) -> bool {
    // exit(3) ends the other threads with SIGKILL too, and the last of them closes the files: the flags alone would take
    // an orderly end of a program with threads for a crash, and its last session would be dropped.
    stat.flags & EXITING_BY_SIGNAL == EXITING_BY_SIGNAL && stat.exit_code & 0x7f != 0
}

/// Is a signal pending that would end a wait: not blocked, not ignored? A process that is gone waits no more either.
pub(crate) fn interrupted(pid: u32) -> bool {
    status(pid).is_none_or(|status| signal_pending(&status))
}

fn signal_pending(status: &str) -> bool {
    let mask = |key| field(status, key, 16).unwrap_or(0);
    let pending = mask("SigPnd:") | mask("ShdPnd:");
    is_over(status) || pending & !mask("SigBlk:") & !mask("SigIgn:") != 0
}

fn field(status: &str, key: &str, radix: u32) -> Option<u64> {
    let rest = status.lines().find_map(|l| l.strip_prefix(key))?;
    u64::from_str_radix(rest.trim(), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4242 (a) b) S 17 4242 4242 0 -1 1077936448 1 2 3 4 5 6 7 8 20 0 1 0 987654 5 6 7 8 9";

    fn status_with(pending: &str, shared: &str, blocked: &str, ignored: &str) -> String {
        format!(
            "Name:\tx\nState:\tD (disk sleep)\nSigPnd:\t{pending}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\n"
        )
    }

    #[test]
    fn stat_with_an_odd_command() {
        let stat = parse_stat(STAT.as_bytes()).unwrap();
        let expected = Stat {
            flags: 1_077_936_448,
            started: 987_654,
            exit_code: 0,
        };
        assert_eq!(stat, expected);
        let mut bytes = STAT.as_bytes().to_vec();
        bytes[6] = 0xff;
        assert_eq!(parse_stat(&bytes), Some(stat));
        assert_eq!(parse_stat(b"4242 (x"), None);
        assert_eq!(parse_stat(b"4242 (x)"), None);
    }

    #[test]
    fn killed_is_not_ended() {
        let of = |flags: u64, code: u32| {
            // Field 9 is the flags, field 52 the exit code.
            let text = format!("1 (x) D 0 0 0 0 0 {flags}{} {code}", " 0".repeat(42));
            is_killed(parse_stat(text.as_bytes()).unwrap())
        };
        assert!(of(0x404, 9));
        assert!(of(0x40_0404, 11 | 0x80), "with a core dump");
        assert!(!of(0x404, 0), "a thread of one that called exit(0)");
        assert!(!of(0x404, 3 << 8), "or exit(3)");
        assert!(!of(0x4, 0) && !of(0x400, 9) && !of(0, 0));
    }

    #[test]
    fn signals_that_end_a_wait() {
        let (none, alarm, chld) = ("0000000000000000", "0000000000002000", "0000000000010000");
        assert!(!signal_pending(&status_with(none, none, none, none)));
        assert!(signal_pending(&status_with(none, alarm, none, none)));
        assert!(signal_pending(&status_with(alarm, none, chld, chld)));
        assert!(!signal_pending(&status_with(none, alarm, alarm, none)));
        assert!(!signal_pending(&status_with(chld, none, none, chld)));
        assert!(signal_pending("State:\tZ (zombie)\n"));
    }

    #[test]
    fn this_process() {
        let pid = std::process::id();
        assert_eq!(family(pid), Some((pid, std::os::unix::process::parent_id())));
        assert!(started(pid).is_some());
        assert!(!killed(pid) && status(pid).is_some_and(|s| has_memory(&s)));
        assert!(!interrupted(pid));
        assert!(started(u32::MAX).is_none() && interrupted(u32::MAX) && family(u32::MAX).is_none());
    }

    #[test]
    fn a_thread_belongs_to_its_process() {
        let tid = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            let own = is_thread_of(tid, std::process::id()) && !is_thread_of(tid, std::os::unix::process::parent_id());
            (tid, family(tid), started(tid), own)
        });
        let (tid, family, started, own) = tid.join().unwrap();
        assert_ne!(tid, std::process::id());
        assert_eq!(family.map(|f| f.0), Some(std::process::id()));
        assert!(started.is_some() && own);
    }

    #[test]
    fn a_child_that_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while started(child.id()).is_some() && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(started(child.id()), None, "a zombie");
        child.wait().unwrap();
        assert_eq!(started(child.id()), None);
    }
}
