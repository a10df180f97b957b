//! `cargo xtask tidy`: what neither the compiler nor clippy checks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Which crates each crate may use; a new arrow is a decision record.
const LAYERS: &[(&str, &[&str])] = &[
    ("coffer-format", &[]),
    ("coffer-crypto", &[]),
    ("coffer-store", &[]),
    ("coffer-ibm", &["coffer-store", "coffer-keys", "coffer-format", "coffer-crypto"]),
    ("coffer-collect", &[]),
    ("coffer-pipeline", &["coffer-format", "coffer-crypto"]),
    ("coffer-keys", &["coffer-format", "coffer-crypto"]),
    ("coffer-verify", &["coffer-format", "coffer-crypto", "coffer-pipeline", "coffer-store"]),
    (
        "coffer-engine",
        &[
            "coffer-format",
            "coffer-crypto",
            "coffer-pipeline",
            "coffer-store",
            "coffer-keys",
            "coffer-collect",
        ],
    ),
    (
        "coffer-cli",
        &[
            "coffer-engine",
            "coffer-verify",
            "coffer-pipeline",
            "coffer-store",
            "coffer-keys",
            "coffer-format",
            "coffer-crypto",
            "coffer-collect",
            "coffer-ibm",
            "coffer-sandbox",
        ],
    ),
    ("coffer-sandbox", &["coffer-crypto"]),
    ("coffer-testkit", &["coffer-store", "coffer-keys", "coffer-format", "coffer-crypto"]),
];

/// The crates that may depend on each of these: one, except for primitives of which the key service needs other forms (decision 0017).
const HOMES: &[(&str, &[&str])] = &[
    ("aes-gcm", &["coffer-crypto", "coffer-sandbox"]),
    ("aws-lc-rs", &["coffer-crypto", "coffer-sandbox"]),
    ("argon2", &["coffer-crypto"]),
    ("hpke", &["coffer-crypto"]),
    ("cryptoki", &["coffer-keys"]),
    ("zstd", &["coffer-pipeline"]),
    ("aws-sdk-s3", &["coffer-store"]),
    ("ureq", &["coffer-ibm"]),
    ("s3s", &["coffer-sandbox"]),
    ("redb", &["coffer-sandbox"]),
    ("clap", &["coffer-cli"]),
];

/// Files longer than this hide a second noun.
const FILE_LINE_COUNT_MAX: usize = 800;
const FINGERPRINT: &str = "<!-- fingerprint of crates/coffer-format/src: ";

pub(crate) fn run(bless: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let mut faults = Vec::new();
    layers(root, &mut faults)?;
    sources(root, &mut faults)?;
    fingerprint(root, bless, &mut faults)?;
    if faults.is_empty() {
        println!("tidy");
        return Ok(());
    }
    bail!("not tidy:\n{}", faults.join("\n"))
}

fn layers(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml"))?.parse()?;
        let name = manifest["package"]["name"].as_str().context("a crate has a name")?;
        let Some(allowed) = layers.get(name) else {
            faults.push(format!("{name} has no place in the layers"));
            continue;
        };
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for used in dependencies.into_iter().flat_map(toml::Table::keys) {
            if used.starts_with("coffer-") && !allowed.contains(&used.as_str()) {
                faults.push(format!("{name} may not use {used}"));
            }
            if HOMES.iter().any(|(dependency, homes)| used == dependency && !homes.contains(&name)) {
                faults.push(format!("{used} has its home in another crate than {name}"));
            }
        }
    }
    Ok(())
}

fn sources(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let mut files = Vec::new();
    for folder in ["crates", "tests", "xtask", "fuzz/fuzz_targets", "benches"] {
        collect(&root.join(folder), &mut files)?;
    }
    for path in files {
        let text = fs::read_to_string(&path)?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if shown.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in ["TODO", "FIXME", "todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
                if line.contains(word) {
                    faults.push(format!("{shown}:{}: {word}", number + 1));
                }
            }
        }
        let is_test = shown.contains("/tests") || shown.starts_with("tests/");
        if !is_test && text.lines().count() > FILE_LINE_COUNT_MAX {
            faults.push(format!("{shown} has more than {FILE_LINE_COUNT_MAX} lines"));
        }
        if !text.trim_start().starts_with("//!")
            && !shown.contains("fuzz_targets")
            && !shown.ends_with("/tests.rs")
        {
            faults.push(format!("{shown} does not say what it is for"));
        }
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut entries =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The specification records which code it was last compared with: neither moves alone.
fn fingerprint(root: &Path, bless: bool, faults: &mut Vec<String>) -> Result<()> {
    let mut files = Vec::new();
    collect(&root.join("crates/coffer-format/src"), &mut files)?;
    let mut hasher = blake3::Hasher::new();
    for path in files {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        if name.ends_with("tests.rs") || name.ends_with("testing.rs") {
            continue;
        }
        hasher.update(name.as_bytes()).update(&fs::read(&path)?);
    }
    let actual = format!("{FINGERPRINT}{} -->", &hasher.finalize().to_hex()[..16]);
    let path = root.join("docs/format.md");
    let text = fs::read_to_string(&path)?;
    let known = text.lines().find(|line| line.starts_with(FINGERPRINT));
    if known == Some(actual.as_str()) {
        return Ok(());
    }
    if !bless {
        let hint = "read both once more, then run `cargo xtask tidy --bless`";
        faults
            .push(format!("crates/coffer-format changed since docs/format.md was compared with it: {hint}"));
        return Ok(());
    }
    let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with(FINGERPRINT)).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines.extend(["", &actual]);
    fs::write(path, lines.join("\n") + "\n")?;
    Ok(())
}
