//! Medians of work that takes turns, so that what else the machine does hits all of it alike.

use std::time::{Duration, Instant};

/// Work that is measured as often as the others beside it.
pub type Work<'w> = Box<dyn FnMut() + 'w>;

/// Runs each of `works` once to warm up and then in turn, in `rounds` rounds, and returns the median seconds of each.
pub fn medians(works: &mut [Work<'_>], rounds: usize) -> Vec<f64> {
    works.iter_mut().for_each(|work| work());
    let mut times = vec![Vec::with_capacity(rounds); works.len()];
    for _ in 0..rounds {
        for (work, times) in works.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            work();
            times.push(begun.elapsed());
        }
    }
    times.into_iter().map(median).collect()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64()
}
