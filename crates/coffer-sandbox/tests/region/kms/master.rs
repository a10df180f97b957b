//! The master key of an instance, and what there is without it.

use coffer_sandbox::{KeyPart, KmsKind, MasterKeySource, Sandbox, SandboxError, SandboxOptions};
use serde_json::{Value, json};

use super::{Safe, body, refused_shortly};
use crate::client::{send, token};

fn part(text: &[u8]) -> KeyPart {
    KeyPart::parse(text).unwrap()
}

fn parts(texts: &[&[u8]]) -> MasterKeySource {
    MasterKeySource::Parts(texts.iter().map(|text| part(text)).collect())
}

#[test]
fn hpcs_answers_nothing_until_all_key_parts_are_loaded() {
    let safe = Safe::new();
    let guid = safe.sandbox.create_kms_instance("hpcs", KmsKind::Hpcs).unwrap();
    let ask = || safe.ask_as(&safe.token, &guid, "GET", "/keys", &Value::Null, &[]);
    refused_shortly(ask(), 503);
    assert!(safe.sandbox.create_kms_root_key(&guid, "root", None).is_err());

    let texts: Vec<_> = (0..3).map(|_| KeyPart::generate().to_text()).collect();
    let texts: Vec<&[u8]> = texts.iter().map(|text| text.expose()).collect();
    let pattern = safe.sandbox.load_kms_master_key(&guid, &parts(&texts)).unwrap();
    assert_eq!(pattern.len(), 32);
    ask().expect(200);
    let key = safe.sandbox.create_kms_root_key(&guid, "root", None).unwrap();
    safe.sandbox.unload_kms_master_key(&guid).unwrap();
    refused_shortly(ask(), 503);

    // Two of three, or another third, are not the key.
    let missing = safe.sandbox.load_kms_master_key(&guid, &parts(&texts[..2]));
    assert!(matches!(missing, Err(SandboxError::MasterKey { .. })), "{missing:?}");
    let other = KeyPart::generate().to_text();
    let wrong = safe.sandbox.load_kms_master_key(&guid, &parts(&[texts[0], texts[1], other.expose()]));
    assert!(
        matches!(&wrong, Err(SandboxError::WrongMasterKey { expected, .. }) if *expected == pattern),
        "{wrong:?}"
    );
    refused_shortly(ask(), 503);

    let again = safe.sandbox.load_kms_master_key(&guid, &parts(&[texts[2], texts[0], texts[1]])).unwrap();
    assert_eq!(again, pattern);
    let answer = ask().expect(200);
    assert_eq!(super::resource_of(&answer)["id"], key.as_str());
}

#[test]
fn an_instance_of_hpcs_needs_its_master_key_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = SandboxOptions::default();
    options.directory = Some(directory.path().to_path_buf());
    let texts = [KeyPart::generate().to_text(), KeyPart::generate().to_text()];
    let texts: Vec<&[u8]> = texts.iter().map(|text| text.expose()).collect();
    let (guid, own, key) = {
        let sandbox = Sandbox::start(&options).unwrap();
        let own = sandbox.create_kms_instance("keys", KmsKind::KeyProtect).unwrap();
        sandbox.create_kms_root_key(&own, "root", None).unwrap();
        let guid = sandbox.create_kms_instance("hpcs", KmsKind::Hpcs).unwrap();
        sandbox.load_kms_master_key(&guid, &parts(&texts)).unwrap();
        let key = sandbox.create_kms_root_key(&guid, "root", None).unwrap();
        (guid, own, key)
    };
    let sandbox = Sandbox::start(&options).unwrap();
    let owner = token(&sandbox, sandbox.api_key());
    let safe = Safe { sandbox, guid: guid.clone(), token: owner };
    refused_shortly(safe.get("/keys"), 503);
    let answer = safe.ask_as(&safe.token, &own, "GET", "/keys", &Value::Null, &[]).expect(200);
    assert_eq!(super::resource_of(&answer)["name"], "root", "Key Protect has its own");
    safe.sandbox.load_kms_master_key(&guid, &parts(&texts)).unwrap();
    assert_eq!(super::resource_of(&safe.get("/keys").expect(200))["id"], key.as_str());
}

#[test]
fn the_admin_endpoint_makes_and_loads_instances() {
    let safe = Safe::new();
    let admin = |method: &str, path: &str, body: &Value| {
        send(safe.sandbox.admin_endpoint(), method, path, &[], body.to_string().as_bytes())
    };
    let made = body(&admin("POST", "/kms/instances", &json!({"name": "hpcs", "kind": "hpcs"})).expect(200));
    let guid = made["instance_id"].as_str().unwrap().to_owned();
    let ask = || safe.ask_as(&safe.token, &guid, "GET", "/keys", &Value::Null, &[]);
    refused_shortly(ask(), 503);
    let part = || String::from_utf8(KeyPart::generate().to_text().expose().to_vec()).unwrap();
    let (one, path) = (part(), format!("/kms/instances/{guid}/master-key"));
    admin("PUT", &path, &json!({"parts": [one]})).expect(400);
    let loaded = admin("PUT", &path, &json!({"parts": [one, part()]})).expect(200);
    assert!(body(&loaded)["pattern"].is_string());
    ask().expect(200);
    send(safe.sandbox.admin_endpoint(), "DELETE", &path, &[], b"").expect(200);
    refused_shortly(ask(), 503);
    send(safe.sandbox.admin_endpoint(), "DELETE", &format!("/kms/instances/{guid}"), &[], b"").expect(200);
    refused_shortly(ask(), 404);
}
