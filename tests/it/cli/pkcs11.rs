//! A key on a token, from making it to opening a vault with it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use coffer_testkit::softhsm::{CONFIGURATION_VARIABLE, SoftHsm};
use serde_json::Value;

use super::super::support::scratch;

const PIN: &str = "4711-0815";

/// Runs the command with the token in its environment, and standard input from nowhere.
fn coffer(tokens: &SoftHsm, place: &Path, more: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
    command.env_clear().env(CONFIGURATION_VARIABLE, tokens.configuration()).env("HOME", place);
    command.env("COFFER_PKCS11_MODULE", tokens.module()).env("COFFER_VAULT", place.join("vault"));
    command.envs(more.iter().copied()).args(arguments).stdin(std::process::Stdio::null());
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is said on standard error after a failure with this exit code.
fn refusal(output: &Output, exit: i32) -> String {
    assert_eq!(output.status.code(), Some(exit), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_token_opens_the_vault() {
    let place = scratch();
    let place = place.path();
    let Some(tokens) = SoftHsm::new(place, "") else { return };
    tokens.make_token("hsm", PIN);
    let (pin, key) = (place.join("pin"), place.join("a.key"));
    fs::write(&pin, format!("{PIN}\n")).unwrap();
    let (pin, key) = (pin.to_str().unwrap(), key.to_str().unwrap());
    let run = |more: &[(&str, &str)], arguments: &[&str]| coffer(&tokens, place, more, arguments);
    let by_pin = [("COFFER_PKCS11_PIN_FILE", pin)];

    let made = json(&run(&by_pin, &["--json", "--pkcs11-token", "hsm", "keys", "new-token-key", "backup"]));
    assert_eq!((&made["message_type"], &made["key"]), (&"token_key".into(), &"backup".into()));
    let again = run(&by_pin, &["--pkcs11-token", "hsm", "keys", "new-token-key", "backup"]);
    assert!(refusal(&again, 1).contains("has a secret key with the label backup already"));

    assert!(run(&[], &["keys", "new-file", key]).status.success());
    assert!(run(&[], &["--key-file", key, "init", "--single-slot"]).status.success());
    let add = ["--key-file", key, "--pkcs11-token", "hsm", "keys", "add", "--new-pkcs11-key", "backup"];
    assert!(run(&by_pin, &add).status.success());

    // From now on the slot says which token and which key.
    let listed = run(&by_pin, &["keys", "list"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.contains("PKCS#11 token hsm, key backup"), "{text}");
    assert!(run(&[("COFFER_PKCS11_PIN", PIN)], &["snapshots"]).status.success());

    let wrong = refusal(&run(&[("COFFER_PKCS11_PIN", "0000-wrong")], &["snapshots"]), 12);
    assert!(wrong.contains("token hsm (serial ") && wrong.contains("the PIN is wrong"), "{wrong}");
    assert!(wrong.contains("it was sent once") && !wrong.contains("0000-wrong"), "{wrong}");
    let without = refusal(&run(&[], &["snapshots"]), 12);
    assert!(without.contains("a PIN is needed") && without.contains("--pkcs11-pin-file"), "{without}");
    let absent = place.join("absent.so");
    let absent = refusal(&run(&by_pin, &["--pkcs11-module", absent.to_str().unwrap(), "snapshots"]), 12);
    assert!(
        absent.contains("absent.so cannot be used") && absent.contains("check --pkcs11-module"),
        "{absent}"
    );

    // The key file still opens when the token is gone, and who has only the token learns what there is.
    tokens.delete_token("hsm");
    assert!(run(&by_pin, &["--key-file", key, "snapshots"]).status.success());
    let gone = refusal(&run(&by_pin, &["snapshots"]), 12);
    assert!(gone.contains("there is no token hsm; there are none at all"), "{gone}");
}
