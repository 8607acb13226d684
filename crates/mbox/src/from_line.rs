//! The From_ line: the envelope line which starts a message, and nothing but its own text says so.
//!
//! F1  A line is a separator if and only if Dovecot takes it for one (`mbox_from_parse`; measured with 2.3.19, on
//!     the tables below and 30,000 random lines).
//!     Neither an empty line before it nor a sensible date is needed; RFC 4155 would ask for both.
//! F2  Only the first `LINE_MAX` bytes of the line itself count, and the cost is at most that. Dovecot's parser can
//!     run past the line end into the next line, when the weekday is cut by it; that is not imitated.
//! F3  The time is the same on every machine: where the line names no zone, its clock is read as UTC. Postfix and
//!     Dovecot write local time, so such a time is good for ordering messages, not for telling when one came.
//!
//! Not here: whether a separator counts although a Content-Length covers it (`scan`).

use crate::line::{line_len, without_line_end};

/// What every From_ line begins with, at the start of the line, in this case.
pub const FROM: &[u8] = b"From ";

/// Bytes of a line that are looked at: more than any sender that SMTP carries (256, RFC 5321, 4.5.3.1.3; Postfix takes
/// lines of 2048), so that a scanner can read a file in pieces and still hold each From_ line.
pub const LINE_MAX: usize = 4096;

const SECONDS_PER_MINUTE: i64 = 60;
const SECONDS_PER_HOUR: i64 = 60 * SECONDS_PER_MINUTE;
const SECONDS_PER_DAY: i64 = 24 * SECONDS_PER_HOUR;

/// A From_ line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromLine<'a> {
    /// Envelope sender as written, quotes included. May be empty.
    pub sender: &'a [u8],
    /// Seconds since 1970-01-01 00:00 UTC. Impossible dates roll over, as in mktime(3): day 99 is 98 days after day 1.
    pub time_seconds: i64,
    /// The numeric zone, in seconds east of UTC, that `time_seconds` has been corrected by. None: there was none, and
    /// the clock was read as UTC. Zones with names count as none.
    pub zone_seconds: Option<i64>,
}

/// Reads the line that `bytes` begins with; what follows its LF is not looked at.
///
/// `From SENDER WDAY MON DAY HH:MM[:SS] [ZONE] YYYY [+HHMM]` or `From SENDER Wdy, D Mon YYYY HH:MM[:SS] [+HHMM]`, where
/// anything may follow. None if the line is no separator.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<FromLine<'_>> {
    let bytes = bytes.get(..LINE_MAX).unwrap_or(bytes).strip_prefix(FROM)?;
    let line = without_line_end(bytes.get(..line_len(bytes))?); // F2
    let sender_len = sender_len(line)?;
    let (sender, rest) = line.split_at_checked(sender_len)?;
    let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
    let (time_seconds, zone_seconds) = date(Cursor {
        rest: rest.get(blanks..)?,
    })?;
    Some(FromLine {
        sender,
        time_seconds,
        zone_seconds,
    })
}

/// Length of the sender: up to the first blank that is not within a leading quoted string.
fn sender_len(line: &[u8]) -> Option<usize> {
    let mut quoted = 0;
    if line.first() == Some(&b'"') {
        // A quote after a backslash does not close the string. Dovecot lets two backslashes escape as well.
        let close = line.windows(2).position(|pair| pair[1] == b'"' && pair[0] != b'\\')?;
        quoted = close + 2;
    }
    let plain = line.get(quoted..)?.iter().position(|&byte| byte == b' ')?;
    let sender = line.get(..quoted + plain)?;
    (!sender.contains(&b'\r')).then_some(quoted + plain)
}

/// The date, with its weekday still in front. Returns the time and the numeric zone.
fn date(mut at: Cursor<'_>) -> Option<(i64, Option<i64>)> {
    // The weekday is skipped unchecked: three letters and a blank, or three letters, a comma and a blank.
    at.skip(4)?;
    if let Some(month) = at.month() {
        return asctime_date(at, month);
    }
    at.skip(1)?;
    let day = at.digits(2).or_else(|| at.digits(1))?;
    at.byte(b' ')?;
    let month = at.month()?;
    let year = at.digits(4)?;
    at.skip(1)?;
    let date = Date {
        year,
        month,
        day,
        clock: at.clock()?,
    };
    date.with_zone_after(at, None)
}

/// The rest of a date in asctime(3) order, behind the month.
fn asctime_date(mut at: Cursor<'_>, month: usize) -> Option<(i64, Option<i64>)> {
    // asctime pads a single digit with a blank; not everybody does.
    let _ = at.byte(b' ');
    let day = at.digits(2).or_else(|| at.digits(1))?;
    at.byte(b' ')?;
    let clock = at.clock()?;
    at.byte(b' ')?;
    let mut zone = None;
    let year = match at.digits(4) {
        Some(year) => year,
        None => {
            zone = numeric_zone(at.word()?);
            at.byte(b' ')?;
            at.digits(4)?
        }
    };
    Date {
        year,
        month,
        day,
        clock,
    }
    .with_zone_after(at, zone)
}

/// `+HHMM` or `-HHMM`, exactly, in seconds east of UTC.
fn numeric_zone(word: &[u8]) -> Option<i64> {
    let (sign, digits) = word.split_first()?;
    let mut at = Cursor { rest: digits };
    let zone = at.digits(2)? * SECONDS_PER_HOUR + at.digits(2)? * SECONDS_PER_MINUTE;
    match (sign, at.rest) {
        (b'+', []) => Some(zone),
        (b'-', []) => Some(-zone),
        _ => None,
    }
}

/// A date as written. `year` has at most four digits, the others two, so nothing below can overflow.
struct Date {
    year: i64,
    /// January is 0.
    month: usize,
    day: i64,
    clock: [i64; 3],
}

impl Date {
    /// The time, corrected by the zone that follows the year at `at`, or else by `zone_before`.
    ///
    /// F1: with a zone after the year Dovecot computes the time itself and refuses what is no date, and the last second
    /// of 1969, its word for failure. Without one it asks mktime(3), which takes everything.
    fn with_zone_after(&self, at: Cursor<'_>, zone_before: Option<i64>) -> Option<(i64, Option<i64>)> {
        let mut word = at.rest.strip_prefix(b" ").unwrap_or_default();
        word = word.get(..5).unwrap_or_default();
        let time_seconds = self.seconds();
        match numeric_zone(word) {
            Some(_) if !self.is_real() || time_seconds == -1 => None,
            Some(zone) => Some((time_seconds - zone, Some(zone))),
            None => Some((time_seconds - zone_before.unwrap_or(0), zone_before)),
        }
    }

    /// Does the Gregorian calendar have this date, and the day this clock time? A leap second passes; so does day 0.
    fn is_real(&self) -> bool {
        const DAYS_IN_MONTH: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let leap_day = i64::from(self.month == 1 && self.is_leap_year());
        let days = DAYS_IN_MONTH.get(self.month).map_or(0, |days| days + leap_day);
        let [hour, minute, second] = self.clock;
        self.day <= days && hour < 24 && minute < 60 && second <= 60
    }

    /// Seconds since 1970, the clock read as UTC.
    fn seconds(&self) -> i64 {
        const DAYS_BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let mut days = 365 * (self.year - 1970) + leap_days(self.year - 1) - leap_days(1969);
        days += DAYS_BEFORE_MONTH.get(self.month).copied().unwrap_or(0);
        days += i64::from(self.month > 1 && self.is_leap_year());
        days += self.day.max(1) - 1; // Dovecot reads day 0 as day 1.
        let [hour, minute, second] = self.clock;
        days * SECONDS_PER_DAY + hour * SECONDS_PER_HOUR + minute * SECONDS_PER_MINUTE + second
    }

    fn is_leap_year(&self) -> bool {
        leap_days(self.year) > leap_days(self.year - 1)
    }
}

/// Leap days in the years 1 to `year` of the Gregorian calendar; it is run backwards before 1582.
fn leap_days(year: i64) -> i64 {
    year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400)
}

/// A place in the line. A method that answers None has not moved it, `clock` excepted: nothing is tried after that.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[wanted])?;
        Some(())
    }

    /// A number of exactly `count` digits; more digits may follow.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        let number = digits.iter().try_fold(0, |number, &byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })?;
        self.rest = rest;
        Some(number)
    }

    /// A month and the blank behind it; January is 0. `???` passes for January, because it does in Dovecot.
    fn month(&mut self) -> Option<usize> {
        const MONTHS: [&[u8]; 12] = [
            b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
        ];
        let (word, rest) = self.rest.split_at_checked(3)?;
        let rest = rest.strip_prefix(b" ")?;
        let unknown = (word == b"???").then_some(0);
        let month = MONTHS
            .iter()
            .position(|month| month.eq_ignore_ascii_case(word))
            .or(unknown)?;
        self.rest = rest;
        Some(month)
    }

    /// `HH:MM` or `HH:MM:SS`: hour, minute, second. Two digits each; their values are not checked.
    fn clock(&mut self) -> Option<[i64; 3]> {
        let hour = self.digits(2)?;
        self.byte(b':')?;
        let minute = self.digits(2)?;
        let second = if self.byte(b':').is_some() { self.digits(2)? } else { 0 };
        Some([hour, minute, second])
    }

    /// The bytes up to the next blank, perhaps none. None if there is no blank, or a CR before it.
    fn word(&mut self) -> Option<&'a [u8]> {
        let len = self.rest.iter().position(|&byte| byte == b' ')?;
        let (word, rest) = self.rest.split_at_checked(len)?;
        if word.contains(&b'\r') {
            return None;
        }
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests;
