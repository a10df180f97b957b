//! Logs that someone without a key has tampered with.

use super::log::{Log, Sign};
use super::{bytes, id, uint};

const OK: &str = "effective";

pub(crate) fn all(sign: &dyn Sign) -> Vec<Log<'_>> {
    vec![
        corrupted(sign),
        corrupted_twice(sign),
        swapped(sign),
        foreign(sign),
        cut(sign),
        missing(sign),
        two_missing(sign),
        junk(sign),
        chained_elsewhere(sign),
        last(sign),
        void_chain(sign),
        damaged_and_void(sign),
        genesis(sign),
    ]
}

/// Four snapshots.
fn base<'s>(sign: &'s dyn Sign, name: &'static str, about: &'static str) -> Log<'s> {
    let mut log = Log::new(sign, name, about);
    for label in ["a", "b", "c", "d"] {
        log.push(&log.snapshot(&[label]), OK);
    }
    log
}

fn corrupted(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        base(sign, "corrupted record", "record 2 has other bytes; record 3 proves it and takes effect");
    let mut other = log.records[2].clone().unwrap();
    other[16] ^= 0xff;
    log.replace(2, Some(other), "malformed");
    log
}

fn corrupted_twice(sign: &dyn Sign) -> Log<'_> {
    let mut log = base(
        sign,
        "two corrupted records",
        "records 2 and 3 have a broken signature; only the damage to 3 is proved",
    );
    for number in [2, 3] {
        let mut other = log.records[number].clone().unwrap();
        *other.last_mut().unwrap() ^= 1;
        log.replace(number, Some(other), "signature");
    }
    log
}

fn swapped(sign: &dyn Sign) -> Log<'_> {
    let mut log = base(sign, "swapped records", "records 1 and 2 have changed places");
    let (one, two) = (log.records[1].clone(), log.records[2].clone());
    log.replace(1, two, "foreign");
    log.replace(2, one, "foreign");
    log
}

fn foreign(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        base(sign, "record of another vault", "record 2 is replaced by one of a sibling with the same owner");
    let mut sibling = Log::new(sign, "sibling", "");
    sibling.push(&sibling.snapshot(&[]), OK);
    sibling.push(&sibling.snapshot(&[]), OK);
    log.replace(2, sibling.records[2].clone(), "foreign");
    log
}

fn cut(sign: &dyn Sign) -> Log<'_> {
    let mut log = base(sign, "cut body", "the body of record 2 has other bytes");
    let mut other = log.records[2].clone().unwrap();
    let at = other.len() - 65;
    other[at] ^= 1;
    log.replace(2, Some(other), "body");
    log
}

fn missing(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        base(sign, "missing record", "record 2 is absent; its segments and snapshot are lost to the state");
    log.replace(2, None, "missing");
    log
}

fn two_missing(sign: &dyn Sign) -> Log<'_> {
    let mut log = base(sign, "two missing records", "records 1 and 2 are absent");
    log.replace(1, None, "missing");
    log.replace(2, None, "missing");
    log
}

fn junk(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "junk before a record", "junk that a later record is chained to is no damage");
    log.push_object(vec![0; 300], "malformed");
    log.push(&log.snapshot(&["a"]), OK);
    log.push(&log.snapshot(&["x"]).by("nobody"), "signer");
    log.push(&log.snapshot(&["b"]), OK);
    log
}

fn chained_elsewhere(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        base(sign, "chained elsewhere", "record 5 is chained to another record 4 than the authentic one");
    log.push(&log.snapshot(&["e"]).set(4, bytes(&id("another"))), "chain");
    log.push(&log.snapshot(&["f"]), OK);
    log
}

fn last(sign: &dyn Sign) -> Log<'_> {
    let mut log = base(sign, "corrupted last record", "nothing proves what the last record was");
    let mut other = log.records[4].clone().unwrap();
    *other.last_mut().unwrap() ^= 1;
    log.replace(4, Some(other), "signature");
    log
}

fn void_chain(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "void records keep their number", "the bytes of a void record enter the chain");
    log.push(&log.snapshot(&["a"]).set(3, uint(7)), "term");
    let before = log.chains[0];
    log.push(&log.snapshot(&["a"]).set(4, bytes(&before)), "chain");
    log.push(&log.snapshot(&["a"]), OK);
    log
}

fn damaged_and_void(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "missing before a void record", "a missing record is damage once, whatever follows");
    log.push(&log.snapshot(&["a"]), OK);
    log.push(&log.snapshot(&["b"]).set(3, uint(7)), "term");
    log.push(&log.snapshot(&["c"]), OK);
    log.replace(1, None, "missing");
    log
}

fn genesis(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        base(sign, "missing record 0", "record 0 is absent; the header still says who the owner is");
    log.replace(0, None, "missing");
    log
}
