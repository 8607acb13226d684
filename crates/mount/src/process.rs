//! What /proc says of a process.
//!
//! Promises: a process that cannot be looked at counts as gone. Not here: what follows from it.

use std::fs;

/// Fields of /proc/PID/stat after the command, which may hold blanks and parentheses (proc(5)).
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = &text[text.rfind(')')? + 2..];
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Its parent; 0 if unknown.
pub(crate) fn parent(pid: u32) -> u32 {
    stat(pid).and_then(|f| f.get(1)?.parse().ok()).unwrap_or(0)
}

/// When it started, in clock ticks since boot: tells a process from a later one with the same number.
pub(crate) fn started(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    if matches!(fields.first().map(String::as_str), Some("Z" | "X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Is it on its way out because a signal killed it? (PF_EXITING and PF_SIGNALED of its task flags.)
pub(crate) fn killed(pid: u32) -> bool {
    const EXITING_BY_SIGNAL: u64 = 0x4 | 0x400;
    let flags: u64 = stat(pid).and_then(|f| f.get(6)?.parse().ok()).unwrap_or(0);
    flags & EXITING_BY_SIGNAL == EXITING_BY_SIGNAL
}

/// Is a signal pending that would end a wait: not blocked, not ignored? Gone counts too.
pub(crate) fn interrupted(pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let mask = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let pending = mask("SigPnd:").unwrap_or(0) | mask("ShdPnd:").unwrap_or(0);
    pending & !mask("SigBlk:").unwrap_or(0) & !mask("SigIgn:").unwrap_or(0) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let pid = std::process::id();
        assert_eq!(parent(pid), std::os::unix::process::parent_id());
        assert!(started(pid).is_some());
        assert!(!killed(pid));
        assert!(!interrupted(pid));
        assert!(started(u32::MAX).is_none() && interrupted(u32::MAX));
    }
}
