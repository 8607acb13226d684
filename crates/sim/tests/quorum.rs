//! Worlds under each policy: who goes on alone, who waits, and that nothing diverges (I6, I7, I31, I32).

use mboxfs_brick::quorum::Order;
use mboxfs_sim::world::{Rng, World};
use mboxfs_types::{
    BrickId,
    admin::{BrickReport, Status},
    quorum::{Policy, Waits},
    record::Members,
};

/// Worlds of one test: MBOXFS_WORLDS times as many as the gate has time for (1).
fn seeds(count: u64) -> std::ops::RangeInclusive<u64> {
    let times = std::env::var("MBOXFS_WORLDS").map_or(1, |text| text.parse().expect("MBOXFS_WORLDS is a number"));
    1..=count * times
}

/// A world under `policy`, with both bricks in step.
fn world(seed: u64, policy: Policy) -> (World, Rng) {
    let mut world = World::new(seed);
    world.run(200);
    world.set_policy(policy);
    (world, Rng::new(seed + 9000))
}

fn deliver(world: &mut World, rng: &mut Rng, count: usize, at: &[usize]) {
    for _ in 0..count {
        let mailbox = format!("user{}", rng.below(3));
        let mount = at[rng.below(at.len() as u64) as usize];
        world.deliver(mount, &mailbox);
        world.run(rng.below(20));
    }
}

fn report(world: &World, i: usize) -> Option<BrickReport> {
    world.hosts[i].report()
}

fn settled(world: &mut World) {
    world.mend_wires();
    world.settle(90_000);
}

fn serves(world: &World, i: usize) -> bool {
    matches!(world.status(i), Some(Status::Solo | Status::Normal))
}

/// The wire between the bricks is cut: exactly one goes on, within 3 s (I31), the other one waits and says for what.
#[test]
fn witness_one_side_goes_on_in_a_partition() {
    for seed in seeds(10) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        deliver(&mut world, &mut rng, 10, &[0, 1]);
        world.part();
        world.run(3_000);
        let alone: Vec<usize> = (0..2).filter(|i| serves(&world, *i)).collect();
        assert_eq!(alone.len(), 1, "I6, I31");
        let other = 1 - alone[0];
        assert_eq!(world.status(other), Some(Status::Waiting));
        assert_eq!(report(&world, other).and_then(|r| r.waits), Some(Waits::Survivor));
        let before = world.acknowledged();
        deliver(&mut world, &mut rng, 5, &alone);
        world.run(2_000);
        assert!(world.acknowledged() >= before + 5, "I31: mail goes on on one side");
        settled(&mut world);
    }
}

/// The incumbent wins: its peer leaves it some time.
#[test]
fn witness_the_primary_goes_on() {
    for seed in seeds(10) {
        let (mut world, _) = world(seed, Policy::Witness);
        let primary = usize::from(!report(&world, 0).is_some_and(|r| r.primary));
        world.part();
        world.run(3_000);
        assert_eq!(world.status(primary), Some(Status::Solo));
        settled(&mut world);
    }
}

#[test]
fn witness_the_side_that_reaches_it_goes_on() {
    for seed in seeds(10) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        let lucky = rng.below(2) as usize;
        world.cut_witness(1 - lucky, true);
        deliver(&mut world, &mut rng, 5, &[0, 1]);
        world.part();
        world.run(3_500);
        assert_eq!(world.status(lucky), Some(Status::Solo), "I31");
        assert_eq!(report(&world, 1 - lucky).and_then(|r| r.waits), Some(Waits::Witness));
        settled(&mut world);
    }
}

/// While the bricks talk the witness is not needed; without it neither goes on, and both do when it is back.
#[test]
fn witness_down_has_no_effect_until_a_second_failure() {
    for seed in seeds(8) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        world.third.down_until = u64::MAX;
        deliver(&mut world, &mut rng, 10, &[0, 1]);
        world.run(3_000);
        assert_eq!(world.acknowledged(), 10);
        world.part();
        world.run(4_000);
        assert!((0..2).all(|i| world.status(i) == Some(Status::Waiting)));
        world.third.down_until = 0;
        world.run(3_000);
        assert_eq!((0..2).filter(|i| serves(&world, *i)).count(), 1, "I31");
        settled(&mut world);
    }
}

/// Anything is cut, slow or dead at any moment, also while one joins again; the histories never part (I7).
#[test]
fn witness_never_two_lines() {
    for seed in seeds(30) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        for _ in 0..8 {
            deliver(&mut world, &mut rng, 3, &[0, 1]);
            let i = rng.below(2) as usize;
            match rng.below(9) {
                0 => world.part(),
                1 => world.silence(i),
                2 => world.cut_witness(i, true),
                3 => world.third.mute_to[i] = u64::MAX,
                4 => world.third.deaf_to[i] = u64::MAX,
                5 => world.third.slow = rng.below(3_000),
                6 if world.is_up(i) => {
                    world.kill(i);
                    world.restart_later(i, rng.below(4_000));
                }
                7 => world.third.down_until = u64::MAX - world.third.down_until,
                _ => world.mend_wires(),
            }
            world.run(rng.below(2_500));
            if rng.below(3) == 0 {
                // The joining is what is cut most easily.
                world.mend_wires();
                world.run(50 + rng.below(150));
                match rng.below(3) {
                    0 => world.part(),
                    1 if world.is_up(i) => {
                        world.kill(i);
                        world.restart_later(i, rng.below(4_000));
                    }
                    _ => world.drop_link(),
                }
                world.run(rng.below(2_500));
            }
        }
        world.third.slow = 0;
        settled(&mut world);
    }
}

/// The survivor dies while the other one joins. If the register says that both are members, that one goes on, whether or not it
/// was told (T11); if not, it waits.
#[test]
fn witness_the_survivor_dies_in_the_joining() {
    let mut untold = 0;
    for seed in seeds(15) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        let survivor = rng.below(2) as usize;
        let other = 1 - survivor;
        world.kill(other);
        world.run(2_000);
        deliver(&mut world, &mut rng, 4, &[survivor]);
        world.run(1_000);
        world.third.slow = rng.below(5);
        world.start(other);
        while world.named() != Members::Both && world.now < 30_000_000_000 {
            let step = 50_000 + rng.below(400_000);
            world.run_until(world.now + step);
            if rng.below(1000) == 0 {
                break;
            }
        }
        let end = world.now + rng.below(2_000_000);
        world.run_until(end);
        let learned = world.status(other) == Some(Status::Learner);
        world.kill(survivor);
        if rng.below(2) == 0 {
            world.kill(other);
            world.start(other);
        }
        world.run(100);
        // It may have gone on alone by now, which only a member can.
        let alone = BrickId::from_index(survivor as u32).expect("two bricks");
        let member = world.named() != Members::Only(alone);
        world.run(3_000);
        untold += usize::from(member && learned);
        let expected = if member { Status::Solo } else { Status::Waiting };
        assert_eq!(world.status(other), Some(expected), "I31");
        world.start(survivor);
        settled(&mut world);
    }
    assert!(untold > 0, "it always knew: T11 was not tested");
}

/// Bug 2 of PROTOCOL.md 11: a swap that was given up, since the peer came back, was accepted all the same. The register names
/// one brick, both work; if that one died nobody could ever go on.
#[test]
fn witness_a_register_that_went_ahead_is_put_right() {
    let mut ahead = 0;
    for seed in seeds(12) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        let i = usize::from(!report(&world, 0).is_some_and(|r| r.primary));
        let swaps = world.third.swaps;
        world.third.mute_to = [u64::MAX; 2];
        world.part();
        world.run(1_000 + rng.below(200));
        ahead += usize::from(world.third.swaps > swaps);
        world.mend_wires();
        world.settle(5_000);
        world.run(300);
        world.settle(5_000);
        world.kill(i);
        world.run(3_000);
        assert_eq!(
            world.status(1 - i),
            Some(Status::Solo),
            "I31: the register is as the bricks are"
        );
        world.restart_later(i, 0);
        settled(&mut world);
    }
    assert!(ahead > 0, "no swap was orphaned: nothing was tested");
}

/// Both bricks die and come back in any order: the one that was alone last goes on at once, the other one waits for it.
#[test]
fn witness_the_one_that_was_alone_last_is_known() {
    for seed in seeds(10) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        let last = rng.below(2) as usize;
        world.kill(1 - last);
        world.run(3_000);
        deliver(&mut world, &mut rng, 5, &[last]);
        world.run(1_000);
        world.kill(last);
        // It needs the witness no more: its superblock says that it was alone.
        world.third.down_until = rng.below(2) * u64::MAX;
        world.start(1 - last);
        world.run(4_000);
        assert_eq!(world.status(1 - last), Some(Status::Waiting));
        world.part();
        world.start(last);
        world.run(1_500);
        assert_eq!(world.status(last), Some(Status::Solo));
        settled(&mut world);
    }
}

/// Nobody was alone: whoever comes first goes on when the witness agrees, without waiting for long.
#[test]
fn witness_both_down_and_either_may_go_on() {
    for seed in seeds(8) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        deliver(&mut world, &mut rng, 5, &[0, 1]);
        world.kill(0);
        world.kill(1);
        let first = rng.below(2) as usize;
        world.start(first);
        world.run(1_500);
        assert_eq!(world.status(first), Some(Status::Solo), "I31");
        world.start(1 - first);
        settled(&mut world);
    }
}

#[test]
fn both_nobody_goes_on() {
    for seed in seeds(10) {
        let (mut world, mut rng) = world(seed, Policy::Both);
        deliver(&mut world, &mut rng, 10, &[0, 1]);
        world.run(1_000);
        let before = world.acknowledged();
        if rng.below(2) == 0 {
            world.part();
        } else {
            let i = rng.below(2) as usize;
            world.kill(i);
            world.restart_later(i, 6_000);
        }
        world.run(100);
        deliver(&mut world, &mut rng, 5, &[0, 1]);
        world.run(3_000);
        assert!((0..2).all(|i| !serves(&world, i)));
        assert_eq!(world.acknowledged(), before, "no write while a brick is away");
        settled(&mut world);
    }
}

#[test]
fn both_never_two_lines() {
    for seed in seeds(20) {
        let (mut world, mut rng) = world(seed, Policy::Both);
        for _ in 0..6 {
            deliver(&mut world, &mut rng, 3, &[0, 1]);
            let i = rng.below(2) as usize;
            match rng.below(4) {
                0 => world.part(),
                1 => world.silence(i),
                2 if world.is_up(i) => {
                    world.kill(i);
                    world.restart_later(i, rng.below(4_000));
                }
                _ => world.mend_wires(),
            }
            world.run(rng.below(2_500));
        }
        settled(&mut world);
    }
}

/// A change of the policy is cut off at any moment: the two never act by different ones in a way that lets both go on.
#[test]
fn a_change_of_the_policy_is_cut_off() {
    for seed in seeds(40) {
        let (mut world, mut rng) = world(seed, Policy::None);
        deliver(&mut world, &mut rng, 3, &[0, 1]);
        let i = usize::from(!report(&world, 0).is_some_and(|r| r.primary));
        let quorum = mboxfs_types::quorum::Quorum {
            policy: Policy::Both,
            witness: None,
        };
        world
            .order(i, Order::Quorum { quorum, g: None })
            .expect("both are in step");
        let end = world.now + rng.below(2_000_000);
        world.run_until(end);
        world.part();
        world.run(4_000);
        let alone = (0..2).filter(|i| serves(&world, *i)).count();
        assert!(alone <= 1, "A2");
        settled(&mut world);
    }
}

/// The operator lets a waiting brick go on. What the other one has alone is found to have diverged, never dropped.
#[test]
fn forced_to_go_on() {
    for seed in seeds(8) {
        for policy in [Policy::Witness, Policy::Both] {
            let (mut world, mut rng) = world(seed, policy);
            deliver(&mut world, &mut rng, 5, &[0, 1]);
            world.run(1_000);
            let i = rng.below(2) as usize;
            assert!(world.order(i, Order::ForceSolo).is_err(), "not while both work");
            world.third.down_until = u64::MAX;
            world.kill(1 - i);
            world.run(3_000);
            assert_eq!(world.status(i), Some(Status::Waiting));
            world.order(i, Order::ForceSolo).expect("it waits");
            world.run(500);
            assert_eq!(world.status(i), Some(Status::Solo));
            deliver(&mut world, &mut rng, 5, &[i]);
            world.run(2_000);
            // A restart does not make it wait again.
            world.kill(i);
            world.start(i);
            world.run(1_500);
            assert_eq!(world.status(i), Some(Status::Solo));
            world.start(1 - i);
            settled(&mut world);
            // The policy holds again.
            world.part();
            world.run(3_500);
            let alone = (0..2).filter(|i| serves(&world, *i)).count();
            assert_eq!(alone, usize::from(policy == Policy::Witness));
            settled(&mut world);
        }
    }
}

#[test]
fn forced_against_a_survivor_is_merged() {
    for seed in seeds(5) {
        let (mut world, mut rng) = world(seed, Policy::Witness);
        world.part();
        world.run(3_000);
        let last = usize::from(!serves(&world, 0));
        deliver(&mut world, &mut rng, 5, &[last]);
        world.forced = true;
        world.order(1 - last, Order::ForceSolo).expect("it waits");
        world.run(500);
        deliver(&mut world, &mut rng, 5, &[1 - last]);
        world.run(4_000);
        assert_eq!(world.acknowledged(), 10);
        settled(&mut world);
        assert!(world.reloads > 0, "one of them gave up its line");
    }
}
