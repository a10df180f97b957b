//! Finding out what a store really does.
//!
//! A vault's safety rests on the conditional create: stores exist that accept the condition and ignore it. [`probe`]
//! tries every promise of [`ObjectStore`] on objects of its own, under a name nobody else uses, and removes them
//! afterwards. It proves a breach, never the absence of one: a race that no attempt hit stays unseen.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::{
    BucketFacts, CloudStore, Fact, ItemKind, ObjectKey, ObjectStore, PutOutcome, StoreError, UploadFacts,
    Versioning,
};

mod bucket;
mod uploads;

/// Threads that race for one name.
const RACE_THREADS_COUNT: usize = 16;

/// Races run, each for a fresh name.
const RACE_ROUNDS_COUNT: usize = 4;

/// Length in bytes of the objects that a probe writes.
const BODY_LEN: usize = 4096;

const CREATE: &str = "create-if-absent";
const CREATE_RACE: &str = "create-if-absent in a race";
const CREATE_PARTS: &str = "create-if-absent in parts";
const CREATE_PARTS_RACE: &str = "create-if-absent in parts, in a race";
const OLDEST: &str = "oldest version in a race";
const DELETION: &str = "deletion";

/// One promise and whether it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeCheck {
    /// What was tried.
    pub name: &'static str,
    /// Whether the store did what it must.
    pub is_passed: bool,
    /// Whether it could be tried: a store that cannot be reached, or does not let us in, breaks no promise.
    pub is_tried: bool,
    /// What was seen.
    pub detail: String,
}

/// What a bucket is set to, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFact {
    /// What was asked.
    pub name: &'static str,
    /// What the store said.
    pub found: String,
    /// What that means for a vault there, in plain words.
    pub consequence: String,
}

/// How several writers can share a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Support {
    /// By creating what is not there: the store lets exactly one succeed.
    ConditionalCreate,
    /// By versions: the oldest of a name counts.
    OldestVersion,
    /// Not at all.
    SingleWriter,
}

/// What a probe found.
#[derive(Debug)]
pub struct ProbeReport {
    /// Every check, in the order they were made; those behind one that could not be tried are not there.
    pub checks: Vec<ProbeCheck>,
    /// Why not everything was tried. What was not is not known, which is not the same as broken.
    pub untried: Option<StoreError>,
    /// What the bucket is set to, if it is one.
    pub facts: Vec<ProbeFact>,
    /// The same as the store told it.
    pub bucket: Option<BucketFacts>,
    /// Which checksums the bucket takes with uploads, as far as it was tried. The store makes use of it already.
    pub uploads: UploadFacts,
    /// Names of probe objects that may be left in the store, as under a lock.
    pub leftovers: Vec<String>,
}

impl ProbeReport {
    /// Whether creation made exactly one object each time, alone and in a race. Only then can several writers share the
    /// store.
    #[must_use]
    pub fn can_trust_conditional_create(&self) -> bool {
        let parts = [CREATE_PARTS, CREATE_PARTS_RACE];
        [CREATE, CREATE_RACE].iter().all(|name| self.has_passed(name))
            && (self.bucket.is_none() || parts.iter().all(|name| self.has_passed(name)))
    }

    /// How several writers can share the store.
    #[must_use]
    pub fn support(&self) -> Support {
        if self.can_trust_conditional_create() {
            Support::ConditionalCreate
        } else if self.has_passed(OLDEST) {
            Support::OldestVersion
        } else {
            Support::SingleWriter
        }
    }

    /// Whether all is well that a vault needs whose writers share the store in that way.
    #[must_use]
    pub fn is_enough_for(&self, support: Support) -> bool {
        let is_shared = match support {
            Support::ConditionalCreate => self.can_trust_conditional_create(),
            Support::OldestVersion => self.has_passed(OLDEST),
            Support::SingleWriter => true,
        };
        let mut needed = self.checks.iter().filter(|check| is_needed(check.name, support));
        self.untried.is_none() && is_shared && needed.all(|check| check.is_passed)
    }

    /// Whether it was seen that the store does not do what such a vault needs. What could not be tried proves nothing.
    #[must_use]
    pub fn is_broken_for(&self, support: Support) -> bool {
        let was_broken =
            |check: &ProbeCheck| check.is_tried && !check.is_passed && is_needed(check.name, support);
        let has_no_versions =
            matches!(self.versioning(), Some(Fact::Known(Versioning::Off | Versioning::Suspended)));
        self.checks.iter().any(was_broken) || (support == Support::OldestVersion && has_no_versions)
    }

    /// Whether the bucket keeps versions; `None` if it is no bucket, or none that answers.
    #[must_use]
    pub fn versioning(&self) -> Option<&Fact<Versioning>> {
        self.bucket.as_ref().map(|bucket| &bucket.versioning)
    }

    /// Whether it was seen that a creation is not exclusive.
    #[must_use]
    pub fn is_condition_broken(&self) -> bool {
        let of_condition = [CREATE, CREATE_RACE, CREATE_PARTS, CREATE_PARTS_RACE];
        self.broken().any(|check| of_condition.contains(&check.name))
    }

    /// The checks that were tried and failed.
    pub fn broken(&self) -> impl Iterator<Item = &ProbeCheck> {
        self.checks.iter().filter(|check| check.is_tried && !check.is_passed)
    }

    fn has_passed(&self, name: &str) -> bool {
        let mut checks = self.checks.iter().filter(|check| check.name == name).peekable();
        checks.peek().is_some() && checks.all(|check| check.is_passed)
    }

    /// Whether every check passed.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.checks.iter().all(|check| check.is_passed)
    }
}

/// Whether a vault whose writers share the store in that way needs what a check tries.
fn is_needed(name: &str, support: Support) -> bool {
    match support {
        Support::ConditionalCreate => name != OLDEST,
        // Where it is not relied on, the condition may do what it likes; so may a deletion that leaves a version.
        Support::OldestVersion => {
            ![CREATE, CREATE_RACE, CREATE_PARTS, CREATE_PARTS_RACE, DELETION].contains(&name)
        }
        Support::SingleWriter => {
            ![CREATE, CREATE_RACE, CREATE_PARTS, CREATE_PARTS_RACE, DELETION, OLDEST].contains(&name)
        }
    }
}

/// Tries what `store` does, on objects under `probe/<hex>/`, the hex being derived from `seed`.
///
/// `seed` must be random and used once: another probe with the same seed would meet this one's objects. A failing call
/// makes its check fail and is told in the detail; one that says nothing of what the store does, such as a denied access, also
/// ends the trials. A store that denies deletion passes, with its objects named as leftovers; so does one that keeps versions
/// and denies the deletion of these.
///
/// Of a bucket it also finds out which checksums uploads may bring, and has the store make use of that
/// ([`CloudStore::learn_uploads`]).
pub fn probe(store: &dyn ObjectStore, seed: &[u8; 32]) -> ProbeReport {
    let mut run = Run { store, seed, checks: Vec::new(), untried: None, written: Vec::new() };
    run.check(CREATE, Run::create);
    run.check(CREATE_RACE, Run::create_race);
    run.check("read after write", Run::read_after_write);
    run.check("ranges", Run::ranges);
    run.check("length", Run::length);
    run.check("listing", Run::listing);
    run.check(DELETION, Run::deletion);
    let bucket = store.cloud().and_then(|cloud| run.bucket(cloud));
    let mut facts = bucket.as_ref().map(bucket::consequences).unwrap_or_default();
    let (uploads, of_uploads) = store.cloud().map(|cloud| run.uploads(cloud)).unwrap_or_default();
    facts.extend(of_uploads);
    let leftovers = run.clean_up(bucket.as_ref());
    ProbeReport { checks: run.checks, untried: run.untried, facts, bucket, uploads, leftovers }
}

/// What a check saw.
type Seen = Result<String, Wrong>;

/// Why a check did not pass.
enum Wrong {
    /// What was seen is not what a store must do.
    Seen(String),
    /// A call failed.
    Failed(StoreError),
}

impl From<String> for Wrong {
    fn from(seen: String) -> Self {
        Self::Seen(seen)
    }
}

impl From<&str> for Wrong {
    fn from(seen: &str) -> Self {
        Self::Seen(seen.to_owned())
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Wrong {
    /// The failure, if it says nothing of what the store does with what it accepts.
    fn untried(self) -> Result<StoreError, String> {
        match self {
            Self::Seen(seen) => Err(seen),
            Self::Failed(
                error @ (StoreError::Rejected { .. }
                | StoreError::Unsupported { .. }
                | StoreError::Hidden { .. }),
            ) => Err(told(&error)),
            Self::Failed(error) if error.is_of_store() => Ok(error),
            Self::Failed(error) => Err(told(&error)),
        }
    }
}

struct Run<'a> {
    store: &'a dyn ObjectStore,
    seed: &'a [u8; 32],
    checks: Vec<ProbeCheck>,
    /// The failure after which nothing more is tried.
    untried: Option<StoreError>,
    written: Vec<ObjectKey>,
}

impl Run<'_> {
    /// Makes a check, unless one before it could not be tried: the next would say the same.
    fn check(&mut self, name: &'static str, check: impl FnOnce(&mut Self) -> Seen) {
        if self.untried.is_none() {
            let seen = check(self);
            self.note(name, seen);
        }
    }

    fn note(&mut self, name: &'static str, seen: Seen) {
        let (is_passed, is_tried, detail) = match seen.map_err(Wrong::untried) {
            Ok(detail) => (true, true, detail),
            Err(Err(detail)) => (false, true, detail),
            Err(Ok(error)) => {
                let detail = told(&error);
                self.untried = Some(error);
                (false, false, detail)
            }
        };
        self.checks.push(ProbeCheck { name, is_passed, is_tried, detail });
    }

    fn create(&mut self) -> Seen {
        let key = self.key("create")?;
        let (first, second) = (self.body("create 1"), self.body("create 2"));
        match self.store.put_if_absent(&key, &first)? {
            PutOutcome::Created => {}
            PutOutcome::AlreadyExists => return Err("a new name was said to exist".into()),
        }
        let outcome = self.store.put_if_absent(&key, &second)?;
        let found = self.read(&key)?;
        if found != first {
            return Err("a second create replaced the object: the store ignores the condition".into());
        }
        if outcome == PutOutcome::Created {
            return Err("a second create was said to have created the object".into());
        }
        Ok("the second create was refused and changed nothing".to_owned())
    }

    fn create_race(&mut self) -> Seen {
        for round in 0..RACE_ROUNDS_COUNT {
            let key = self.key(&format!("race-{round}"))?;
            let bodies: Vec<Vec<u8>> =
                (0..RACE_THREADS_COUNT).map(|thread| self.body(&format!("race {round} {thread}"))).collect();
            let mut winners = Vec::new();
            for (thread, outcome) in race(self.store, &key, &bodies).into_iter().enumerate() {
                match outcome {
                    Ok(PutOutcome::Created) => winners.push(thread),
                    Ok(PutOutcome::AlreadyExists) => {}
                    Err(wrong) => return Err(wrong),
                }
            }
            let found = self.read(&key)?;
            match winners[..] {
                [winner] if found == bodies[winner] => {}
                [_] => {
                    return Err(
                        format!("in round {round} the object does not hold the winner's bytes").into()
                    );
                }
                _ => {
                    let count = winners.len();
                    return Err(format!(
                        "in round {round}, {count} of {RACE_THREADS_COUNT} creates won instead of one"
                    )
                    .into());
                }
            }
        }
        Ok(format!("one of {RACE_THREADS_COUNT} creates won in each of {RACE_ROUNDS_COUNT} rounds"))
    }

    fn read_after_write(&mut self) -> Seen {
        let key = self.key("read")?;
        match self.store.stat(&key) {
            Err(error) if error.is_not_found() => {}
            Ok(_) => return Err("an object that was never written is there".into()),
            Err(error) => return Err(error.into()),
        }
        let body = self.body("read");
        self.write(&key, &body)?;
        if self.read(&key)? != body {
            return Err("other bytes were read than were written".into());
        }
        let empty = self.key("read-empty")?;
        self.write(&empty, &[])?;
        if !self.read(&empty)?.is_empty() {
            return Err("an empty object gave bytes".into());
        }
        Ok("objects were there at once, with their bytes".to_owned())
    }

    fn ranges(&mut self) -> Seen {
        let key = self.key("ranges")?;
        let body = self.body("ranges");
        self.write(&key, &body)?;
        let ranges: [Range<usize>; 4] = [0..1, 0..BODY_LEN, 1000..3000, BODY_LEN - 1..BODY_LEN];
        for range in ranges {
            let mut out = vec![0; range.len()];
            self.store.read_range(&key, range.start as u64, &mut out)?;
            if out != body[range.clone()] {
                return Err(format!("bytes {} to {} are not those written", range.start, range.end).into());
            }
        }
        match self.store.read_range(&key, BODY_LEN as u64 - 1, &mut [0; 2]) {
            Err(StoreError::Truncated { .. }) => {
                Ok("ranges gave their bytes, and one past the end was refused".to_owned())
            }
            Err(error) => Err(error.into()),
            Ok(()) => Err("a range past the end was filled".into()),
        }
    }

    fn length(&mut self) -> Seen {
        let key = self.key("length")?;
        let body = self.body("length");
        self.write(&key, &body)?;
        match self.store.stat(&key)?.len {
            len if len == body.len() as u64 => Ok("the length is the one written".to_owned()),
            len => Err(format!("the length is told as {len} bytes, {} were written", body.len()).into()),
        }
    }

    fn listing(&mut self) -> Seen {
        let prefix = self.prefix();
        let mut listed = Vec::new();
        self.store.list(&prefix, None, &mut |item| {
            listed.push((item.name, item.kind));
            ControlFlow::Continue(())
        })?;
        for key in &self.written {
            // A key is noted before it is written, so a failed check may have left it absent.
            let is_there = self.store.stat(key).is_ok();
            let is_listed =
                listed.iter().any(|(name, kind)| name == key.as_str() && *kind == ItemKind::Object);
            if is_there != is_listed {
                let state = if is_there { "not shown" } else { "shown but absent" };
                return Err(format!("{key} is {state}").into());
            }
        }
        match listed.iter().find(|(name, _)| !name.starts_with(&prefix)) {
            Some((name, _)) => Err(format!("{name} is shown though it is outside the prefix").into()),
            None => Ok(format!("{} objects were shown", listed.len())),
        }
    }

    fn deletion(&mut self) -> Seen {
        let key = self.key("delete")?;
        let body = self.body("delete");
        self.write(&key, &body)?;
        match self.store.delete(&key) {
            Ok(()) => {}
            Err(StoreError::Denied { .. }) => return Ok("the store denies deletion".to_owned()),
            Err(error) => return Err(error.into()),
        }
        match self.store.stat(&key) {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("a deleted object is still there".into()),
        }
        // What is absent already is deleted without complaint.
        self.store.delete(&key)?;
        Ok("a deleted object is gone".to_owned())
    }

    /// Removes what was written; returns the names that may be left.
    fn clean_up(&self, bucket: Option<&BucketFacts>) -> Vec<String> {
        if self.has_written_nothing() {
            return Vec::new();
        }
        let versioning = bucket.and_then(|bucket| bucket.versioning.known());
        if let Some(cloud) = self.store.cloud().filter(|_| versioning != Some(&Versioning::Off))
            && let Ok(left) = self.remove_versions(cloud)
        {
            return left;
        }
        let keeps_versions = matches!(versioning, Some(Versioning::On | Versioning::Suspended));
        let left = self.written.iter().filter(|key| {
            let is_absent = || matches!(self.store.stat(key), Err(error) if error.is_not_found());
            let was_there = !keeps_versions || !is_absent();
            let is_deleted = self.store.delete(key).is_ok();
            // What was deleted there is hidden, and stays.
            if keeps_versions { was_there } else { !is_deleted && !is_absent() }
        });
        left.map(ToString::to_string).collect()
    }

    /// Whether nothing came through to the store.
    fn has_written_nothing(&self) -> bool {
        let is_first = self.checks.iter().all(|check| !check.is_tried);
        let is_outside = |error: &StoreError| {
            matches!(
                error,
                StoreError::Unreachable { .. }
                    | StoreError::Tls { .. }
                    | StoreError::NotS3 { .. }
                    | StoreError::NoBucket { .. }
                    | StoreError::WrongRegion { .. }
                    | StoreError::NoCredentials { .. }
                    | StoreError::CredentialsRefused { .. }
                    | StoreError::NoToken { .. }
                    | StoreError::Unproven { .. }
                    | StoreError::ClockSkew { .. }
            )
        };
        self.written.is_empty() || (is_first && self.untried.as_ref().is_some_and(is_outside))
    }

    /// Removes every version of what was written, and what stands for a deletion; returns the names of which some are left.
    fn remove_versions(&self, cloud: &dyn CloudStore) -> Result<Vec<String>, StoreError> {
        let mut versions = Vec::new();
        cloud.versions(&self.prefix(), &mut |version| {
            versions.push((version.name, version.version_id));
            ControlFlow::Continue(())
        })?;
        let mut left = BTreeSet::new();
        for (name, version_id) in versions {
            let Some(key) = self.written.iter().find(|key| key.as_str() == name) else { continue };
            if cloud.delete_version(key, &version_id).is_err() {
                left.insert(name);
            }
        }
        Ok(left.into_iter().collect())
    }

    fn prefix(&self) -> String {
        let hash = blake3::derive_key("coffer store probe name v1", self.seed);
        let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("probe/{hex}/")
    }

    /// The key of the probe object `name`, noted for removal.
    fn key(&mut self, name: &str) -> Result<ObjectKey, StoreError> {
        let key = ObjectKey::new(self.prefix() + name)?;
        self.written.push(key.clone());
        Ok(key)
    }

    /// Bytes that differ for every `label` and every probe.
    fn body(&self, label: &str) -> Vec<u8> {
        let mut body = vec![0; BODY_LEN];
        blake3::Hasher::new_keyed(self.seed).update(label.as_bytes()).finalize_xof().fill(&mut body);
        body
    }

    /// Writes a new object, without the condition where the store refuses that outright: that is a finding of its own.
    fn write(&self, key: &ObjectKey, body: &[u8]) -> Result<(), StoreError> {
        match (self.store.put_if_absent(key, body), self.store.cloud()) {
            (Err(StoreError::Unsupported { .. }), Some(cloud)) => {
                cloud.put_unconditional(key, body, None).map(drop)
            }
            (written, _) => written.map(drop),
        }
    }

    fn read(&self, key: &ObjectKey) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::new();
        self.store.read(key, BODY_LEN as u64, &mut out)?;
        Ok(out)
    }
}

/// Lets one thread per body create `key` at once; gives each thread's outcome.
fn race(store: &dyn ObjectStore, key: &ObjectKey, bodies: &[Vec<u8>]) -> Vec<Result<PutOutcome, Wrong>> {
    race_with(bodies, |body| Ok(store.put_if_absent(key, body)?))
}

/// Lets one thread per body do `work` at once; gives each thread's outcome.
fn race_with<R: Send>(
    bodies: &[Vec<u8>],
    work: impl Fn(&[u8]) -> Result<R, Wrong> + Sync,
) -> Vec<Result<R, Wrong>> {
    let is_open = Mutex::new(false);
    let opened = Condvar::new();
    let run = |body: &[u8]| {
        let gate = is_open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(opened.wait_while(gate, |is_open| !*is_open).unwrap_or_else(PoisonError::into_inner));
        work(body)
    };
    let run = &run;
    std::thread::scope(|scope| {
        let start = |body| std::thread::Builder::new().spawn_scoped(scope, move || run(body));
        let threads: Vec<_> = bodies.iter().map(|body| start(body)).collect();
        *is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        opened.notify_all();
        let finish =
            |thread: std::io::Result<std::thread::ScopedJoinHandle<'_, Result<R, Wrong>>>| match thread {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err("a create panicked".into())),
                Err(error) => Err(StoreError::from_io("a race of threads", "the probe", error).into()),
            };
        threads.into_iter().map(finish).collect()
    })
}

/// An error with its causes, as a detail shows it.
fn told(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
