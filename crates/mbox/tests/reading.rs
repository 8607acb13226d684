//! What reading costs, counted in bytes that were asked for, and what no bytes may do. The corpus is `corpus/`, one hostile
//! file each; add what a fuzzer finds.

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use mboxfs_mbox::index::Index;
use mboxfs_mbox::manifest::Manifest;
use mboxfs_mbox::merge::{Input, plan};
use mboxfs_mbox::source::Source;

const FROM: &str = "From s@t  Mon Nov 23 12:34:23 2026\n";

/// Counts what is asked for, and answers in pieces of at most `most` bytes.
struct Counted<'a> {
    bytes: &'a [u8],
    most: usize,
    asked: u64,
}

impl Source for Counted<'_> {
    type Error = Infallible;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Infallible> {
        let most = buf.len().min(self.most);
        let read = self.bytes.read_at(offset, &mut buf[..most])?;
        self.asked += read as u64;
        Ok(read)
    }
}

fn read(bytes: &[u8], most: usize) -> (Index, u64) {
    let mut source = Counted { bytes, most, asked: 0 };
    let Ok(index) = Index::read(&mut source) else {
        panic!("a few messages in memory")
    };
    (index, source.asked)
}

/// Files by which somebody may hope to keep a reader busy.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let far = |count: usize, length: usize| format!("{FROM}Content-Length: {length}\n\n").repeat(count).into_bytes();
    // Each message points to a line of its own, far ahead, that begins like a separator.
    let head_len = FROM.len() + "Content-Length: 0000000000\n\n".len();
    let mut pointers = String::new();
    for message in 0..4000 {
        let length = (4000 - message - 1) * head_len + message * "From \n".len();
        pointers += &format!("{FROM}Content-Length: {length:010}\n\n");
    }
    pointers += &format!("\n{}", "From \n".repeat(4000));
    vec![
        ("lengths beyond the end", far(8000, usize::MAX)),
        ("lengths into the middle", far(8000, 200_000)),
        ("lengths to lines that are none", pointers.into_bytes()),
        (
            "headers without end",
            format!("{FROM}{}", "Status: R\nX-Status: A\n".repeat(100_000)).into_bytes(),
        ),
        ("one line", format!("{FROM}\n{}", "x".repeat(3 << 20)).into_bytes()),
        (
            "one sender",
            format!("{FROM}\nFrom {}\n", "x".repeat(3 << 20)).into_bytes(),
        ),
        (
            "senders",
            format!("{FROM}\n{}", format!("From {}\n", "x".repeat(5000)).repeat(400)).into_bytes(),
        ),
        ("empty lines", format!("{FROM}\n{}x", "\n".repeat(2 << 20)).into_bytes()),
        ("nothing but separators", FROM.repeat(60_000).into_bytes()),
        ("NUL", vec![0; 2 << 20]),
        ("CR", format!("{FROM}\n{}", "\r".repeat(2 << 20)).into_bytes()),
    ]
}

/// scan S4, and that a window is enough: three times its bytes at most are read of any file.
#[test]
fn reading_is_linear() {
    for (what, file) in hostile() {
        let (index, asked) = read(&file, usize::MAX);
        assert_eq!(index.len, file.len() as u64, "{what}");
        assert!(
            asked <= 4 * file.len() as u64 + 4096,
            "{what}: {asked} bytes were read of {}",
            file.len()
        );
    }
}

/// It does not matter in which pieces the bytes come.
#[test]
fn pieces_do_not_matter() {
    for (name, file) in corpus() {
        let (whole, _) = read(&file, usize::MAX);
        for most in [1, 7, 4096] {
            assert_eq!(read(&file, most).0, whole, "{name}");
        }
    }
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the corpus")
        .flatten()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                fs::read(entry.path()).expect("a file"),
            )
        })
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus was found");
    files
}

/// Every two files of the corpus merge with every third as ancestor, and the result is what was planned.
#[test]
fn corpus_merges() {
    let files = corpus();
    let indexes: Vec<Index> = files.iter().map(|(_, file)| read(file, usize::MAX).0).collect();
    for base in &indexes {
        let manifest = Manifest::of(base);
        assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(&manifest));
        for (left, (left_name, left_file)) in indexes.iter().zip(&files) {
            assert_eq!(Index::decode(&left.encode()).as_ref(), Ok(left), "{left_name}");
            for (right, (right_name, right_file)) in indexes.iter().zip(&files) {
                let inputs = [Input::new(Some(left)), Input::new(Some(right))];
                let Ok(plan) = plan(Some(&manifest), &inputs[0], &inputs[1], 1) else {
                    continue;
                };
                let mut merged = Vec::new();
                let done = plan.carry_out(
                    mboxfs_mbox::plan::Side::Left,
                    &left_file[..],
                    &right_file[..],
                    |piece| {
                        merged.extend_from_slice(piece);
                        Ok::<(), ()>(())
                    },
                );
                done.expect("memory can be read and written");
                let names = format!("{left_name} and {right_name}");
                assert_eq!(
                    plan.check(&read(&merged, usize::MAX).0),
                    Ok(()),
                    "{names}: {:?}",
                    String::from_utf8_lossy(&merged)
                );
            }
        }
    }
}
