//! Object storage under keys of the key service.

use coffer_sandbox::NewBucket;
use serde_json::Value;

use super::{Safe, body, refused, resource_of};
use crate::client::{Answer, send};

fn bucket(safe: &Safe, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {}", safe.token);
    let mut all = vec![("Authorization", &*bearer)];
    all.extend_from_slice(headers);
    send(safe.sandbox.endpoint(), method, target, &all, b"")
}

fn crn(safe: &Safe, key: &str) -> String {
    safe.sandbox.kms_crn(&safe.guid, Some(key)).unwrap()
}

#[test]
fn a_bucket_goes_by_the_state_of_its_root_key() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    let crn = crn(&safe, &key);
    let create = |safe: &Safe, crn: &str, name: &str| {
        let headers = [
            ("ibm-service-instance-id", safe.sandbox.instance_id()),
            ("ibm-sse-kp-encryption-algorithm", "AES256"),
            ("ibm-sse-kp-customer-root-key-crn", crn),
        ];
        bucket(safe, "PUT", name, &headers)
    };
    create(&safe, &crn, "/vault").expect(200);
    bucket(&safe, "PUT", "/vault/a", &[]).expect(200);
    let nowhere = crn.replace(&key, "11111111-2222-4333-8444-555555555555");
    assert!(create(&safe, &nowhere, "/other").status >= 400);

    safe.act(&key, "disable", &Value::Null).expect(204);
    bucket(&safe, "GET", "/vault/a", &[]).refused(403, "AccessDenied");
    bucket(&safe, "PUT", "/vault/b", &[]).refused(403, "AccessDenied");
    safe.wait_s(60);
    safe.act(&key, "enable", &Value::Null).expect(204);
    bucket(&safe, "GET", "/vault/a", &[]).expect(200);

    refused(safe.ask("DELETE", &format!("/keys/{key}"), &Value::Null), 409, "PROTECTED_RESOURCE_ERR");
    safe.ask("DELETE", &format!("/keys/{key}?force=true"), &Value::Null).expect(204);
    bucket(&safe, "GET", "/vault/a", &[]).refused(403, "AccessDenied");
    safe.wait_s(60);
    safe.post(&format!("/keys/{key}/restore"), &Value::Null).expect(201);
    bucket(&safe, "GET", "/vault/a", &[]).expect(200);
}

#[test]
fn keys_list_the_buckets_that_they_protect() {
    let safe = Safe::new();
    let (key, other) = (safe.root_key(), safe.root_key());
    let mut plan = NewBucket::named("vault");
    plan.root_key = Some(crn(&safe, &key));
    safe.sandbox.create_bucket(&plan).unwrap();
    let shown = resource_of(&safe.get(&format!("/keys/{key}/registrations?totalCount=true")));
    assert_eq!(shown["keyId"], key.as_str());
    assert!(shown["resourceCrn"].as_str().unwrap().ends_with(":bucket:vault"));
    assert_eq!(resource_of(&safe.get("/keys/registrations")), shown);
    assert_eq!(
        resource_of(
            &safe.get("/keys/registrations?urlEncodedResourceCRNQuery=crn%3Av1%3A%2A%3Abucket%3Avault")
        ),
        shown
    );
    let count = |path: &str| body(&safe.get(path))["metadata"]["collectionTotal"].clone();
    assert_eq!(count("/keys/registrations?urlEncodedResourceCRNQuery=%2Aother"), 0);
    assert_eq!(count("/keys/registrations?preventKeyDeletion=true"), 0);
    assert_eq!(count(&format!("/keys/{other}/registrations")), 0);
    refused(safe.post(&format!("/keys/{key}/registrations/x"), &Value::Null), 403, "SERVICE_ONLY_ERR");

    let policy = "<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>1</Days></MinimumRetention>\
        <DefaultRetention><Days>2</Days></DefaultRetention><MaximumRetention><Days>3</Days></MaximumRetention></ProtectionConfiguration>";
    let bearer = format!("Bearer {}", safe.token);
    let sum = crate::client::md5(policy.as_bytes());
    let headers = [("Authorization", &*bearer), ("Content-MD5", &*sum)];
    send(safe.sandbox.endpoint(), "PUT", "/vault?protection", &headers, policy.as_bytes()).expect(200);
    assert_eq!(count("/keys/registrations?preventKeyDeletion=true"), 1);
    refused(safe.ask("DELETE", &format!("/keys/{key}?force=true"), &Value::Null), 409, "PREV_KEY_DEL_ERR");
}
