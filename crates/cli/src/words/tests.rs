//! Words that are understood, and what is said about those that are not.

use super::*;

fn parsed(text: &str) -> Result<(Options, Line), Wrong> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    line(Options::new(None).unwrap(), &words)
}

fn verb(text: &str) -> Command {
    match parsed(text) {
        Ok((_, Line::Command(command))) => command,
        other => panic!("{text}: {other:?}"),
    }
}

fn spec(host: &str, port: Option<u16>, path: &str) -> BrickSpec {
    BrickSpec {
        host: host.into(),
        port,
        path: path.into(),
    }
}

#[test]
fn the_seeds_words() {
    let created = Command::Create {
        name: "gVol0".into(),
        bricks: [spec("H1", None, "/glusterfs/vol0"), spec("H2", None, "/glusterfs/vol0")],
        force: false,
    };
    assert_eq!(
        verb("volume create gVol0 replica 2 transport tcp H1:/glusterfs/vol0 H2:/glusterfs/vol0"),
        created
    );
    assert_eq!(
        verb("volume create gVol0 transport tcp replica 2 H1:/glusterfs/vol0/ H2:/glusterfs/vol0"),
        created
    );
    let host = || String::from("H2");
    assert_eq!(
        verb("peer probe H2"),
        Command::Probe {
            host: host(),
            port: 24009,
            fingerprint: None,
        }
    );
    assert_eq!(
        verb(&format!("peer probe H2:7 --fingerprint {}", "0a".repeat(32))),
        Command::Probe {
            host: host(),
            port: 7,
            fingerprint: Some(Fingerprint([10; 32])),
        }
    );
    let detach = |force| Command::Detach {
        host: host(),
        port: None,
        force,
    };
    assert_eq!(verb("peer detach H2"), detach(false));
    assert_eq!(verb("peer detach H2 force"), detach(true));
    let change = |verb, force| Command::Change {
        name: "v".into(),
        verb,
        force,
    };
    assert_eq!(verb("volume start v"), change(VolumeVerb::Start, false));
    assert_eq!(verb("volume start v force"), change(VolumeVerb::Start, true));
    assert_eq!(verb("volume stop v"), change(VolumeVerb::Stop, false));
    assert_eq!(verb("volume delete v"), change(VolumeVerb::Delete, false));
    let v = || String::from("v");
    for (text, command) in [
        ("peer status", Command::PeerStatus),
        ("pool list", Command::Pool),
        ("volume info", Command::Info(None)),
        ("volume info all", Command::Info(None)),
        ("volume info v", Command::Info(Some(v()))),
        ("volume status", Command::Status(None)),
        ("volume status v", Command::Status(Some(v()))),
        ("volume list", Command::List),
        ("heal status", Command::Heal(None)),
        ("heal status v", Command::Heal(Some(v()))),
        ("heal status --watch v", Command::Heal(Some(v()))),
        ("volume heal v info", Command::HealInfo(Some(v()))),
        ("heal info", Command::HealInfo(None)),
        ("volume heal v info summary", Command::HealSummary(Some(v()))),
        ("heal summary v", Command::HealSummary(Some(v()))),
        ("volume heal v info split-brain", Command::HealSplit(Some(v()))),
    ] {
        assert_eq!(verb(text), command);
        assert!(command.is_question() && command.question().is_none());
    }
}

#[test]
fn heals() {
    let start = |name: Option<&str>, full| Command::HealStart {
        name: name.map(str::to_owned),
        full,
    };
    assert_eq!(verb("volume heal v"), start(Some("v"), false));
    assert_eq!(verb("volume heal v full"), start(Some("v"), true));
    assert_eq!(verb("heal start"), start(None, false));
    assert_eq!(verb("heal full v"), start(Some("v"), true));
    assert!(parsed("heal status --watch").unwrap().0.watch);
    for (text, why) in [
        ("volume status --watch", "--watch is for heal status only"),
        ("volume heal v nonsense", "wrong words after 'volume heal'"),
        ("volume heal v status", "wrong words after 'volume heal'"),
        ("heal status v w", "wrong words after 'heal status'"),
        ("heal stat", "unknown verb 'heal stat'"),
    ] {
        assert_eq!(parsed(text).unwrap_err().why, why, "{text}");
    }
}

#[test]
fn drills() {
    let drill = |fault, here| {
        let volume = "gVol0".to_owned();
        Line::Drill(Drill { fault, volume, here })
    };
    let line = |text: &str| parsed(text).unwrap().1;
    assert_eq!(line("drill crash --volume gVol0"), drill(Fault::Crash, false));
    assert_eq!(
        line("--yes drill slow-disk --here --volume=gVol0"),
        drill(Fault::SlowDisk, true)
    );
    assert_eq!(
        line("drill partition --volume gVol0 --yes"),
        drill(Fault::Partition, false)
    );
    for (text, why) in [
        ("drill", "what to break is missing"),
        ("drill fire --volume v", "unknown drill 'fire'"),
        ("drill crash", "the volume is missing"),
        (
            "drill partition --here --volume v",
            "a link has two ends: --here is for the other drills",
        ),
        ("drill crash --volume", "unknown word '--volume'"),
        ("drill crash --volume a/b", "'a/b' is no name for a volume"),
        ("drill crash --volume v --hard", "unknown word '--hard'"),
    ] {
        assert_eq!(parsed(text).unwrap_err().why, why, "{text}");
    }
}

#[test]
fn places() {
    let forced = verb("volume create v replica 2 h:7:/a [fe80::1]:8:/b force");
    let Command::Create {
        bricks, force: true, ..
    } = forced
    else {
        panic!()
    };
    assert_eq!(bricks, [spec("h", Some(7), "/a"), spec("fe80::1", Some(8), "/b")]);
    assert_eq!(split("fe80::1"), Some(("fe80::1".into(), None)));
    for bad in ["", "h:", "h:0", "h:70000", "[::1", "[::1]x", "a b", "h/x"] {
        assert_eq!(split(bad), None, "{bad}");
    }
    assert_eq!(place("::1").unwrap(), "[::1]:24009");
    assert_eq!(Options::new(Some("h2")).unwrap().brickd, "h2:24009");
    assert!(Options::new(Some("h2:x")).is_err());
}

#[test]
fn flags_stand_anywhere() {
    for text in [
        "--json --yes --brickd h:1 peer status",
        "peer --brickd=h:1 status -y --json",
    ] {
        let (options, line) = parsed(text).unwrap();
        assert_eq!(
            (options.brickd.as_str(), options.json, options.yes),
            ("h:1", true, true)
        );
        assert_eq!(line, Line::Command(Command::PeerStatus));
    }
    assert_eq!(parsed("").unwrap().1, Line::Nothing);
    assert_eq!(parsed("help volume").unwrap().1, Line::Help);
    assert_eq!(parsed("volume --help").unwrap().1, Line::Help);
    assert_eq!(parsed("--version").unwrap().1, Line::Version);
    assert_eq!(parsed("demo").unwrap().1, Line::Demo);
    assert!(parsed("demo now").is_err());
}

#[test]
fn mistakes_are_named_with_a_way_out() {
    for (text, why, hint) in [
        (
            "volume crate v",
            "unknown verb 'volume crate'",
            "did you mean: mboxfs volume create",
        ),
        (
            "peers status",
            "unknown verb 'peers status'",
            "did you mean: mboxfs peer status",
        ),
        (
            "heal statsu",
            "unknown verb 'heal statsu'",
            "did you mean: mboxfs heal status",
        ),
        ("bogus", "unknown verb 'bogus'", "mboxfs help"),
        (
            "volume start",
            "wrong words after 'volume start'",
            "mboxfs volume start NAME [force]",
        ),
        (
            "volume stop v force",
            "wrong words after 'volume stop'",
            "mboxfs volume stop NAME",
        ),
        (
            "peer status now",
            "wrong words after 'peer status'",
            "mboxfs peer status",
        ),
        ("--jsom peer status", "unknown flag '--jsom'", "mboxfs help"),
        (
            "--brickd",
            "--brickd needs HOST:PORT",
            "mboxfs --brickd 127.0.0.1:24009",
        ),
        (
            "volume info a/b",
            "'a/b' is no name for a volume",
            "letters, digits, '_', '-' and '.'",
        ),
        ("peer probe a/b", "'a/b' is no host", "mboxfs peer probe HOST"),
        (
            "peer probe a --fingerprint b",
            "'b' is no fingerprint: it has 64 hex digits",
            "mboxfs pool list",
        ),
    ] {
        let wrong = parsed(text).unwrap_err();
        assert_eq!((wrong.why.as_str(), wrong.hint.as_str()), (why, hint), "{text}");
    }
    for (text, why) in [
        ("v replica 3 a:/x b:/y c:/z", "replica 3 is not supported, only 2"),
        ("v a:/x b:/y", "the replica count is missing"),
        ("v replica 2 a:/x", "replica 2 needs two bricks, 1 given"),
        ("v replica 2 a:/x b:/y c:/z", "replica 2 needs two bricks, 3 given"),
        ("v replica 2 a b:/y", "'a' is not HOST:/PATH"),
        (
            "v replica 2 transport rdma a:/x b:/y",
            "transport 'rdma' is not supported, only tcp",
        ),
    ] {
        assert_eq!(parsed(&format!("volume create {text}")).unwrap_err().why, why);
    }
}

#[test]
fn c3_what_destroys_asks() {
    for text in ["volume stop v", "volume delete v", "peer detach h force"] {
        let command = verb(text);
        assert!(command.question().unwrap().contains("Do you want to"), "{text}");
        assert_eq!(command.words(), text, "the hint repeats what was typed");
    }
    assert_eq!(verb("volume start v").question(), None);
    assert_eq!(verb("volume create v replica 2 a:/x b:/y").question(), None);
}

#[test]
fn refusals_are_glusters() {
    let line = |text: &str, why: &str| verb(text).refusal(why);
    assert_eq!(
        line(
            "peer probe h",
            "Probe returned with Transport endpoint is not connected"
        )
        .unwrap(),
        "peer probe: failed: Probe returned with Transport endpoint is not connected"
    );
    assert_eq!(
        line("volume start v", "Volume v already started").unwrap(),
        "volume start: v: failed: Volume v already started"
    );
    assert_eq!(line("volume info", "x"), None);
}

#[test]
fn options_of_a_volume() {
    let set = |policy, witness: Option<(&str, u16)>| Command::Set {
        name: "v".into(),
        options: Set {
            policy,
            witness: witness.map(|(host, port)| (host.to_owned(), port)),
        },
    };
    assert_eq!(verb("volume set v quorum both"), set(Some(Policy::Both), None));
    assert_eq!(verb("volume set v witness h3"), set(None, Some(("h3", 24009))));
    assert_eq!(
        verb("volume set v witness [fe80::1]:7 quorum witness"),
        set(Some(Policy::Witness), Some(("fe80::1", 7)))
    );
    let get = |key| Command::Get { name: "v".into(), key };
    assert_eq!(verb("volume get v all"), get(None));
    assert_eq!(verb("volume get v quorum"), get(Some(Key::Quorum)));
    for (text, why) in [
        ("volume set v quorum two", "'two' is no quorum"),
        ("volume set v quorun both", "no option 'quorun'"),
        ("volume set v quorum", "option 'quorum' needs a value"),
        ("volume set v witness a b quorum", "no option 'b'"),
        ("volume set v witness h3:0", "'h3:0' is not HOST[:PORT]"),
        ("volume get v nope", "no option 'nope'"),
        ("volume set v", "wrong words after 'volume set'"),
    ] {
        let wrong = parsed(text).unwrap_err();
        assert!(wrong.why.starts_with(why), "{text}: {}", wrong.why);
        assert!(!wrong.hint.is_empty(), "{text}");
    }
}

#[test]
fn to_go_on_alone_is_asked_about() {
    let force = verb("volume force-solo v");
    assert_eq!(force, Command::ForceSolo("v".into()));
    let question = force.question().unwrap();
    assert!(question.starts_with("Mail that only the other brick accepted is missing here"));
    assert!(question.ends_with("Do you want to continue?"));
    assert_eq!(force.words(), "volume force-solo v");
    assert!(!force.is_question());
}
