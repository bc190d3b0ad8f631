//! Runs that must fail. They show that the checks of the other runs work.

use shuttle::thread;
use shuttle_tests::run::check;
use shuttle_tests::sync::{AtomicU32, Ordering};
use std::sync::Arc;

#[test]
#[should_panic(expected = "an addition was lost")]
fn additions_of_a_load_and_a_store_are_lost() {
    check("canary", || {
        let word = Arc::new(AtomicU32::new(0));
        let adders: Vec<_> = (0..4)
            .map(|_| {
                let word = word.clone();
                thread::spawn(move || {
                    let seen = word.load(Ordering::SeqCst);
                    word.store(seen + 1, Ordering::SeqCst);
                })
            })
            .collect();
        adders.into_iter().for_each(|adder| adder.join().unwrap());
        assert_eq!(word.load(Ordering::SeqCst), 4, "an addition was lost");
    });
}
