//! The table of accepted and refused From_ lines, measured with Dovecot 2.3.19.

use super::*;

/// 2026-11-23 12:34:23 UTC, the time of most lines below.
const TIME_SECONDS: i64 = 1_795_437_263;

/// F1. Lines which split a file.
#[test]
fn separators() {
    for line in [
        "From s@t  Mon Nov 23 12:34:23 2026",
        "From s@t Mon Nov 23 12:34:23 2026 +0300",
        "From s Mon Nov 23 12:34 2026",
        "From s Thu, 9 Nov 2002 22:33:52",
        "From s Thu, 19 Nov 2002 22:33",
        "From s Mon Nov 23 12:34:23 PST 2026",
        "From s Mon Nov 23 12:34:23 +0300 2026",
        "From s Mon Nov 23 12:34:23 2026 remote from host",
        "From s Mon Nov 23 12:34:23 20267",
        "From  Mon Nov 23 12:34:23 2026",
        "From \"a b\"@x  Mon Nov 23 12:34:23 2026",
        "From \"a \\\" b\"@x  Mon Nov 23 12:34:23 2026",
        "From - Mon Nov 23 12:34:23 2026",
        "From s  Xxx Nov 99 99:99:99 2026",
        "From s  Mon Nov  3 02:34:23 2026",
        "From s  Mon Nov 3 02:34:23 2026",
        "From s  Mon Nov 3 02:34 2026",
        "From s  Mon nOV 23 12:34:23 2026",
        "From s  Mon ??? 23 12:34:23 2026",
        "From s  Mon Nov 23 12:34:23  2026",
        "From s\0@t  Mon Nov 23 12:34:23 2026",
    ] {
        assert!(parse(line.as_bytes()).is_some(), "{line}");
        // The line end, and what follows it, changes nothing.
        for end in ["\n", "\r\n", "\nFrom nobody\n", "\r\n\0"] {
            assert_eq!(
                parse([line, end].concat().as_bytes()),
                parse(line.as_bytes()),
                "{line}{end}"
            );
        }
    }
}

/// F1. Lines which are text.
#[test]
fn not_separators() {
    for line in [
        "",
        "From",
        "From ",
        "From s",
        "From Mon Nov 23 12:34:23 2026",
        "From joe at example.com  Mon Nov 23 12:34:23 2026",
        "From s  Mon Nov  3 2:34:23 2026",
        "From s  Mon Nov 23 12:34:23 99",
        "From s 2026-11-23 12:34:23",
        "from s  Mon Nov 23 12:34:23 2026",
        "From s\tMon Nov 23 12:34:23 2026",
        "From bob is the best person in the whole company",
        ">From s  Mon Nov 23 12:34:23 2026",
        " From s  Mon Nov 23 12:34:23 2026",
        "From: s  Mon Nov 23 12:34:23 2026",
        "From \"a b@x  Mon Nov 23 12:34:23 2026",
        "From s  Mon Nov 23 12:34:23",
        "From s  Mon Nov 23 12:34:2 2026",
        "From s  Mon Nov 23 12:34:23 PST",
        "From s  Mon Nov 23 12:34:23 P\rST 2026",
        "From s\r  Mon Nov 23 12:34:23 2026",
        "From s  Mon Nov 123 12:34:23 2026",
        "From s  Mon Nox 23 12:34:23 2026",
        "From s Thu, 9 Nov 2002",
    ] {
        assert_eq!(parse(line.as_bytes()), None, "{line}");
    }
}

/// F1. A zone behind the year makes Dovecot stricter about the date in front of it.
#[test]
fn dates_with_zone_must_exist() {
    for (date, splits) in [
        ("Mon Nov 30 12:12:12 2026 +0000", true),
        ("Mon Nov 31 12:12:12 2026 +0000", false),
        ("Mon Nov 31 12:12:12 2026 +00001", false),
        ("Mon Nov 31 12:12:12 2026  +0000", true),
        ("Mon Nov 31 12:12:12 2026 GMT", true),
        ("Mon Nov 31 12:12:12 +0000 2026", true),
        ("Mon Nov 31 12:12:12 2026", true),
        ("Mon Nov 00 12:12:12 2026 +0000", true),
        ("Mon Nov 30 24:12:12 2026 +0000", false),
        ("Mon Nov 30 12:60:12 2026 +0000", false),
        ("Mon Nov 30 12:12:60 2026 +0000", true),
        ("Mon Nov 30 12:12:61 2026 +0000", false),
        ("Thu Feb 29 12:12:12 2024 +9999", true),
        ("Thu Feb 29 12:12:12 2025 +0000", false),
        ("Thu Feb 29 12:12:12 1900 +0000", false),
        ("Mon Nov 30 12:12:12 1800 +0000", true),
        ("Mon Nov 22 12:12:12 0000 +0000", true),
        ("Wed Dec 31 23:59:59 1969 +0000", false),
        ("Wed Dec 31 23:59:59 1969", true),
        ("Mon, 30 Nov 2024 12:12:12 +0000", true),
        ("Mon, 31 Nov 2024 12:12:12 +0000", false),
        ("Mon, 31 Nov 2024 12:12:12", true),
    ] {
        assert_eq!(
            parse(["From s ", date, "\n"].concat().as_bytes()).is_some(),
            splits,
            "{date}"
        );
    }
}

/// F2. A line is not completed by the bytes of the next one.
#[test]
fn line_end_ends_the_line() {
    assert_eq!(parse(b"From s Mon Nov 23 12:34:23\n2026"), None);
    assert_eq!(parse(b"From s \nMo Nov 23 12:34:23 2026\n"), None);
    assert_eq!(parse(b"From \"s\n\" Mon Nov 23 12:34:23 2026\n"), None);
}

/// F3. Zones count when they are numbers; everything else is UTC.
#[test]
fn times() {
    for (date, time_seconds, zone_seconds) in [
        ("Mon Nov 23 12:34:23 2026", TIME_SECONDS, None),
        ("Mon Nov 23 12:34 2026", TIME_SECONDS - 23, None),
        ("Mon Nov 23 12:34:23 PST 2026", TIME_SECONDS, None),
        ("Mon Nov 23 12:34:23 2026 remote from host", TIME_SECONDS, None),
        ("Mon Nov 23 12:34:23 2026 +0330", TIME_SECONDS - 12_600, Some(12_600)),
        ("Mon Nov 23 12:34:23 -0800 2026", TIME_SECONDS + 28_800, Some(-28_800)),
        ("Mon, 23 Nov 2026 12:34:23", TIME_SECONDS, None),
        ("Mon, 23 Nov 2026 12:34:23 +0100", TIME_SECONDS - 3_600, Some(3_600)),
        ("Thu Jan  1 00:00:00 1970", 0, None),
        ("Wed Dec 31 23:59:58 1969 +0000", -2, Some(0)),
        ("Tue Feb 29 00:00:00 2000", 951_782_400, None),
        ("Mon Mar  1 00:00:00 1900", -2_203_891_200, None),
        ("Mon Jan  0 00:00:00 1970", 0, None),
        ("Xxx Jan 99 00:00:60 1970", 98 * SECONDS_PER_DAY + 60, None),
        ("Sat Jan  1 00:00:00 0000", -62_167_219_200, None),
        ("Fri Dec 31 23:59:59 9999", 253_402_300_799, None),
    ] {
        let line = ["From s@t  ", date, "\n"].concat();
        let expected = FromLine {
            sender: b"s@t",
            time_seconds,
            zone_seconds,
        };
        assert_eq!(parse(line.as_bytes()), Some(expected), "{date}");
    }
}

#[test]
fn senders() {
    for (sender, expected) in [
        ("s@t", "s@t"),
        ("", ""),
        ("\"a b\"@x", "\"a b\"@x"),
        ("-", "-"),
        ("a\"b", "a\"b"),
    ] {
        let line = ["From ", sender, "  Mon Nov 23 12:34:23 2026"].concat();
        assert_eq!(
            parse(line.as_bytes()).map(|from| from.sender),
            Some(expected.as_bytes()),
            "{line}"
        );
    }
}
