//! What a backup or a restore would cost is said beforehand, and is near to what it does cost.

use std::fs;

use serde_json::Value;

use super::desk::Desk;
use crate::support::noise;

#[test]
fn estimates_do_nothing_and_come_near() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    let before = desk.names("");
    let said = desk.run("--json backup src --estimate").expect(0).value();
    assert_eq!(desk.names(""), before);
    let done = desk.run("--json backup src").expect(0).value();
    let (estimated, stored) =
        (said["stored_bytes"].as_u64().unwrap(), done["requests"]["create_bytes"].as_u64().unwrap());
    assert!(estimated * 2 > stored && estimated < stored * 2, "{estimated} and {stored}");
    let creates = |value: &serde_json::Value| value["requests"]["create_count"].as_u64().unwrap();
    assert!(creates(&said).abs_diff(creates(&done)) <= 2, "{said}\n{done}");
    assert!(said["cost"].as_f64().unwrap() > 0.0 && said["currency"] == "USD");

    let said = desk.run("--json restore latest --target ../out --estimate").expect(0).value();
    assert!(!desk.path("out").exists());
    let done = desk.run("--json restore latest --target ../out").expect(0).value();
    let bytes = |value: &serde_json::Value| value["requests"]["read_bytes"].as_u64().unwrap();
    assert!(bytes(&said) * 2 > bytes(&done) && bytes(&said) < bytes(&done) * 3, "{said}\n{done}");
}

/// What is written to several stores is paid for in each.
#[test]
fn an_estimate_counts_every_store_that_is_written_to() {
    let desk = Desk::new(|_| {});
    desk.add_bucket("second", |_| {});
    let both = "--store s3://backups/v --store s3://second/v";
    desk.run(&format!("{both} init --single-slot")).expect(0);
    let said = desk.run(&format!("--json {both} backup src --estimate")).expect(0).value();
    let done = desk.run(&format!("--json {both} backup src --ack all --no-cache")).expect(0).value();
    let (estimated, stored) =
        (said["stored_bytes"].as_u64().unwrap(), done["requests"]["create_bytes"].as_u64().unwrap());
    assert!(
        stored > 600_000 && estimated * 4 > stored * 3 && estimated < stored * 2,
        "{estimated} and {stored}"
    );
    let creates = |value: &serde_json::Value| value["requests"]["create_count"].as_u64().unwrap();
    assert!(creates(&said).abs_diff(creates(&done)) <= 2, "{said}\n{done}");
}

#[test]
fn the_table_of_prices_is_the_users_own() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    let table = "currency = \"EUR\"\nnote = \"mine\"\n[location.here.standard]\nclass_a_per_1000 = 1000.0\n\
        class_b_per_1000 = 0.0\nstorage_per_gb_month = 0.0\negress_per_gb = 0.0\n";
    fs::write(desk.path("prices.toml"), table).unwrap();
    let said = desk
        .run("--json backup src --estimate --prices ../prices.toml --price-row here/standard")
        .expect(0)
        .value();
    assert_eq!(said["cost"].as_f64(), said["class_a"].as_f64(), "{said}");
    desk.run("backup src --estimate --prices ../prices.toml").expect(2).says("it has here/standard");
    desk.run("backup src --prices ../prices.toml").expect(2);
}

/// Words that a compressor makes a third of, or less.
fn words(seed: u64, len: usize) -> Vec<u8> {
    let picks = noise(seed, len / 4);
    let words = picks.iter().flat_map(|pick| format!("word{} ", pick % 97).into_bytes());
    words.take(len).collect()
}

/// A number in JSON, by the names that lead to it.
fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {value}"))
}

/// Estimates a backup, does it, and holds one against the other: bytes within a quarter, requests within a quarter or two.
#[track_caller]
fn assert_comes_near(desk: &Desk, options: &str, what: &str) {
    let said = desk.run(&format!("--json backup src --estimate {options}")).expect(0).value();
    let done = desk.run(&format!("--json backup src {options}")).expect(0).value();
    println!("{what}\n{said}\n{done}");
    let (estimated, sent) = (number(&said, "/stored_bytes"), number(&done, "/requests/create_bytes"));
    assert!(estimated.abs_diff(sent) * 4 <= sent, "{what}: {estimated} of {sent} bytes\n{said}\n{done}");
    for kind in ["create_count", "multipart_count", "list_count", "class_a", "class_b"] {
        let of = |value| number(value, &format!("/requests/{kind}"));
        let (estimated, made) = (of(&said), of(&done));
        let is_near = estimated.abs_diff(made) <= (made / 4).max(2);
        assert!(is_near, "{what}: {estimated} of {made} as {kind}\n{said}\n{done}");
    }
}

/// Whether or not there is a parent, and whatever that one held.
#[test]
fn the_sample_tells_what_compression_will_do() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    let write = |name: &str, bytes: &[u8]| fs::write(desk.path("work/src").join(name), bytes).unwrap();
    write("words", &words(10, 6 << 20));
    assert_comes_near(&desk, "", "words, and no parent");
    write("noise", &noise(11, 6 << 20));
    assert_comes_near(&desk, "", "noise, and a parent of words");
    write("more", &words(12, 6 << 20));
    assert_comes_near(&desk, "", "words, and a parent of noise");
    for number in 0..12 {
        let bytes = if number % 2 == 0 { words(number, 600_000) } else { noise(number, 600_000) };
        write(&format!("mixed-{number}"), &bytes);
    }
    assert_comes_near(&desk, "", "files that take turns");
    fs::create_dir(desk.path("work/src/small")).unwrap();
    for number in 0..1500 {
        write(&format!("small/{number}"), &noise(100 + number, 150));
    }
    assert_comes_near(&desk, "", "small files");
    assert_comes_near(&desk, "", "nothing new");
}

/// As a user asks for it: another level, and packs that are sent in parts.
#[test]
fn the_sample_follows_level_and_packs() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    let write = |name: &str, bytes: &[u8]| fs::write(desk.path("work/src").join(name), bytes).unwrap();
    write("words", &words(20, 10 << 20));
    assert_comes_near(&desk, "--compression off --pack-size 4", "without compression");
    write("words", &words(21, 3 << 20));
    assert_comes_near(&desk, "--compression 6", "more compression");
    write("noise", &noise(22, 34 << 20));
    assert_comes_near(&desk, "--threads 1 --pack-size 64", "one pack in parts");
    let said = desk.run("backup src --estimate --force").expect(0);
    assert!(!said.out.contains("by a sample"), "{}", said.out);
    write("new", &words(23, 1 << 20));
    desk.run("backup src --estimate").expect(0).says("by a sample of it that was compressed");
}
