//! The agent changes its control channel, under simulated time, while senders come.

use super::*;

#[test]
fn a_change_of_channel_is_not_noticed_by_anybody_who_connects_meanwhile() {
    for seed in 0..40 {
        let table = Table::with(&["ent"]);
        let loops = 1 + other_loops(seed).len();
        let mut world = world_with(seed, relay_with(table.clone(), loops));
        let count = || table.0.borrow().counts.get("ent").copied().unwrap_or(0);
        let changes = |_: &World| count() != 1;
        assert!(world.run_until(Duration::from_secs(22 * 3600), changes), "seed {seed}");
        assert_eq!(count(), 2, "seed {seed}: the new one before the old one");
        let plans: Vec<Vec<u8>> = (0..6).map(|n| plan(seed * 6 + n, 20_000)).collect();
        let (mut nodes, mut fates) = (Vec::new(), Vec::new());
        for plan in &plans {
            let (node, fate) = sender(&mut world, std::slice::from_ref(plan));
            world.run_steps(seed % 7);
            assert!((1..=2).contains(&count()), "seed {seed}: {}", count());
            nodes.push(node);
            fates.push(fate);
        }
        let all = |_: &World| fates.iter().all(|fate| fate.borrow()[0].is_over);
        assert!(world.run_until(Duration::from_secs(600), all), "seed {seed}");
        for (fate, plan) in fates.iter().zip(&plans) {
            let fate = &fate.borrow()[0];
            assert!(fate.got == *plan && fate.closed == Some(1000), "seed {seed}");
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!(count(), 1, "seed {seed}");
        assert!(nodes.iter().all(|&node| world.leftovers(node) == (0, 0)), "seed {seed}");
        assert_eq!(
            (world.leftovers(ECHO), world.leftovers(AGENT)),
            ((0, 0), (0, 1)),
            "seed {seed}"
        );
        assert_eq!(relay_leftovers(&world, seed), (0, 1), "seed {seed}");
    }
}

#[test]
fn a_change_of_channel_survives_the_loss_of_either() {
    for seed in 0..40 {
        let table = Table::with(&["ent"]);
        let mut world = world_with(seed, relay_with(table.clone(), 1 + other_loops(seed).len()));
        let count = || table.0.borrow().counts.get("ent").copied().unwrap_or(0);
        assert!(world.run_until(Duration::from_secs(22 * 3600), |_| count() == 2), "seed {seed}");
        let steps = world.rng.below(30);
        world.run_steps(steps);
        world.break_one();
        let settled = |world: &World| count() == 1 && world.leftovers(AGENT) == (0, 1);
        world.run_for(Duration::from_secs(1));
        assert!(world.run_until(Duration::from_secs(90), settled), "seed {seed}: {}", count());
        let plans = [plan(seed, 20_000)];
        let (_, fates) = sender(&mut world, &plans);
        let done = |_: &World| fates.borrow()[0].is_over;
        assert!(world.run_until(Duration::from_secs(600), done), "seed {seed}");
        assert!(fates.borrow()[0].got == plans[0], "seed {seed}");
    }
}
