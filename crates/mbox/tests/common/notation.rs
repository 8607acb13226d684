//! Mailboxes in the notation of MAIL.md section 7: `m2:2/RO{k}` is subject:UID/flags{keywords}, `V1000 L3` UIDVALIDITY and
//! last UID.
//!
//! More of it: `=` all of the ancestor's, `-m2` without m2, a name again replaces it; `K=k1,k2` keyword list; `pseudo`;
//! `absent`; `empty`; `NUL` 200 NUL bytes; `junk` before the first message. Names say what is in a message: `m2'` m2 with an
//! edited body, `m2~` m2 as mutt rewrites it, `x1@40` another From_ time, `cron...` nothing that names the mail (weak), `crlf`
//! CRLF, `inner` an unquoted From_ line guarded by its length, `cut` a long one, `cut!` the beginning of that, `a1!` without
//! final newline. Of a side: `unobserved`, `novote`, `appended=2`.

use std::collections::BTreeMap;

use mboxfs_mbox::index::Index;
use mboxfs_mbox::manifest::Manifest;
use mboxfs_mbox::merge::{Input, suspects};
use mboxfs_mbox::plan::Plan;

/// One message as the notation says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) name: String,
    pub(crate) uid: Option<u32>,
    pub(crate) flags: String,
    pub(crate) keywords: Vec<String>,
}

/// One mailbox, and what is known of its side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mbox {
    pub(crate) mails: Vec<Mail>,
    pub(crate) numbers: Option<(u32, u32)>,
    pub(crate) keywords: Vec<String>,
    pub(crate) pseudo: bool,
    pub(crate) absent: bool,
    pub(crate) prefix: &'static str,
    pub(crate) unobserved: bool,
    pub(crate) novote: bool,
    pub(crate) appended: u64,
}

const NULS: &str = match std::str::from_utf8(&[0; 200]) {
    Ok(text) => text,
    Err(_) => "",
};

impl Mbox {
    /// `base`: what `=` means, and whose numbers count where none are given.
    pub(crate) fn parse(text: &str, base: &Self) -> Self {
        let mut this = Self {
            numbers: base.numbers,
            keywords: base.keywords.clone(),
            ..Self::default()
        };
        let mut numbers = this.numbers.unwrap_or_default();
        for word in words(text) {
            match word {
                "=" => this.mails.clone_from(&base.mails),
                "pseudo" => this.pseudo = true,
                "absent" => this.absent = true,
                "empty" => numbers = (0, 0),
                "unobserved" => this.unobserved = true,
                "novote" => this.novote = true,
                "junk" => this.prefix = "junk\nFrom nobody\n",
                "NUL" => (this.prefix, numbers) = (NULS, (0, 0)),
                _ => {
                    if let Some(name) = word.strip_prefix('-') {
                        let at = this.mails.iter().position(|mail| mail.name == name);
                        this.mails.remove(at.unwrap_or_else(|| panic!("{text}: no {name}")));
                    } else if let Some(list) = word.strip_prefix("K=") {
                        this.keywords = list.split(',').map(str::to_owned).collect();
                    } else if let Some(count) = word.strip_prefix("appended=") {
                        this.appended = count.parse().expect(text);
                    } else if let (Some("V"), Ok(number)) = (word.get(..1), word[1..].parse()) {
                        numbers.0 = number;
                    } else if let (Some("L"), Ok(number)) = (word.get(..1), word[1..].parse()) {
                        numbers.1 = number;
                    } else {
                        this.put(Mail::parse(word));
                    }
                }
            }
        }
        this.numbers = Some(numbers).filter(|numbers| numbers.0 > 0);
        this
    }

    fn put(&mut self, mail: Mail) {
        let plain = mail.name.trim_end_matches('~');
        let replaced = self.mails.iter_mut().find(|old| old.name == plain && plain != "z");
        match replaced {
            Some(old) => {
                *old = Mail {
                    uid: mail.uid.or(old.uid),
                    ..mail
                }
            }
            None => self.mails.push(mail),
        }
    }

    pub(crate) fn render(&self) -> Vec<u8> {
        let base = self.numbers.map(|(validity, last)| {
            let keywords: String = self.keywords.iter().map(|keyword| format!(" {keyword}")).collect();
            format!("{validity} {last:010}{keywords}")
        });
        let mut file = self.prefix.as_bytes().to_vec();
        let mut base = base.as_deref();
        if self.pseudo {
            let base = base.take().expect("a pseudo message tells numbers");
            file.extend_from_slice(pseudo(base).as_bytes());
        }
        for mail in &self.mails {
            file.extend_from_slice(&mail.render(base.take()));
        }
        file
    }
}

/// Words; braces hold theirs together.
fn words(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let split = move |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c.is_whitespace() && depth == 0
    };
    text.split(split).filter(|word| !word.is_empty()).collect()
}

fn pseudo(base: &str) -> String {
    format!(
        "From MAILER-DAEMON Thu Jan  1 00:00:00 1970\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\
         X-IMAP: {base}\nStatus: RO\n\nThis text is part of the internal format of your mail folder.\n\n"
    )
}

impl Mail {
    fn parse(word: &str) -> Self {
        let (word, keywords) = word.split_once('{').unwrap_or((word, ""));
        let (word, flags) = word.split_once('/').unwrap_or((word, ""));
        let (name, uid) = word.split_once(':').unwrap_or((word, ""));
        Self {
            name: name.into(),
            uid: uid.parse().ok(),
            flags: flags.into(),
            keywords: keywords
                .trim_end_matches('}')
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        }
    }

    fn seconds(&self) -> u32 {
        if let Some((_, time)) = self.name.split_once('@') {
            return time.trim_end_matches('!').parse().expect("a time");
        }
        match self.name.get(..2) {
            Some("m1") => 1,
            Some("m2") => 2,
            Some("m3") => 3,
            Some("x1") => 9,
            Some("b1") => 11,
            Some("a2") => 12,
            Some("b2") => 13,
            _ => 10,
        }
    }

    fn render(&self, base: Option<&str>) -> Vec<u8> {
        let name = self.name.split('@').next().unwrap_or_default();
        let plain = name.trim_end_matches(['~', '!', '\'', 'p', 'q']);
        let mut text = format!("From s@t  Thu Jan  1 00:00:{:02} 1970\n", self.seconds());
        if !plain.starts_with("cron") {
            text += &format!("Message-ID: <{plain}@t>\n");
        }
        text += &format!("Subject: {plain}\n");
        if let Some(base) = base {
            text += &format!("X-IMAPbase: {base}\n");
        }
        let letters = |known: &str| self.flags.chars().filter(|&c| known.contains(c)).collect::<String>();
        for (header, known) in [("Status", "RO"), ("X-Status", "AFTD")] {
            if !letters(known).is_empty() {
                text += &format!("{header}: {}\n", letters(known));
            }
        }
        if !self.keywords.is_empty() {
            text += &format!("X-Keywords: {}          \n", self.keywords.join(" "));
        }
        if let Some(uid) = self.uid {
            text += &format!("X-UID: {uid}          \n");
        }
        let body = match name {
            "inner" => String::from("text\n\nFrom bob@t  Mon Nov 23 12:34:23 2026\nmore\n"),
            "cut" => "line\n".repeat(20),
            "cut!" => "line\n".repeat(7) + "li",
            _ if name.ends_with(['p', 'q', '\'']) => format!("this is {name}, edited\n"),
            _ => format!("this is {plain}\n"),
        };
        if name.ends_with('~') || name == "inner" {
            text += &format!("Lines: 1\nContent-Length: {}\n", body.len());
        }
        text += &format!("\n{body}");
        if name == "crlf" {
            text = text.replace('\n', "\r\n");
        }
        if self.name.ends_with('!') {
            return text.trim_end_matches('\n').into();
        }
        text += if name == "crlf" { "\r\n" } else { "\n" };
        text.into()
    }
}

/// A row of the table, as files.
pub(crate) struct Row {
    pub(crate) base: Option<Mbox>,
    pub(crate) sides: [Mbox; 2],
    pub(crate) files: [Vec<u8>; 2],
    pub(crate) expected: String,
}

impl Row {
    /// `ancestor | A | B | expected`.
    pub(crate) fn parse(text: &str) -> Self {
        let columns: Vec<&str> = text.split('|').map(str::trim).collect();
        let [base, left, right, expected] = columns[..] else {
            panic!("{text}: four columns")
        };
        let default = Mbox::parse("m1:1 m2:2 m3:3 V1000 L3", &Mbox::default());
        let base = match base {
            "" => Some(default.clone()),
            "none" => None,
            base => Some(Mbox::parse(base, &Mbox::default())),
        };
        let parent = base.as_ref().unwrap_or(&default);
        let sides = [left, right].map(|side| Mbox::parse(side, parent));
        Self {
            files: [0, 1].map(|side: usize| sides[side].render()),
            base,
            sides,
            expected: expected.into(),
        }
    }

    pub(crate) fn manifest(&self) -> Option<Manifest> {
        let base = self.base.as_ref()?;
        Some(Manifest::of(&index(&base.render())))
    }

    /// Merges, with the suspects asked.
    pub(crate) fn plan(&self) -> (Plan, Vec<u8>) {
        let base = self.manifest();
        let indexes = [0, 1].map(|side: usize| (!self.sides[side].absent).then(|| index(&self.files[side])));
        let mut inputs = [0, 1].map(|side: usize| Input {
            votes: !self.sides[side].novote,
            observed: !self.sides[side].unobserved,
            appended: self.sides[side].appended,
            ..Input::new(indexes[side].as_ref())
        });
        if let [Some(left), Some(right)] = &indexes {
            for suspect in suspects(base.as_ref(), left, right) {
                let side = suspect.side as usize;
                let range = |range: &std::ops::Range<u64>| range.start as usize..range.end as usize;
                let own = &self.files[side][range(&suspect.torn)];
                inputs[side].torn |= own == &self.files[1 - side][range(&suspect.whole)];
            }
        }
        let plan = mboxfs_mbox::merge::plan(base.as_ref(), &inputs[0], &inputs[1], 2_000_000_000);
        let plan = plan.expect("one side at least is a mailbox");
        let bytes = carry_out(&plan, &self.files[0], &self.files[1]);
        (plan, bytes)
    }
}

pub(crate) fn index(file: &[u8]) -> Index {
    let Ok(index) = Index::read(file) else {
        panic!("a slice can be read")
    };
    index
}

pub(crate) fn carry_out(plan: &Plan, left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut results = [mboxfs_mbox::plan::Side::Left, mboxfs_mbox::plan::Side::Right].map(|own| {
        let mut bytes = Vec::new();
        let done = plan.carry_out(own, left, right, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), ()>(())
        });
        done.expect("memory can be written");
        bytes
    });
    let [one, other] = &mut results;
    assert_eq!(one, other, "what both sides are said to hold is not the same");
    std::mem::take(one)
}

/// What a file says, in the notation. `names`: every mailbox that its messages may be from.
pub(crate) fn describe(file: &[u8], names: &[&[u8]]) -> String {
    let mut known = BTreeMap::new();
    for source in names {
        for (entry, span) in index(source).entries().zip(index(source).spans()) {
            let text = String::from_utf8_lossy(span.raw(source)).into_owned();
            let subject = text
                .lines()
                .find_map(|line| line.strip_prefix("Subject: "))
                .unwrap_or("?");
            let body = String::from_utf8_lossy(span.body(source)).into_owned();
            let edited = body.split(", edited").next().filter(|_| body.contains(", edited"));
            let name = edited.and_then(|body| body.strip_prefix("this is ")).unwrap_or(subject);
            known.insert(entry.identity, name.to_owned());
        }
    }
    let index = index(file);
    let mut words: Vec<String> = Vec::new();
    for entry in index.entries() {
        let mut word = known.get(&entry.identity).cloned().unwrap_or_else(|| "UNKNOWN".into());
        if let Some(uid) = entry.uid {
            word += &format!(":{uid}");
        }
        let letters: String = entry.status.union(entry.x_status).iter().map(char::from).collect();
        if !letters.is_empty() {
            word += &format!("/{letters}");
        }
        let keywords: Vec<_> = entry
            .keywords
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        if !keywords.is_empty() {
            word += &format!("{{{}}}", keywords.join(" "));
        }
        words.push(word);
    }
    if index.numbering.is_some() && words.is_empty() {
        words.push("pseudo".into());
    }
    if let Some(numbering) = &index.numbering {
        words.push(format!("V{} L{}", numbering.uid_validity, numbering.uid_last));
        let keywords: Vec<_> = numbering
            .keywords
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        if !keywords.is_empty() {
            words.push(format!("K={}", keywords.join(",")));
        }
    }
    if index.junk_len > 0 {
        words.push("junk".into());
    }
    words.join(" ")
}
