//! Policies of keys and of the instance, registrations, KMIP adapters.

use serde_json::{Value, json};

use super::{Safe, body, collection, refused, refused_shortly, resource_of};
use crate::client::send;

fn put(safe: &Safe, key: &str, policy: &Value) -> crate::client::Answer {
    safe.ask("PUT", &format!("/keys/{key}/policies"), &collection(&[policy]))
}

fn put_instance(safe: &Safe, kind: &str, data: &Value) -> crate::client::Answer {
    let policy = json!({"policy_type": kind, "policy_data": data});
    safe.ask("PUT", "/instance/policies", &collection(&[&policy]))
}

fn version_count(safe: &Safe, key: &str) -> usize {
    body(&safe.get(&format!("/keys/{key}/versions?allKeyStates=true")))["resources"].as_array().unwrap().len()
}

#[test]
fn a_rotation_policy_rotates_when_its_months_have_passed() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    let ciphertext = safe.wrap(&key, b"data", &[]);
    let shown = resource_of(&put(&safe, &key, &json!({"rotation": {"interval_month": 2}})).expect(200));
    assert_eq!(shown["rotation"], json!({"enabled": true, "interval_month": 2}));
    safe.wait_days(59);
    assert_eq!(version_count(&safe, &key), 1);
    safe.wait_days(2);
    assert_eq!(version_count(&safe, &key), 2);
    safe.wait_days(180);
    assert_eq!(version_count(&safe, &key), 5);
    super::plaintext(&safe.unwrap(&key, &ciphertext, &[]).expect(200));
    put(&safe, &key, &json!({"rotation": {"enabled": false}})).expect(200);
    safe.wait_days(100);
    assert_eq!(version_count(&safe, &key), 5);
    let shown = resource_of(&safe.get(&format!("/keys/{key}/policies?policy=rotation")));
    assert_eq!(shown["rotation"], json!({"enabled": false, "interval_month": 2}));
    // A rotation by hand starts the months anew.
    put(&safe, &key, &json!({"rotation": {"enabled": true, "interval_month": 1}})).expect(200);
    safe.wait_days(20);
    safe.act(&key, "rotate", &Value::Null).expect(204);
    safe.wait_days(20);
    assert_eq!(version_count(&safe, &key), 6);
    safe.wait_days(11);
    assert_eq!(version_count(&safe, &key), 7);
    let mut swept = 0;
    let mut count = |entry: &coffer_sandbox::AuditEntry| {
        swept += u32::from(entry.action == "kms.sweep");
        Ok(())
    };
    safe.sandbox.verify_kms_audit(None, &mut count).unwrap();
    assert_eq!(
        swept, 3,
        "what the clock brought is in the log, once for each time that it was moved over it"
    );
}

#[test]
fn policies_of_keys_have_their_rules() {
    let safe = Safe::new();
    let key = safe.root_key();
    for wrong in [json!({"interval_month": 0}), json!({"interval_month": 13}), json!({"enabled": true})] {
        refused(put(&safe, &key, &json!({"rotation": wrong})), 400, "INVALID_FIELD_ERR");
    }
    refused(put(&safe, &key, &json!({"rotation": {"interval_month": 1, "x": 1}})), 400, "BAD_BODY_ERR");
    refused(put(&safe, &key, &json!({})), 400, "BAD_BODY_ERR");
    refused(
        put(&safe, &safe.imported(&[1; 32]), &json!({"rotation": {"interval_month": 1}})),
        400,
        "KEY_PAYLOAD_REQ_ERR",
    );
    let standard = safe.key(&json!({"name": "standard", "extractable": true}));
    refused(put(&safe, &standard, &json!({"rotation": {"interval_month": 1}})), 400, "KEY_ROOT_REQ_ERR");
    let path = format!("/keys/{key}/policies");
    let dual = json!({"dualAuthDelete": {"enabled": true}});
    let answer = safe.ask("PUT", &format!("{path}?policy=rotation"), &collection(&[&dual]));
    refused(answer, 400, "BODY_QUERY_PARAM_MISMATCH_ERR");
    refused(safe.get(&format!("{path}?policy=other")), 400, "INVALID_QUERY_PARAM_ERR");
    assert_eq!(body(&safe.get(&path))["metadata"]["collectionTotal"], 0);
    let rotation = json!({"rotation": {"interval_month": 3}});
    let both = body(&safe.ask("PUT", &path, &collection(&[&dual, &rotation])).expect(200));
    assert_eq!(both["metadata"]["collectionTotal"], 2);
    let first = resource_of(&safe.get(&format!("{path}?policy=dualAuthDelete")));
    for name in ["id", "crn", "creationDate", "createdBy", "lastUpdateDate", "updatedBy"] {
        assert!(first[name].is_string(), "{name}");
    }
    refused(put(&safe, &key, &json!({"dualAuthDelete": {"enabled": false}})), 400, "INVALID_FIELD_ERR");
}

#[test]
fn two_users_delete_a_key() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    let path = format!("/keys/{key}");
    put(&safe, &key, &json!({"dualAuthDelete": {"enabled": true}})).expect(200);
    let second = safe.manager();
    refused(safe.ask("DELETE", &path, &Value::Null), 409, "AUTHORIZATIONS_NOT_MET");
    safe.act(&key, "setKeyForDeletion", &Value::Null).expect(204);
    refused(safe.ask("DELETE", &path, &Value::Null), 409, "AUTHORIZATIONS_NOT_MET");
    let shown = resource_of(&safe.get(&path));
    assert_eq!(
        (&shown["dualAuthDelete"]["enabled"], &shown["dualAuthDelete"]["keySetForDeletion"]),
        (&json!(true), &json!(true))
    );
    assert!(shown["dualAuthDelete"]["authExpiration"].is_string());
    safe.act(&key, "unsetKeyForDeletion", &Value::Null).expect(204);
    refused(
        safe.ask_as(&second, &safe.guid, "DELETE", &path, &Value::Null, &[]),
        409,
        "AUTHORIZATIONS_NOT_MET",
    );

    safe.act(&key, "setKeyForDeletion", &Value::Null).expect(204);
    safe.wait_days(8);
    let second = safe.manager();
    refused(
        safe.ask_as(&second, &safe.guid, "DELETE", &path, &Value::Null, &[]),
        409,
        "AUTHORIZATIONS_NOT_MET",
    );
    safe.act(&key, "setKeyForDeletion", &Value::Null).expect(204);
    safe.ask_as(&second, &safe.guid, "DELETE", &path, &Value::Null, &[]).expect(204);
}

#[test]
fn policies_of_the_instance_are_for_new_keys() {
    let mut safe = Safe::new();
    put_instance(&safe, "dualAuthDelete", &json!({"enabled": true})).expect(204);
    put_instance(&safe, "rotation", &json!({"enabled": true, "attributes": {"interval_month": 1}}))
        .expect(204);
    let key = safe.root_key();
    assert_eq!(resource_of(&safe.get(&format!("/keys/{key}")))["dualAuthDelete"]["enabled"], true);
    safe.wait_days(31);
    assert_eq!(version_count(&safe, &key), 2);
    let over = json!({
        "name": "root", "extractable": false, "rotation": {"interval_month": 3}, "dualAuthDelete": {"enabled": false},
    });
    refused(safe.post("/keys", &collection(&[&over])), 400, "BAD_BODY_ERR");
    let key = resource_of(&safe.post("/keys_with_policy_overrides", &collection(&[&over])).expect(201));
    assert_eq!(key["dualAuthDelete"]["enabled"], false);
    assert_eq!(key["rotation"], json!({"enabled": true, "interval_month": 3}));
    let list = body(&safe.get("/instance/policies"));
    let kinds: Vec<_> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["policy_type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["dualAuthDelete", "rotation"]);
    let one = resource_of(&safe.get("/instance/policies?policy=rotation"));
    assert_eq!(one["policy_data"], json!({"enabled": true, "attributes": {"interval_month": 1}}));
    put_instance(&safe, "rotation", &json!({"enabled": false})).expect(204);
    let one = resource_of(&safe.get("/instance/policies?policy=rotation"));
    assert_eq!(one["policy_data"], json!({"enabled": false}));
}

#[test]
fn policies_of_the_instance_have_their_rules() {
    let safe = Safe::new();
    refused(put_instance(&safe, "other", &json!({"enabled": true})), 400, "INVALID_FIELD_ERR");
    refused(put_instance(&safe, "metrics", &json!({})), 400, "INVALID_FIELD_ERR");
    refused(
        put_instance(&safe, "metrics", &json!({"enabled": true, "attributes": {"x": 1}})),
        400,
        "BAD_BODY_ERR",
    );
    refused(
        put_instance(&safe, "allowedIP", &json!({"enabled": true, "attributes": {"allowed_ip": ["x"]}})),
        400,
        "INVALID_FIELD_ERR",
    );
    let policy = json!({"policy_type": "metrics", "policy_data": {"enabled": true}});
    let other = json!({"policy_type": "dualAuthDelete", "policy_data": {"enabled": true}});
    let ask = |query: &str, list: &[&Value]| {
        safe.ask("PUT", &format!("/instance/policies{query}"), &collection(list))
    };
    refused(ask("?policy=rotation", &[&policy]), 400, "BODY_QUERY_PARAM_MISMATCH_ERR");
    refused(ask("?policy=metrics", &[&policy, &other]), 400, "NUM_COLLECTION_RESOURCE_ERR");
    refused(ask("", &[&policy, &policy]), 400, "BAD_BODY_ERR");
    refused(
        ask("", &[&json!({"policy_type": "metrics", "policy_data": {"enabled": true}, "extra": 1})]),
        400,
        "BAD_BODY_ERR",
    );
    ask("", &[&policy, &other]).expect(204);
    ask("?policy=metrics", &[&policy]).expect(204);
}

#[test]
fn what_may_be_created_and_imported_is_a_policy() {
    let safe = Safe::new();
    let attributes = json!({
        "create_root_key": true, "create_standard_key": false, "import_root_key": true, "import_standard_key": true,
        "enforce_token": true,
    });
    put_instance(&safe, "keyCreateImportAccess", &json!({"enabled": true, "attributes": attributes}))
        .expect(204);
    safe.root_key();
    let create = |resource: Value| safe.post("/keys", &collection(&[&resource]));
    refused(create(json!({"name": "standard", "extractable": true})), 409, "KEY_CREATE_IMPORT_ACCESS_ERR");
    let clear = json!({"name": "root", "extractable": false, "payload": "AAAAAAAAAAAAAAAAAAAAAA=="});
    refused(create(clear), 409, "KEY_CREATE_IMPORT_ACCESS_ERR");
    put_instance(&safe, "keyCreateImportAccess", &json!({"enabled": false})).expect(204);
    create(json!({"name": "standard", "extractable": true})).expect(201);
}

#[test]
fn network_policies_keep_callers_out() {
    let safe = Safe::new();
    let bearer = format!("Bearer {}", safe.token);
    let headers = [("Authorization", &*bearer), ("Bluemix-Instance", &*safe.guid)];
    let private = |method: &str, path: &str, body: &str| {
        send(
            safe.sandbox.kms_private_endpoint(),
            method,
            &format!("/api/v2{path}"),
            &headers,
            body.as_bytes(),
        )
    };
    let port = resource_of(&safe.get("/instance/allowed_ip_port"))["private_endpoint_port"].clone();
    assert!(safe.sandbox.kms_private_endpoint().ends_with(&format!(":{port}")));
    let only = json!({"enabled": true, "attributes": {"allowed_network": "private-only"}});
    put_instance(&safe, "allowedNetwork", &only).expect(204);
    refused_shortly(safe.get("/keys"), 401);
    private("GET", "/keys", "").expect(200);
    let policies = json!([
        {"policy_type": "allowedNetwork", "policy_data": {"enabled": false}},
        {"policy_type": "allowedIP", "policy_data": {"enabled": true, "attributes": {"allowed_ip": ["10.0.0.0/8", "127.0.0.0/8"]}}},
    ]);
    let request = json!({"metadata": {"collectionTotal": 2}, "resources": policies});
    private("PUT", "/instance/policies", &request.to_string()).expect(204);
    safe.get("/keys").expect(200);
    let elsewhere = json!({"enabled": true, "attributes": {"allowed_ip": ["10.0.0.0/8"]}});
    // Nobody could take it back.
    refused(put_instance(&safe, "allowedIP", &elsewhere), 400, "INVALID_FIELD_ERR");
    safe.get("/keys").expect(200);
    let mapped = json!({"enabled": true, "attributes": {"allowed_ip": ["::ffff:127.0.0.0/104"]}});
    put_instance(&safe, "allowedIP", &mapped).expect(204);
    safe.get("/keys").expect(200);
}

#[test]
fn kmip_adapters_are_kept_as_metadata() {
    let safe = Safe::new();
    let key = safe.root_key();
    let adapter = |resource: &Value| safe.post("/kmip_adapters", &collection(&[resource]));
    let request = json!({"name": "vmware", "profile": "native_1.0", "profile_data": {"crk_id": key}, "description": "d"});
    let made = resource_of(&adapter(&request).expect(201));
    assert_eq!(made["profile_data"]["crk_id"], key.as_str());
    refused(adapter(&request), 409, "KMIP_ADAPTER_NOT_UNIQUE_ERR");
    refused(adapter(&json!({"name": "x_1", "profile": "other"})), 400, "INVALID_FIELD_ERR");
    refused(
        adapter(&json!({"name": "x_1", "profile": "native_1.0", "profile_data": {"crk_id": "x"}})),
        400,
        "INVALID_FIELD_ERR",
    );
    let unnamed =
        resource_of(&adapter(&json!({"profile": "native_1.0", "profile_data": {"crk_id": key}})).expect(201));
    assert!(unnamed["name"].as_str().unwrap().starts_with("kmip_adapter_"));
    assert_eq!(resource_of(&safe.get("/kmip_adapters/vmware")), made);
    let list = body(&safe.get(&format!("/kmip_adapters?totalCount=true&limit=1&crk_id={key}")));
    assert_eq!(
        (&list["metadata"]["totalCount"], &list["metadata"]["collectionTotal"]),
        (&json!(2), &json!(1))
    );
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    let path = "/kmip_adapters/vmware/certificates";
    let certificate = json!({"name": "client", "certificate": pem});
    let made = resource_of(&safe.post(path, &collection(&[&certificate])).expect(201));
    refused(safe.post(path, &collection(&[&certificate])), 409, "KMIP_CERT_NOT_UNIQUE_ERR");
    refused(safe.post(path, &collection(&[&json!({"certificate": "x"})])), 400, "INVALID_FIELD_ERR");
    assert_eq!(resource_of(&safe.get(&format!("{path}/client"))), made);
    assert!(resource_of(&safe.get(path)).get("certificate").is_none());
    safe.ask("DELETE", &format!("{path}/{}", made["id"].as_str().unwrap()), &Value::Null).expect(204);
    refused(safe.get(&format!("{path}/client")), 404, "KMIP_CERT_NOT_FOUND_ERR");
    assert_eq!(body(&safe.get("/kmip_adapters/vmware/kmip_objects"))["metadata"]["collectionTotal"], 0);
    refused(safe.get("/kmip_adapters/vmware/kmip_objects/x"), 404, "KMIP_OBJECT_NOT_FOUND_ERR");
    safe.ask("DELETE", "/kmip_adapters/vmware", &Value::Null).expect(204);
    refused(safe.get("/kmip_adapters/vmware"), 404, "KMIP_ADAPTER_NOT_FOUND_ERR");
}
