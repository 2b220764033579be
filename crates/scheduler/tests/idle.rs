//! A pool without work costs nothing: no timer, no memory.

mod bench;

use bench::{Bench, attempt, devices, menu};
use reel_scheduler::{Config, Input};

#[test]
fn an_idle_tick_allocates_nothing_and_arms_no_timer() {
    let mut bench = Bench::with(Config::default(), &devices(2, 2));
    for worker in 0..4 {
        bench.ready(worker);
    }
    bench.submit(1, &menu()[0]);
    bench.finished(0, attempt(1, 1));
    bench.encoded(attempt(1, 1), Ok(()));
    bench.every_command();
    assert_eq!(bench.scheduler.poll_timeout(), None);
    let now = bench.now;
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            bench.scheduler.handle(Input::Timeout, now);
            assert_eq!(bench.scheduler.poll_command(), None);
        }
    });
    assert_eq!(counted.count_total, 0);
}
