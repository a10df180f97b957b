//! Which checksums uploads bring, by what a bucket does with them; and what is remembered of that.

use std::fs;

use coffer_sandbox::ChecksumMode;
use coffer_testkit::proxy::{Proxy, RequestKind};
use serde_json::Value;

use super::desk::{BUCKET, Desk, Ran};
use crate::support::noise;

const CRC: &str = "x-amz-checksum-crc32c";
const MD5: &str = "content-md5";

/// A desk whose requests are written down.
struct Watched {
    desk: Desk,
    proxy: Proxy,
}

impl Watched {
    fn new(mode: ChecksumMode, is_demanded: bool) -> Self {
        let desk = Desk::new(|_| {});
        let address = desk.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
        let watched = Self { desk, proxy: Proxy::start(address).unwrap() };
        watched.switch(mode, is_demanded);
        watched
    }

    fn switch(&self, mode: ChecksumMode, is_demanded: bool) {
        let change = |switches: &mut coffer_sandbox::Switches| {
            switches.checksum_mode = mode;
            switches.is_checksum_demanded = is_demanded;
        };
        self.desk.sandbox.switch(change).unwrap();
    }

    fn run(&self, line: &str) -> Ran {
        self.desk.run(&format!("--endpoint {} {line}", self.proxy.endpoint()))
    }

    /// Runs a command, and tells of each body that it uploaded which checksum it brought and with which status it met.
    fn uploads(&self, line: &str) -> Vec<(Option<&'static str>, u16)> {
        self.proxy.set_fair();
        self.run(line).expect(0);
        let exchanges = self.proxy.exchanges();
        let uploads = exchanges
            .iter()
            .filter(|exchange| matches!(exchange.request.kind, RequestKind::Put | RequestKind::Part));
        uploads.map(|exchange| (exchange.request.checksum, exchange.status.unwrap_or(0))).collect()
    }

    /// Backs up something new.
    fn backup(&self, flags: &str) -> Vec<(Option<&'static str>, u16)> {
        let more = fs::read_dir(self.desk.path("work/src")).unwrap().count();
        let bytes = noise(100 + more as u64, 50_000);
        fs::write(self.desk.path(&format!("work/src/more-{more}")), bytes).unwrap();
        let uploads = self.uploads(&format!("backup src {flags}"));
        assert!(uploads.len() >= 3, "a pack, a segment, a record: {uploads:?}");
        uploads
    }

    /// The facts that were kept of the one store.
    fn kept(&self) -> String {
        let mut files = fs::read_dir(self.desk.path("cache/stores")).unwrap();
        let path = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none(), "one store, one file");
        fs::read_to_string(path).unwrap()
    }

    fn finish(self) {
        self.desk.assert_restores("", "out");
        self.desk.run("verify --deep --no-cache").expect(0);
    }
}

#[track_caller]
fn check(uploads: &[(Option<&'static str>, u16)], expected: Option<&str>) {
    assert!(uploads.iter().all(|upload| *upload == (expected, 200)), "{expected:?}: {uploads:?}");
}

/// What a report says of one thing: what was found and what follows.
#[track_caller]
fn fact(report: &Value, name: &str) -> (String, String) {
    let facts = report["bucket"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"));
    (fact["found"].as_str().unwrap().to_owned(), fact["consequence"].as_str().unwrap().to_owned())
}

#[test]
fn checksums_that_are_verified_are_sent_by_every_later_command() {
    let watched = Watched::new(ChecksumMode::Verified, false);
    let init = watched.run("--json init --single-slot").expect(0);
    let (found, consequence) = fact(&init.value(), "checksums");
    assert_eq!(found, "verified");
    assert!(consequence.contains("CRC-32C"), "{consequence}");
    assert_eq!(fact(&init.value(), "checksums in parts").0, "verified");
    assert_eq!(fact(&init.value(), "chunked uploads").0, "taken");
    assert_eq!(fact(&init.value(), "uploads without checksum").0, "taken");
    let kept = watched.kept();
    assert!(
        kept.contains(&format!("s3://{BUCKET}/v at {}\ncrc32c verified\n", watched.proxy.endpoint())),
        "{kept}"
    );
    check(&watched.backup(""), Some(CRC));
    // Nobody knows, and nothing is sent that nobody demands.
    check(&watched.backup("--no-cache"), None);
    fs::remove_dir_all(watched.desk.path("cache/stores")).unwrap();
    check(&watched.backup(""), None);
    // Whoever asks finds it out again.
    let doctor = watched.run("doctor").expect(0);
    doctor.says("bucket: checksums: verified: uploads bring a CRC-32C");
    check(&watched.backup(""), Some(CRC));
    watched.finish();
}

#[test]
fn checksums_that_nobody_looks_at_are_not_sent() {
    let watched = Watched::new(ChecksumMode::Ignored, false);
    let said = watched.run("init --single-slot").expect(0);
    said.says("checksums taken, and a wrong one as well: uploads bring none");
    assert!(watched.kept().contains("crc32c ignored\ncrc32c-in-parts ignored\n"), "{}", watched.kept());
    check(&watched.backup(""), None);
    watched.finish();
}

#[test]
fn checksums_and_chunks_that_are_rejected_are_not_sent() {
    let watched = Watched::new(ChecksumMode::Rejected, false);
    watched.desk.sandbox.switch(|switches| switches.is_chunked_rejected = true).unwrap();
    let report = watched.run("--json init --single-slot").expect(0).value();
    assert!(fact(&report, "checksums").0.starts_with("rejected ("), "{report}");
    assert!(fact(&report, "checksums in parts").0.starts_with("rejected ("), "{report}");
    let (found, consequence) = fact(&report, "chunked uploads");
    assert!(found.starts_with("rejected") && consequence.contains("when_required"), "{report}");
    assert!(watched.kept().contains("chunked rejected"), "{}", watched.kept());
    check(&watched.backup(""), None);
    watched.finish();
}

#[test]
fn where_a_checksum_is_demanded_each_upload_has_one() {
    // The one that the bucket verifies, or the one that every store knows.
    for (mode, expected) in
        [(ChecksumMode::Verified, CRC), (ChecksumMode::Ignored, MD5), (ChecksumMode::Rejected, MD5)]
    {
        let watched = Watched::new(mode, true);
        let report = watched.run("--json init --single-slot").expect(0).value();
        let (found, consequence) = fact(&report, "uploads without checksum");
        assert!(found.starts_with("refused (") && found.contains("is required"), "{mode:?}: {found}");
        assert_eq!(consequence, "every upload brings a checksum");
        check(&watched.backup(""), Some(expected));
        watched.finish();
    }
}

/// Facts are of the day on which they were found.
#[test]
fn what_is_known_and_wrong_is_put_right_by_the_first_upload() {
    let watched = Watched::new(ChecksumMode::Verified, false);
    watched.run("init --single-slot").expect(0);
    check(&watched.backup(""), Some(CRC));
    // The store forgets how.
    watched.switch(ChecksumMode::Rejected, false);
    let uploads = watched.backup("");
    let refused: Vec<_> = uploads.iter().filter(|(_, status)| *status != 200).collect();
    assert!(!refused.is_empty() && refused.iter().all(|upload| **upload == (Some(CRC), 501)), "{uploads:?}");
    // Those that were under way at once meet it each.
    assert!(refused.len() < uploads.len() / 2 + 1, "{uploads:?}");
    assert_eq!(uploads.last(), Some(&(None, 200)), "{uploads:?}");
    assert!(watched.kept().contains("crc32c rejected\n"), "{}", watched.kept());
    check(&watched.backup(""), None);
    // Somebody turns on a default retention.
    watched.switch(ChecksumMode::Rejected, true);
    let uploads = watched.backup("");
    assert_eq!(uploads.first(), Some(&(None, 400)), "{uploads:?}");
    assert_eq!(uploads.last(), Some(&(Some(MD5), 200)), "{uploads:?}");
    assert!(watched.kept().contains("without-checksum rejected\n"), "{}", watched.kept());
    check(&watched.backup(""), Some(MD5));
    // The store is mended: what is sent is taken, and who asks knows better.
    watched.switch(ChecksumMode::Verified, false);
    check(&watched.backup(""), Some(MD5));
    watched.run("doctor").expect(0);
    check(&watched.backup(""), Some(CRC));
    watched.finish();
}

#[test]
fn the_configuration_says_otherwise() {
    let watched = Watched::new(ChecksumMode::Verified, false);
    let config = |text: &str| fs::write(watched.desk.path("work/coffer.toml"), text).unwrap();
    config("checksums = \"never\"\n");
    let said = watched.run("--config coffer.toml init --single-slot").expect(0);
    said.says("checksums verified: uploads bring none, as the configuration says");
    check(&watched.backup("--config coffer.toml"), None);
    check(&watched.backup(""), Some(CRC));
    // The table of the store goes before. What the store does not verify is sent all the same.
    watched.switch(ChecksumMode::Ignored, false);
    config(&format!("checksums = \"never\"\n[store.\"s3://{BUCKET}/v\"]\nchecksums = \"always\"\n"));
    watched.run("--config coffer.toml doctor").expect(0).says("as the configuration says");
    check(&watched.backup("--config coffer.toml"), Some(CRC));
    check(&watched.backup(""), None);
    // What it rejects is replaced.
    watched.switch(ChecksumMode::Rejected, false);
    let uploads = watched.backup("--config coffer.toml");
    assert_eq!(uploads.last(), Some(&(Some(MD5), 200)), "{uploads:?}");
    check(&watched.backup("--config coffer.toml"), Some(MD5));
    config("checksums = \"perhaps\"\n");
    watched.run("--config coffer.toml backup src").expect(2).says("not auto, always or never");
    watched.finish();
}

#[test]
fn objects_under_a_lock_bring_the_checksum_that_is_verified() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    let address = desk.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let watched = Watched { desk, proxy: Proxy::start(address).unwrap() };
    watched.run("init --single-slot --lock compliance --lock-days 3").expect(0);
    check(&watched.backup(""), Some(CRC));
    check(&watched.backup("--no-cache"), Some(MD5));
    watched.finish();
}

/// A token signs no chunks, as an upload without TLS would need: that form is left out, and everything else works.
#[test]
fn a_bucket_is_asked_with_a_token_and_without_tls() {
    let desk = Desk::new(|_| {});
    fs::write(desk.path("api-key"), desk.sandbox.api_key()).unwrap();
    fs::set_permissions(desk.path("api-key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let run = |line: &str| {
        let mut command = desk.command(line);
        command
            .env("COFFER_VAULT", format!("cos://eu-de/{BUCKET}/v"))
            .env("COFFER_IBM_API_KEY_FILE", desk.path("api-key"))
            .env("COFFER_IAM_ENDPOINT", desk.sandbox.iam_endpoint())
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY");
        let output = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{line}: {out}{err}");
        assert!(!err.contains("panicked"), "{line}: {err}");
        out.into_owned()
    };
    run("init --single-slot");
    assert!(run("doctor").contains("chunked uploads: not known"), "{}", run("doctor"));
    run("backup src");
    run("verify --deep");
}
