//! Stores of one vault that are reached in ways of their own: other services, other regions, other identities.

use std::fs;

use coffer_sandbox::{NewBucket, Sandbox, SandboxOptions};

use super::desk::{BUCKET, Desk};

/// A second region with the bucket `second`, and the files by which both are reached: the first as an AWS profile, the second with
/// a service credential.
fn two_regions(desk: &Desk) -> Sandbox {
    let mut options = SandboxOptions::default();
    options.region = "us-south".to_owned();
    let other = Sandbox::start(&options).unwrap();
    other.create_bucket(&NewBucket::named("second")).unwrap();
    let (here, there) = (desk.sandbox.hmac(), other.hmac());
    fs::create_dir_all(desk.path(".aws")).unwrap();
    let profile = format!(
        "[here]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        here.access_key_id, here.secret_access_key
    );
    fs::write(desk.path(".aws/credentials"), profile).unwrap();
    let credential = serde_json::json!({"cos_hmac_keys": {
        "access_key_id": there.access_key_id, "secret_access_key": there.secret_access_key,
    }});
    fs::write(desk.path("there.json"), credential.to_string()).unwrap();
    let config = format!(
        "stores = [\"s3://second/v\"]\nvault = \"s3://{BUCKET}/v\"\n\
         endpoint = \"http://127.0.0.1:1\"\naws-profile = \"nobody\"\n\n\
         [store.\"s3://{BUCKET}/v\"]\nendpoint = {:?}\naws-profile = \"here\"\nregion = \"eu-de\"\n\n\
         [store.\"s3://second/v/\"]\nendpoint = \"http://127.0.0.1:1\"\naws-profile = \"here\"\n\n\
         [profile.both.store.\"s3://second/v\"]\nendpoint = {:?}\ncos-credentials = {:?}\nregion = \"us-south\"\n",
        desk.sandbox.endpoint(),
        other.endpoint(),
        desk.path("there.json"),
    );
    fs::write(desk.path("config.toml"), config).unwrap();
    other
}

#[test]
fn each_store_has_its_own_region_endpoint_and_identity() {
    let desk = Desk::new(|_| {});
    let _other = two_regions(&desk);
    // What holds for one store goes before the environment, which is wrong for the second one.
    let run = |line: &str, code: i32| {
        let mut command = desk.command(&format!("--config ../config.toml --profile both {line}"));
        let output = command.env_remove("COFFER_VAULT").output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        said
    };
    run("init --single-slot", 0);
    run("-V s3://second/v verify", 0);
    let said = run("-vv snapshots", 0);
    assert!(said.contains("settings of its own: s3://second/v"), "{said}");
    // It is the other region that has it: nothing here does.
    desk.run("-V s3://second/v snapshots").expect(10);
    // The command line goes before: there the access key is not known.
    run("-V s3://second/v --aws-profile here snapshots", 30);
    run("-V s3://second/v --endpoint http://127.0.0.1:1 snapshots", 31);
    // The table of the profile stood in place of this one, whole: else there would be two identities.
    let mut command = desk.command("--config ../config.toml -V s3://second/v snapshots");
    assert_eq!(command.output().unwrap().status.code(), Some(31));
}

#[test]
fn mistakes_in_the_table_of_a_store_are_shown_with_their_line() {
    let desk = Desk::new(|_| {});
    let cases = [
        ("[store.\"s3://bbb/v\"]\nregoin = \"x\"\n", "line 2: regoin is no setting of a store", "region"),
        ("[store.\"s3://bbb/v\"]\nkey-service-hosts = \"x\"\n", "line 2", "a store takes endpoint"),
        ("[store.\"s3://bbb/v\"]\nsecret = \"hidden\"\n", "line 2: secret is refused", "FILE"),
        ("[store.\"s3://bbb/v\"]\nregion = 7\n", "line 2: region must be a string", "whole number"),
        ("[store.\"/srv/v\"]\nregion = \"x\"\n", "line 1: a table of a store is for a bucket", "s3://BUCKET"),
        ("[store.\"s3://key:hidden@bbb/v\"]\n", "line 1", "location"),
        ("[store.\"s3:https://h/bbb/v\"]\nendpoint = \"https://x\"\n", "line 2", "names its service itself"),
        (
            "[store.\"s3://bbb/v\"]\naws-profile = \"a\"\ncos-credentials = \"b\"\n",
            "two identities",
            "one store in the configuration file",
        ),
        ("[store.\"s3://bbb/v\"]\n[store.\"s3://bbb/v/\"]\n", "line 2", "a table already"),
        ("[store.\"s3://bbb/v\"]\nlimit-upload = \"fast\"\n", "limit-upload", "KiB"),
        ("[store.\"s3://bbb/v\"]\nnetwork = \"secret\"\n", "network", "public"),
    ];
    for (text, first, second) in cases {
        fs::write(desk.path("config.toml"), text).unwrap();
        let refused = desk.run("--config ../config.toml snapshots").expect(2).says(first).says(second);
        assert!(!refused.err.contains("hidden"), "{}", refused.err);
    }
}
