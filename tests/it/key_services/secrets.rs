//! No secret is left lying: canaries are looked for in all that commands write.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use coffer_sandbox::KmsKind;
use coffer_testkit::softhsm::{CONFIGURATION_VARIABLE, SoftHsm};

use super::{DENIED, Desk, Ran, WRONG_KEY};

/// Runs a command, and gives what stands meanwhile in files where a process leaves things lying.
fn run_watched(desk: &Desk, command: &mut Command) -> (Ran, BTreeSet<(String, Vec<u8>)>) {
    let mut seen = BTreeSet::new();
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| command.output().unwrap());
        while !running.is_finished() {
            for dir in ["tmp", "home", "cache"] {
                let mut files = Vec::new();
                read_all(&desk.path(dir), &mut files);
                seen.extend(files);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        running.join().unwrap()
    });
    (Desk::ran(output), seen)
}

/// The digits of the one line with a secret in a file that was made for its owner.
fn digits(path: &std::path::Path, prefix: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(prefix));
    line.unwrap_or_else(|| panic!("{}", path.display())).to_owned()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|letter| u8::try_from(letter.to_digit(16)?).ok()).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

/// The key that opens the vault now.
fn vault_key(desk: &Desk) -> Vec<u8> {
    let root = coffer_keys::KeyFile::parse(&fs::read(desk.path("key")).unwrap()).unwrap();
    let store = coffer_store::LocalStore::open(desk.path("vault")).unwrap();
    let world = super::super::support::World::new(1);
    let vault = coffer_engine::Vault::open(world.access(&store), &root, None).unwrap();
    vault.keyring.vault_key().unwrap().expose().to_vec()
}

/// A secret in every form in which it could be written by mistake.
fn forms(name: &str, secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let hex = coffer_format::id::hex(secret);
    vec![
        (name.to_owned(), secret.to_vec()),
        (format!("{name} in hex"), hex.clone().into_bytes()),
        (format!("{name} in capital hex"), hex.to_uppercase().into_bytes()),
        (format!("{name} in base64"), base64_of(secret).into_bytes()),
    ]
}

/// What commands wrote, and where.
#[derive(Default)]
struct Watched {
    said: String,
    places: Vec<(String, Vec<u8>)>,
}

impl Watched {
    fn hear(&mut self, desk: &Desk, line: &str) -> Ran {
        self.watch(desk, &mut desk.command(line))
    }

    fn watch(&mut self, desk: &Desk, command: &mut Command) -> Ran {
        let (ran, seen) = run_watched(desk, command);
        self.said.push_str(&ran.out);
        self.said.push_str(&ran.err);
        self.places.extend(seen);
        ran
    }

    /// Looks for the secrets in all of it, and in what is left in these folders.
    fn holds_none_of(mut self, desk: &Desk, dirs: &[&str], canaries: &[(String, Vec<u8>)]) {
        self.places.push(("output".to_owned(), self.said.into_bytes()));
        for dir in dirs {
            read_all(&desk.path(dir), &mut self.places);
        }
        for (name, canary) in canaries {
            for (place, bytes) in &self.places {
                // What is sealed is random: three bytes of it may be anything.
                let is_sealed = |dir: &&str| std::path::Path::new(place).starts_with(desk.path(dir));
                let is_random = name == "token" && ["vault", "cache", "kit"].iter().any(is_sealed);
                let found =
                    !is_random && bytes.windows(canary.len()).any(|window| window == canary.as_slice());
                assert!(!found, "the {name} stands in {place}");
            }
        }
    }
}

#[test]
fn no_secret_stands_where_it_may_be_read() {
    let desk = Desk::new();
    let material = *b"canary-root-key-material-32bytes";
    let key = desk.instance(KmsKind::KeyProtect, Some(&material));
    let (crn, endpoint) = (desk.crn(&key), desk.region.kms_endpoint());
    let mut watched = Watched::default();
    for line in [
        &*format!(
            "-vv init --add-root-key {crn} --key-endpoint {endpoint} --add-passphrase-file ../recovery"
        ),
        "backup src",
        "-vv keys new-file ../key",
        "-vv keys add --new-key-file ../key",
        "-vv --json keys add --new-shares 2of3 --shares-dir ../shares",
        "-vv --json keys grant-writer web --out ../web.writer",
    ] {
        watched.hear(&desk, line).expect(0);
    }
    let mut canaries = forms("vault key", &vault_key(&desk));
    let mut share_files = Vec::new();
    for entry in fs::read_dir(desk.path("shares")).unwrap() {
        share_files.push(entry.unwrap().path());
    }
    assert_eq!(share_files.len(), 3);
    for path in &share_files {
        let line = digits(path, "COFFER-SHARE-1-");
        let content = bytes_of(&line);
        canaries.extend(forms("share", &content[11..43]));
        canaries.push(("share as it is written".to_owned(), line.into_bytes()));
    }
    let writer = bytes_of(&digits(&desk.path("web.writer"), "COFFER-WRITER-1-"));
    canaries.extend(forms("seed of the writer", &writer[32..64]));
    canaries.extend(forms("key of the writer's domain", &writer[224..256]));
    let shares = share_files[..2].iter().map(|path| format!("--share {}", path.display()));
    let shares = shares.collect::<Vec<_>>().join(" ");
    for line in [
        "-vv snapshots",
        "-vv --json backup src",
        "keys test --json --also-key-file ../key --also-passphrase-file ../recovery",
        "keys list",
        "doctor",
        "verify --deep",
        "keys rewrap",
        "keys export-kit ../kit",
        "--key-file ../key -vv snapshots",
        "--passphrase-file ../recovery snapshots",
        "--key-file ../recovery snapshots",
        "--passphrase-file ../key snapshots",
        "--share ../key snapshots",
        "--writer ../key backup src",
        &format!("{shares} -vv snapshots"),
        "--writer ../web.writer -vv backup src",
    ] {
        watched.hear(&desk, line);
    }
    let rotate = "-vv keys rotate --also-key-file ../key --also-passphrase-file ../recovery --revoke-others";
    watched.hear(&desk, rotate).expect(0);
    let new = vault_key(&desk);
    assert_ne!(new, canaries[0].1);
    canaries.extend(forms("new vault key", &new));
    watched.hear(&desk, "-vv backup src").expect(0);
    desk.region.switch(|switches| switches.is_unwrap_denied = true).unwrap();
    watched.hear(&desk, "-vv snapshots").expect(DENIED);
    canaries.extend(forms("root key", &material));
    canaries.extend(forms("key file", &bytes_of(&digits(&desk.path("key"), "COFFER-KEY-1-"))[..32]));
    canaries.push(("passphrase".to_owned(), b"six words that are not guessed".to_vec()));
    canaries.push(("API key".to_owned(), desk.api_key.clone().into_bytes()));
    canaries.push(("token".to_owned(), b"eyJ".to_vec()));
    watched.holds_none_of(&desk, &["vault", "cache", "kit", "work", "home", "tmp"], &canaries);
}

#[test]
fn no_pin_stands_where_it_may_be_read() {
    const PIN: &str = "pin-47110815-canary";
    let desk = Desk::new();
    let Some(tokens) = SoftHsm::new(&desk.path("hsm"), "") else { return };
    tokens.make_token("hsm", PIN);
    fs::write(desk.path("pin"), PIN).unwrap();
    fs::write(desk.path("other-pin"), format!("{PIN}-other")).unwrap();
    let mut watched = Watched::default();
    for (line, pin, code) in [
        ("-vv keys new-token-key backup", "pin", 0),
        ("-vv init --add-pkcs11-key backup --add-passphrase-file ../recovery", "pin", 0),
        ("-vv --json backup src", "pin", 0),
        ("-vv --json keys test --also-passphrase-file ../recovery", "pin", 0),
        ("-vv keys rotate --also-passphrase-file ../recovery", "pin", 0),
        ("keys export-kit ../kit", "pin", 0),
        ("-vv snapshots", "other-pin", WRONG_KEY),
    ] {
        let mut command = desk.command(line);
        command.env(CONFIGURATION_VARIABLE, tokens.configuration());
        command.env("COFFER_PKCS11_MODULE", tokens.module()).env("COFFER_PKCS11_TOKEN", "hsm");
        command.env("COFFER_PKCS11_PIN_FILE", desk.path(pin));
        watched.watch(&desk, &mut command).expect(code);
    }
    // The keys of the token itself are its own affair: its folder is not looked at.
    let dirs = ["vault", "cache", "kit", "work", "home", "tmp"];
    watched.holds_none_of(&desk, &dirs, &forms("PIN", PIN.as_bytes()));
}

#[test]
fn a_file_that_stands_for_a_moment_is_seen() {
    let desk = Desk::new();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "echo canary > $TMPDIR/a; sleep 1; rm $TMPDIR/a"]).env("TMPDIR", desk.path("tmp"));
    let (ran, seen) = run_watched(&desk, &mut shell);
    ran.expect(0);
    assert!(seen.iter().any(|(_, bytes)| bytes == b"canary\n"), "{seen:?}");
    // The command is given the places that are watched.
    let command = desk.command("version");
    let places: Vec<_> = command.get_envs().collect();
    for (name, dir) in [("TMPDIR", "tmp"), ("HOME", "home"), ("COFFER_CACHE_DIR", "cache")] {
        let value = desk.path(dir).into_os_string();
        assert!(places.contains(&(name.as_ref(), Some(value.as_os_str()))), "{places:?}");
    }
}

/// Reads what is there; of a file that goes away meanwhile, nothing.
fn read_all(dir: &std::path::Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            read_all(&entry.path(), into);
        } else if let Ok(bytes) = fs::read(entry.path()) {
            into.push((entry.path().display().to_string(), bytes));
        }
    }
}

/// Without padding, as a canary: what stands behind it shifts nothing.
fn base64_of(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let (threes, _) = bytes.as_chunks::<3>();
    let four = |three: &[u8; 3]| {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| letter(bits >> shift))
    };
    threes.iter().flat_map(four).collect()
}
