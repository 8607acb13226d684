//! A survivor lets its peer join, and both die in the midst of it, more than once (G4, G5): what the survivor acknowledged alone
//! stays.

use mboxfs_sim::world::{Rng, World};
use mboxfs_types::{admin::Status, quorum::Policy};

const MS: u64 = 1_000_000;

fn run_until(world: &mut World, what: impl Fn(&World) -> bool) {
    let end = world.now + 2_000 * MS;
    while !what(world) {
        assert!(world.now < end, "it comes to that");
        world.run_until(world.now + MS / 50);
    }
}

/// A world in which brick 0 went on alone and just began to let brick 1 join.
fn joining(seed: u64, policy: Policy, rng: &mut Rng) -> World {
    let mut world = World::new(seed);
    world.run(500);
    world.set_policy(policy);
    world.deliver_some(rng, 3, 2);
    world.run(1_000);
    world.kill(1);
    world.run(3_000);
    world.deliver_some(rng, 5, 2);
    world.run(2_000);
    let g = |w: &World| w.hosts[0].report().map(|r| r.view.g);
    let alone = g(&world);
    assert_eq!(world.status(0), Some(Status::Solo));
    world.start(1);
    run_until(&mut world, |w| g(w) != alone);
    world
}

/// Both die while the other one lacks what was acknowledged, again when they have just met, and only that one comes back.
#[test]
fn who_lacks_something_is_no_member() {
    for (seed, policy) in (1..=60).flat_map(|seed| [(seed, Policy::None), (seed, Policy::Witness)]) {
        let mut rng = Rng::new(seed);
        let mut world = joining(seed, policy, &mut rng);
        world.kill(0);
        world.kill(1);
        world.run(100);
        world.start(0);
        world.start(1);
        run_until(&mut world, |w| w.status(1) != Some(Status::Boot));
        world.run_until(world.now + rng.below(2 * MS));
        world.kill(0);
        world.kill(1);
        world.start(1);
        world.run(12_000);
        world.deliver_some(&mut rng, 2, 2);
        world.run(2_000);
        world.mend();
        world.settle(90_000);
    }
}
