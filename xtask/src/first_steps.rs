//! `cargo xtask try`: the main job, on a directory the reader names, with the commands shown as they would be typed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Files above this length are not chosen for the comparison at the end.
const COMPARED_LEN_MAX: u64 = 64 << 20;

struct Coffer {
    program: PathBuf,
    vault: PathBuf,
    key: PathBuf,
    cache: PathBuf,
}

pub(crate) fn run(directory: &str, place: &str) -> Result<()> {
    let source = fs::canonicalize(directory).with_context(|| format!("find the directory {directory}"))?;
    ensure!(source.is_dir(), "{} is not a directory", source.display());
    println!("building coffer (a few minutes the first time) ...");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "coffer-cli",
            "--message-format",
            "json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(built.status.success(), "cargo build failed");
    let program = String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "coffer")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo did not say where the program is")?;
    fs::create_dir_all(place)?;
    let place = fs::canonicalize(place)?;
    let coffer =
        Coffer { program, vault: place.join("vault"), key: place.join("key"), cache: place.join("cache") };

    if !coffer.key.exists() {
        coffer.show(&["keys", "new-file", &text(&coffer.key)], false)?;
    }
    if !coffer.vault.join("vault").exists() {
        // One slot is enough to try; a vault that matters gets a second one.
        coffer.show(&["init", "--single-slot"], true)?;
    }
    coffer.show(&["backup", &text(&source)], true)?;
    let snapshots = coffer.json(&["snapshots"])?;
    let vault_id = snapshots["vault_id"].as_str().context("no vault id")?.to_owned();
    let head = snapshots["head"].as_str().context("no head")?.to_owned();

    println!("\nWithout any key, from the vault's files alone:");
    coffer.show(&["verify", "--offline", "--vault-id", &vault_id, "--head", &head], false)?;

    let file = coffer.some_file()?;
    let target = place.join("restored");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    println!("\nOne file back, and compared:");
    coffer.show(&["restore", &format!("latest:/{file}"), "--target", &text(&target)], true)?;
    let (restored, original) = (target.join(&file), Path::new("/").join(&file));
    let same = fs::read(&restored)? == fs::read(&original)?;
    if same {
        println!("{} is byte for byte the same", restored.display());
    } else {
        bail!("{} differs from {}: was it changed just now?", restored.display(), original.display());
    }
    coffer.next_steps(&source, &vault_id, &head);
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Coffer {
    fn command(&self, arguments: &[&str], with_key: bool) -> Command {
        let mut command = Command::new(&self.program);
        for variable in
            ["COFFER_KEY_FILE", "COFFER_PASSPHRASE", "COFFER_PASSPHRASE_FILE", "COFFER_PASSPHRASE_COMMAND"]
        {
            command.env_remove(variable);
        }
        command.env("COFFER_VAULT", &self.vault).env("COFFER_CACHE_DIR", &self.cache);
        if with_key {
            command.env("COFFER_KEY_FILE", &self.key);
        }
        command.args(arguments);
        command
    }

    /// Shows a command as it would be typed, and runs it.
    fn show(&self, arguments: &[&str], with_key: bool) -> Result<()> {
        println!("\n$ coffer {}", arguments.join(" "));
        let status = self.command(arguments, with_key).status()?;
        // 3: something could not be read; what could is in the snapshot.
        ensure!(matches!(status.code(), Some(0 | 3)), "coffer {} ended with {status}", arguments[0]);
        Ok(())
    }

    fn json(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Value> {
        let output =
            self.command(&[], true).arg("--json").args(arguments).stderr(Stdio::inherit()).output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The largest file of the newest snapshot that is not too large to compare.
    fn some_file(&self) -> Result<String> {
        let output = self.command(&["--json", "ls", "latest"], true).stderr(Stdio::inherit()).output()?;
        let entries = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|entry| {
                let plain = entry["kind"] == "file" && entry["hard_link"].is_null();
                let path = entry["path"].as_str()?.to_owned();
                (plain && !path.contains('\\') && !path.contains(':'))
                    .then(|| (entry["size"].as_u64().unwrap_or(0), path))
            })
            .filter(|(size, _)| *size <= COMPARED_LEN_MAX)
            .max();
        Ok(entries.context("the directory holds no file to compare")?.1)
    }

    fn next_steps(&self, source: &Path, vault_id: &str, head: &str) {
        println!(
            "\nThe vault's id, its fingerprint: {vault_id}\n\nNext:\n\n\
             \x20 export PATH=\"{program}:$PATH\"\n\
             \x20 export COFFER_VAULT=\"{vault}\" COFFER_KEY_FILE=\"{key}\" COFFER_CACHE_DIR=\"{cache}\"\n\
             \x20 coffer backup \"{source}\"                  # again: only what changed\n\
             \x20 coffer snapshots\n\
             \x20 coffer ls --long latest\n\
             \x20 coffer restore latest --target /tmp/restored\n\
             \x20 coffer verify --deep                     # with the key: everything that is sealed\n\
             \x20 coffer keys add --new-passphrase         # a second way in, before the vault matters\n\
             \x20 coffer verify --offline --vault-id {vault_id} --head {head}",
            program = self.program.parent().unwrap_or(Path::new(".")).display(),
            vault = self.vault.display(),
            key = self.key.display(),
            cache = self.cache.display(),
            source = source.display(),
        );
    }
}
