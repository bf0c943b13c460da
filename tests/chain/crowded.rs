//! Sessions that are crowded: what comes later has a rendezvous of its own, and one more is enough.

use std::rc::Rc;
use std::time::Duration;

use super::kubectl::Ask;
use super::{Chain, Shape};

#[test]
fn a_crowded_session_gets_one_neighbour_which_goes_with_it() {
    for seed in 0..12 {
        let mut chain = Chain::new(seed, Shape { is_apart: true, ..Shape::default() });
        // The way as it is, and then as it is with much on it.
        chain.is_served();
        *chain.report.borrow_mut() = Default::default();
        chain.world.lag(chain.relay, 400);
        let get = |size| Ask::Get { salt: seed, size, mode: 1 };
        let bulk = || vec![get(4_000_000)];
        // Those of the last lanes come while the first are under way.
        let later: Vec<Ask> = (0..40).map(|_| get(1000)).collect();
        chain.ask(vec![bulk(), bulk(), later.clone(), later]);
        let auth_proxy = Rc::clone(chain.roles.auth_proxy.as_ref().expect("apart"));
        let report = Rc::clone(&chain.report);
        let mut most = 0;
        let done = chain.world.run_until(Duration::from_secs(600), |_| {
            most = most.max(auth_proxy.borrow().leftovers().0);
            let report = report.borrow();
            report.left == 0 && report.open == 0
        });
        assert!(done, "seed {seed}: {:?}", report.borrow());
        assert_eq!(report.borrow().wrong, [""; 0], "seed {seed}");
        assert_eq!((report.borrow().whole, most), (82, 2), "seed {seed}");
        chain.rest();
        assert_eq!(chain.leftovers(), [""; 0], "seed {seed}");
    }
}
