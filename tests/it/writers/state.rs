//! What a writer remembers, and how it backs up with it and without.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;

use coffer_collect::{EntryPath, Stream};
use coffer_engine::{EngineError, Vault, backup_stream, dry_run};
use coffer_format::record::{Details, RecordKind};
use coffer_testkit::RecordingStore;

use super::{Heard, Host, backup_in, grant, grow, inline_bytes, owned};
use crate::restore::by_hand::commit_by_owner;
use crate::support::{Quiet, assert_clean, assert_restores, listed_chunks, noise, scratch, tree_of};

#[test]
fn the_owner_gets_back_what_a_writer_stored() {
    let (owner, store) = owned(1);
    let host = Host::new(grant(&owner, &store, "web-1", None), 2);
    grow(&host.source());
    let report = host.backup(&store).unwrap();
    assert_eq!((report.error_count, report.warnings.len()), (0, 0), "{report:?}");
    assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "the first");
    assert_clean(&owner, &store, "the first");
    let vault = owner.open(&store).unwrap();
    let snapshot = vault.select("latest").unwrap();
    assert_eq!(snapshot.state.signer, host.credential.verifying_key());
    assert_eq!(snapshot.state.body.domain, host.credential.domain());
    assert!(vault.state().segments.values().all(|live| live.domain == host.credential.domain()));
}

#[test]
fn an_unchanged_backup_is_one_record() {
    let (owner, store) = owned(3);
    let host = Host::new(grant(&owner, &store, "web-1", None), 4);
    grow(&host.source());
    let first = host.backup(&store).unwrap();
    let known = inline_bytes(&host.source());
    for _ in 0..2 {
        let recording = RecordingStore::new(&store);
        let (report, heard) = host.backup_with(&recording, &host.options()).unwrap();
        assert_eq!(heard.reasons, Vec::<&str>::new());
        let written = recording.snapshot().written;
        assert_eq!(written, [format!("log/{:012}", report.head.number)], "one record and nothing else");
        let s = report.manifest.statistics;
        assert_eq!(
            (s.read_bytes, s.new_bytes),
            (known, 0),
            "what stands in entries is read, and nothing else"
        );
        assert_eq!(s.unchanged_count, s.entry_count);
        assert_eq!(report.manifest.root, first.manifest.root);
    }
    assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "unchanged");
    assert_clean(&owner, &store, "unchanged");
}

#[test]
fn changes_are_found_and_nothing_else_is_read() {
    let (owner, store) = owned(5);
    let host = Host::new(grant(&owner, &store, "web-1", None), 6);
    let source = host.source();
    grow(&source);
    host.backup(&store).unwrap();
    type Edit<'e> = (&'e str, &'e dyn Fn(), u64);
    let edits: [Edit<'_>; 7] = [
        ("a file", &|| fs::write(source.join("b/deep/file-0005"), noise(900, 700)).unwrap(), 700),
        ("a tiny file", &|| fs::write(source.join("b/deep/file-0002"), b"other").unwrap(), 0),
        ("a tiny file of equal length", &|| fs::write(source.join("b/deep/file-0002"), b"OTHER").unwrap(), 0),
        ("a new file", &|| fs::write(source.join("a/new"), noise(901, 2000)).unwrap(), 2000),
        ("a file goes", &|| fs::remove_file(source.join("a/file-0006")).unwrap(), 0),
        ("a directory goes", &|| fs::remove_dir_all(source.join("a")).unwrap(), 0),
        (
            "an empty file grows",
            &|| fs::write(source.join("b/deep/file-0000"), noise(902, 129)).unwrap(),
            129,
        ),
    ];
    for (name, edit, read) in edits {
        edit();
        let report = host.backup(&store).unwrap();
        let s = report.manifest.statistics;
        // Where a hard link has lost a name, the inode was changed, and the file is read again.
        let again = if name == "a directory goes" { 600_000 } else { 0 };
        assert_eq!(s.read_bytes, inline_bytes(&source) + read + again, "{name}");
        assert_restores(&owner, &store, "latest", &tree_of(&source), name);
    }
    assert_clean(&owner, &store, "after all edits");
}

#[test]
fn without_its_state_everything_is_read_and_nothing_stored_again() {
    let (owner, store) = owned(7);
    let host = Host::new(grant(&owner, &store, "web-1", None), 8);
    grow(&host.source());
    let (first, heard) = host.backup_with(&store, &host.options()).unwrap();
    assert_eq!(heard.reasons, Vec::<&str>::new(), "the first backup of a writer is no loss");
    let [state] = &host.state_files()[..] else { panic!("one state") };
    let whole = fs::read(state).unwrap();
    let check = |what: &str, reason: &str| {
        let recording = RecordingStore::new(&store);
        let (report, heard) = host.backup_with(&recording, &host.options()).unwrap();
        assert_eq!(heard.reasons.len(), 1, "{what}");
        assert!(heard.reasons[0].contains(reason), "{what}: {:?}", heard.reasons);
        assert_eq!(report.manifest.statistics.read_bytes, first.manifest.statistics.read_bytes, "{what}");
        assert_eq!(recording.snapshot().written.len(), 1, "{what}");
        assert_eq!((report.manifest.root, report.manifest.parent), (first.manifest.root, None), "{what}");
        // And then it is there again.
        assert_eq!(
            host.backup_with(&store, &host.options()).unwrap().1.reasons,
            Vec::<&str>::new(),
            "{what}"
        );
    };
    fs::remove_file(state).unwrap();
    check("lost", "remembers no backup");
    let step = whole.len() / 13;
    for position in
        [0, 8, 12, 20, 21, 30].into_iter().chain((1..13).map(|part| part * step)).chain([whole.len() - 1])
    {
        let mut garbled = whole.clone();
        garbled[position] ^= 0x40;
        fs::write(state, &garbled).unwrap();
        check(&format!("garbled at {position}"), "damaged");
        fs::write(state, &whole[..position]).unwrap();
        check(&format!("cut at {position}"), "damaged");
    }
    fs::write(state, [&whole[..], &[0]].concat()).unwrap();
    check("longer", "damaged");

    // A machine that may remember nothing says so each time, and stores nothing twice.
    let (report, heard) =
        backup_in(&host.without_cache(), &host.credential, &store, &host.options()).unwrap();
    assert!(heard.reasons[0].contains("no local memory"), "{:?}", heard.reasons);
    assert_eq!(report.manifest.statistics.new_bytes, 0);
    // No chunk is listed twice.
    drop(listed_chunks(&owner, &store));
    assert_clean(&owner, &store, "after all");
}

#[test]
fn the_state_is_private_and_holds_no_content() {
    let (owner, store) = owned(9);
    let host = Host::new(grant(&owner, &store, "web-1", None), 10);
    let source = host.source();
    grow(&source);
    fs::write(source.join("secret"), b"the launch code is 0000").unwrap();
    host.backup(&store).unwrap();
    let [state] = &host.state_files()[..] else { panic!("one state") };
    assert_eq!(fs::metadata(state).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(state).unwrap();
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"src/b/deep/file-0005"), "paths are in it");
    let mut looked = 0;
    for (path, item) in tree_of(&source) {
        let crate::support::Body::File(content) = item.body else { continue };
        let name = String::from_utf8_lossy(&path).into_owned();
        for piece in content.chunks_exact(16).take(20) {
            // A hole says nothing.
            looked += usize::from(piece.iter().any(|byte| *byte != 0));
            assert!(piece.iter().all(|byte| *byte == 0) || !holds(piece), "content of {name}");
        }
    }
    assert!(looked > 1000, "{looked} pieces of content");
    let seed = host.credential.keys().0;
    assert!(!holds(&seed.expose_seed()[..]), "nor a key");
}

#[test]
fn a_forgotten_snapshot_is_not_compared_with() {
    let (owner, store) = owned(11);
    let host = Host::new(grant(&owner, &store, "web-1", None), 12);
    grow(&host.source());
    let first = host.backup(&store).unwrap();
    let details = Details::Snapshots { ids: vec![first.snapshot] };
    commit_by_owner(&mut owner.open(&store).unwrap(), RecordKind::Forget, &details);
    let (report, heard) = host.backup_with(&store, &host.options()).unwrap();
    assert!(heard.reasons[0].contains("not in the vault any more"), "{:?}", heard.reasons);
    assert_eq!(report.manifest.statistics.read_bytes, first.manifest.statistics.read_bytes);
    assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "read again");
}

#[test]
fn a_state_from_before_the_last_backup_still_serves() {
    let (owner, store) = owned(13);
    let host = Host::new(grant(&owner, &store, "web-1", None), 14);
    grow(&host.source());
    let first = host.backup(&store).unwrap();
    let [state] = &host.state_files()[..] else { panic!("one state") };
    let before = fs::read(state).unwrap();
    fs::write(host.source().join("a/new"), noise(5, 2000)).unwrap();
    host.backup(&store).unwrap();
    // As if the process had been killed between the commit and the end of its state.
    fs::write(state, before).unwrap();
    let recording = RecordingStore::new(&store);
    let report = host.backup(&recording).unwrap();
    assert_eq!(report.manifest.parent, Some(first.snapshot));
    assert_eq!(report.manifest.statistics.read_bytes, inline_bytes(&host.source()) + 2000);
    assert_eq!(recording.snapshot().written.len(), 1, "it is in the index already");
    assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "from an older state");
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_another_writes_is_not() {
    let (owner, store) = owned(15);
    let host = Host::new(grant(&owner, &store, "web-1", None), 16);
    grow(&host.source());
    host.backup(&store).unwrap();
    let [state] = &host.state_files()[..] else { panic!("one state") };
    let folder = state.parent().unwrap();
    let name = state.file_name().unwrap().to_string_lossy().into_owned();
    let left = folder.join(format!(".{name}.tmp-1-0"));
    fs::write(&left, b"left").unwrap();
    let writing = folder.join(format!(".{name}.tmp-2-0"));
    let file = fs::File::create(&writing).unwrap();
    file.lock().unwrap();
    host.backup(&store).unwrap();
    assert!(!left.exists() && writing.exists());
    drop(file);
    host.backup(&store).unwrap();
    assert!(!writing.exists());
}

#[test]
fn each_origin_has_its_own_state() {
    let (owner, store) = owned(17);
    let host = Host::new(grant(&owner, &store, "web-1", None), 18);
    grow(&host.source());
    let of = |name: &str| {
        let mut options = host.options();
        options.sources = vec![format!("src/{name}").into()];
        options
    };
    for round in 0..3 {
        for name in ["a", "b"] {
            let (report, heard) = host.backup_with(&store, &of(name)).unwrap();
            assert_eq!(report.manifest.parent.is_some(), round > 0, "{name}");
            // That this writer has backups of other sources is no reason to be silent about these.
            assert_eq!(heard.reasons.len(), usize::from(round == 0 && name == "b"), "{name}");
        }
    }
    assert_eq!(host.state_files().len(), 2);
    assert_clean(&owner, &store, "two origins");
}

#[test]
fn nothing_is_committed_where_nothing_changed_and_that_was_asked_for() {
    let (owner, store) = owned(19);
    let host = Host::new(grant(&owner, &store, "web-1", None), 20);
    grow(&host.source());
    let first = host.backup(&store).unwrap();
    let mut options = host.options();
    options.skip_if_unchanged = true;
    for _ in 0..2 {
        let recording = RecordingStore::new(&store);
        let (report, _) = host.backup_with(&recording, &options).unwrap();
        assert_eq!((report.snapshot, report.is_new), (first.snapshot, false));
        assert_eq!(recording.snapshot().written, Vec::<String>::new());
    }
    fs::write(host.source().join("a/new"), b"x").unwrap();
    assert!(host.backup_with(&store, &options).unwrap().0.is_new);
    drop(owner);
}

#[test]
fn a_dry_run_changes_nothing_and_tells_the_same() {
    let (owner, store) = owned(21);
    let host = Host::new(grant(&owner, &store, "web-1", None), 22);
    grow(&host.source());
    host.backup(&store).unwrap();
    fs::write(host.source().join("a/new"), noise(1, 3000)).unwrap();
    let [state] = &host.state_files()[..] else { panic!("one state") };
    let before = fs::read(state).unwrap();
    let recording = RecordingStore::new(&store);
    let mut vault = Vault::open_as_writer(host.world.access(&recording), &host.credential, None).unwrap();
    let dry = dry_run(&mut vault, &host.options(), None, &mut Quiet).unwrap();
    assert_eq!(recording.snapshot().written, Vec::<String>::new());
    assert_eq!(fs::read(state).unwrap(), before);
    let report = host.backup(&store).unwrap();
    let statistics = |manifest: &coffer_format::manifest::Manifest| {
        let s = manifest.statistics;
        (s.entry_count, s.read_bytes, s.new_bytes, s.new_chunk_count, s.unchanged_count)
    };
    assert_eq!(statistics(&dry.manifest), statistics(&report.manifest));
    drop(owner);
}

#[test]
fn streams_are_stored_once() {
    let (owner, store) = owned(23);
    let host = Host::new(grant(&owner, &store, "db-1", None), 24);
    let bytes = noise(9, 300_000);
    let send = |bytes: &[u8], skip: bool| {
        let recording = RecordingStore::new(&store);
        let mut options = host.options();
        options.skip_if_unchanged = skip;
        let mut vault = Vault::open_as_writer(host.world.access(&recording), &host.credential, None).unwrap();
        let mut stream = Stream::new(EntryPath::new("dump").unwrap(), Cursor::new(bytes.to_vec()));
        let report = backup_stream(&mut vault, &options, &mut stream, &mut Heard::default()).unwrap();
        (report, recording.snapshot().written.len())
    };
    let (first, _) = send(&bytes, false);
    let (again, written) = send(&bytes, true);
    assert_eq!((again.is_new, written, again.snapshot), (false, 0, first.snapshot));
    let (longer, _) = send(&[bytes.clone(), noise(10, 3000)].concat(), false);
    assert!(longer.manifest.statistics.new_bytes < 60_000, "{:?}", longer.manifest.statistics);
    assert_eq!(longer.manifest.parent, Some(first.snapshot));
    // A stream short enough to stand in its entry is compared by an id.
    let (short, _) = send(b"nothing to report", false);
    for (bytes, is_new) in [(&b"nothing to report"[..], false), (b"nothing to rePort", true)] {
        let (report, _) = send(bytes, true);
        assert_eq!(report.is_new, is_new);
        assert_eq!(report.snapshot == short.snapshot, !is_new);
    }
    let target = scratch();
    owner.restore(&store, &first.snapshot.to_string(), target.path()).unwrap();
    assert!(fs::read(target.path().join("dump")).unwrap() == bytes);
    assert_clean(&owner, &store, "streams");
}

#[test]
fn a_state_that_cannot_be_written_is_said_and_harms_nothing() {
    let (owner, store) = owned(25);
    let host = Host::new(grant(&owner, &store, "web-1", None), 26);
    grow(&host.source());
    host.backup(&store).unwrap();
    let [state] = &host.state_files()[..] else { panic!("one state") };
    // A directory in its place.
    fs::remove_file(state).unwrap();
    fs::create_dir(state).unwrap();
    fs::write(state.join("x"), "x").unwrap();
    let (report, _) = host.backup_with(&store, &host.options()).unwrap();
    assert!(
        report.warnings.iter().any(|said| said.contains("the next backup will read every file")),
        "{report:?}"
    );
    assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "no state");
}

#[test]
fn a_parent_cannot_be_chosen() {
    let (owner, store) = owned(27);
    let host = Host::new(grant(&owner, &store, "web-1", None), 28);
    grow(&host.source());
    host.backup(&store).unwrap();
    let parent = owner.open(&store).unwrap().select("latest").unwrap();
    let mut options = host.options();
    options.parent = Some(parent);
    let refused = host.backup_with(&store, &options).map(|_| ());
    assert!(matches!(refused, Err(EngineError::NotAllowed { .. })), "{refused:?}");
}
