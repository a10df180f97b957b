//! Logs in which nothing is damaged.

use super::cases::epoch_fields;
use super::log::{Log, Rec, Sign, labels, put_domain};
use super::{Fields, array, boolean, bytes, domain, id, int, names, text, uint};

const OK: &str = "effective";

type Make<'a> = &'a dyn Fn(&Log<'_>) -> Rec;
type Change<'a> = &'a dyn Fn(Rec) -> Rec;

/// All scenarios.
pub(crate) fn all(sign: &dyn Sign) -> Vec<Log<'_>> {
    let mut logs = genesis(sign);
    logs.extend([
        reasons(sign),
        order(sign),
        order_of_details(sign),
        roles(sign),
        keys_of_kinds(sign),
        put(sign),
        segments(sign),
        forget(sign),
        prune(sign),
        slots(sign),
        epoch(sign),
        enrolment(sign),
        policy(sign),
        newer_policy(sign),
        homes(sign),
        reconcile(sign),
        without_effect(sign),
    ]);
    logs.extend(super::scenarios_damage::all(sign));
    logs
}

fn genesis(sign: &dyn Sign) -> Vec<Log<'_>> {
    let mut logs = Vec::new();
    let mut add = |name, about, outcome, change: Make<'_>| {
        let mut log = Log::empty(sign, name, about);
        let rec = change(&log);
        log.push(&rec, outcome);
        logs.push(log);
    };
    add("genesis", "record 0 is of kind slots and carries the header", OK, &|log| log.genesis());
    add("genesis with a body", "a slots record may have a body", OK, &|log| log.genesis().body());
    add("genesis of another kind", "record 0 must be of kind slots", "details", &|log| log.snapshot(&[]));
    add("genesis without header", "details of record 0 are demanded", "role", &|log| log.genesis().unset(16));
    add("genesis with another header", "the header must be the vault's", "details", &|log| {
        log.genesis().details(&[(1, bytes(b"another"))])
    });
    add("genesis without slots", "a slots record demands key 12", "role", &|log| log.genesis().unset(12));
    add("genesis with empty slots", "an optional key never holds an empty list", "malformed", &|log| {
        log.genesis().set(12, array(&[]))
    });
    add("genesis with a chain value", "key 4 of record 0 is zero", "chain", &|log| {
        log.genesis().set(4, bytes(&id("x")))
    });
    add("genesis by another signer", "only the owner is enrolled", "signer", &|log| log.genesis().by("put"));
    add("genesis of another vault", "key 1 must be the vault id", "foreign", &|log| {
        log.genesis().set(1, bytes(&id("x")))
    });
    logs
}

/// One record for each reason; after each a sound one.
fn reasons(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "reasons", "every reason for which a record is void, each followed by a sound record");
    log.push(&log.enrol("put", 3, &[put_domain()]), OK);
    log.push(&log.snapshot(&["live"]), OK);
    let bad_signature = {
        let mut object = log.object(&log.snapshot(&[]));
        *object.last_mut().unwrap() ^= 1;
        object
    };
    log.push_object(bad_signature, "signature");
    log.push(&log.snapshot(&[]), OK);
    log.push_object(b"not a record".to_vec(), "malformed");
    log.push(&log.snapshot(&[]), OK);
    log.push_object(Vec::new(), "malformed");
    log.push(&log.snapshot(&[]), OK);
    let faults: Vec<(&str, Make<'_>)> = vec![
        ("foreign", &|log| log.snapshot(&[]).set(1, bytes(&id("another vault")))),
        ("foreign", &|log| log.snapshot(&[]).set(2, uint(log.next() + 1))),
        ("body", &|log| log.snapshot(&[]).set(9, bytes(&id("another body")))),
        ("version", &|log| log.snapshot(&[]).set(7, uint(1))),
        ("signer", &|log| log.snapshot(&[]).by("nobody")),
        ("chain", &|log| log.snapshot(&[]).set(4, bytes(&id("another record")))),
        ("home", &|log| log.snapshot(&[]).set(15, bytes(&domain("elsewhere")))),
        ("term", &|log| log.snapshot(&[]).set(3, uint(1))),
        ("kind", &|log| log.snapshot(&[]).set(6, uint(20))),
        ("kind", &|log| log.snapshot(&[]).set(6, uint(0))),
        ("role", &|log| log.about(3, &[log.chains[2]], None).by("put")),
        ("domain", &|log| log.snapshot(&[]).by("put")),
        ("segment", &|log| log.snapshot(&["live"])),
        ("details", &|log| log.about(3, &[id("no snapshot")], None)),
    ];
    for (reason, rec) in faults {
        let reason = log_outcome(reason);
        log.push(&rec(&log), reason);
        log.push(&log.snapshot(&[]), OK);
    }
    log
}

fn log_outcome(reason: &str) -> &'static str {
    REASONS.iter().find(|known| **known == reason).expect("a reason of section 8.2")
}

pub(crate) const REASONS: [&str; 14] = [
    "malformed",
    "foreign",
    "body",
    "version",
    "signer",
    "signature",
    "chain",
    "home",
    "term",
    "kind",
    "role",
    "domain",
    "segment",
    "details",
];

/// One record with more and more faults: the first rule in the order names the reason.
fn order(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(
        sign,
        "order",
        "each record breaks one more rule, an earlier one, and that one is the reason",
    );
    log.push(&log.enrol("put", 3, &[put_domain()]), OK);
    log.push(&log.snapshot(&["live"]), OK);
    let changes: Vec<(&'static str, Change<'_>)> = vec![
        ("segment", &|rec| rec.segments(&["live"], put_domain())),
        ("domain", &|rec| rec.segments(&["live"], [0; 16])),
        ("role", &|rec| rec.details(&[(1, uint(1))])),
        ("kind", &|rec| rec.set(6, uint(77))),
        ("term", &|rec| rec.set(3, uint(9))),
        ("home", &|rec| rec.set(15, bytes(&domain("elsewhere")))),
        ("chain", &|rec| rec.set(4, bytes(&id("another record")))),
    ];
    for count in 1..=changes.len() {
        let rec = log.rec(1).body_of(put_domain()).by("put");
        let rec = changes[..count].iter().fold(rec, |rec, change| change.1(rec));
        log.push(&rec, changes[count - 1].0);
    }
    // From here on records that are not authentic, so the chain to them is checked by nobody.
    let rec = changes.iter().fold(log.rec(1).body_of(put_domain()).by("put"), |rec, change| change.1(rec));
    let break_signature = |log: &Log<'_>, rec: &Rec| {
        let mut object = log.object(rec);
        *object.last_mut().unwrap() ^= 1;
        object
    };
    let next = |log: &Log<'_>, rec: Rec| rec.set(2, uint(log.next()));
    log.push_object(break_signature(&log, &next(&log, rec.clone())), "signature");
    let rec = rec.by("nobody");
    log.push_object(break_signature(&log, &next(&log, rec.clone())), "signer");
    let rec = rec.set(7, uint(1));
    log.push_object(break_signature(&log, &next(&log, rec.clone())), "version");
    let rec = rec.set(9, bytes(&id("another body")));
    log.push_object(break_signature(&log, &next(&log, rec.clone())), "body");
    log.push_object(break_signature(&log, &rec.clone().set(2, uint(99))), "foreign");
    let mut object = break_signature(&log, &rec.set(2, uint(99)));
    object.push(0);
    log.push_object(object, "malformed");
    log
}

fn order_of_details(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "order of details", "segment comes before details, role before both");
    log.push(&log.prune(9, &["not live"], &[]), "segment");
    log.push(&log.prune(9, &[], &[]), "details");
    log.push(&log.prune(9, &["not live"], &[]).unset(16), "role");
    log.push(&log.snapshot(&["a"]).segments(&["a"], domain("any")), OK);
    log
}

fn roles(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "roles", "who may sign what; a reader signs nothing");
    let put = [put_domain()];
    log.push(&log.enrol("put", 3, &put), OK);
    log.push(&log.enrol("maintainer", 2, &[]), OK);
    log.push(&log.enrol("reader", 4, &[]), OK);
    log.push(&log.snapshot(&[]).by("maintainer"), "role");
    log.push(&log.snapshot(&[]).by("reader"), "role");
    log.push(&log.rec(18).details(&[(1, bytes(&id("r")))]).body_of(put[0]).by("reader"), "role");
    log.push(&log.rec(2).body_of(put[0]).segments(&["p"], put[0]).by("put"), OK);
    log.push(&log.rec(18).details(&[(1, bytes(&id("r")))]).body_of(put[0]).by("put"), OK);
    let snapshot = log.push(&log.rec(1).body_of(put[0]).by("put"), OK);
    for kind in [3, 4, 6] {
        log.push(&log.about(kind, &[snapshot], None).by("put"), "role");
        log.push(&log.about(kind, &[snapshot], None).by("maintainer"), OK);
    }
    log.push(&log.about(5, &[snapshot], Some(true)).by("put"), "role");
    log.push(&log.about(5, &[snapshot], Some(false)).by("maintainer"), OK);
    log.push(&log.prune(0, &[], &[]).by("put"), "role");
    log.push(&log.prune(0, &[], &[]).by("maintainer"), OK);
    let base = log.next() - 1;
    log.push(&log.sweep(base, &[], &[]).by("maintainer"), OK);
    let others: [(u64, Fields); 4] = [
        (13, vec![(1, bytes(&id("plan"))), (2, boolean(true))]),
        (17, vec![(1, int(1_800_000_000)), (2, uint(3))]),
        (18, vec![(1, bytes(&id("report")))]),
        (19, vec![(1, uint(log.next() + 2)), (2, bytes(&id("state")))]),
    ];
    for (kind, details) in others {
        let rec = log.rec(kind).details(&details);
        let rec = if kind == 17 { rec } else { rec.body() };
        log.push(&rec.clone().by("maintainer"), OK);
    }
    log.push(&log.rec(9).set(12, labels(&["slot 2"])).by("maintainer"), "role");
    log.push(
        &log.rec(10).set(12, labels(&["s"])).details(&epoch_fields(1, &id("k"))).by("maintainer"),
        "role",
    );
    log.push(&log.enrol("friend", 4, &[]).by("maintainer"), "role");
    log.push(&log.revoke("put").by("maintainer"), "role");
    log.push(&log.with_details(12, &[(1, uint(0))]).by("maintainer"), "role");
    log.push(&log.with_details(14, &[(1, bytes(&domain("h")))]).by("maintainer"), "role");
    log.push(&log.rec(16).details(&[(1, array(&[]))]).by("maintainer"), "role");
    log
}

fn keys_of_kinds(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "keys of kinds", "keys 9 to 12 and 16 stand where section 9 gives them to the kind");
    let snapshot = log.push(&log.snapshot(&["live"]), OK);
    log.push(&log.snapshot(&[]).details(&[(1, uint(1))]), "role");
    log.push(&log.rec(1), "role");
    log.push(&log.snapshot(&[]).set(11, labels(&["live"])), "role");
    log.push(&log.snapshot(&[]).set(12, labels(&["slot 2"])), "role");
    log.push(&log.rec(2).body(), "role");
    log.push(&log.about(3, &[snapshot], None).segments(&["b"], [0; 16]), "role");
    log.push(&log.about(3, &[snapshot], None).unset(16), "role");
    log.push(&log.rec(3).details(&[(1, names(&[snapshot]))]), "role");
    log.push(&log.about(4, &[snapshot], None).segments(&["b"], [0; 16]), OK);
    log.push(&log.sweep(0, &[], &[]).body(), "role");
    log.push(&log.sweep(0, &[], &[]).set(11, labels(&["live"])), "role");
    log.push(&log.rec(9), "role");
    log.push(&log.rec(9).set(12, labels(&["slot 2"])).details(&[(1, bytes(&log.header.clone()))]), "role");
    log.push(&log.rec(10).details(&epoch_fields(1, &id("k"))), "role");
    log.push(&log.rec(17).details(&[(1, int(1)), (2, uint(1))]).body(), "role");
    log.push(&log.rec(13).details(&[(1, bytes(&id("p"))), (2, boolean(true))]), "role");
    let before = uint(log.next() - 1);
    log.push(&log.with_details(19, &[(1, before), (2, bytes(&id("s")))]).segments(&["c"], [0; 16]), OK);
    log.push(&log.prune(0, &[], &[]).segments(&["d"], [0; 16]), OK);
    log
}

fn put(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "put", "a signer of role put keeps to the domains it was enrolled with");
    let (a, b, other) = (domain("a"), domain("b"), domain("c"));
    log.push(&log.enrol("put", 3, &[a, b]), OK);
    log.push(&log.rec(1).body_of(a).segments(&["1"], b).by("put"), OK);
    log.push(&log.rec(1).body_of(other).by("put"), "domain");
    log.push(&log.rec(1).body_of(a).segments(&["2"], other).by("put"), "domain");
    log.push(&log.rec(2).body_of(a).segments(&["2"], other).by("put"), "domain");
    log.push(&log.rec(18).details(&[(1, bytes(&id("r")))]).body_of(other).by("put"), "domain");
    log.push(&log.rec(1).body_of(other).segments(&["2"], other), OK);
    log.push(&log.enrol("none", 3, &[]), OK);
    log.push(&log.rec(1).body_of(a).by("none"), "domain");
    for epoch in [0_u8, 1] {
        // The owner's own domain, of this epoch and of one that is to come.
        let mut owners = [0; 16];
        owners[0] = epoch;
        log.push(&log.enrol("hostile", 3, &[owners]), "details");
        log.push(&log.enrol("hostile", 3, &[owners, domain("d")]), "details");
        log.push(&log.rec(1).body_of(owners).segments(&["3"], owners).by("hostile"), "signer");
    }
    log
}

fn segments(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "segments", "a segment is added once; what was removed never comes back");
    log.push(&log.snapshot(&["a", "b"]), OK);
    log.push(&log.snapshot(&["a"]), "segment");
    log.push(&log.snapshot(&["c", "a"]), "segment");
    log.push(&log.prune(0, &["unknown"], &[]), "segment");
    log.push(&log.prune(0, &["a"], &[]).segments(&["c"], [0; 16]), OK);
    log.push(&log.snapshot(&["a"]), "segment");
    log.push(&log.prune(5, &["a"], &[]), "segment");
    log.push(&log.prune(5, &["b"], &[]).segments(&["b"], [0; 16]), "segment");
    log.push(&log.snapshot(&["d"]).by("nobody"), "signer");
    log.push(&log.snapshot(&["d"]), OK);
    log
}

fn forget(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "forget", "forget, unforget and hold; a held snapshot is not forgotten");
    let a = log.push(&log.snapshot(&[]), OK);
    let b = log.push(&log.snapshot(&[]), OK);
    let void = log.push(&log.snapshot(&[]).set(3, uint(5)), "term");
    let c = log.push(&log.snapshot(&[]), OK);
    log.push(&log.about(3, &[a, id("unknown")], None), "details");
    log.push(&log.about(3, &[void], None), "details");
    log.push(&log.about(4, &[void], None), "details");
    log.push(&log.about(5, &[void], Some(true)), "details");
    log.push(&log.about(6, &[void], None), "details");
    log.push(&log.about(3, &[a, b], None), OK);
    log.push(&log.about(4, &[b], None), OK);
    log.push(&log.about(5, &[b, c], Some(true)), OK);
    log.push(&log.about(3, &[a, b], None), "details");
    log.push(&log.about(5, &[b], Some(false)), OK);
    log.push(&log.about(3, &[b], None), OK);
    log.push(&log.about(6, &[a, c], None), OK);
    log
}

fn prune(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "prune and sweep", "no prune or sweep may have happened above the base of the next");
    let orphan = |kind, label| array(&[uint(kind), bytes(&id(label))]);
    log.push(&log.snapshot(&["a", "b"]), OK);
    log.push(&log.prune(2, &[], &[]), "details");
    log.push(&log.prune(1, &["a"], &[orphan(1, "stray pack"), orphan(2, "stray segment")]), OK);
    log.push(&log.prune(2, &[], &[]), "details");
    log.push(&log.prune(3, &[], &[]), OK);
    log.push(&log.sweep(4, &["a"], &[]), "details");
    log.push(&log.sweep(5, &["b"], &[]), "details");
    log.push(&log.sweep(8, &["a"], &["stray pack"]), "details");
    log.push(&log.sweep(7, &["a", "stray segment"], &["stray pack"]), OK);
    log.push(&log.prune(8, &[], &[]), "details");
    log.push(&log.sweep(9, &[], &["pack"]), OK);
    log.push(&log.snapshot(&["a"]), "segment");
    log.push(&log.prune(11, &["b"], &[]), OK);
    log
}

fn slots(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "slots", "each list of slots replaces the one before");
    log.push(&log.rec(9).set(12, labels(&["slot 1", "slot 2"])), OK);
    log.push(&log.rec(9).set(12, labels(&["slot 3"])).set(3, uint(1)), "term");
    log.push(&log.rec(9).set(12, labels(&["slot 2", "slot 4"])).body(), OK);
    log
}

fn epoch(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "epoch", "an epoch record revokes the old owner and enrols the new one");
    let next = sign.key("owner 1");
    let rec = |log: &Log<'_>, number, key: &[u8; 32]| {
        log.rec(10).set(12, labels(&["slot e"])).details(&epoch_fields(number, key))
    };
    log.push(&log.enrol("maintainer", 2, &[]), OK);
    log.push(&rec(&log, 2, &next), "details");
    log.push(&rec(&log, 0, &next), "details");
    log.push(&rec(&log, 1, &sign.key("owner")), "details");
    log.push(&rec(&log, 1, &sign.key("maintainer")), "details");
    log.push(&rec(&log, 1, &next), OK);
    log.push(&log.snapshot(&[]), "signer");
    log.push(&log.snapshot(&["a"]).by("owner 1"), OK);
    log.push(&log.about(6, &[], None).by("maintainer"), OK);
    log.push(&rec(&log, 2, &sign.key("owner")).by("owner 1"), "details");
    log.push(&log.revoke("owner 1").by("owner 1"), "details");
    let keep = epoch_fields(2, &sign.key("owner 2"));
    let keep = super::with(&keep, 6, Some(boolean(false)));
    log.push(&log.rec(10).set(12, labels(&["slot f"])).details(&keep).body().by("owner 1"), OK);
    log.push(&log.snapshot(&[]).by("owner 1"), "signer");
    log.push(&log.snapshot(&[]).by("owner 2"), OK);
    log
}

fn enrolment(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(sign, "enrolment", "a key is enrolled once; what is revoked stays revoked");
    log.push(&log.snapshot(&[]).by("put"), "signer");
    log.push(&log.enrol("put", 3, &[put_domain()]), OK);
    log.push(&log.snapshot(&[]).body_of(put_domain()).by("put"), OK);
    log.push(&log.enrol("put", 2, &[]), "details");
    log.push(&log.enrol("owner", 2, &[]), "details");
    log.push(&log.enrol("friend", 1, &[]), "details");
    log.push(&log.revoke("nobody"), "details");
    log.push(&log.revoke("owner"), "details");
    log.push(&log.revoke("put"), OK);
    log.push(&log.snapshot(&[]).by("put"), "signer");
    log.push(&log.revoke("put"), "details");
    log.push(&log.enrol("put", 3, &[put_domain()]), "details");
    log.push(&log.enrol("maintainer", 2, &[]), OK);
    log.push(&log.prune(0, &[], &[]).by("maintainer"), OK);
    log
}

fn policy(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(
        sign,
        "policy",
        "the details of a policy may be empty; the minor version in force never falls",
    );
    log.push(&log.with_details(12, &[]), OK);
    log.push(&log.with_details(12, &[(1, uint(0))]), OK);
    log.push(&log.with_details(12, &[(2, text("later"))]), OK);
    log.push(&log.with_details(12, &[(1, text("1"))]), "details");
    log.push(&log.rec(12).body(), "role");
    log.push(&log.rec(12).details(&[]), "role");
    log.push(&log.snapshot(&[]).details(&[]), "role");
    log.push(&log.with_details(3, &[]), "details");
    log.push(&log.snapshot(&[]).set(7, uint(1)), "version");
    log
}

fn newer_policy(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(
        sign,
        "newer policy",
        "the last record needs a newer program: a reader stops there and says so",
    );
    log.push(&log.with_details(12, &[(1, uint(3))]), OK);
    log
}

fn homes(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "homes", "handover changes the home, promote also the term, from the next record on");
    let (a, b) = (domain("home a"), domain("home b"));
    let promote = |log: &Log<'_>, last: u64, chain: [u8; 32]| {
        let details = [(1, bytes(&b)), (2, uint(last)), (3, bytes(&chain))];
        log.with_details(15, &details).set(3, uint(log.term + 1))
    };
    log.push(&log.with_details(14, &[(1, bytes(&a))]).set(15, bytes(&a)), "home");
    log.push(&log.with_details(14, &[(1, bytes(&a))]), OK);
    log.push(&log.snapshot(&[]), "home");
    log.home = a;
    log.push(&log.snapshot(&[]), OK);
    let (last, chain) = (log.next() - 1, log.chains[4]);
    log.push(&promote(&log, last, chain).set(3, uint(0)), "term");
    log.push(&promote(&log, last, chain), "details");
    let (last, chain) = (log.next() - 1, *log.chains.last().unwrap());
    log.push(&promote(&log, last, chain).unset(15), "home");
    let last = log.next() - 1;
    log.push(&promote(&log, last, id("another chain")), "details");
    let (last, chain) = (log.next() - 1, *log.chains.last().unwrap());
    log.push(&promote(&log, last, chain), OK);
    log.push(&log.snapshot(&[]), "home");
    log.home = b;
    log.push(&log.snapshot(&[]), "term");
    log.term = 1;
    log.push(&log.snapshot(&[]), OK);
    log.push(&log.snapshot(&[]).set(3, uint(2)), "term");
    // Back to the store in which the vault was made.
    log.push(&log.with_details(14, &[(1, bytes(&b))]), "details");
    log.push(&log.with_details(14, &[(1, bytes(&[0; 16]))]), OK);
    log.home = [0; 16];
    log.push(&log.snapshot(&[]), OK);
    log
}

fn reconcile(sign: &dyn Sign) -> Log<'_> {
    let mut log =
        Log::new(sign, "reconcile", "records of a branch that was left behind are quoted and take effect");
    log.push(&log.enrol("put", 3, &[put_domain()]), OK);
    log.push(&log.snapshot(&["live"]), OK);
    let quote = |log: &Log<'_>, records: &[Vec<u8>]| {
        log.rec(16).details(&[(1, array(&records.iter().map(|record| bytes(record)).collect::<Vec<_>>()))])
    };
    let branch = |log: &Log<'_>, label: &str| {
        let rec = log.rec_at(70, id("branch"), 1).body_of(put_domain()).by("put").set(3, uint(4));
        log.object(&rec.segments(&[label], put_domain()).set(15, bytes(&domain("left behind"))))
    };
    let a = branch(&log, "a");
    let progress = log.object(&log.rec_at(71, id("branch"), 2).body().segments(&["b"], [0; 16]));
    let bare = log.object(&log.rec_at(72, id("branch"), 1).body());
    log.push(&quote(&log, &[branch(&log, "live")]), "details");
    log.push(&quote(&log, &[a.clone(), a.clone()]), "details");
    log.push(&quote(&log, &[bare.clone(), bare.clone()]), "details");
    let same = log.object(&log.rec_at(73, id("branch"), 1).body().segments(&["a"], [0; 16]));
    log.push(&quote(&log, &[a.clone(), same]), "details");
    log.push(&quote(&log, &[a[..a.len() - 1].to_vec()]), "details");
    let mut forged = a.clone();
    *forged.last_mut().unwrap() ^= 1;
    log.push(&quote(&log, &[forged]), "details");
    let foreign = log.object(&log.rec_at(70, id("branch"), 1).body().set(1, bytes(&id("another vault"))));
    log.push(&quote(&log, &[foreign]), "details");
    let hold = log.object(&log.about(5, &[log.chains[2]], Some(true)));
    log.push(&quote(&log, &[hold]), "details");
    let stranger = log.object(&log.rec_at(70, id("branch"), 1).body().by("nobody"));
    log.push(&quote(&log, &[stranger]), "details");
    let beyond = log.object(&log.rec_at(70, id("branch"), 1).body().by("put"));
    log.push(&quote(&log, &[beyond]), "details");
    let body = log.object(&log.rec_at(70, id("branch"), 1).body().set(9, bytes(&id("x"))));
    log.push(&quote(&log, &[body]), "details");
    log.push(&quote(&log, &[a.clone(), progress, bare]), OK);
    log.push(&quote(&log, std::slice::from_ref(&a)), "details");
    log.push(&log.snapshot(&["a"]), "segment");
    log.push(&log.about(3, &[*blake3::hash(&a).as_bytes()], None), OK);
    log.push(&log.rec(16).body().details(&[(1, array(&[]))]), OK);
    log
}

fn without_effect(sign: &dyn Sign) -> Log<'_> {
    let mut log = Log::new(
        sign,
        "without effect",
        "approval, locks, evidence and checkpoint change nothing but segments",
    );
    log.push(&log.with_details(13, &[(1, bytes(&id("plan"))), (2, boolean(true))]), OK);
    log.push(&log.with_details(13, &[(1, bytes(&id("plan"))), (2, uint(1))]), "details");
    log.push(&log.rec(17).details(&[(1, int(-1)), (2, uint(0))]), OK);
    log.push(&log.with_details(18, &[(1, bytes(&id("report")))]), OK);
    log.push(&log.with_details(18, &[(1, bytes(&id("report")[..31]))]), "details");
    log.push(
        &log.with_details(19, &[(1, uint(5)), (2, bytes(&id("state")))]).segments(&["state"], [0; 16]),
        OK,
    );
    log.push(&log.with_details(19, &[(1, uint(6))]), "details");
    log.push(&log.with_details(19, &[(1, uint(6)), (2, bytes(&id("state")))]), "details");
    log.push(&log.with_details(19, &[(1, uint(9)), (2, bytes(&id("state")))]), "details");
    log.push(&log.with_details(19, &[(1, uint(9)), (2, bytes(&id("other")))]), OK);
    log
}
