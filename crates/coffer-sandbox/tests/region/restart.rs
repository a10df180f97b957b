//! State survives the end of a sandbox.

use std::time::Duration;

use coffer_sandbox::{ConditionMode, NewBucket, SandboxError, SandboxOptions};

use super::client::Desk;

fn options(folder: &tempfile::TempDir) -> SandboxOptions {
    let mut options = SandboxOptions::default();
    options.directory = Some(folder.path().to_path_buf());
    options
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (api_key, upload, now_ms) = {
        let desk = Desk::with(&options(&folder));
        desk.sandbox.create_bucket(&NewBucket::named("bucket")).unwrap();
        desk.put("/bucket/a", b"kept").expect(200);
        let upload = desk.ask("POST", "/bucket/b?uploads", &[], b"").expect(200).element("UploadId").unwrap();
        desk.put(&format!("/bucket/b?partNumber=1&uploadId={upload}"), b"part").expect(200);
        desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Rejected).unwrap();
        desk.sandbox.advance(Duration::from_secs(86_400)).unwrap();
        (desk.sandbox.api_key().to_owned(), upload, desk.sandbox.now_ms())
    };
    // What a request left behind that was cut off.
    let shard = folder.path().join("bodies/zz");
    std::fs::create_dir_all(&shard).unwrap();
    std::fs::write(shard.join("zz-unfinished"), b"half").unwrap();

    let desk = Desk::with(&options(&folder));
    assert_eq!(desk.sandbox.api_key(), api_key);
    assert_eq!(desk.sandbox.switches().condition_mode, ConditionMode::Rejected);
    assert!(desk.sandbox.now_ms() >= now_ms);
    assert_eq!(desk.get("/bucket/a").expect(200).text(), "kept");
    assert_eq!(desk.get(&format!("/bucket/b?uploadId={upload}")).expect(200).elements("Size"), ["4"]);
    assert!(!shard.join("zz-unfinished").exists());
}

#[test]
fn a_directory_has_one_sandbox_and_an_address_is_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let first = coffer_sandbox::Sandbox::start(&options(&folder)).unwrap();
    let second = coffer_sandbox::Sandbox::start(&options(&folder));
    assert!(matches!(second, Err(SandboxError::InUse { .. })));
    drop(first);
    coffer_sandbox::Sandbox::start(&options(&folder)).unwrap();
    let mut open = SandboxOptions::default();
    open.listen = ([0, 0, 0, 0], 0).into();
    assert!(matches!(coffer_sandbox::Sandbox::start(&open), Err(SandboxError::NotLoopback { .. })));
}
