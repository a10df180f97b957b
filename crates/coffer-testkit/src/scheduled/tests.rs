use std::collections::BTreeSet;
use std::sync::Barrier;

use coffer_store::MemoryStore;

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("valid key")
}

/// A worker that makes `calls_count` calls of no consequence.
fn idle(calls_count: usize) -> Worker<usize> {
    worker(move |store| {
        for _ in 0..calls_count {
            store.delete(&key("absent")).expect("delete");
        }
        calls_count
    })
}

fn limits() -> ExploreLimits {
    ExploreLimits { schedules_max: 10_000, stuck_after: Duration::from_secs(60) }
}

/// Runs `work` and gives the message of its panic.
fn panic_of(work: impl FnOnce()) -> String {
    words_of(&*catch_unwind(AssertUnwindSafe(work)).expect_err("a panic is expected")).to_owned()
}

#[track_caller]
fn check_count(calls: &[usize], expected: u64) {
    let workers: Vec<_> = calls.iter().copied().map(idle).collect();
    let mut seen = BTreeSet::new();
    let explored = explore(limits(), MemoryStore::new, &workers, |_, results, schedule| {
        assert_eq!(results, calls);
        assert!(seen.insert(schedule.to_vec()), "{schedule:?} was run twice");
    });
    assert_eq!(explored.schedules_count, expected);
    assert!(explored.is_complete);
    assert_eq!(explored.turns_max, calls.iter().sum::<usize>());
    assert_eq!(seen.len() as u64, expected);
}

#[test]
fn every_interleaving_is_run_once() {
    check_count(&[], 1);
    check_count(&[0, 0], 1);
    check_count(&[3], 1);
    check_count(&[1, 1], 2);
    check_count(&[2, 2], 6);
    check_count(&[3, 4], 35);
    check_count(&[5, 5], 252);
    check_count(&[1, 2, 3], 60);
}

/// Both read a counter and write its successor: the classic lost update, which some schedules show and some do not.
#[test]
fn a_lost_update_is_found_in_the_schedules_that_have_it() {
    let increment = || {
        worker(|store: Arc<dyn ObjectStore>| {
            let is_taken = |number: u32| store.stat(&key(&format!("log/{number}"))).is_ok();
            let next = (0..).find(|&number| !is_taken(number)).expect("some number is free");
            store.put_if_absent(&key(&format!("log/{next}")), b"").expect("put")
        })
    };
    let (mut lost, mut kept) = (0, 0);
    let explored = explore(limits(), MemoryStore::new, &[increment(), increment()], |store, results, _| {
        let created_count = results.iter().filter(|outcome| **outcome == PutOutcome::Created).count();
        assert_eq!(store.names().len(), created_count);
        if created_count == 2 { kept += 1 } else { lost += 1 }
    });
    assert!(explored.is_complete);
    // One goes first and is done (with two calls; the other makes three), or both look before either writes.
    assert_eq!((kept, lost), (2, 4));
}

#[test]
fn the_bound_on_schedules_holds_and_is_told() {
    let explored = explore(
        ExploreLimits { schedules_max: 5, ..limits() },
        MemoryStore::new,
        &[idle(2), idle(2)],
        |_, _, _| {},
    );
    assert_eq!(explored, Explored { schedules_count: 5, is_complete: false, turns_max: 4 });
}

#[test]
fn a_schedule_can_be_run_again() {
    let schedule = [1, 0, 0, 1];
    let mut seen = Vec::new();
    replay(limits(), MemoryStore::new, &[idle(2), idle(2)], &schedule, |_, _, schedule| {
        seen = schedule.to_vec()
    });
    assert_eq!(seen, schedule);
    let message = panic_of(|| replay(limits(), MemoryStore::new, &[idle(1)], &[0, 0], |_, _, _| {}));
    assert!(message.contains("before the schedule did"), "{message}");
    let message = panic_of(|| replay(limits(), MemoryStore::new, &[idle(1)], &[1], |_, _, _| {}));
    assert!(message.contains("worker 1 does not wait"), "{message}");
}

#[test]
fn a_failing_check_and_a_panicking_worker_name_their_schedule() {
    let message = panic_of(|| {
        explore(limits(), MemoryStore::new, &[idle(1), idle(1)], |_, _, schedule| {
            assert_ne!(schedule, [1, 0])
        });
    });
    assert!(message.contains("the check failed") && message.contains("schedule [1, 0]"), "{message}");

    let fails = worker(|store| {
        store.stat(&key("absent")).expect_err("absent");
        panic!("this worker fails");
    });
    let message = panic_of(|| {
        explore(limits(), MemoryStore::new, &[fails, idle(1)], |_, _, _| {});
    });
    assert!(message.contains("worker 0 panicked: this worker fails; schedule [0, 1]"), "{message}");
}

#[test]
fn workers_that_wait_for_each_other_are_stuck() {
    let barrier = Arc::new(Barrier::new(2));
    let waits = |number_of_calls: usize| {
        let barrier = Arc::clone(&barrier);
        worker(move |store: Arc<dyn ObjectStore>| {
            for _ in 0..number_of_calls {
                store.delete(&key("absent")).expect("delete");
            }
            barrier.wait();
        })
    };
    // The second is at its barrier at once, the first comes after its call.
    explore(limits(), MemoryStore::new, &[waits(0), waits(0)], |_, _, _| {});
    let impatient = ExploreLimits { stuck_after: Duration::from_millis(300), ..limits() };
    let message = panic_of(|| {
        explore(impatient, MemoryStore::new, &[waits(1), waits(0)], |_, _, _| {});
    });
    assert!(message.contains("stuck"), "{message}");
}

#[test]
fn two_calls_of_one_worker_at_once_are_reported() {
    for under_way in [WorkerState::Waiting, WorkerState::Calling] {
        let turns = Turns::new(1);
        turns.set(0, under_way);
        panic_of(|| turns.await_turn(0));
        let breach = turns.give_all(limits().stuck_after, |_| Ok(0), &mut Vec::new()).expect_err("a breach");
        assert!(breach.contains("worker 0 made a call while another"), "{breach}");
    }
}

#[test]
fn a_worker_that_is_not_repeatable_is_reported() {
    let calls_left = Arc::new(Mutex::new(3));
    let fickle = worker(move |store: Arc<dyn ObjectStore>| {
        let calls_count = {
            let mut left = calls_left.lock().expect("lock");
            *left -= 1;
            *left
        };
        for _ in 0..calls_count {
            store.delete(&key("absent")).expect("delete");
        }
        calls_count
    });
    let message = panic_of(|| {
        explore(limits(), MemoryStore::new, &[fickle, idle(2)], |_, _, _| {});
    });
    assert!(message.contains("different calls"), "{message}");
}

#[test]
fn a_visitor_may_make_calls() {
    let make_store = || {
        let store = MemoryStore::new();
        for name in ["a", "b", "c"] {
            store.insert_raw(name, "");
        }
        store
    };
    let removes_two = worker(|store: Arc<dyn ObjectStore>| {
        let mut removed_count = 0;
        store
            .list("", None, &mut |item| {
                store.delete(&key(&item.name)).expect("delete");
                removed_count += 1;
                if removed_count == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .expect("list");
    });
    let explored = explore(limits(), make_store, &[removes_two], |store, _, schedule| {
        assert_eq!(store.names(), ["c"]);
        assert_eq!(schedule.len(), 3);
    });
    assert_eq!(explored.schedules_count, 1);
}
