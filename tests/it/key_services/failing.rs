//! Whichever call to the key service or to IAM fails, from the first one on, nothing is lost: what was refused changed nothing, every slot
//! opens that opened before, and the command succeeds when it is repeated.

use coffer_sandbox::KmsKind;
use coffer_testkit::proxy::{NetworkFault, Proxy};

use super::{Desk, RECOVERY, Ran, slot_of};

const NO_VAULT: i32 = 10;
/// More calls than any command makes.
const CALL_COUNT_MAX: u64 = 20;

/// What is wrong with a service from one of its calls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// The key service fails.
    KeysFail,
    /// The key service does what it is asked, and the connection breaks before it has answered.
    KeysBreak,
    /// IAM is not available.
    IamFails,
    /// The connection to IAM breaks.
    IamBreaks,
}

const OUTAGES: [Outage; 4] = [Outage::KeysFail, Outage::KeysBreak, Outage::IamFails, Outage::IamBreaks];

/// A desk whose services are reached over lines that may break.
struct Line {
    desk: Desk,
    keys: Proxy,
    iam: Proxy,
}

impl Line {
    fn new() -> Self {
        let desk = Desk::new();
        let to = |url: &str| Proxy::start(url.split_once("://").unwrap().1.parse().unwrap()).unwrap();
        Self { keys: to(desk.region.kms_endpoint()), iam: to(desk.region.iam_endpoint()), desk }
    }

    fn run(&self, line: &str) -> Ran {
        let mut command = self.desk.command(line);
        command
            .env("COFFER_IAM_ENDPOINT", self.iam.endpoint())
            .env("COFFER_KEY_SERVICE_HOSTS", self.keys.address().to_string());
        Desk::ran(command.output().unwrap())
    }

    fn init(&self, key: &(String, String)) -> String {
        format!(
            "init --add-root-key {} --key-endpoint {} --add-passphrase-file ../recovery",
            self.desk.crn(key),
            self.keys.endpoint()
        )
    }

    /// A vault with a snapshot, a slot for the passphrase, and one for a root key: of this material, or generated, and rotated since.
    fn with_vault(material: Option<&[u8]>) -> Self {
        let line = Self::new();
        let key = line.desk.instance(KmsKind::KeyProtect, material);
        line.run(&line.init(&key)).expect(0);
        line.run("backup src").expect(0);
        if material.is_none() {
            line.desk.advance(7200);
            line.desk.act(&key, "POST", "/actions/rotate");
        }
        line
    }

    /// From call `skip` on.
    fn break_down(&self, outage: Outage, skip: u64) {
        let lose = move |index: u64| (index >= skip).then_some(NetworkFault::LoseReply);
        let switch =
            |change: &dyn Fn(&mut coffer_sandbox::Switches)| self.desk.region.switch(change).unwrap();
        match outage {
            Outage::KeysFail => switch(&|switches| {
                (switches.kms_failure_skip, switches.kms_failure_count) = (skip, u64::MAX);
            }),
            Outage::KeysBreak => self.keys.set_plan(move |request| lose(request.index)),
            Outage::IamFails => switch(&|switches| {
                (switches.iam_unavailable_skip, switches.iam_unavailable_count) = (skip, u64::MAX);
            }),
            Outage::IamBreaks => self.iam.set_plan(move |request| lose(request.index)),
        }
    }

    fn mend(&self) {
        let mend = |switches: &mut coffer_sandbox::Switches| {
            (switches.kms_failure_skip, switches.kms_failure_count) = (0, 0);
            (switches.iam_unavailable_skip, switches.iam_unavailable_count) = (0, 0);
        };
        self.desk.region.switch(mend).unwrap();
        self.keys.set_fair();
        self.iam.set_fair();
    }

    /// The current slots, each of which opens.
    #[track_caller]
    fn slots(&self) -> Vec<String> {
        let tested = self.run("keys test --json --also-passphrase-file ../recovery").expect(0).value();
        let slots = tested["slots"].as_array().unwrap();
        assert!(slots.iter().all(|slot| slot["tested"] == true), "{tested}");
        let mut ids: Vec<_> = slots.iter().map(|slot| slot["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// Runs a command while the first call fails, then while the second one does, and so on, until it makes all of its calls.
#[track_caller]
fn repeat(line: &Line, command: &str, outage: Outage, check: &dyn Fn(&Ran)) {
    for skip in 0..CALL_COUNT_MAX {
        line.break_down(outage, skip);
        let ran = line.run(&format!("--key-service-timeout 1 {command}"));
        line.mend();
        if ran.code == 0 {
            assert_ne!(skip, 0, "{outage:?}: {command} makes no call");
            return;
        }
        let said = format!("{}{}", ran.out, ran.err);
        let is_told = said.contains("it is not available") || said.contains("it cannot be reached");
        assert!(is_told, "{outage:?}: {command}: {said}");
        check(&ran);
    }
    panic!("{outage:?}: {command} never succeeds");
}

/// The command that `prepare` names works on a vault, changes nothing when it fails, and leaves a sound vault when it succeeds.
fn nothing_is_lost(codes: &[i32], material: Option<&[u8]>, prepare: impl Fn(&Line) -> String) {
    for outage in OUTAGES {
        let line = Line::with_vault(material);
        let command = prepare(&line);
        let before = line.slots();
        repeat(&line, &command, outage, &|ran| {
            assert!(codes.contains(&ran.code), "{outage:?}: {command}: {}\n{}", ran.code, ran.err);
            assert_eq!(line.slots(), before, "{outage:?}: {command}");
        });
        line.slots();
        line.run("snapshots").expect(0);
        line.run(&format!("verify --deep {RECOVERY}")).expect(0);
    }
}

#[test]
fn no_half_made_vault_stays_whichever_call_fails() {
    for outage in OUTAGES {
        let line = Line::new();
        let key = line.desk.instance(KmsKind::KeyProtect, None);
        repeat(&line, &line.init(&key), outage, &|_| {
            line.run("snapshots").expect(NO_VAULT);
        });
        assert_eq!(line.slots().len(), 2);
        line.run("backup src").expect(0);
    }
}

#[test]
fn a_slot_is_added_or_it_is_not_whichever_call_fails() {
    nothing_is_lost(&[31], None, |line| {
        let other = line.desk.instance(KmsKind::KeyProtect, None);
        format!("keys add --new-root-key {} --key-endpoint {}", line.desk.crn(&other), line.keys.endpoint())
    });
}

#[test]
fn a_rotation_is_done_or_it_is_not_whichever_call_fails() {
    nothing_is_lost(&[31], None, |_| "keys rotate --also-passphrase-file ../recovery".to_owned());
}

#[test]
fn a_slot_is_moved_or_it_is_not_whichever_call_fails() {
    nothing_is_lost(&[31], Some(&[7; 32]), |line| {
        let slot = slot_of(&line.desk, RECOVERY);
        let same = line.desk.instance(KmsKind::KeyProtect, Some(&[7; 32]));
        format!("keys retarget {slot} --to {} --key-endpoint {}", line.desk.crn(&same), line.keys.endpoint())
    });
}

#[test]
fn whichever_call_fails_nothing_is_lost() {
    // That a slot stays as it is, is said by 3.
    nothing_is_lost(&[3, 31], None, |_| "keys rewrap".to_owned());
    nothing_is_lost(&[31], None, |_| "backup src".to_owned());
    nothing_is_lost(&[20, 31], None, |_| "keys test".to_owned());
}
