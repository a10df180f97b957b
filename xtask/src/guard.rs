//! `cargo xtask guard`: counts that do not depend on the clock, held against a baseline that is committed.
//!
//! Each stage of `coffer-guard` runs under `valgrind --tool=callgrind` twice, prepared only and in full; the difference is what the stage itself
//! executes. Instructions are told apart: those of Rust code, those of copying (`memcpy` and its like), and those of other code,
//! which is zstd, AWS-LC, BLAKE3's assembly and the C library. Valgrind executes no AVX-512, VAES or SHA instructions and says so to the
//! program, so every x86-64 processor with AVX2 takes the same paths. What another C compiler or C library made is not compared.
//! Twice more it runs under `valgrind --tool=dhat --mode=copy`, which counts the bytes that are copied.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

const BASELINE: &str = "benches/guard/baseline.json";

/// What is counted, by how many parts in a thousand it may grow, and by how much in any case. What a copy executes depends on how source and
/// destination are aligned, and so on the length of the environment and of the program's path: more of it is allowed.
const LIMITS: &[(&str, u64, u64)] = &[
    ("rust_instructions", 50, 2000),
    ("copy_instructions", 250, 50_000),
    ("foreign_instructions", 50, 2000),
    ("copied_bytes", 30, 4096),
    ("allocation_count", 30, 8),
    ("allocated_bytes", 50, 65_536),
    ("store_call_count", 0, 2),
    ("store_read_bytes", 10, 64),
    ("store_create_bytes", 10, 64),
];

/// What depends on compilers and libraries that are not this repository's.
const OF_THE_SYSTEM: &[&str] = &["copy_instructions", "foreign_instructions"];

/// Copying without the instructions that count as one however much they copy; and long blocks from the system each time, so that it does not
/// depend on the threads' timing which of them are zero already.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824:\
glibc.malloc.mmap_threshold=65536:glibc.malloc.mmap_max=65536:glibc.malloc.arena_max=1";

type Counts = BTreeMap<String, u64>;

pub(crate) fn run(bless: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let program = build()?;
    let environment = environment(&program)?;
    let mut stages: BTreeMap<String, Counts> = BTreeMap::new();
    for stage in output(Command::new(&program).arg("list"))?.lines() {
        println!("{stage} ...");
        stages.insert(stage.to_owned(), count(&program, stage)?);
    }
    let path = root.join(BASELINE);
    if bless {
        let text = serde_json::to_string_pretty(&json!({ "environment": environment, "stages": stages }))?;
        fs::write(&path, text + "\n")?;
        println!("{BASELINE} is as measured now");
        return Ok(());
    }
    let baseline: Value =
        serde_json::from_slice(&fs::read(&path).with_context(|| format!("read {BASELINE}"))?)?;
    compare(&baseline, &environment, &stages)
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", "coffer-benches", "--bin", "coffer-guard"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(built.status.success(), "cargo build failed");
    String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "coffer-guard")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo did not say where the program is")
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn first_line(program: &str, argument: &str) -> Result<String> {
    let text = output(Command::new(program).arg(argument))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What may change counts though nothing here has changed.
fn environment(program: &Path) -> Result<Map<String, Value>> {
    let hint = "the guard needs valgrind: apt install valgrind";
    let valgrind = first_line("valgrind", "--version").context(hint)?;
    let mut under_valgrind = Command::new("valgrind");
    under_valgrind.args(["--tool=none", "--quiet"]).arg(program).arg("features");
    let mut found = Map::new();
    found.insert("valgrind".to_owned(), valgrind.into());
    found.insert("processor".to_owned(), output(&mut under_valgrind)?.trim().into());
    found.insert("rustc".to_owned(), first_line("rustc", "--version")?.into());
    found.insert("cc".to_owned(), first_line("cc", "--version")?.into());
    found.insert("libc".to_owned(), first_line("ldd", "--version")?.into());
    Ok(found)
}

fn count(program: &Path, stage: &str) -> Result<Counts> {
    let (prepared, _) = callgrind(program, "prepare", stage)?;
    let (all, said) = callgrind(program, "run", stage)?;
    let mut counts = Counts::new();
    for (name, count) in all {
        let before = prepared.get(&name).copied().unwrap_or_default();
        counts.insert(name, count.saturating_sub(before));
    }
    let copied =
        copied_bytes(program, "run", stage)?.saturating_sub(copied_bytes(program, "prepare", stage)?);
    counts.insert("copied_bytes".to_owned(), copied);
    let said: Map<String, Value> = serde_json::from_str(&said)?;
    counts.extend(said.into_iter().filter_map(|(name, count)| Some((name, count.as_u64()?))));
    Ok(counts)
}

/// Instructions by whose code they are of, and what the program has said.
fn callgrind(program: &Path, action: &str, stage: &str) -> Result<(Counts, String)> {
    let place = std::env::temp_dir().join(format!("coffer-guard-{}.{action}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .env("GLIBC_TUNABLES", TUNABLES)
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", place.display()))
        .arg(program)
        .args([action, stage]);
    let said = output(&mut command)?;
    let profile = fs::read_to_string(&place)?;
    fs::remove_file(&place)?;
    Ok((sum(&profile)?, said))
}

/// Bytes that `memcpy` and its like have copied.
fn copied_bytes(program: &Path, action: &str, stage: &str) -> Result<u64> {
    let place = std::env::temp_dir().join(format!("coffer-guard-{}.{action}.copies", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .env("GLIBC_TUNABLES", TUNABLES)
        .args(["--tool=dhat", "--mode=copy", "--quiet"])
        .arg(format!("--dhat-out-file={}", place.display()))
        .arg(program)
        .args([action, stage]);
    output(&mut command)?;
    let profile: Value = serde_json::from_slice(&fs::read(&place)?)?;
    fs::remove_file(&place)?;
    let points = profile["pps"].as_array().context("a profile of copies has program points")?;
    Ok(points.iter().filter_map(|point| point["tb"].as_u64()).sum())
}

/// Adds up what callgrind has written: a line `fn=NAME`, then lines of a position and a count. The line after `calls=` is what was spent
/// in another function, which has lines of its own.
fn sum(profile: &str) -> Result<Counts> {
    let mut counts: Counts = LIMITS[..3].iter().map(|(name, ..)| ((*name).to_owned(), 0)).collect();
    let (mut owner, mut is_of_call) = ("foreign_instructions", false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            owner = owner_of(name);
        } else if line.starts_with("calls=") {
            is_of_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) && !std::mem::take(&mut is_of_call) {
            let count = line.split_ascii_whitespace().nth(1).context("a line of a profile has a count")?;
            *counts.entry(owner.to_owned()).or_default() += count.parse::<u64>()?;
        }
    }
    Ok(counts)
}

/// Names of Rust have paths in them.
fn owner_of(name: &str) -> &'static str {
    let is_copy = ["memcpy", "memmove", "memset", "__memcpy", "__memmove", "__memset"];
    if name.contains("::") || name.starts_with("_R") || name.starts_with("_ZN") {
        "rust_instructions"
    } else if is_copy.iter().any(|prefix| name.starts_with(prefix)) {
        "copy_instructions"
    } else {
        "foreign_instructions"
    }
}

fn compare(
    baseline: &Value,
    environment: &Map<String, Value>,
    stages: &BTreeMap<String, Counts>,
) -> Result<()> {
    let differing: Vec<&str> = environment
        .iter()
        .filter(|(name, value)| baseline["environment"][name.as_str()] != **value)
        .map(|(name, _)| name.as_str())
        .collect();
    for name in &differing {
        println!("{name}: {} here, {} in the baseline", environment[*name], baseline["environment"][*name]);
    }
    let other_system =
        differing.contains(&"cc") || differing.contains(&"libc") || differing.contains(&"valgrind");
    let other_paths = differing.contains(&"processor");
    let mut faults = Vec::new();
    for (stage, counts) in stages {
        println!("\n{stage}");
        let before = &baseline["stages"][stage.as_str()];
        for (name, per_mille, at_least) in LIMITS {
            let count = counts.get(*name).copied().unwrap_or_default();
            let Some(expected) = before[*name].as_u64() else {
                faults.push(format!("{stage}: {name} is not in the baseline"));
                continue;
            };
            let limit = expected + (expected * per_mille / 1000).max(*at_least);
            let is_skipped = (other_system && OF_THE_SYSTEM.contains(name))
                || (other_paths && name.ends_with("_instructions"));
            let remark = match () {
                () if is_skipped => "not compared: made by something else",
                () if count > limit => "TOO MUCH",
                () if count < expected.saturating_sub((expected * per_mille / 1000).max(*at_least)) => {
                    "less; worth a --bless"
                }
                () => "",
            };
            let share = if expected == 0 { 0.0 } else { 100.0 * (count as f64 / expected as f64 - 1.0) };
            println!("  {name:<22} {count:>13} {share:>+7.2} %  {remark}");
            if !is_skipped && count > limit {
                faults.push(format!("{stage}: {name} is {count}, and may be {limit} (it was {expected})"));
            }
        }
    }
    let gone = baseline["stages"].as_object().into_iter().flat_map(Map::keys);
    faults.extend(
        gone.filter(|stage| !stages.contains_key(*stage))
            .map(|stage| format!("{stage} is not measured any more")),
    );
    if faults.is_empty() {
        println!("\nno stage costs more than before");
        return Ok(());
    }
    if differing.contains(&"rustc") {
        println!(
            "\nthe compiler is another one than that of the baseline: if nothing else changed, bless with it"
        );
    }
    bail!(
        "stages cost more than {BASELINE} says; if that is meant, run `cargo xtask guard --bless`:\n{}",
        faults.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir\n\nfn=coffer_pipeline::chunker::Scanner::scan\n16 5\ncfn=memcpy\ncalls=1 0\n17 100\n18 7\n\nfn=memcpy\n0 100\n\nfn=ZSTD_compress\n1 40\n";

    #[test]
    fn what_was_spent_in_a_call_is_counted_once() {
        let counts = sum(PROFILE).unwrap();
        let expected = [("copy_instructions", 100), ("foreign_instructions", 40), ("rust_instructions", 12)];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
    }

    fn check(expected: u64, actual: u64, cc: &str, is_good: bool) {
        let counts =
            |count| -> Counts { LIMITS.iter().map(|(name, ..)| ((*name).to_owned(), count)).collect() };
        let environment = json!({ "cc": cc });
        let baseline = json!({ "environment": { "cc": "12" }, "stages": { "stage": counts(expected) } });
        let mut now = counts(expected);
        now.insert("foreign_instructions".to_owned(), actual);
        let stages = BTreeMap::from([("stage".to_owned(), now)]);
        let outcome = compare(&baseline, environment.as_object().unwrap(), &stages);
        assert_eq!(outcome.is_ok(), is_good, "{expected} {actual} {cc}");
    }

    #[test]
    fn growth_beyond_the_limit_is_refused() {
        check(1_000_000, 1_050_000, "12", true);
        check(1_000_000, 1_050_001, "12", false);
        check(1_000_000, 900_000, "12", true);
        check(1_000_000, 2_000_000, "13", true);
    }

    #[test]
    fn a_stage_that_is_gone_or_new_is_refused() {
        let environment = Map::new();
        let (none, one) = (json!({ "stages": {} }), json!({ "stages": { "stage": {} } }));
        assert!(
            compare(&none, &environment, &BTreeMap::from([("stage".to_owned(), Counts::new())])).is_err()
        );
        assert!(compare(&one, &environment, &BTreeMap::new()).is_err());
        assert!(compare(&none, &environment, &BTreeMap::new()).is_ok());
    }
}
