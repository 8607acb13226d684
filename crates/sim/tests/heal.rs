//! Both bricks go on alone, both are written to, and they become one again (law L8).

use mboxfs_sim::world::{Rng, World};

fn message(i: usize) -> Vec<u8> {
    format!("From a@b  Mon Nov 23 12:00:00 2026\nSubject: m{i:04}\n\nbody {i:04}\n\n").into_bytes()
}

/// `shared`: both sides write to the same mailboxes.
fn deliver(world: &mut World, rng: &mut Rng, count: usize, boxes: u64, shared: bool) {
    for _ in 0..count {
        let i = world.handed_over();
        let mount = rng.below(2) as usize;
        let side = if shared { String::new() } else { format!("-{mount}") };
        let mailbox = format!("user{}{side}", rng.below(boxes));
        world.deliver(mount, &mailbox, &message(i));
        world.run(rng.below(20));
    }
}

fn apart_and_together(seed: u64, shared: bool) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.trace = std::env::var_os("SIM_TRACE").is_some();
    let mut rng = Rng::new(seed + 8000);
    world.run(200);
    deliver(&mut world, &mut rng, 10, 2, shared);
    world.partition();
    deliver(&mut world, &mut rng, 20, 3, shared);
    world.run(3_000);
    deliver(&mut world, &mut rng, 20, 3, shared);
    world.cut = false;
    deliver(&mut world, &mut rng, 10, 3, shared);
    world.settle(60_000);
    world.audit();
    world
}

#[test]
fn each_side_writes_to_its_own_mailboxes() {
    for seed in 1..=150 {
        let world = apart_and_together(seed, false);
        assert!(world.reloads > 0, "nobody gave up a line: the test tested nothing");
    }
}
