//! A backup whose record cannot be committed, because the log went on in a way that forbids it.

use std::process::{Child, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use coffer_crypto::OsRng;
use coffer_engine::{Access, Vault};
use coffer_format::id::SnapshotId;
use coffer_format::log::LogState;
use coffer_format::record::{Details, Public, RecordKind};
use coffer_keys::KeyFile;
use coffer_pipeline::record::{BodySealer, seal_record};
use coffer_store::LocalStore;
use rustix::process::{Pid, Signal, kill_process};

use super::desk::{Desk, Ran};
use super::interrupts::slow_source;
use crate::support::FakeClock;

/// Sends a signal to a child that is still running.
pub(super) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until the vault holds more packs than this.
#[track_caller]
pub(super) fn wait_for_packs(desk: &Desk, child: &mut Child, count: usize) {
    let limit = Instant::now() + Duration::from_secs(60);
    while desk.objects("packs").len() <= count {
        assert!(child.try_wait().unwrap().is_none(), "the backup ended before a pack was seen");
        assert!(Instant::now() < limit, "no pack appears");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Commits a record of the owner to the vault of the desk, as another machine would.
fn commit(
    desk: &Desk,
    kind: RecordKind,
    details: &dyn Fn(&LogState) -> Details,
    fill: &dyn Fn(&LogState, &mut Public),
) {
    let key = KeyFile::parse(&std::fs::read(desk.path("key")).unwrap()).unwrap();
    let store = LocalStore::open(desk.path("vault")).unwrap();
    let (clock, interrupt) = (FakeClock::new(), AtomicBool::new(false));
    let access = Access { store: &store, clock: &clock, rng: &OsRng, cache: None, interrupt: &interrupt };
    let mut vault = Vault::open(access, &key, None).unwrap();
    let (sealing_key, epoch) = vault.sealing_key().unwrap();
    let domain = vault.domain_keys(&vault.owner_domain()).unwrap();
    let sealer = BodySealer { sealing_key: &sealing_key, epoch, domain: &domain };
    let keyring = vault.keyring.clone();
    let signing = keyring.signing().unwrap();
    let mut make = |state: &LogState| {
        let mut public = state.next_public(kind, *signing.verifying_key().as_bytes());
        public.details = details(state).encode();
        fill(state, &mut public);
        // An empty CBOR map: these records say everything in their public part.
        Ok(seal_record(public, Some((&[0xa0], &sealer)), signing, &OsRng)?)
    };
    vault.log.commit(&access, &mut make).unwrap();
}

#[test]
fn a_backup_that_relied_on_what_a_prune_released_is_exit_code_11_and_succeeds_when_run_again() {
    let desk = Desk::with_snapshot();
    slow_source(&desk, "work/src/z", 24);
    let before = desk.objects("packs").len();
    // `--force` looks every chunk up, so the backup relies on the index segment of the first snapshot.
    let mut command = desk.command(&[
        "backup",
        "--force",
        "--threads",
        "1",
        "--pack-size",
        "4",
        "--compression",
        "12",
        "src",
    ]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_packs(&desk, &mut child, before);
    send(&child, Signal::STOP);
    let snapshots =
        |state: &LogState| state.snapshots.iter().map(|snapshot| snapshot.id).collect::<Vec<SnapshotId>>();
    commit(&desk, RecordKind::Forget, &|state| Details::Snapshots { ids: snapshots(state) }, &|_, _| {});
    let prune = |state: &LogState| Details::Prune { base: state.next - 1, orphans: Vec::new() };
    commit(&desk, RecordKind::Prune, &prune, &|state, public| {
        public.segments_removed = state.segments.keys().copied().collect();
    });
    send(&child, Signal::CONT);
    let ran = Ran::new(&command, child.wait_with_output().unwrap()).expect(11);
    ran.says("could not be committed").says("prune removed").says("hint:");
    assert_eq!(desk.snapshot_count(), 0, "nothing was acknowledged");

    desk.run("backup src").expect(0);
    desk.run("verify --deep").expect(0);
    desk.run("restore latest --target ../out").expect(0);
    let expected = crate::support::tree_of(&desk.path("work/src"));
    crate::support::assert_same(&expected, &crate::support::tree_of(&desk.path("out/src")), "restored");
}
