//! What happened in a world, event by event: printed, or only summed up so that two runs can be compared.
//!
//! Promises: nothing is formatted when nobody wants it. Not here: what is worth a line.

use std::fmt;

/// What becomes of the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Show {
    /// Nothing.
    #[default]
    Nothing,
    /// They are summed up (FNV-1a).
    Sum,
    /// What somebody does who looks at the world from outside: actions, statuses, answers.
    Events,
    /// Every word and step.
    Trace,
}

/// See above.
#[derive(Clone, Debug)]
pub struct Journal {
    show: Show,
    sum: u64,
    lines: u64,
}

impl Journal {
    #[must_use]
    pub const fn new(show: Show) -> Self {
        Self {
            show,
            sum: 0xcbf2_9ce4_8422_2325,
            lines: 0,
        }
    }

    /// Sum and number of the lines so far.
    #[must_use]
    pub const fn sum(&self) -> (u64, u64) {
        (self.sum, self.lines)
    }

    #[must_use]
    pub fn traces(&self) -> bool {
        matches!(self.show, Show::Trace | Show::Sum)
    }

    pub fn event(&mut self, now: u64, text: fmt::Arguments<'_>) {
        if self.show != Show::Nothing {
            self.line(now, text);
        }
    }

    pub fn trace(&mut self, now: u64, text: fmt::Arguments<'_>) {
        if self.traces() {
            self.line(now, text);
        }
    }

    fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        self.lines += 1;
        let (ms, us) = (now / 1_000_000, now / 1000 % 1000);
        if self.show == Show::Sum {
            let _ = fmt::write(&mut Summing(&mut self.sum), format_args!("{now} {text}\n"));
        } else {
            println!("{ms:7}.{us:03} {text}");
        }
    }
}

struct Summing<'a>(&'a mut u64);

impl fmt::Write for Summing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
