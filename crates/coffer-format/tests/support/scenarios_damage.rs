//! Logs that someone without a key has tampered with.

use super::log::{Log, Sign, put_domain};
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
        forged(sign),
        forged_and_revoked(sign),
        forged_gap(sign),
        claims_of_the_owner(sign),
        first_claim(sign),
        maintainer_revoked(sign),
        long_gap(sign),
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

/// A writer is enrolled, and something lies in record 2.
fn with_writer<'s>(sign: &'s dyn Sign, name: &'static str, about: &'static str) -> Log<'s> {
    let mut log = Log::new(sign, name, about);
    log.push(&log.enrol("put", 3, &[put_domain()]), OK);
    log
}

/// Commits what a writer signed.
fn push_by_writer(log: &mut Log<'_>, label: &str, previous: Option<&str>) {
    let rec = log.rec(1).body_of(put_domain()).segments(&[label], put_domain()).by("put");
    log.push(&previous.map_or(rec.clone(), |previous| rec.set(4, bytes(&id(previous)))), OK);
}

/// Commits a record that is lost.
fn push_lost(log: &mut Log<'_>) {
    let lost = log.records.len();
    log.push(&log.snapshot(&[&format!("lost {lost}")]), OK);
    log.replace(lost, None, "missing");
}

fn forged(sign: &dyn Sign) -> Log<'_> {
    let mut log = with_writer(
        sign,
        "forged damage",
        "a writer says that the junk in record 2 was something else; it may be true",
    );
    log.push_object(vec![0; 300], "malformed");
    push_by_writer(&mut log, "a", Some("something else"));
    log.push(&log.snapshot(&["b"]), OK);
    log
}

fn forged_and_revoked(sign: &dyn Sign) -> Log<'_> {
    let mut log = forged(sign);
    log.name = "forged damage, and its writer revoked";
    log.about = "once the writer is revoked, what it said of record 2 does not count";
    log.push(&log.revoke("put"), OK);
    log.push(&log.snapshot(&["c"]), OK);
    log
}

fn forged_gap(sign: &dyn Sign) -> Log<'_> {
    let mut log = with_writer(
        sign,
        "forged gap, and its writer revoked",
        "records 2 and 3 are absent, as the writer of record 4 says; then it is revoked. They stay missing, and are no damage",
    );
    push_lost(&mut log);
    push_lost(&mut log);
    push_by_writer(&mut log, "a", None);
    log.push(&log.revoke("put"), OK);
    log.push(&log.snapshot(&["b"]), OK);
    log
}

fn claims_of_the_owner(sign: &dyn Sign) -> Log<'_> {
    let mut log = with_writer(
        sign,
        "claims that stay",
        "records 2 and 5 are absent: the writer of record 3 is revoked, and the owner signed record 6",
    );
    push_lost(&mut log);
    push_by_writer(&mut log, "a", None);
    log.push(&log.revoke("put"), OK);
    push_lost(&mut log);
    log.push(&log.snapshot(&["b"]), OK);
    log.push_object(vec![1; 80], "malformed");
    log.push(&log.snapshot(&["c"]).set(4, bytes(&id("something else"))), OK);
    log
}

fn first_claim(sign: &dyn Sign) -> Log<'_> {
    let mut log = with_writer(
        sign,
        "the first claim",
        "record 3, whose body has other bytes, shows that record 2 was there; record 4, by the owner, shows that record 3 was another",
    );
    push_lost(&mut log);
    push_by_writer(&mut log, "a", None);
    let mut other = log.records[3].clone().unwrap();
    let at = other.len() - 65;
    other[at] ^= 1;
    log.push(&log.snapshot(&["b"]), OK);
    log.replace(3, Some(other), "body");
    log
}

fn maintainer_revoked(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(
        sign,
        "a maintainer's claim",
        "record 2 is absent, as a maintainer signed record 3; that it is revoked later does not change it",
    );
    log.push(&log.enrol("maintainer", 2, &[]), OK);
    push_lost(&mut log);
    log.push(&log.prune(2, &[], &[]).by("maintainer"), OK);
    log.push(&log.revoke("maintainer"), OK);
    log
}

fn long_gap(sign: &dyn Sign) -> Log<'_> {
    let mut log = with_writer(
        sign,
        "a long gap",
        "records 2 to 66 are absent; the writer of record 67 is evidence of 64 of them, the owner's record 68 of all",
    );
    (0..65).for_each(|_| push_lost(&mut log));
    push_by_writer(&mut log, "a", None);
    log.push(&log.snapshot(&["b"]), OK);
    log
}
