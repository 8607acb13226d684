//! Why the daemon gives up, for the person or the journal that reads it.
//!
//! Promises: `error: could not <verb phrase>: <why>`, then at most one `hint:` line; exit code 1 (refused) or 2 (usage).
//! Not here: warnings while it runs (`telemetry`).

use std::fmt;

/// The end of the daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    what: String,
    why: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// The system, the disk or another part said no: exit code 1. `what` goes on after "could not".
    pub(crate) fn refused(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
            hint: None,
            code: 1,
        }
    }

    /// The command line, the environment or the configuration file is wrong: exit code 2.
    pub(crate) fn usage(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            code: 2,
            ..Self::refused(what, why)
        }
    }

    /// What to do next, if there is something to say.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Of the process.
    #[must_use]
    pub(crate) const fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: could not {}: {}", self.what, self.why)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_and_hint_are_one_line_each() {
        let failure =
            Failure::usage("start", "no data directory was given").hint(Some("brickd --data DIR".to_string()));
        assert_eq!(
            failure.to_string(),
            "error: could not start: no data directory was given\nhint: brickd --data DIR"
        );
        assert_eq!(failure.exit_code(), 2);
        assert_eq!(
            Failure::refused("listen", "in use").to_string(),
            "error: could not listen: in use"
        );
    }
}
