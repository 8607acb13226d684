//! The timing diagrams of the protocol, and worlds in which something was lost once: `testdata/*.txt`.

use mboxfs_sim::{journal::Show, scenario::Scenario};
use std::{fs, path::Path};

#[test]
fn every_scenario_goes_as_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("testdata")
        .map(|e| e.expect("an entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 12, "the scenarios were found");
    let mut bad = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a text");
        let played = Scenario::read(&text).map_err(|why| format!("{name}: {why}"));
        if let Err(why) = played.and_then(|s| s.play(Show::Nothing).map_err(|b| format!("{name}: {b}"))) {
            bad.push(why);
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
