//! An object that is large enough to go in parts, under every fault at every request.

use coffer_store::{ObjectKey, ObjectStore, PutOutcome};
use coffer_testkit::proxy::{NetworkFault, RequestKind};

use super::cloud::Cloud;
use crate::support::noise;

const LEN: usize = 11 << 20;

#[test]
fn an_object_in_parts_is_there_whole_or_not_at_all() {
    let cloud = Cloud::start();
    let body = noise(1, LEN);
    let key = ObjectKey::new("packs/large").unwrap();
    let proxy = cloud.proxy();
    let put = |prefix: &str| cloud.store_behind(&proxy, prefix).put_if_absent(&key, &body);
    assert_eq!(put("fair").unwrap(), PutOutcome::Created);
    let request_count = proxy.request_count();
    let totals = proxy.totals();
    assert_eq!(totals[&RequestKind::Part].request_count, 3, "{totals:?}");
    assert_eq!(totals[&RequestKind::CompleteParts].request_count, 1, "{totals:?}");
    let faults = [
        NetworkFault::SlowDown { retry_after_s: None },
        NetworkFault::ExpiredToken { status: 403 },
        NetworkFault::ResetRequest,
        NetworkFault::ResetAnswer,
        NetworkFault::LoseReply,
    ];
    for fault in faults {
        for index in 0..request_count {
            for is_forever in [false, true] {
                let context = format!("{fault:?} at {index}, for ever: {is_forever}");
                let prefix = format!("case-{index}");
                proxy.set_plan(move |request| {
                    let is_met = request.index == index || is_forever && request.index > index;
                    is_met.then_some(fault)
                });
                let outcome = put(&prefix);
                let store = cloud.store(&prefix);
                let mut found = Vec::new();
                let is_there = match store.read(&key, LEN as u64, &mut found) {
                    Ok(()) => true,
                    Err(error) => {
                        assert!(error.is_not_found(), "{context}: {error}");
                        false
                    }
                };
                assert!(!is_there || found == body, "{context}: there in part");
                assert!(is_there || outcome.is_err(), "{context}: acknowledged and not there");
                if !is_forever && !matches!(fault, NetworkFault::ExpiredToken { .. }) {
                    assert_eq!(outcome.unwrap(), PutOutcome::Created, "{context}");
                }
                store.put_if_absent(&key, &body).unwrap();
                store.read(&key, LEN as u64, &mut found).unwrap();
                assert!(found == body, "{context}: after a second attempt");
                store.delete(&key).unwrap();
            }
        }
    }
}
