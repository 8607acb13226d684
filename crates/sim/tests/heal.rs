//! Both bricks go on alone, both are written to, and they become one again (law L8).

use mboxfs_sim::world::{Rng, World};

/// `shared`: both sides write to the same mailboxes.
fn deliver(world: &mut World, rng: &mut Rng, count: usize, boxes: u64, shared: bool) {
    for _ in 0..count {
        let mount = rng.side();
        let side = if shared { String::new() } else { format!("-{mount}") };
        let mailbox = format!("user{}{side}", rng.below(boxes));
        world.deliver(mount, &mailbox);
        world.run(rng.below(20));
    }
}

fn apart_and_together(seed: u64, shared: bool) -> World {
    let mut world = World::new(seed);
    let mut rng = Rng::new(seed + 8000);
    world.run(200);
    deliver(&mut world, &mut rng, 10, 2, shared);
    world.part();
    deliver(&mut world, &mut rng, 20, 3, shared);
    world.run(3_000);
    deliver(&mut world, &mut rng, 20, 3, shared);
    world.mend_wires();
    deliver(&mut world, &mut rng, 10, 3, shared);
    world.settle(60_000);
    world
}

#[test]
fn each_side_writes_to_its_own_mailboxes() {
    for seed in 1..=30 {
        let world = apart_and_together(seed, false);
        assert!(world.reloads > 0, "nobody gave up a line: the test tested nothing");
    }
}

#[test]
fn both_sides_write_to_the_same_mailboxes() {
    for seed in 1..=30 {
        let world = apart_and_together(seed, true);
        assert!(world.reloads > 0, "nobody gave up a line: the test tested nothing");
    }
}

/// The link breaks again and again, also in the middle of a merge.
#[test]
fn the_link_breaks_while_they_merge() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 9000);
        world.run(200);
        deliver(&mut world, &mut rng, 10, 3, true);
        for _ in 0..4 {
            world.part();
            deliver(&mut world, &mut rng, 10, 3, true);
            world.run(1_500);
            world.mend_wires();
            world.run(50 + rng.below(60));
        }
        deliver(&mut world, &mut rng, 10, 3, true);
        world.settle(60_000);
    }
}

/// Either brick, or both, die at any moment around a merge.
#[test]
fn bricks_die_while_they_merge() {
    for seed in 1..=30 {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed + 10_000);
        world.run(200);
        deliver(&mut world, &mut rng, 10, 3, true);
        world.part();
        deliver(&mut world, &mut rng, 20, 3, true);
        world.run(3_000);
        world.mend_wires();
        for _ in 0..3 {
            world.run(50 + rng.below(60));
            let victim = rng.below(2) as usize;
            world.kill(victim);
            world.restart_later(victim, rng.below(500));
            world.run(rng.below(700));
        }
        deliver(&mut world, &mut rng, 10, 3, true);
        world.settle(90_000);
    }
}
