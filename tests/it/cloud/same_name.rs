//! Buckets of one name at two services: what is remembered of one is not taken for the other.

use coffer_sandbox::{NewBucket, Sandbox, SandboxOptions};

use super::desk::{BUCKET, Desk, Ran};

/// Runs the command against another region, with the credentials of that.
fn run_at(desk: &Desk, sandbox: &Sandbox, line: &str) -> Ran {
    let keys = sandbox.hmac();
    let output = desk
        .command(line)
        .env("COFFER_ENDPOINT", sandbox.endpoint())
        .env("AWS_ACCESS_KEY_ID", &keys.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &keys.secret_access_key)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn two_services_with_a_bucket_of_one_name_are_two_places() {
    let desk = Desk::new(|_| {});
    let other = Sandbox::start(&SandboxOptions::default()).unwrap();
    other.create_bucket(&NewBucket::named(BUCKET)).unwrap();
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    run_at(&desk, &other, "init --single-slot").expect(0);
    run_at(&desk, &other, "backup src").expect(0);
    // One machine uses both, with one local memory.
    for _ in 0..2 {
        desk.run("backup src").expect(0);
        desk.run("verify").expect(0);
        run_at(&desk, &other, "backup src").expect(0);
        run_at(&desk, &other, "verify").expect(0);
    }
    // That another vault stands at a place that is known is found still.
    desk.delete_all();
    desk.run("init --single-slot --no-cache").expect(0);
    desk.run("backup src").expect(23).says("delete this machine's memory of it");
    run_at(&desk, &other, "snapshots").expect(0);
}

/// The same where each vault has a directory beside its bucket, which is the home of one and a replica of the other.
#[test]
fn two_vaults_of_two_stores_with_a_bucket_of_one_name_are_two_places() {
    const HERE: &str = "--store ../one --store s3://backups/v";
    const THERE: &str = "--store s3://backups/v --store ../two";
    let desk = Desk::new(|_| {});
    let regions = [(); 2].map(|()| Sandbox::start(&SandboxOptions::default()).unwrap());
    regions.iter().for_each(|region| region.create_bucket(&NewBucket::named(BUCKET)).unwrap());
    let [other, third] = &regions;
    let here = |line: &str| desk.run(&format!("{HERE} {line}"));
    let there = |line: &str| run_at(&desk, other, &format!("{THERE} {line}"));
    here("init --single-slot").expect(0);
    there("init --single-slot").expect(0);
    for _ in 0..2 {
        here("backup src").expect(0);
        there("backup src").expect(0);
        here("verify").expect(0);
        there("verify").expect(0);
        desk.run("snapshots").expect(0);
        run_at(&desk, other, "snapshots").expect(0);
    }
    // An empty bucket of the name of the home, at a third service, is not filled as the home.
    let refused = run_at(&desk, third, "--store ../two --store s3://backups/v replicate --new");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!((refused.out + &refused.err).contains("may be the home of the log"));
    there("backup src").expect(0);
    // Which vault the bucket has that is a replica is known when it is used alone.
    desk.delete_all();
    desk.run("init --single-slot --no-cache").expect(0);
    desk.run("backup src").expect(23).says("delete this machine's memory of it");
    there("backup src").expect(0);
}
