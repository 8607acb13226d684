//! A brick that missed more than the log of its peer keeps, or has a new disk, gets files first, while mail flows, and is as
//! good as the other one in the end (I3, I22, I27, I29).

use mboxfs_sim::{
    journal::Show,
    plan::Settings,
    world::{Rng, World},
};
use mboxfs_types::admin::Status;

/// Some deliveries more than this are more than is kept.
const KEPT_LOG: usize = 1_500;
const CHECKPOINT: usize = 800;

fn world(seed: u64) -> (World, Rng) {
    println!("seed {seed}");
    let settings = Settings {
        log_debt_bytes: KEPT_LOG,
        checkpoint_bytes: CHECKPOINT,
        ..Settings::calm(seed)
    };
    let mut world = World::with(settings, Show::Nothing);
    world.run(200);
    (world, Rng::new(seed + 11_000))
}

fn settled(world: &mut World) {
    world.settle(90_000);
    for i in 0..2 {
        assert_eq!(world.hosts[i].status(), Some(Status::Normal), "I32: brick {i}");
    }
}

#[test]
fn what_the_log_does_not_tell_is_told_by_files() {
    for seed in 1..=100 {
        let (mut world, mut rng) = world(seed);
        world.deliver_some(&mut rng, 10, 3);
        let away = rng.side();
        world.run(500);
        world.kill(away);
        world.deliver_some(&mut rng, 40, 4);
        world.run(4_000);
        world.restart_later(away, 0);
        world.deliver_some(&mut rng, 30, 4);
        settled(&mut world);
        assert!(world.resyncs > 0, "the log told all: the test tested nothing");
    }
}

/// Also at the moment when a brick writes down that it begins, or that it is through.
#[test]
fn either_side_may_die_meanwhile() {
    let mut resyncs = 0;
    for seed in 1..=150 {
        let (mut world, mut rng) = world(seed);
        world.deliver_some(&mut rng, 10, 3);
        let away = rng.side();
        world.run(500);
        world.kill(away);
        world.deliver_some(&mut rng, 40, 4);
        world.run(4_000);
        world.restart_later(away, 0);
        for _ in 0..3 {
            world.run(20 + rng.below(80));
            let victim = rng.side();
            world.kill(victim);
            world.restart_later(victim, rng.below(400));
            world.deliver_some(&mut rng, 5, 4);
            world.run(rng.below(2_500));
        }
        world.deliver_some(&mut rng, 5, 4);
        settled(&mut world);
        resyncs += world.resyncs;
    }
    assert!(resyncs > 100, "{resyncs} resyncs in 150 worlds");
}

#[test]
fn a_new_disk_gets_everything() {
    for seed in 1..=60 {
        let (mut world, mut rng) = world(seed);
        world.deliver_some(&mut rng, 15, 3);
        let away = rng.side();
        world.run(1_000);
        world.kill(away);
        world.replace_disk(away);
        world.deliver_some(&mut rng, 5, 4);
        world.restart_later(away, rng.below(3_000));
        world.deliver_some(&mut rng, 6, 4);
        if rng.below(2) == 0 {
            // The only one that has anything: nobody serves meanwhile, least of all the new one (I29).
            let other = 1 - away;
            world.kill(other);
            world.run(15_000);
            assert!(
                !matches!(world.hosts[away].status(), Some(Status::Solo | Status::Normal)),
                "I29"
            );
            world.restart_later(other, 0);
        }
        settled(&mut world);
        assert!(world.resyncs > 0);
    }
}

/// Neither side knows any more what the mailboxes were when they parted: both sides' mail is there, none is doubled.
#[test]
fn both_went_on_alone_for_longer_than_they_remember() {
    let mut resyncs = 0;
    for seed in 1..=100 {
        let (mut world, mut rng) = world(seed);
        world.deliver_some(&mut rng, 10, 3);
        world.part();
        world.deliver_some(&mut rng, 60, 3);
        world.run(4_000);
        world.mend_wires();
        world.deliver_some(&mut rng, 10, 3);
        settled(&mut world);
        resyncs += world.resyncs;
    }
    assert!(resyncs > 50, "{resyncs} resyncs in 100 worlds");
}

/// Also when the log that it could be counted from is gone.
#[test]
fn what_is_on_one_copy_is_counted_over_a_restart() {
    for seed in 1..=20 {
        let (mut world, mut rng) = world(seed);
        world.deliver_some(&mut rng, 10, 3);
        let (away, alone) = (0, 1);
        world.run(500);
        world.kill(away);
        world.deliver_some(&mut rng, 40, 4);
        world.run(15_000);
        let counted = |world: &World| {
            let report = world.hosts[alone].report().expect("it runs");
            assert_eq!(report.status, Status::Solo);
            (report.debt_messages, report.debt_bytes, report.debt_files)
        };
        let before = counted(&world);
        assert!(before.0 > 20 && before.1 > KEPT_LOG as u64, "{before:?}");
        world.kill(alone);
        world.restart_later(alone, 0);
        world.run(15_000);
        assert_eq!(counted(&world), before);
    }
}
