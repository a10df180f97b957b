//! Logs that someone without a key has tampered with.

use super::log::{Log, Sign, put_domain};
use super::{bytes, id, uint};

const OK: &str = "effective";

pub(crate) fn all(sign: &dyn Sign) -> Vec<Log<'_>> {
    let mut scenarios = Scenarios { sign, logs: Vec::new() };
    changed(&mut scenarios);
    missing_or_void(&mut scenarios);
    claimed(&mut scenarios);
    scenarios.logs
}

struct Scenarios<'s> {
    sign: &'s dyn Sign,
    logs: Vec<Log<'s>>,
}

/// What a log begins with.
type Start<'s> = fn(&'s dyn Sign, &'static str, &'static str) -> Log<'s>;

impl<'s> Scenarios<'s> {
    fn add(
        &mut self,
        start: Start<'s>,
        name: &'static str,
        about: &'static str,
        tamper: impl FnOnce(&mut Log<'_>),
    ) {
        let mut log = start(self.sign, name, about);
        tamper(&mut log);
        self.logs.push(log);
    }
}

/// Records 1 to 4 are snapshots.
fn four_snapshots<'s>(sign: &'s dyn Sign, name: &'static str, about: &'static str) -> Log<'s> {
    let mut log = Log::new(sign, name, about);
    ["a", "b", "c", "d"].into_iter().for_each(|label| push_snapshot(&mut log, label));
    log
}

/// Record 1 enrols a writer.
fn with_writer<'s>(sign: &'s dyn Sign, name: &'static str, about: &'static str) -> Log<'s> {
    let mut log = Log::new(sign, name, about);
    log.push(&log.enrol("put", 3, &[put_domain()]), OK);
    log
}

/// Commits a snapshot of the owner's that adds one segment.
fn push_snapshot(log: &mut Log<'_>, label: &str) {
    log.push(&log.snapshot(&[label]), OK);
}

/// Commits what a writer signed.
fn push_by_writer(log: &mut Log<'_>, label: &str, previous: Option<&str>) {
    let rec = log.rec(1).body_of(put_domain()).segments(&[label], put_domain()).by("put");
    log.push(&previous.map_or(rec.clone(), |previous| rec.set(4, bytes(&id(previous)))), OK);
}

/// Commits a record that is lost.
fn push_lost(log: &mut Log<'_>) {
    let lost = log.records.len();
    push_snapshot(log, &format!("lost {lost}"));
    lose(log, lost);
}

fn lose(log: &mut Log<'_>, number: usize) {
    log.replace(number, None, "missing");
}

/// Changes the bytes of a record, which makes it void for `reason`.
fn change(log: &mut Log<'_>, number: usize, reason: &'static str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut other = log.records[number].clone().unwrap();
    edit(&mut other);
    log.replace(number, Some(other), reason);
}

fn break_signature(log: &mut Log<'_>, number: usize) {
    change(log, number, "signature", |record| *record.last_mut().unwrap() ^= 1);
}

/// The body ends where the signature, of 64 bytes, begins.
fn break_body(log: &mut Log<'_>, number: usize) {
    change(log, number, "body", |record| {
        let at = record.len() - 65;
        record[at] ^= 1;
    });
}

fn changed(scenarios: &mut Scenarios<'_>) {
    scenarios.add(
        four_snapshots,
        "corrupted record",
        "record 2 has other bytes; record 3 proves it and takes effect",
        |log| change(log, 2, "malformed", |record| record[16] ^= 0xff),
    );
    scenarios.add(
        four_snapshots,
        "two corrupted records",
        "records 2 and 3 have a broken signature; only the damage to 3 is proved",
        |log| [2, 3].into_iter().for_each(|number| break_signature(log, number)),
    );
    scenarios.add(four_snapshots, "swapped records", "records 1 and 2 have changed places", |log| {
        let (one, two) = (log.records[1].clone(), log.records[2].clone());
        log.replace(1, two, "foreign");
        log.replace(2, one, "foreign");
    });
    scenarios.add(
        four_snapshots,
        "record of another vault",
        "record 2 is replaced by one of a sibling with the same owner",
        |log| {
            let mut sibling = Log::new(log.sign, "sibling", "");
            sibling.push(&sibling.snapshot(&[]), OK);
            sibling.push(&sibling.snapshot(&[]), OK);
            log.replace(2, sibling.records[2].clone(), "foreign");
        },
    );
    scenarios.add(four_snapshots, "cut body", "the body of record 2 has other bytes", |log| {
        break_body(log, 2);
    });
}

fn missing_or_void(scenarios: &mut Scenarios<'_>) {
    scenarios.add(
        four_snapshots,
        "missing record",
        "record 2 is absent; its segments and snapshot are lost to the state",
        |log| lose(log, 2),
    );
    scenarios.add(four_snapshots, "two missing records", "records 1 and 2 are absent", |log| {
        lose(log, 1);
        lose(log, 2);
    });
    scenarios.add(
        Log::new,
        "junk before a record",
        "junk that a later record is chained to is no damage",
        |log| {
            log.push_object(vec![0; 300], "malformed");
            push_snapshot(log, "a");
            log.push(&log.snapshot(&["x"]).by("nobody"), "signer");
            push_snapshot(log, "b");
        },
    );
    scenarios.add(
        four_snapshots,
        "chained elsewhere",
        "record 5 is chained to another record 4 than the authentic one",
        |log| {
            log.push(&log.snapshot(&["e"]).set(4, bytes(&id("another"))), "chain");
            push_snapshot(log, "f");
        },
    );
    scenarios.add(
        four_snapshots,
        "corrupted last record",
        "nothing proves what the last record was",
        |log| break_signature(log, 4),
    );
    scenarios.add(
        Log::new,
        "void records keep their number",
        "the bytes of a void record enter the chain",
        |log| {
            log.push(&log.snapshot(&["a"]).set(3, uint(7)), "term");
            let before = log.chains[0];
            log.push(&log.snapshot(&["a"]).set(4, bytes(&before)), "chain");
            push_snapshot(log, "a");
        },
    );
    scenarios.add(
        Log::new,
        "missing before a void record",
        "a missing record is damage once, whatever follows",
        |log| {
            push_snapshot(log, "a");
            log.push(&log.snapshot(&["b"]).set(3, uint(7)), "term");
            push_snapshot(log, "c");
            lose(log, 1);
        },
    );
    scenarios.add(
        four_snapshots,
        "missing record 0",
        "record 0 is absent; the header still says who the owner is",
        |log| lose(log, 0),
    );
}

/// A writer says that the junk in record 2 was something else.
fn forge(log: &mut Log<'_>) {
    log.push_object(vec![0; 300], "malformed");
    push_by_writer(log, "a", Some("something else"));
    push_snapshot(log, "b");
}

fn claimed(scenarios: &mut Scenarios<'_>) {
    scenarios.add(
        with_writer,
        "forged damage",
        "a writer says that the junk in record 2 was something else; it may be true",
        forge,
    );
    scenarios.add(
        // The same vault as the one before, and what came later.
        |sign, name, about| Log { name, about, ..with_writer(sign, "forged damage", "") },
        "forged damage, and its writer revoked",
        "once the writer is revoked, what it said of record 2 does not count",
        |log| {
            forge(log);
            log.push(&log.revoke("put"), OK);
            push_snapshot(log, "c");
        },
    );
    scenarios.add(
        with_writer,
        "forged gap, and its writer revoked",
        "records 2 and 3 are absent, as the writer of record 4 says; then it is revoked. They stay missing, and are no damage",
        |log| {
            push_lost(log);
            push_lost(log);
            push_by_writer(log, "a", None);
            log.push(&log.revoke("put"), OK);
            push_snapshot(log, "b");
        },
    );
    scenarios.add(
        with_writer,
        "claims that stay",
        "records 2 and 5 are absent: the writer of record 3 is revoked, and the owner signed record 6",
        |log| {
            push_lost(log);
            push_by_writer(log, "a", None);
            log.push(&log.revoke("put"), OK);
            push_lost(log);
            push_snapshot(log, "b");
            log.push_object(vec![1; 80], "malformed");
            log.push(&log.snapshot(&["c"]).set(4, bytes(&id("something else"))), OK);
        },
    );
    scenarios.add(
        with_writer,
        "the first claim",
        "record 3, whose body has other bytes, shows that record 2 was there; record 4, by the owner, shows that record 3 was another",
        |log| {
            push_lost(log);
            push_by_writer(log, "a", None);
            push_snapshot(log, "b");
            break_body(log, 3);
        },
    );
    scenarios.add(
        Log::new,
        "a maintainer's claim",
        "record 2 is absent, as a maintainer signed record 3; that it is revoked later does not change it",
        |log| {
            log.push(&log.enrol("maintainer", 2, &[]), OK);
            push_lost(log);
            log.push(&log.prune(2, &[], &[]).by("maintainer"), OK);
            log.push(&log.revoke("maintainer"), OK);
        },
    );
    scenarios.add(
        with_writer,
        "a long gap",
        "records 2 to 66 are absent; the writer of record 67 is evidence of 64 of them, the owner's record 68 of all",
        |log| {
            (0..65).for_each(|_| push_lost(log));
            push_by_writer(log, "a", None);
            push_snapshot(log, "b");
        },
    );
}
