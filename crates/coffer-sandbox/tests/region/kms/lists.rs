//! Making keys, listing them, names for them.

use serde_json::{Value, json};

use super::{Safe, body, collection, refused, resource_of};

fn ids(safe: &Safe, query: &str) -> Vec<String> {
    let list = body(&safe.get(&format!("/keys{query}")).expect(200));
    let ids: Vec<String> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(list["metadata"]["collectionTotal"], ids.len());
    ids
}

#[test]
fn a_key_shows_what_the_service_shows() {
    let safe = Safe::new();
    let resource = json!({
        "type": "application/vnd.ibm.kms.key+json", "name": "root", "extractable": false, "aliases": ["one", "two"],
        "description": "for tests", "tags": ["a", "b"],
    });
    let answer =
        safe.with("POST", "/keys", &collection(&[&resource]), &[("Correlation-Id", "cafe-1")]).expect(201);
    assert_eq!(answer.header("correlation-id"), "cafe-1");
    assert_eq!(answer.header("x-global-transaction-id"), "cafe-1");
    let key = resource_of(&answer);
    assert_eq!(body(&answer)["metadata"]["collectionType"], "application/vnd.ibm.kms.key+json");
    for (name, value) in resource.as_object().unwrap() {
        assert_eq!(&key[name], value, "{name}");
    }
    let id = key["id"].as_str().unwrap();
    assert_eq!(key["crn"], safe.sandbox.kms_crn(&safe.guid, Some(id)).unwrap());
    assert_eq!(
        (&key["state"], &key["imported"], &key["keyRingID"]),
        (&json!(1), &json!(false), &json!("default"))
    );
    assert_eq!(key["keyVersion"]["id"], id);
    assert_eq!(key["createdBy"], key["createdBy"].as_str().unwrap());
    assert!(key["createdBy"].as_str().unwrap().starts_with("iam-ServiceId-"));
    assert_eq!(resource_of(&safe.get("/keys/two")), key);
    assert_eq!(resource_of(&safe.get(&format!("/keys/{id}/metadata"))), key);
    assert_ne!(safe.get("/keys").header("correlation-id"), "cafe-1");
}

#[test]
fn standard_keys_show_their_material_unless_less_is_asked_for() {
    let safe = Safe::new();
    let request = collection(&[&json!({"name": "standard", "extractable": true})]);
    let whole = resource_of(&safe.post("/keys", &request).expect(201));
    let path = format!("/keys/{}", whole["id"].as_str().unwrap());
    assert_eq!(resource_of(&safe.get(&path))["payload"], whole["payload"]);
    assert!(whole["payload"].is_string());
    assert!(resource_of(&safe.get(&format!("{path}/metadata"))).get("payload").is_none());
    let little = safe.with("POST", "/keys", &request, &[("Prefer", "return=minimal")]).expect(201);
    assert!(resource_of(&little).get("payload").is_none());
    safe.ask("DELETE", &path, &Value::Null).expect(204);
    assert!(resource_of(&safe.get(&path)).get("payload").is_none());
}

#[test]
fn what_is_no_key_is_refused() {
    let safe = Safe::new();
    let field =
        |resource: Value| refused(safe.post("/keys", &collection(&[&resource])), 400, "INVALID_FIELD_ERR");
    field(json!({}));
    field(json!({"name": "x"}));
    field(json!({"name": "x".repeat(91)}));
    field(json!({"name": 7}));
    field(json!({"name": "root", "type": "text/plain"}));
    field(json!({"name": "root", "description": "x".repeat(241)}));
    field(json!({"name": "root", "tags": vec!["t"; 31]}));
    field(json!({"name": "root", "tags": ["t".repeat(31)]}));
    field(json!({"name": "root", "extractable": "no"}));
    field(json!({"name": "root", "expirationDate": "soon"}));
    refused(safe.post("/keys", &Value::Null), 400, "NO_BODY_ERR");
    refused(safe.post("/keys", &json!({"resources": []})), 400, "BAD_BODY_ERR");
    refused(safe.post("/keys", &json!({"metadata": {}, "resources": [{}]})), 400, "BAD_BODY_ERR");
    let wrong = json!({"metadata": {"collectionTotal": 2}, "resources": [{"name": "root"}]});
    refused(safe.post("/keys", &wrong), 400, "COLLECTION_TOTAL_MISMATCH_ERR");
    let two = json!({"name": "root"});
    refused(safe.post("/keys", &collection(&[&two, &two])), 400, "BAD_BODY_ERR");
    assert!(ids(&safe, "").is_empty());
}

#[test]
fn lists_come_in_pages_and_are_counted() {
    let safe = Safe::new();
    let mut all: Vec<String> = (0..7).map(|_| safe.root_key()).collect();
    all.sort();
    assert_eq!(ids(&safe, ""), all);
    assert_eq!(ids(&safe, "?limit=3"), all[..3]);
    assert_eq!(ids(&safe, "?limit=3&offset=6"), all[6..]);
    assert!(ids(&safe, "?offset=7").is_empty());
    assert_eq!(ids(&safe, "?state=&limit="), all, "an empty parameter counts as absent");
    for wrong in
        ["limit=0", "limit=5001", "limit=x", "offset=-1", "state=6", "state=1,", "sort=name", "extractable=7"]
    {
        refused(safe.get(&format!("/keys?{wrong}")), 400, "INVALID_QUERY_PARAM_ERR");
    }
    safe.ask("DELETE", &format!("/keys/{}", all[0]), &Value::Null).expect(204);
    safe.act(&all[1], "disable", &Value::Null).expect(204);
    let count = |query: &str| {
        safe.ask("HEAD", &format!("/keys{query}"), &Value::Null).expect(200).header("key-total").to_owned()
    };
    assert_eq!(count(""), "6");
    assert_eq!(count("?state=0,1,2,3,5"), "7");
    assert_eq!(ids(&safe, "?state=5"), all[..1]);
    assert_eq!(ids(&safe, "?state=2"), all[1..2]);
    assert_eq!(ids(&safe, ""), all[1..]);
}

#[test]
fn lists_are_sorted_searched_and_filtered() {
    let mut safe = Safe::new();
    let first = safe.key(&json!({"name": "Alpha", "extractable": false, "aliases": ["north"]}));
    safe.wait_s(10);
    let second = safe.key(&json!({"name": "beta", "extractable": true}));
    safe.wait_s(10);
    let third = safe
        .key(&json!({"name": "gamma-alpha", "extractable": false, "aliases": ["not:x".replace(':', "-")]}));
    assert_eq!(ids(&safe, "?sort=creationDate"), [&*first, &second, &third]);
    assert_eq!(ids(&safe, "?sort=-creationDate"), [&*third, &second, &first]);
    assert_eq!(ids(&safe, "?sort=extractable,-creationDate"), [&*third, &first, &second]);

    let search = |text: &str| {
        let mut found = ids(&safe, &format!("?search={text}&sort=creationDate"));
        found.iter_mut().for_each(|id| {
            *id = match &**id {
                id if id == first => "1".into(),
                id if id == second => "2".into(),
                _ => "3".into(),
            };
        });
        found.concat()
    };
    assert_eq!(search("alpha"), "13");
    assert_eq!(search("exact:alpha"), "1");
    assert_eq!(search("not:alpha"), "2");
    assert_eq!(search("not:exact:alpha"), "23");
    assert_eq!(search("alias:north"), "1");
    assert_eq!(search("name:north"), "");
    assert_eq!(search("north"), "1");
    assert_eq!(search("escape:not-"), "3");
    assert_eq!(search(&second), "2");
    let query = &body(&safe.get("/keys?search=not:exact:alias:x"))["metadata"]["searchQuery"];
    assert_eq!(query, &json!({"query": "x", "scopes": ["alias"], "not": true, "exact": true}));

    safe.act(&first, "rotate", &Value::Null).expect(204);
    let created =
        resource_of(&safe.get(&format!("/keys/{second}")))["creationDate"].as_str().unwrap().to_owned();
    let filter = |text: &str| {
        ids(&safe, &format!("?sort=creationDate&filter={}", text.replace('"', "%22").replace(' ', "%20")))
    };
    assert_eq!(filter(&format!("creationDate=\"{created}\"")), [&*second]);
    assert_eq!(filter(&format!("creationDate=lte:\"{created}\"")), [&*first, &second]);
    assert_eq!(filter(&format!("creationDate=gt:\"{created}\" extractable=FALSE")), [&*third]);
    assert_eq!(filter("lastRotateDate=none extractable=false"), [&*third]);
    assert_eq!(filter("state=1,5").len(), 3);
    for wrong in ["name=x", "state", "creationDate=x", "creationDate=lt:x", "extractable=x"] {
        refused(safe.get(&format!("/keys?filter={wrong}")), 400, "INVALID_QUERY_PARAM_ERR");
    }
    refused(safe.get("/keys?filter=state=1&state=1"), 400, "INVALID_QUERY_PARAM_ERR");
}

#[test]
fn aliases_are_names_within_an_instance() {
    let safe = Safe::new();
    let (key, other) = (safe.root_key(), safe.root_key());
    let add = |key: &str, alias: &str| safe.post(&format!("/keys/{key}/aliases/{alias}"), &Value::Null);
    let made = resource_of(&add(&key, "Vault-1").expect(201));
    assert_eq!((&made["keyId"], &made["alias"]), (&json!(key), &json!("Vault-1")));
    add(&key, "vault-1").expect(201);
    refused(add(&other, "vault-1"), 409, "KEY_ALIAS_NOT_UNIQUE_ERR");
    let uuid = "11111111-2222-4333-8444-555555555555";
    for wrong in ["x", "policies", "a.b", "a%20b", uuid, &"x".repeat(91)] {
        refused(add(&key, wrong), 400, "INVALID_FIELD_ERR");
    }
    for count in 3..=5 {
        add("Vault-1", &format!("vault-{count}")).expect(201);
    }
    refused(add(&key, "vault-6"), 409, "KEY_ALIAS_QUOTA_ERR");
    let remove =
        |key: &str, alias: &str| safe.ask("DELETE", &format!("/keys/{key}/aliases/{alias}"), &Value::Null);
    remove(&key, "vault-3").expect(204);
    refused(remove(&key, "vault-3"), 404, "KEY_ALIAS_NOT_FOUND_ERR");
    refused(remove(&other, "vault-1"), 404, "KEY_ALIAS_NOT_FOUND_ERR");
    refused(safe.get("/keys/vault-3"), 404, "KEY_NOT_FOUND_ERR");
    let twice = json!({"name": "root", "extractable": false, "aliases": ["same", "same"]});
    refused(safe.post("/keys", &collection(&[&twice])), 409, "KEY_ALIAS_NOT_UNIQUE_ERR");
    let taken = json!({"name": "root", "extractable": false, "aliases": ["fine", "vault-1"]});
    refused(safe.post("/keys", &collection(&[&taken])), 409, "KEY_ALIAS_NOT_UNIQUE_ERR");
    refused(safe.get("/keys/fine"), 404, "KEY_NOT_FOUND_ERR");
}

#[test]
fn rings_hold_keys() {
    let safe = Safe::new();
    let ring = |method: &str, id: &str| safe.ask(method, &format!("/key_rings/{id}"), &Value::Null);
    assert_eq!(resource_of(&ring("POST", "blue").expect(201))["id"], "blue");
    refused(ring("POST", "blue"), 409, "KEY_RING_NOT_UNIQUE_ERR");
    refused(ring("POST", "default"), 409, "KEY_RING_NOT_UNIQUE_ERR");
    refused(ring("POST", "a_b"), 400, "INVALID_QUERY_PARAM_ERR");
    let list = body(&safe.get("/key_rings?totalCount=true").expect(200));
    assert_eq!(
        (&list["resources"][0]["id"], &list["resources"][1]["id"]),
        (&json!("default"), &json!("blue"))
    );
    assert_eq!(list["metadata"]["totalCount"], 2);

    let blue = [("X-Kms-Key-Ring", "blue")];
    let request = collection(&[&json!({"name": "root", "extractable": false})]);
    let key = resource_of(&safe.with("POST", "/keys", &request, &blue).expect(201));
    assert_eq!(key["keyRingID"], "blue");
    let path = format!("/keys/{}", key["id"].as_str().unwrap());
    refused(
        safe.with("POST", "/keys", &request, &[("X-Kms-Key-Ring", "red")]),
        404,
        "KEY_RING_NOT_FOUND_ERR",
    );
    safe.get(&path).expect(200);
    safe.with("GET", &path, &Value::Null, &blue).expect(200);
    refused(
        safe.with("GET", &path, &Value::Null, &[("X-Kms-Key-Ring", "default")]),
        404,
        "KEY_NOT_FOUND_ERR",
    );
    safe.root_key();
    assert_eq!(body(&safe.with("GET", "/keys", &Value::Null, &blue))["metadata"]["collectionTotal"], 1);

    refused(ring("DELETE", "blue"), 409, "KEY_RING_NOT_EMPTY_ERR");
    safe.with("PATCH", &path, &json!({"keyRingID": "default"}), &blue).expect(200);
    assert_eq!(resource_of(&safe.get(&path))["keyRingID"], "default");
    refused(safe.ask("PATCH", &path, &json!({"keyRingID": "red"})), 404, "KEY_RING_NOT_FOUND_ERR");
    safe.ask("PATCH", &path, &json!({"keyRingID": "blue"})).expect(200);
    safe.ask("DELETE", &path, &Value::Null).expect(204);
    refused(ring("DELETE", "blue"), 409, "KEY_RING_NOT_EMPTY_ERR");
    ring("DELETE", "blue?force=true").expect(204);
    assert_eq!(resource_of(&safe.get(&path))["keyRingID"], "default");
    refused(ring("DELETE", "blue"), 404, "KEY_RING_NOT_FOUND_ERR");
    refused(ring("DELETE", "default"), 400, "INVALID_QUERY_PARAM_ERR");
    for count in 0..49 {
        ring("POST", &format!("ring-{count}")).expect(201);
    }
    refused(ring("POST", "one-more"), 409, "KEY_RING_QUOTA_ERR");
}

#[test]
fn versions_come_in_pages() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    for _ in 0..4 {
        safe.wait_s(3700);
        safe.act(&key, "rotate", &Value::Null).expect(204);
    }
    let versions = |query: &str| {
        let list = body(&safe.get(&format!("/keys/{key}/versions{query}")).expect(200));
        assert!(list["metadata"].get("totalCount").is_none());
        list["resources"].as_array().unwrap().clone()
    };
    let all = versions("");
    assert_eq!(all.len(), 5);
    assert!(all.windows(2).all(|two| two[0]["creationDate"].as_str() > two[1]["creationDate"].as_str()));
    assert_eq!(versions("?limit=2&offset=3"), all[3..]);
    refused(safe.get(&format!("/keys/{key}/versions?limit=0")), 400, "INVALID_QUERY_PARAM_ERR");
    safe.act(&key, "disable", &Value::Null).expect(204);
    refused(safe.get(&format!("/keys/{key}/versions")), 409, "KEY_ACTION_INVALID_STATE_ERR");
    assert_eq!(versions("?allKeyStates=true"), all);
}
