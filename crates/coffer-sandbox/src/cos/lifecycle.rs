//! Lifecycle rules, and the sweep that carries out what they expire.

use redb::ReadableTable;
use s3s::dto::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, DeleteBucketLifecycleInput,
    DeleteBucketLifecycleOutput, ExpirationStatus, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    NoncurrentVersionExpiration, PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput,
    Transition, TransitionStorageClass,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::archive;
use super::buckets::update;
use super::model::{Bucket, Rule, Upload, Version};
use super::multipart;
use super::service::Service;
use super::store::{Change, Condition};
use super::text::{invalid, refuse};
use crate::clock::{DAY_MS, Millis};
use crate::records::{BUCKETS, OrInternal, Records, UPLOADS, VERSIONS, decode};
use crate::region::Region;

/// Rules of one bucket, at most.
const RULE_COUNT_MAX: usize = 1000;

impl Service {
    pub(super) async fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let bucket = self.bucket(&request.input.bucket)?;
        if bucket.lifecycle.is_empty() {
            return Err(refuse(
                S3ErrorCode::NoSuchLifecycleConfiguration,
                "The lifecycle configuration does not exist",
            ));
        }
        let rules = Some(bucket.lifecycle.iter().map(shown).collect());
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput { rules, ..Default::default() }))
    }

    pub(super) async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let rules = input.lifecycle_configuration.map(read).transpose()?.unwrap_or_default();
        update(self.region.records(), &input.bucket, |bucket| {
            bucket.lifecycle = rules;
            Ok(())
        })?;
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    }

    pub(super) async fn delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        let name = request.input.bucket;
        self.bucket(&name)?;
        update(self.region.records(), &name, |bucket| {
            bucket.lifecycle.clear();
            Ok(())
        })?;
        Ok(S3Response::new(DeleteBucketLifecycleOutput {}))
    }
}

fn read(configuration: BucketLifecycleConfiguration) -> S3Result<Vec<Rule>> {
    if configuration.rules.len() > RULE_COUNT_MAX {
        return invalid(format!("a lifecycle has at most {RULE_COUNT_MAX} rules"));
    }
    let rules: Vec<Rule> =
        configuration.rules.into_iter().enumerate().map(read_rule).collect::<S3Result<_>>()?;
    if rules.iter().filter(|rule| rule.transition.is_some()).count() > 1 {
        return invalid("a lifecycle has at most one transition");
    }
    Ok(rules)
}

fn days(days: Option<i32>) -> S3Result<u32> {
    match days.and_then(|days| u32::try_from(days).ok()) {
        Some(days) => Ok(days),
        None => invalid("a rule counts in days"),
    }
}

fn read_rule((position, rule): (usize, LifecycleRule)) -> S3Result<Rule> {
    let prefix = rule.filter.and_then(|filter| filter.prefix).or(rule.prefix).unwrap_or_default();
    let transitions = rule.transitions.unwrap_or_default();
    let transition = match transitions.as_slice() {
        [] => None,
        [Transition { days: count, storage_class, .. }] => {
            Some((days(*count)?, archive::transition_class(storage_class.as_ref())?))
        }
        _ => return invalid("a lifecycle has at most one transition"),
    };
    if transition.is_some() && !prefix.is_empty() {
        return invalid("a transition is for all objects: its prefix is empty");
    }
    let noncurrent = rule.noncurrent_version_expiration.map(|expiration| days(expiration.noncurrent_days));
    let abort = rule.abort_incomplete_multipart_upload.map(|abort| days(abort.days_after_initiation));
    Ok(Rule {
        id: rule.id.unwrap_or_else(|| format!("rule-{position}")),
        is_enabled: rule.status.as_str() == ExpirationStatus::ENABLED,
        prefix,
        transition,
        expiration_days: rule.expiration.map(|expiration| days(expiration.days)).transpose()?,
        noncurrent_days: noncurrent.transpose()?,
        abort_days: abort.transpose()?,
    })
}

fn shown(rule: &Rule) -> LifecycleRule {
    let count = |days: u32| i32::try_from(days).ok();
    let status = if rule.is_enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    LifecycleRule {
        id: Some(rule.id.clone()),
        status: ExpirationStatus::from_static(status),
        filter: Some(LifecycleRuleFilter { prefix: Some(rule.prefix.clone()), ..Default::default() }),
        transitions: rule.transition.as_ref().map(|(days, class)| {
            vec![Transition {
                date: None,
                days: count(*days),
                storage_class: Some(TransitionStorageClass::from(class.clone())),
            }]
        }),
        expiration: rule
            .expiration_days
            .map(|days| LifecycleExpiration { days: count(days), ..Default::default() }),
        noncurrent_version_expiration: rule
            .noncurrent_days
            .map(|days| NoncurrentVersionExpiration { noncurrent_days: count(days), ..Default::default() }),
        abort_incomplete_multipart_upload: rule
            .abort_days
            .map(|days| AbortIncompleteMultipartUpload { days_after_initiation: count(days) }),
        noncurrent_version_transitions: None,
        prefix: None,
    }
}

/// Carries out what has expired by now. What is protected stays.
pub(crate) async fn sweep(region: &Region) -> S3Result<()> {
    let now_ms = region.clock().now_ms();
    for bucket in buckets_with_rules(region.records())? {
        for rule in bucket.lifecycle.iter().filter(|rule| rule.is_enabled) {
            let orphans = expire(region.records(), &bucket, rule, now_ms)?;
            region.bodies().remove(orphans).await;
        }
    }
    Ok(())
}

fn buckets_with_rules(records: &Records) -> S3Result<Vec<Bucket>> {
    let transaction = records.read()?;
    let mut found = Vec::new();
    for row in transaction.open_table(BUCKETS).or_internal()?.iter().or_internal()? {
        let bucket: Bucket = decode(row.or_internal()?.1.value())?;
        if !bucket.lifecycle.is_empty() {
            found.push(bucket);
        }
    }
    Ok(found)
}

fn expire(records: &Records, bucket: &Bucket, rule: &Rule, now_ms: Millis) -> S3Result<Vec<String>> {
    let is_over = |since_ms: Millis, days: u32| since_ms.saturating_add(u64::from(days) * DAY_MS) <= now_ms;
    let (mut whole, mut single, mut uploads) = (Vec::new(), Vec::new(), Vec::new());
    {
        let transaction = records.read()?;
        let table = transaction.open_table(VERSIONS).or_internal()?;
        let mut newer: Option<(String, Millis)> = None;
        for row in table.range((&*bucket.name, &*rule.prefix, 0)..).or_internal()? {
            let (place, bytes) = row.or_internal()?;
            let (name, key, _) = place.value();
            if name != bucket.name || !key.starts_with(&rule.prefix) {
                break;
            }
            let version: Version = decode(bytes.value().1)?;
            // A version stops being the newest when the next one is made.
            let replaced_ms = newer.filter(|(newer_key, _)| newer_key == key).map(|(_, at_ms)| at_ms);
            newer = Some((key.to_owned(), version.created_ms));
            match replaced_ms {
                None if version.body.is_some()
                    && rule.expiration_days.is_some_and(|days| is_over(version.created_ms, days)) =>
                {
                    whole.push(key.to_owned());
                }
                Some(at_ms) if rule.noncurrent_days.is_some_and(|days| is_over(at_ms, days)) => {
                    single.push((key.to_owned(), version.id));
                }
                _ => {}
            }
        }
        let table = transaction.open_table(UPLOADS).or_internal()?;
        for row in table.range((&*bucket.name, &*rule.prefix, "")..).or_internal()? {
            let (place, bytes) = row.or_internal()?;
            let (name, key, _) = place.value();
            if name != bucket.name || !key.starts_with(&rule.prefix) {
                break;
            }
            let upload: Upload = decode(bytes.value())?;
            if rule.abort_days.is_some_and(|days| is_over(upload.created_ms, days)) {
                uploads.push((key.to_owned(), upload.id));
            }
        }
    }
    let mut orphans = Vec::new();
    let mut carry_out = |act: &dyn Fn(&mut Change) -> S3Result<()>| -> S3Result<()> {
        let mut change = Change::begin(records, &bucket.name, now_ms)?;
        match act(&mut change) {
            Ok(()) => orphans.extend(change.commit()?.orphans),
            Err(error) if *error.code() == S3ErrorCode::AccessDenied => {}
            Err(error) => return Err(error),
        }
        Ok(())
    };
    for key in &whole {
        carry_out(&|change| change.delete(key, &Condition::default()))?;
    }
    for (key, id) in &single {
        carry_out(&|change| change.delete_version(key, id, false))?;
    }
    for (key, id) in &uploads {
        orphans.extend(multipart::forget(records, &bucket.name, key, id)?);
    }
    Ok(orphans)
}
