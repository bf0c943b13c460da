//! Many callers at a time: most of them wait, for some cases end only when the proxy's patience does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Has `count` callers `ask` each of `all` between them; what came of it is in the order of `all`.
pub(crate) fn at_once<T: Sync, R: Send>(
    count: usize,
    all: &[T],
    ask: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let mut answers: Vec<(usize, R)> = thread::scope(|scope| {
        let caller = || {
            let mine = std::iter::from_fn(|| {
                let at = next.fetch_add(1, Ordering::Relaxed);
                all.get(at).map(|it| (at, ask(it)))
            });
            mine.collect::<Vec<_>>()
        };
        let callers: Vec<_> = (0..count).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|it| it.join().expect("a caller that ends")).collect()
    });
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
