//! Moves objects and does nothing else: `coffer-bare-transfer fetch|send URL DIRECTORY [AT-ONCE]`.
//!
//! What a backup or a restore may be held against: the same objects, by the same client of S3, so many at once (32), without reading,
//! cutting, compressing or sealing anything. It is no bound: a restore may ask for parts of objects, and so for more at once. `fetch` writes every object below the URL into files of the directory, `send` creates
//! an object for each file. The keys come from where the tools of AWS look. Prints a line of JSON.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use coffer_store::{
    AwsSettings, Credentials, Location, ObjectKey, ObjectStore, PutOutcome, RetryPolicy, RetryStore,
    S3Options, S3Store,
};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (direction, url, directory, at_once) = match arguments.as_slice() {
        [direction, url, directory] => (direction, url, directory, 32),
        [direction, url, directory, at_once] => {
            (direction, url, directory, at_once.parse().context("AT-ONCE is a number")?)
        }
        _ => bail!("usage: coffer-bare-transfer fetch|send URL DIRECTORY [AT-ONCE]"),
    };
    let store = open(url)?;
    let directory = Path::new(directory);
    let begun = Instant::now();
    let lens = match direction.as_str() {
        "fetch" => fetch(&store, directory, at_once)?,
        "send" => send(&store, directory, at_once)?,
        other => bail!("{other} is neither fetch nor send"),
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({ "objects": lens.len(), "bytes": lens.iter().sum::<u64>(), "seconds": seconds, "at_once": at_once })
    );
    Ok(())
}

fn open(url: &str) -> Result<RetryStore<S3Store>> {
    let Location::S3(location) = Location::parse(url)? else { bail!("{url} is no bucket") };
    let found = AwsSettings::find(None, &|name| std::env::var(name).ok())?;
    let keys = found.keys.with_context(|| format!("no keys in {}", found.looked_in))?;
    let mut options = S3Options::new(Credentials::Keys(keys));
    options.use_proxies = false;
    Ok(RetryStore::new(S3Store::open(location, &options)?, RetryPolicy::remote(), 1))
}

fn fetch(store: &dyn ObjectStore, directory: &Path, at_once: usize) -> Result<Vec<u64>> {
    let mut items = Vec::new();
    store.list("", None, &mut |item| {
        items.push((item.name, item.len));
        ControlFlow::Continue(())
    })?;
    side_by_side(&items, at_once, |(name, len)| {
        let mut bytes = Vec::new();
        store.read(&ObjectKey::new(name.as_str())?, *len, &mut bytes)?;
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, &bytes)?;
        Ok(*len)
    })
}

fn send(store: &dyn ObjectStore, directory: &Path, at_once: usize) -> Result<Vec<u64>> {
    let mut files = Vec::new();
    files_below(directory, &mut files)?;
    side_by_side(&files, at_once, |path| {
        let name = path.strip_prefix(directory)?.to_str().context("names are text")?;
        let bytes = Arc::new(fs::read(path)?);
        let outcome = store.put_shared_if_absent(&ObjectKey::new(name)?, &bytes)?;
        if outcome != PutOutcome::Created {
            bail!("{name} is there already");
        }
        Ok(bytes.len() as u64)
    })
}

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Does `work` for all items in `thread_count` threads.
fn side_by_side<T: Sync>(
    items: &[T],
    thread_count: usize,
    work: impl Fn(&T) -> Result<u64> + Sync,
) -> Result<Vec<u64>> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(work(item)?);
        }
        Ok(done)
    };
    let parts: Vec<Result<Vec<u64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..thread_count).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let parts: Vec<Vec<u64>> = parts.into_iter().collect::<Result<_>>()?;
    Ok(parts.concat())
}
