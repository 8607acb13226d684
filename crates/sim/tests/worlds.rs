//! Whole worlds: deliveries from both mounts, with and without faults.

use mboxfs_sim::world::{Rng, World};

/// A little less than `OP_TIMEOUT`, in ms: a brick takes its time to serve.
const OUTAGE: u64 = 14_700;

#[test]
fn one_delivery_reaches_both_bricks() {
    let mut world = World::new(1);
    world.deliver(0, "alice");
    world.settle(5_000);
}

#[test]
fn both_nodes_deliver_to_the_same_mailboxes() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 1000);
        world.deliver_some(&mut rng, 60, 3);
        world.settle(60_000);
        assert_eq!(world.acknowledged(), 60);
    }
}

#[test]
fn a_brick_dies_and_comes_back_while_mail_flows() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 2000);
        world.run(200);
        world.deliver_some(&mut rng, 10, 3);
        let victim = rng.below(2) as usize;
        world.kill(victim);
        world.restart_later(victim, rng.below(6_000));
        world.deliver_some(&mut rng, 30, 3);
        world.settle(60_000);
        assert_eq!(world.acknowledged(), 40);
    }
}

#[test]
fn the_peer_stream_breaks_again_and_again() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 3000);
        for _ in 0..5 {
            world.deliver_some(&mut rng, 8, 2);
            world.drop_link();
        }
        world.settle(60_000);
        assert_eq!(world.acknowledged(), 40);
    }
}

/// A brick that comes back reads in its own log how it came back before. It took that old record for the word that it is a
/// member again, worked with a peer that was still alone, and when that one died both had changed the volume.
#[test]
fn a_brick_that_came_back_before_waits_for_the_survivors_word() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 6000);
        world.run(200);
        let victim = rng.below(2) as usize;
        for _ in 0..3 {
            world.kill(victim);
            world.run(2_000);
            world.deliver_some(&mut rng, 10, 3);
            world.restart_later(victim, 10);
            world.run(rng.below(400));
        }
        world.kill(1 - victim);
        world.restart_later(1 - victim, 100);
        world.deliver_some(&mut rng, 10, 3);
        world.settle(90_000);
        assert_eq!(world.acknowledged(), 40);
    }
}

#[test]
fn both_bricks_die_at_once() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 4000);
        world.deliver_some(&mut rng, 15, 3);
        world.kill(0);
        world.kill(1);
        world.restart_later(0, rng.below(3_000));
        world.restart_later(1, rng.below(3_000));
        world.deliver_some(&mut rng, 5, 3);
        world.settle(90_000);
        assert_eq!(world.acknowledged(), 20);
    }
}

/// No brick for about as long as a mount waits for one: its session ends, at some step of the bricks' return or of its own.
/// (Where that was while a brick was about to confirm it, the old session's replies were taken for the new one's.)
#[test]
fn nobody_is_there_for_as_long_as_a_session_waits() {
    for seed in 1..=60 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 4_500);
        world.deliver_some(&mut rng, 10, 3);
        for _ in 0..3 {
            world.deliver_some(&mut rng, 5, 3);
            world.run(rng.below(30));
            world.kill(0);
            world.kill(1);
            let away = OUTAGE + rng.below(400);
            world.restart_later(0, away);
            world.restart_later(1, away + rng.below(100));
            world.deliver_some(&mut rng, 5, 3);
            world.run(OUTAGE + 1_500);
        }
        world.settle(90_000);
        assert!(world.acknowledged() > 15, "seed {seed}");
    }
}

/// A dotlock asked for while the other node holds the mailbox's inode: the name must still be known to exist. (Postfix
/// bounced with "cannot open file: No such file or directory".)
#[test]
fn a_dotlock_lease_knows_the_mailbox() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        for _ in 0..10 {
            for mount in 0..2 {
                world.deliver(mount, "user0");
            }
            world.run(3);
        }
        world.settle(60_000);
        assert!(
            world.kept > 0,
            "no kernel kept any attributes: L3 was not tested for them"
        );
    }
}

/// What is checkpointed leaves the log, and with it went the line of history: a brick that was stopped and started found
/// nothing in common with its peer and gave up all that it had.
#[test]
fn a_stopped_brick_still_knows_its_history() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 5000);
        world.run(200);
        world.deliver_some(&mut rng, 10, 3);
        world.settle(30_000);
        let victim = rng.below(2) as usize;
        world.stop(victim);
        world.run(100);
        assert!(!world.is_up(victim), "it has stopped");
        world.deliver_some(&mut rng, 5, 3);
        world.restart_later(victim, 2_000);
        world.settle(60_000);
        assert_eq!(world.reloads, 0, "V2: nothing had to be given up (seed {seed})");
    }
}

/// A mount that moved was taken to be where it had been, if its old stream ended after the new one had begun: nobody answered
/// it any more, and after two seconds its locks were gone (L5, L7).
#[test]
fn mounts_move_between_bricks_and_keep_what_they_hold() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 6000);
        world.run(200);
        for _ in 0..10 {
            world.deliver_some(&mut rng, 4, 3);
            world.break_stream(rng.below(2) as usize);
            world.run(rng.below(300));
        }
        world.settle(60_000);
    }
}

/// A mount whose stream breaks while a view waits for the others must not be told what it held before it says so again.
#[test]
fn mounts_come_and_go_while_a_view_begins() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 7000);
        world.deliver_some(&mut rng, 15, 2);
        for _ in 0..4 {
            if rng.below(2) == 0 {
                world.kill(0);
                world.kill(1);
                world.restart_later(0, rng.below(300));
                world.restart_later(1, rng.below(300));
            } else {
                world.drop_link();
            }
            for _ in 0..60 {
                world.run(rng.below(12));
                world.break_stream(rng.below(2) as usize);
                world.deliver_some(&mut rng, 1, 2);
            }
            world.run(2_000);
        }
        world.settle(90_000);
    }
}

/// A brick that was stopped found its promise over when it went on, and went on alone at once: so had its peer. If they did
/// not meet in time, both had mail that the other one lacked.
#[test]
fn a_stopped_process_goes_on_as_a_learner() {
    for seed in 1..=20 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 8000);
        world.run(200);
        for _ in 0..3 {
            world.deliver_some(&mut rng, 5, 3);
            world.run(500);
            // Around the time in which the peer decides; the link is away when both have.
            let victim = rng.below(2) as usize;
            world.freeze(victim, 1_200 + rng.below(300));
            world.run(900);
            if rng.chance(50) {
                world.part();
            }
            world.run(700);
            for i in 0..10 {
                let mount = if i % 2 == 0 { victim } else { 1 - victim };
                world.deliver(mount, &format!("user{}", rng.below(3)));
                world.run(rng.below(20));
            }
            world.run(4_000);
            world.mend_wires();
            world.run(1_000);
        }
        world.settle(60_000);
        assert_eq!(world.acknowledged(), 45);
    }
}

/// A disk that stands still, for a moment or for so long that its brick leaves.
#[test]
fn a_disk_that_stands_still_does_not_hold_up_mail() {
    for seed in 1..=20 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 9000);
        world.run(200);
        for _ in 0..3 {
            world.deliver_some(&mut rng, 5, 3);
            let before = world.acknowledged();
            world.stall_disk(rng.below(2) as usize, 500 + rng.below(20_000));
            world.deliver_some(&mut rng, 10, 3);
            world.run(6_000);
            assert!(world.acknowledged() >= before + 10, "mail stands");
            world.run(20_000);
        }
        world.settle(90_000);
        assert_eq!(world.acknowledged(), 45);
    }
}
