//! What a backup or a restore would cost is said beforehand, and is near to what it does cost.

use std::fs;

use super::desk::Desk;

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
