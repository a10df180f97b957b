//! What a probe finds out of a bucket beside what every store promises, and what follows from it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{
    CREATE_PARTS, CREATE_PARTS_RACE, OLDEST, ProbeFact, RACE_THREADS_COUNT, Run, Seen, Wrong, race_with,
};
use crate::{BucketFacts, CloudStore, Fact, ObjectKey, PutOutcome, RetentionMode, StoreError, Versioning};

/// Versions written one after the other.
const ORDER_COUNT: usize = 4;

impl Run<'_> {
    /// Asks what the bucket is set to, and tries what follows from that. Who may not write may still ask.
    pub(super) fn bucket(&mut self, cloud: &dyn CloudStore) -> Option<BucketFacts> {
        let may_answer = self.untried.as_ref().is_none_or(|error| matches!(error, StoreError::Denied { .. }));
        if !may_answer {
            return None;
        }
        let facts = match cloud.bucket_facts() {
            Ok(facts) => facts,
            Err(error) => {
                self.check("settings of the bucket", |_| Err(error.into()));
                return None;
            }
        };
        self.check(CREATE_PARTS, |run| run.create_parts(cloud));
        self.check(CREATE_PARTS_RACE, |run| run.create_parts_race(cloud));
        if facts.versioning.known() == Some(&Versioning::On) {
            self.check(OLDEST, |run| run.oldest_wins(cloud));
        }
        Some(facts)
    }

    fn create_parts(&mut self, cloud: &dyn CloudStore) -> Seen {
        let key = self.key("parts")?;
        let (first, second) = (self.body("parts 1"), self.body("parts 2"));
        if cloud.put_if_absent_in_parts(&key, &first)? == PutOutcome::AlreadyExists {
            return Err("a new name was said to exist".into());
        }
        let outcome = cloud.put_if_absent_in_parts(&key, &second)?;
        if self.read(&key)? != first {
            return Err(
                "a second upload in parts replaced the object: the store ignores the condition".into()
            );
        }
        if outcome == PutOutcome::Created {
            return Err("a second upload in parts was said to have created the object".into());
        }
        Ok("the second upload was refused and changed nothing".to_owned())
    }

    fn create_parts_race(&mut self, cloud: &dyn CloudStore) -> Seen {
        let key = self.key("parts-race")?;
        let bodies: Vec<_> =
            (0..RACE_THREADS_COUNT).map(|thread| self.body(&format!("parts race {thread}"))).collect();
        let outcomes = race_with(&bodies, |body| Ok(cloud.put_if_absent_in_parts(&key, body)?));
        let mut winners = Vec::new();
        for (thread, outcome) in outcomes.into_iter().enumerate() {
            if outcome? == PutOutcome::Created {
                winners.push(thread);
            }
        }
        let found = self.read(&key)?;
        match winners[..] {
            [winner] if found == bodies[winner] => Ok(format!("one of {RACE_THREADS_COUNT} uploads won")),
            [_] => Err("the object does not hold the winner's bytes".into()),
            _ => Err(format!("{} of {RACE_THREADS_COUNT} uploads won instead of one", winners.len()).into()),
        }
    }

    /// Every writer must see the same oldest version, and it must be that of one of them.
    fn oldest_wins(&mut self, cloud: &dyn CloudStore) -> Seen {
        let key = self.key("oldest")?;
        let bodies: Vec<_> =
            (0..RACE_THREADS_COUNT).map(|thread| self.body(&format!("oldest {thread}"))).collect();
        let written = race_with(&bodies, |body| {
            let id = cloud.put_unconditional(&key, body, None)?;
            let id = id.ok_or("the store gives no id of the version that it made")?;
            Ok((id, oldest(cloud, &key)?))
        });
        let (mut ids, mut oldest_seen) = (BTreeSet::new(), BTreeSet::new());
        for written in written {
            let (id, oldest) = written?;
            ids.insert(id);
            oldest_seen.insert(oldest);
        }
        oldest_seen.insert(oldest(cloud, &key)?);
        self.versions_in_order(cloud)?;
        match oldest_seen.iter().next() {
            _ if ids.len() != RACE_THREADS_COUNT => Err("versions share an id".into()),
            Some(one) if oldest_seen.len() == 1 && ids.contains(one) => {
                Ok(format!("{RACE_THREADS_COUNT} writers saw the same oldest version"))
            }
            _ => {
                Err(format!("{RACE_THREADS_COUNT} writers saw {} oldest versions", oldest_seen.len()).into())
            }
        }
    }
}

impl Run<'_> {
    /// What is written one after the other must be listed so, the newest first, however close the times are.
    fn versions_in_order(&mut self, cloud: &dyn CloudStore) -> Result<(), Wrong> {
        let key = self.key("order")?;
        let mut written = Vec::new();
        for number in 0..ORDER_COUNT {
            let body = self.body(&format!("order {number}"));
            let id = cloud.put_unconditional(&key, &body, None)?;
            written.insert(0, id.ok_or("the store gives no id of the version that it made")?);
        }
        let mut listed = Vec::new();
        cloud.versions(key.as_str(), &mut |version| {
            if version.name == key.as_str() && !version.is_delete_marker {
                listed.push(version.version_id);
            }
            ControlFlow::Continue(())
        })?;
        if listed == written { Ok(()) } else { Err("versions are not listed newest first".into()) }
    }
}

fn oldest(cloud: &dyn CloudStore, key: &ObjectKey) -> Result<String, Wrong> {
    let mut oldest = None;
    cloud.versions(key.as_str(), &mut |version| {
        if version.name == key.as_str() && !version.is_delete_marker {
            oldest = Some(version.version_id);
        }
        ControlFlow::Continue(())
    })?;
    oldest.ok_or_else(|| "the versions do not show what was just written".into())
}

/// What the bucket is set to, each with what it means for a vault in it.
pub(super) fn consequences(facts: &BucketFacts) -> Vec<ProbeFact> {
    let location = fact("location", &facts.location, |location| {
        (location.clone(), "where the bytes are kept".to_owned())
    });
    let versions = fact("versions", &facts.versioning, |versioning| {
        let (found, consequence) = match versioning {
            Versioning::On => (
                "kept",
                "what is overwritten or deleted can be read again: --as-of TIME opens the bucket as it was",
            ),
            Versioning::Suspended => (
                "no longer kept",
                "what is overwritten or deleted from now on is lost; turn versions on again",
            ),
            Versioning::Off => ("not kept", "what is overwritten or deleted is lost at once"),
        };
        (found.to_owned(), consequence.to_owned())
    });
    let lock = fact("object lock", &facts.object_lock, |lock| match lock {
        None => (
            "none".to_owned(),
            "objects cannot be locked one by one; it needs a bucket made for it".to_owned(),
        ),
        Some(lock) => {
            let default = lock.default.map_or_else(String::new, |(mode, days)| {
                let mode = if mode == RetentionMode::Compliance { "compliance" } else { "governance" };
                format!(", {days} day(s) of {mode} by default")
            });
            let consequence =
                "`coffer policy set --lock compliance --lock-days DAYS` (or governance) locks what is stored";
            (format!("available{default}"), consequence.to_owned())
        }
    });
    let protection = fact("retention policy", &facts.protection, |protection| {
        match protection {
        None => ("none".to_owned(), "the bucket itself protects nothing".to_owned()),
        Some(policy) => (
            format!("{} to {} day(s), {} by default", policy.minimum_days, policy.maximum_days, policy.default_days),
            "`coffer policy set --lock policy --lock-days DAYS` retains what is stored; such a bucket keeps no versions, \
             so --as-of is not to be had"
                .to_owned(),
        ),
    }
    });
    let root_key = fact("root key", &facts.root_key, |key| match key {
        None => {
            ("the provider's own".to_owned(), "the bucket opens without a key service of yours".to_owned())
        }
        Some(key) => (
            key.clone(),
            "whoever disables this key takes the bucket away: keep key slots that do not hang on it"
                .to_owned(),
        ),
    });
    vec![location, versions, lock, protection, root_key]
}

fn fact<T>(name: &'static str, fact: &Fact<T>, say: impl FnOnce(&T) -> (String, String)) -> ProbeFact {
    let (found, consequence) = match fact {
        Fact::Known(value) => say(value),
        Fact::Unknown(reason) => {
            (format!("not known ({reason})"), "ask with credentials that may see it".to_owned())
        }
    };
    ProbeFact { name, found, consequence }
}
