//! Slots of key services, against the key service of a simulated region: every day, and every loss that IBM documents.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use coffer_crypto::Secret;
use coffer_ibm::{
    HttpClient, HttpOptions, Iam, IamCredential, IbmError, KeyServiceOptions, KeyServices, Place, Service,
    ServiceRoot, TrustedHost,
};
use coffer_sandbox::{
    AadMode, KeyPart, KmsGone, KmsKind, MasterKeySource, Policy, Role, Sandbox, SandboxOptions, Switches,
};
use coffer_store::ApiKey;
use coffer_testkit::conformance::RootKeySuite;
use serde_json::Value;
use tempfile::TempDir;

use super::cli::messages::check_message;
use super::support::scratch;

mod binding;
mod failing;
mod secrets;
mod slow;

/// What a run of the command gave.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "{text}: {}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn value(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_else(|| panic!("{}", self.err));
        let value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        check_message(&value);
        value
    }
}

/// A region with instances of the key service, a vault in a directory, and who types.
struct Desk {
    region: Sandbox,
    dir: TempDir,
    api_key: String,
}

impl Desk {
    fn new() -> Self {
        let region = Sandbox::start(&SandboxOptions::default()).unwrap();
        let dir = scratch();
        for name in ["work/src", "home", "tmp"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("work/src/a"), "a small file\n").unwrap();
        fs::write(dir.path().join("recovery"), "six words that are not guessed").unwrap();
        let desk = Self { api_key: region.api_key().to_owned(), region, dir };
        fs::write(desk.path("api-key"), &desk.api_key).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An instance with one root key; of this material, if there is some. Gives its GUID and the key's id.
    fn instance(&self, kind: KmsKind, material: Option<&[u8]>) -> (String, String) {
        let guid = self.region.create_kms_instance("vault", kind).unwrap();
        if kind == KmsKind::Hpcs {
            self.region.load_kms_master_key(&guid, &master()).unwrap();
        }
        let key = self.region.create_kms_root_key(&guid, "vault-root", material).unwrap();
        (guid, key)
    }

    fn crn(&self, (guid, key): &(String, String)) -> String {
        self.region.kms_crn(guid, Some(key)).unwrap()
    }

    fn host(&self) -> String {
        self.region.kms_endpoint().split_once("://").unwrap().1.to_owned()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
        command
            .args(line.split_whitespace())
            .current_dir(self.path("work"))
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("TZ", "UTC")
            .env("COFFER_VAULT", self.path("vault"))
            .env("COFFER_CACHE_DIR", self.path("cache"))
            .env("COFFER_IAM_ENDPOINT", self.region.iam_endpoint())
            .env("COFFER_KEY_SERVICE_API_KEY_FILE", self.path("api-key"))
            .env("COFFER_KEY_SERVICE_HOSTS", self.host())
            .env("COFFER_PASSPHRASE_COST", "floor")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Ran {
        Self::ran(self.command(line).output().unwrap())
    }

    fn ran(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// A vault with a slot for the root key and one for the recovery passphrase, with a snapshot in it.
    fn init(&self, key: &(String, String)) -> String {
        let (crn, endpoint) = (self.crn(key), self.region.kms_endpoint());
        self.run(&format!(
            "init --add-root-key {crn} --key-endpoint {endpoint} --add-passphrase-file ../recovery"
        ))
        .expect(0);
        self.run("backup src").expect(0);
        let slots = self.run("keys list --json").expect(0).value();
        let slots = slots["slots"].as_array().unwrap().clone();
        let slot = slots.iter().find(|slot| slot["root_key"].is_object()).unwrap();
        assert_eq!(slot["root_key"]["key"], key.1);
        assert_eq!(slot["root_key"]["crn"], crn);
        slot["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn opens(&self) {
        self.run("snapshots").expect(0).says("1 snapshot(s)");
    }

    /// Makes a call about a key in the region, as its owner.
    fn act(&self, (guid, key): &(String, String), method: &str, path: &str) {
        self.ask(guid, method, &format!("/api/v2/keys/{key}{path}"), "").unwrap();
    }

    fn ask(&self, guid: &str, method: &str, path: &str, body: &str) -> Result<Value, IbmError> {
        let http = HttpClient::new(&HttpOptions::default())?;
        let credential = IamCredential::ApiKey(ApiKey::new(self.api_key.clone()));
        let iam = Arc::new(Iam::new(http.clone(), self.region.iam_endpoint(), credential)?);
        let service = Service::new("Key Protect", self.region.kms_endpoint(), http, iam)?;
        let headers = [("bluemix-instance", guid), ("content-type", "application/json")];
        let answer = service.send(method, path, &headers, body.as_bytes())?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// How often the key service was asked to do this.
    fn count(&self, action: &str) -> usize {
        let mut count = 0;
        let shown = self.region.verify_kms_audit(None, &mut |entry| {
            count += usize::from(format!("{entry:?}").contains(action));
            Ok(())
        });
        shown.unwrap();
        count
    }

    /// From now on an instance answers as if it were gone.
    fn lose_instance(&self, guid: &str) {
        let lose = |switches: &mut Switches| {
            switches.kms_gone.insert(guid.to_owned(), KmsGone::NotFound);
        };
        self.region.switch(lose).unwrap();
    }

    fn advance(&self, seconds: u64) {
        self.region.advance(Duration::from_secs(seconds)).unwrap();
    }

    fn object_count(&self) -> usize {
        ["packs", "index"].iter().map(|name| files_under(&self.path("vault").join(name))).sum()
    }
}

fn master() -> MasterKeySource {
    let part = |byte| KeyPart::from_secret(Secret::new([byte; 32])).unwrap();
    MasterKeySource::Parts(vec![part(1), part(6)])
}

fn files_under(dir: &std::path::Path) -> usize {
    let entries = fs::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().map(|entry| if entry.path().is_dir() { files_under(&entry.path()) } else { 1 }).sum()
}

/// Every message that commands print about root keys.
pub(super) fn print_all(messages: &mut Vec<Value>) {
    let desk = Desk::new();
    let (first, second) =
        (desk.instance(KmsKind::KeyProtect, None), desk.instance(KmsKind::KeyProtect, None));
    desk.init(&first);
    let endpoint = desk.region.kms_endpoint();
    let crn = desk.crn(&second);
    desk.run(&format!("keys add --new-root-key {crn} --key-endpoint {endpoint} --key-ring default"))
        .expect(0);
    desk.advance(7200);
    desk.act(&first, "POST", "/actions/rotate");
    desk.lose_instance(&second.0);
    let mut hear = |line: &str, code: i32| messages.push(desk.run(line).expect(code).value());
    hear("--json keys rewrap", 3);
    hear("--json keys test", 20);
    desk.region.switch(|switches| switches.kms_gone.clear()).unwrap();
    hear("--json keys test --also-passphrase-file ../recovery", 0);
    hear("--json keys rotate --dry-run --dedup --revoke-others", 0);
    hear("--json keys rotate --dedup --yes --revoke-others", 0);
    hear("--json keys export-kit ../kit", 0);
}

const DENIED: i32 = 30;
const UNREACHABLE: i32 = 31;
const WRONG_KEY: i32 = 12;
const RECOVERY: &str = "--passphrase-file ../recovery";

/// The root key in an instance, for whoever has the API key.
fn root_key(desk: &Desk, key: &(String, String)) -> (ServiceRoot, String) {
    let credential = IamCredential::ApiKey(ApiKey::new(desk.api_key.clone()));
    let http = HttpClient::new(&HttpOptions::default()).unwrap();
    let iam = Arc::new(Iam::new(http, desk.region.iam_endpoint(), credential).unwrap());
    let options = KeyServiceOptions {
        iam: Some(iam),
        trusted: vec![TrustedHost::parse(desk.region.kms_endpoint())],
        ..KeyServiceOptions::default()
    };
    let services = Arc::new(KeyServices::new(options).unwrap());
    let place = Place::parse(&desk.crn(key), Some(desk.region.kms_endpoint()), None).unwrap().0;
    let shown = format!("{services:?}");
    let root = ServiceRoot::at(services, place);
    (root, shown)
}

#[test]
fn key_services_keep_the_promises_of_a_root_key() {
    for kind in [KmsKind::KeyProtect, KmsKind::Hpcs] {
        let desk = Desk::new();
        let material = *b"canary-root-key-material-32bytes";
        let (root, shown) = root_key(&desk, &desk.instance(kind, Some(&material)));
        let (other, _) = root_key(&desk, &desk.instance(kind, None));
        let secrets = vec![material.to_vec(), desk.api_key.clone().into_bytes()];
        let debug = format!("{root:?} {shown}");
        RootKeySuite { root: &root, other: &other, debug, secrets, has_many_forms: true, tries_max: 200 }
            .run();
    }
}

#[test]
fn a_vault_opens_by_one_unwrap() {
    for kind in [KmsKind::KeyProtect, KmsKind::Hpcs] {
        let desk = Desk::new();
        let key = desk.instance(kind, None);
        desk.init(&key);
        let before = desk.count("unwrap");
        desk.opens();
        assert_eq!(desk.count("unwrap"), before + 1);
        let slots = desk.run("keys test --also-passphrase-file ../recovery --json").expect(0).value();
        let slots = slots["slots"].as_array().unwrap();
        assert!(slots.len() == 2 && slots.iter().all(|slot| slot["tested"] == true), "{slots:?}");
        desk.run("keys list").expect(0).says("tested 20");
        // The key service is asked before the passphrase, which takes longer, and the passphrase does when it is given.
        desk.run(&format!("{RECOVERY} snapshots")).expect(0);
        fs::write(desk.path("work/src/b"), "more").unwrap();
        desk.run("backup src").expect(0);
        desk.run("restore latest --target ../out").expect(0);
        assert_eq!(fs::read(desk.path("out/src/b")).unwrap(), b"more");
    }
}

#[test]
fn a_slot_follows_its_root_key_to_a_new_version_and_no_data_is_written() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    let slot = desk.init(&key);
    desk.run("keys rewrap").expect(0).says("is under the newest version");
    desk.advance(7200);
    desk.act(&key, "POST", "/actions/rotate");
    desk.opens();
    let before = desk.object_count();
    let value = desk.run("keys rewrap --json").expect(0).value();
    assert_eq!(value["slots"][0]["answer"], "rewrapped");
    assert_ne!(value["slots"][0]["from"], value["slots"][0]["version"]);
    assert_eq!(value["slots"][0]["slot"], slot.as_str());
    assert_ne!(value["new_slots"][0], slot.as_str());
    assert_eq!(desk.object_count(), before);
    desk.opens();
    desk.run("keys rewrap").expect(0).says("is under the newest version");
    desk.run("verify").expect(0);
}

#[test]
fn a_disabled_key_opens_again_when_it_is_enabled() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    desk.act(&key, "POST", "/actions/disable");
    desk.run("snapshots").expect(WRONG_KEY).says("the root key is not active").says("enable the root key");
    desk.run(&format!("{RECOVERY} snapshots")).expect(0);
    desk.advance(31);
    desk.act(&key, "POST", "/actions/enable");
    desk.opens();
}

#[test]
fn a_deleted_key_opens_again_when_it_is_restored() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    desk.act(&key, "DELETE", "");
    desk.run("snapshots").expect(WRONG_KEY).says("the root key is deleted").says("within 30 days");
    desk.advance(29 * 86_400);
    desk.act(&key, "POST", "/restore");
    desk.opens();
}

#[test]
fn a_lost_instance_is_replaced_by_a_key_of_the_same_material() {
    let desk = Desk::new();
    let material = [0x5a; 32];
    let home = desk.instance(KmsKind::KeyProtect, Some(&material));
    let slot = desk.init(&home);
    let away = desk.instance(KmsKind::KeyProtect, Some(&material));
    let other = desk.instance(KmsKind::KeyProtect, Some(&[0x77; 32]));
    desk.region.delete_kms_instance(&home.0).unwrap();
    desk.run("snapshots")
        .expect(WRONG_KEY)
        .says("there is no such root key or instance")
        .says("keys retarget");
    let endpoint = desk.region.kms_endpoint();
    let to = |key| format!("keys retarget {} --to {} --key-endpoint {endpoint}", &slot[..8], desk.crn(key));
    desk.run(&to(&other)).expect(WRONG_KEY).says("does not open this slot");
    desk.run(&to(&away)).expect(0);
    desk.opens();
    let listed = desk.run("keys list --json").expect(0).value();
    let slots = listed["slots"].as_array().unwrap().clone();
    assert!(slots.iter().any(|slot| slot["root_key"]["instance"] == away.0.as_str()));
    assert!(slots.iter().all(|other| other["id"] != slot.as_str()));
    desk.run("backup src").expect(0);
}

/// What HPCS wrapped, with additional data or without, a key of the same material in Key Protect opens.
#[test]
fn a_lost_instance_of_hpcs_is_replaced_by_one_of_key_protect() {
    for mode in [AadMode::Honoured, AadMode::Rejected] {
        let desk = Desk::new();
        desk.region.switch(|switches| switches.kms_aad = mode).unwrap();
        let material = [0x5a; 32];
        let home = desk.instance(KmsKind::Hpcs, Some(&material));
        let slot = desk.init(&home);
        let away = desk.instance(KmsKind::KeyProtect, Some(&material));
        desk.region.delete_kms_instance(&home.0).unwrap();
        let (endpoint, to) = (desk.region.kms_endpoint(), desk.crn(&away));
        desk.run(&format!("keys retarget {} --to {to} --key-endpoint {endpoint}", &slot[..8])).expect(0);
        desk.opens();
    }
}

#[test]
fn a_slot_moves_to_a_key_of_other_material_while_its_own_still_opens() {
    let desk = Desk::new();
    let home = desk.instance(KmsKind::KeyProtect, Some(&[0x5a; 32]));
    let slot = desk.init(&home);
    let away = desk.instance(KmsKind::KeyProtect, Some(&[0x77; 32]));
    let endpoint = desk.region.kms_endpoint();
    let retarget = format!("keys retarget {} --to {} --key-endpoint {endpoint}", &slot[..8], desk.crn(&away));
    desk.run(&retarget).expect(0).says("replaces").says("whoever has an old copy of this slot");
    desk.region.delete_kms_instance(&home.0).unwrap();
    desk.opens();
    let listed = desk.run("keys list --json").expect(0).value();
    let slots = listed["slots"].as_array().unwrap();
    assert!(slots.iter().all(|other| other["id"] != slot.as_str()));
    assert!(slots.iter().any(|slot| slot["root_key"]["instance"] == away.0.as_str()));
}

#[test]
fn passwd_leaves_the_slot_of_a_service_alone() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    let slot = desk.init(&key);
    fs::write(desk.path("new"), "six other words that are not guessed").unwrap();
    desk.run("keys passwd --new-passphrase-file ../new").expect(2).says("--passphrase-file FILE");
    desk.run(&format!("{RECOVERY} keys passwd --new-passphrase-file ../new")).expect(0);
    assert!(desk.run("keys list --json").expect(0).out.contains(&slot));
    // Nobody but the passphrase is asked.
    let alone = |file: &str| format!("--passphrase-file ../{file} snapshots");
    desk.lose_instance(&key.0);
    desk.run(&alone("recovery")).expect(WRONG_KEY);
    desk.run(&alone("new")).expect(0);
}

#[test]
fn when_every_service_is_gone_recovery_shares_open() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    desk.run("keys add --new-shares 2of3 --shares-dir ../shares").expect(0);
    desk.region.delete_kms_instance(&key.0).unwrap();
    let shares: Vec<_> =
        fs::read_dir(desk.path("shares")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let two = format!("--share {} --share {}", shares[0].display(), shares[2].display());
    desk.run(&format!("{two} restore latest --target ../out")).expect(0);
    assert_eq!(fs::read(desk.path("out/src/a")).unwrap(), b"a small file\n");
    desk.run(&format!("{two} keys revoke {}", slot_of(&desk, &two))).expect(0);
    desk.run(&format!("{two} keys list")).expect(0);
}

/// The slot of a key service.
fn slot_of(desk: &Desk, keys: &str) -> String {
    let listed = desk.run(&format!("{keys} keys list --json")).expect(0).value();
    let slots = listed["slots"].as_array().unwrap();
    let slot = slots.iter().find(|slot| slot["root_key"].is_object()).unwrap();
    slot["id"].as_str().unwrap()[..8].to_owned()
}

#[test]
fn hpcs_may_honour_ignore_or_refuse_additional_data() {
    for mode in [AadMode::Honoured, AadMode::Ignored, AadMode::Rejected] {
        let desk = Desk::new();
        desk.region.switch(|switches| switches.kms_aad = mode).unwrap();
        let key = desk.instance(KmsKind::Hpcs, None);
        desk.init(&key);
        desk.opens();
        desk.run("keys rewrap").expect(0);
        desk.opens();
        // Without its master key the instance does nothing.
        desk.region.unload_kms_master_key(&key.0).unwrap();
        desk.run("--key-service-timeout 3 snapshots").expect(UNREACHABLE).says("it is not available");
        desk.region.load_kms_master_key(&key.0, &master()).unwrap();
        desk.opens();
    }
}

#[test]
fn a_reader_of_the_one_root_key_may_do_all_that_a_vault_needs() {
    let mut desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    let reads = Policy::role(Role::Reader).in_instance(&key.0).on_key(&key.1);
    let job = desk.region.create_service_id("vault", &[reads]).unwrap();
    let owner = std::mem::replace(&mut desk.api_key, desk.region.create_api_key(&job).unwrap());
    fs::write(desk.path("api-key"), &desk.api_key).unwrap();
    desk.init(&key);
    desk.opens();
    desk.run("keys rewrap").expect(0);
    desk.run("keys rotate --also-passphrase-file ../recovery").expect(0);
    desk.run("keys test").expect(0);
    // Another key of the instance is not its business.
    let other = desk.region.create_kms_root_key(&key.0, "other", None).unwrap();
    let crn = desk.region.kms_crn(&key.0, Some(&other)).unwrap();
    let add = format!("keys add --new-root-key {crn} --key-endpoint {}", desk.region.kms_endpoint());
    desk.run(&add).expect(DENIED).says("access is denied");
    desk.api_key = owner;
}

#[test]
fn a_root_key_may_be_named_by_an_alias() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.act(&key, "POST", "/aliases/vault-root");
    let crn = desk.crn(&key).replace(&key.1, "vault-root");
    let endpoint = desk.region.kms_endpoint();
    let init =
        format!("init --add-root-key {crn} --key-endpoint {endpoint} --add-passphrase-file ../recovery");
    desk.run(&init).expect(0);
    // The slot has the id: an alias may be given to another key.
    let listed = desk.run("keys list --json").expect(0).value();
    let slots = listed["slots"].as_array().unwrap();
    assert!(slots.iter().any(|slot| slot["root_key"]["key"] == key.1.as_str()), "{listed}");
    desk.act(&key, "DELETE", "/aliases/vault-root");
    desk.run("snapshots").expect(0);
    desk.run("keys rotate --also-passphrase-file ../recovery").expect(0);
    desk.run("keys test").expect(0);
}

#[test]
fn a_root_key_may_move_to_another_ring() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    let move_to = |ring: &str| {
        let body = format!("{{\"keyRingID\": \"{ring}\"}}");
        desk.ask(&key.0, "PATCH", &format!("/api/v2/keys/{}", key.1), &body).unwrap();
    };
    for ring in ["first", "second"] {
        desk.ask(&key.0, "POST", &format!("/api/v2/key_rings/{ring}"), "").unwrap();
    }
    move_to("first");
    let (crn, endpoint) = (desk.crn(&key), desk.region.kms_endpoint());
    let init = |ring: &str| {
        let more = format!("--key-endpoint {endpoint} --key-ring {ring} --add-passphrase-file ../recovery");
        desk.run(&format!("init --add-root-key {crn} {more}"))
    };
    // A ring that is wrong from the start is said.
    init("second").expect(WRONG_KEY).says("the key is in the ring first, not in second");
    init("first").expect(0);
    desk.run("backup src").expect(0);
    desk.opens();
    for ring in ["second", "default"] {
        move_to(ring);
        desk.opens();
        desk.run("keys test --also-passphrase-file ../recovery").expect(0);
        desk.run("keys rewrap").expect(0);
    }
    desk.run("keys rotate --also-passphrase-file ../recovery").expect(0);
    desk.opens();
    // A key that is not there is not found without its ring either.
    desk.lose_instance(&key.0);
    desk.run("snapshots").expect(WRONG_KEY).says("there is no such root key or instance");
}

#[test]
fn a_slot_that_is_made_anew_names_no_version_that_it_is_not_under() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    let version = || {
        let listed = desk.run("keys list --json").expect(0).value();
        let slots = listed["slots"].as_array().unwrap();
        slots.iter().find(|slot| slot["root_key"].is_object()).unwrap()["root_key"]["version_when_made"]
            .clone()
    };
    assert_eq!(version(), key.1.as_str(), "the first version has the id of the key");
    desk.advance(7200);
    desk.act(&key, "POST", "/actions/rotate");
    desk.run("keys rotate --also-passphrase-file ../recovery").expect(0);
    assert_eq!(version(), Value::Null);
    desk.opens();
}

#[test]
fn an_alias_whose_key_may_not_be_looked_up_is_refused() {
    let mut desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.act(&key, "POST", "/aliases/vault-root");
    let wraps = Policy::actions(["kms.secrets.wrap", "kms.secrets.unwrap"]).in_instance(&key.0);
    let job = desk.region.create_service_id("vault", &[wraps]).unwrap();
    desk.api_key = desk.region.create_api_key(&job).unwrap();
    fs::write(desk.path("api-key"), &desk.api_key).unwrap();
    let crn = desk.crn(&key);
    let init = |crn: &str| {
        let endpoint = desk.region.kms_endpoint();
        let more = format!("--key-endpoint {endpoint} --add-passphrase-file ../recovery");
        desk.run(&format!("init --add-root-key {crn} {more}"))
    };
    let refused = init(&crn.replace(&key.1, "vault-root")).expect(DENIED);
    refused.says("looks like an alias").says("name the key by its id");
    // By its id it is taken, for wrapping and unwrapping is all that a vault needs.
    init(&crn).expect(0);
    desk.run("snapshots").expect(0);
}

#[test]
fn an_init_that_was_stopped_is_finished_with_root_keys_alone() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.act(&key, "POST", "/aliases/vault-root");
    let (crn, endpoint) = (desk.crn(&key), desk.region.kms_endpoint());
    // The slot has the id of the key; whoever comes again may still call it by its alias.
    let alias = crn.replace(&key.1, "vault-root");
    let init =
        |crn: &str| desk.run(&format!("init --add-root-key {crn} --key-endpoint {endpoint} --single-slot"));
    init(&alias).expect(0);
    // As if it had been stopped before the first record.
    fs::remove_dir_all(desk.path("vault/log")).unwrap();
    fs::remove_dir_all(desk.path("cache")).unwrap();
    desk.act(&key, "POST", "/actions/disable");
    let slots_before = fs::read_dir(desk.path("vault/slots")).unwrap().count();
    let refused = init(&crn).says("begun and never finished").says("is not active");
    assert_ne!(refused.code, 0);
    refused.says("with a key that it was begun with").says("delete `vault` and `slots/`");
    desk.advance(31);
    desk.act(&key, "POST", "/actions/enable");
    init(&alias).expect(0).says("completed the vault");
    assert_eq!(fs::read_dir(desk.path("vault/slots")).unwrap().count(), slots_before);
    desk.run("snapshots").expect(0);
}

#[test]
fn a_rotation_loses_no_slot_because_a_service_is_busy() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    let slot = desk.init(&key);
    desk.region.switch(|switches| switches.kms_too_many_count = 100).unwrap();
    let rotate = format!("--key-service-timeout 4 {RECOVERY} keys rotate --revoke-others");
    let busy = desk.run(&rotate).expect(UNREACHABLE).says("it is not available").says("try again later");
    // If the service never comes back, that slot has to go first.
    busy.says(&format!("`coffer keys revoke {}` first", &slot[..8]));
    desk.region.switch(|switches| switches.kms_too_many_count = 0).unwrap();
    assert!(desk.run("keys list --json").expect(0).out.contains(&slot));
    // One whose root key is gone for good is told with its reason, and lost only if that is said.
    desk.act(&key, "DELETE", "");
    let rotate = format!("{RECOVERY} keys rotate");
    desk.run(&rotate).expect(1).says("the root key is deleted");
    desk.run(&format!("{rotate} --revoke-others")).expect(0).says("revoked key slot");
    desk.run(&format!("{RECOVERY} snapshots")).expect(0).says("1 snapshot(s)");
}

#[test]
fn a_service_may_ask_for_any_pause() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    desk.region
        .switch(|switches| (switches.kms_too_many_count, switches.retry_after_s) = (1, Some(u64::MAX)))
        .unwrap();
    desk.run("snapshots").expect(UNREACHABLE).says("it is not available");
}

#[test]
fn no_proxy_stands_between_a_machine_and_itself() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let mut command = desk.command("snapshots");
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        command.env(name, &proxy);
    }
    assert!(command.output().unwrap().status.success());
    assert!(listener.accept().is_err());
}

#[test]
fn whoever_may_not_unwrap_is_told_so() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    desk.region.switch(|switches| switches.is_unwrap_denied = true).unwrap();
    desk.run("snapshots").expect(DENIED).says("access is denied").says("the role Reader");
    desk.region.switch(|switches| switches.is_unwrap_denied = false).unwrap();
    desk.opens();
    desk.region.delete_api_key(&desk.api_key).unwrap();
    desk.run("snapshots").expect(DENIED).says("access is denied");
}

#[test]
fn a_busy_service_is_asked_again_for_as_long_as_it_may_take() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    desk.region.switch(|switches| switches.kms_too_many_count = 2).unwrap();
    desk.opens();
    desk.region
        .switch(|switches| (switches.kms_too_many_count, switches.retry_after_s) = (100, Some(60)))
        .unwrap();
    desk.run("--key-service-timeout 2 snapshots")
        .expect(UNREACHABLE)
        .says("it is not available")
        .says("try again later");
    desk.region.switch(|switches| switches.kms_too_many_count = 0).unwrap();
    desk.opens();
    desk.region.switch(|switches| switches.kms_delay_ms = 3000).unwrap();
    desk.run("--key-service-timeout 1 snapshots").expect(UNREACHABLE).says("it cannot be reached");
    desk.run(&format!("--key-service-timeout 1 {RECOVERY} snapshots")).expect(0);
}

#[test]
fn a_host_that_nobody_has_named_is_sent_no_token() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    let before = desk.region.token_count();
    let ran = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"))
        .args(["snapshots"])
        .env_clear()
        .env("HOME", desk.dir.path())
        .env("COFFER_VAULT", desk.path("vault"))
        .env("COFFER_CACHE_DIR", desk.path("cache"))
        .env("COFFER_IAM_ENDPOINT", desk.region.iam_endpoint())
        .env("COFFER_KEY_SERVICE_API_KEY_FILE", desk.path("api-key"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(DENIED));
    let err = String::from_utf8(ran.stderr).unwrap();
    assert!(err.contains("is not trusted with a token") && err.contains("--key-service-host"), "{err}");
    assert_eq!(desk.region.token_count(), before);
}

#[test]
fn what_each_slot_answered_is_told() {
    let desk = Desk::new();
    let (first, second) =
        (desk.instance(KmsKind::KeyProtect, None), desk.instance(KmsKind::KeyProtect, None));
    desk.init(&first);
    let add = format!(
        "keys add --new-root-key {} --key-endpoint {}",
        desk.crn(&second),
        desk.region.kms_endpoint()
    );
    desk.run(&add).expect(0);
    desk.act(&first, "POST", "/actions/disable");
    desk.opens();
    desk.lose_instance(&second.0);
    desk.run("snapshots")
        .expect(WRONG_KEY)
        .says("the root key is not active")
        .says("there is no such root key or instance");
    desk.run("keys test --passphrase-file ../recovery").expect(20).says("DOES NOT OPEN: Key Protect at");
}
