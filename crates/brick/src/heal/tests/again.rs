//! A merge that was interrupted when all was over, and names and attributes that either side changed since: what both sides
//! know of an object is what was merged, not what it was at the fork.

use super::{interrupted::alone_again, *};

/// Both sides after a first merge, in which the right one's `before` came over to the left one; what they do afterwards; the
/// outcome of the second merge.
#[track_caller]
fn merged_again(before: &str, left: &str, right: &str, expected: &str) {
    let mut base = Line::new();
    base.play("*f *k /d");
    let (mut ours, mut theirs) = (base.clone(), base.clone());
    theirs.brick = 2;
    let mut fork = Fork::new(&base.state);
    alone_again(&mut theirs, &mut fork);
    theirs.play(before);
    for after in [(left, right), ("", "")] {
        merge_all(&mut ours, &theirs, &base, &fork);
        alone_again(&mut theirs, &mut fork);
        ours.play(after.0);
        theirs.play(after.1);
    }
    merge_all(&mut ours, &theirs, &base, &fork);
    let shape = shape(&ours.state).into_iter();
    let found = shape.map(|(path, _, mode)| {
        let path = path.iter().map(ToString::to_string).collect::<Vec<_>>().join("/");
        format!("{path}={:o}", mode & 0o777)
    });
    assert_eq!(
        found.collect::<Vec<_>>().join(" "),
        expected,
        "{before:?}, then {left:?} and {right:?}"
    );
}

#[test]
fn a_name_that_was_taken_back_stays_away() {
    merged_again("f>g", "", "", "d=700 g=600 k=600");
    merged_again("f>g", "g>f", "", "d=700 f=600 k=600");
    merged_again("f>g", "", "g>h", "d=700 h=600 k=600");
    merged_again("f>g", "", "g>f", "d=700 f=600 k=600");
    merged_again("f>g", "g>x", "", "d=700 k=600 x=600");
    merged_again("f+g", "-g", "", "d=700 f=600 k=600");
    merged_again("d>e", "e>d", "", "d=700 f=600 k=600");
    merged_again("d>e", "", "e>c", "c=700 f=600 k=600");
    merged_again("*n", "n>m", "", "d=700 f=600 k=600 m=600");
    merged_again("*n", "", "n>m", "d=700 f=600 k=600 m=600");
}

#[test]
fn what_was_removed_stays_away() {
    merged_again("f>g", "-g", "", "d=700 k=600");
    merged_again("f>g", "", "-g", "d=700 k=600");
    merged_again("f=640", "", "-f", "d=700 k=600");
    merged_again("*n", "-n", "", "d=700 f=600 k=600");
    merged_again("*n n=640", "", "-n", "d=700 f=600 k=600");
    // Moved since it was merged: that is another change, and wins.
    merged_again("f>g", "-g", "g>h", "d=700 h=600 k=600");
}

#[test]
fn attributes_are_those_of_the_last_change() {
    merged_again("f=640", "f=600", "", "d=700 f=600 k=600");
    merged_again("f=640", "f=644", "", "d=700 f=644 k=600");
    merged_again("f=640", "", "f=600", "d=700 f=600 k=600");
    merged_again("f=640 f>g", "g=600", "g=644", "d=700 g=600 k=600");
    merged_again("d=750", "d=700", "", "d=700 f=600 k=600");
    merged_again("d=750", "", "d=755", "d=755 f=600 k=600");
    merged_again("*n n=640", "n=600", "", "d=700 f=600 k=600 n=600");
    merged_again("*n", "n=600", "n=640", "d=700 f=600 k=600 n=640");
}

/// MAIL.md 6.9, whichever side goes on.
#[test]
fn of_two_changes_of_a_mode_the_later_one_counts() {
    let mut base = Line::new();
    base.play("*f");
    let fork = Fork::new(&base.state);
    let [early, late] = ["f=644", "*x f=640"].map(|steps| {
        let mut line = base.clone();
        line.brick = 1 + u64::from(steps.len() > 5);
        line.play(steps);
        line
    });
    for (mut ours, theirs) in [(early.clone(), &late), (late.clone(), &early)] {
        merge_all(&mut ours, theirs, &base, &fork);
        let ino = ours
            .state
            .lookup(Ino::ROOT, &Name::new(b"f").expect("a name"))
            .expect("a directory");
        let mode = ours.state.inode(ino.expect("it is there")).expect("an inode").mode;
        assert_eq!(mode, 0o640);
    }
}
