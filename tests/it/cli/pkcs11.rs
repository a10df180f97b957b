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
    command.env("COFFER_PASSPHRASE_COST", "floor");
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

/// The source of a module that never comes back from the first function that is called.
const HANGS: &str =
    "#include <unistd.h>\nunsigned long C_GetFunctionList(void **list) { for (;;) pause(); }\n";

#[test]
fn a_token_that_never_answers_does_not_keep_the_next_slot_from_opening() {
    let place = scratch();
    let place = place.path();
    let Some(tokens) = SoftHsm::new(place, "") else { return };
    tokens.make_token("hsm", PIN);
    let (words, source, module) = (place.join("words"), place.join("hangs.c"), place.join("hangs.so"));
    fs::write(&words, "six words that are not guessed").unwrap();
    fs::write(&source, HANGS).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&module, &source]).status();
    assert!(made.unwrap().success());
    let (words, module) = (words.to_str().unwrap(), module.to_str().unwrap());

    let good = [("COFFER_PKCS11_PIN", PIN), ("COFFER_PKCS11_TOKEN", "hsm")];
    let run = |more: &[(&str, &str)], arguments: &[&str]| coffer(&tokens, place, more, arguments);
    assert!(run(&good, &["keys", "new-token-key", "backup"]).status.success());
    let init = run(&good, &["init", "--add-pkcs11-key", "backup", "--add-passphrase-file", words]);
    assert!(init.status.success(), "{init:?}");
    assert!(run(&good, &["snapshots"]).status.success());

    let bad = [("COFFER_PKCS11_PIN", PIN), ("COFFER_PKCS11_MODULE", module)];
    let since = std::time::Instant::now();
    let alone = refusal(&run(&bad, &["--key-service-timeout", "1", "snapshots"]), 12);
    assert!(alone.contains("token hsm did not answer within 1 s"), "{alone}");
    assert!(alone.contains("--key-service-timeout gives it more time"), "{alone}");
    let making = refusal(&run(&bad, &["--key-service-timeout", "1", "keys", "new-token-key", "second"]), 12);
    assert!(making.contains("did not answer within 1 s, and whether it has made the key second"), "{making}");
    assert!(making.contains("look for the key with the token's own tools"), "{making}");
    // The token is asked before the passphrase, and that opens when the time is over.
    let both = ["--key-service-timeout", "1", "--passphrase-file", words, "snapshots"];
    let opened = run(&bad, &both);
    assert!(opened.status.success(), "{opened:?}");
    assert!(since.elapsed() < std::time::Duration::from_secs(60), "{:?}", since.elapsed());
}

/// The source of a module that passes everything on to another one, and writes a line for each login.
const COUNTS: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* CK_FUNCTION_LIST: the version, then the functions; C_Login is number 18. */
static void *list[1 + 68];
typedef unsigned long (*login_t)(unsigned long, unsigned long, unsigned char *, unsigned long);
static login_t login;
static unsigned long counted(unsigned long session, unsigned long user, unsigned char *pin, unsigned long len) {
    FILE *file = fopen(getenv("TEST_LOGINS"), "a");
    fputs("login\n", file);
    fclose(file);
    return login(session, user, pin, len);
}
unsigned long C_GetFunctionList(void **out) {
    unsigned long (*get)(void **) = dlsym(dlopen(getenv("TEST_MODULE"), RTLD_NOW), "C_GetFunctionList");
    void *inner;
    unsigned long code = get(&inner);
    memcpy(list, inner, sizeof list);
    login = (login_t)list[1 + 18];
    list[1 + 18] = (void *)counted;
    *out = list;
    return code;
}
"#;

#[test]
fn a_wrong_pin_is_sent_once_in_a_run() {
    let place = scratch();
    let place = place.path();
    let Some(tokens) = SoftHsm::new(place, "") else { return };
    tokens.make_token("hsm", PIN);
    let (words, source, module, logins) =
        (place.join("words"), place.join("counts.c"), place.join("counts.so"), place.join("logins"));
    fs::write(&words, "six words that are not guessed").unwrap();
    fs::write(&source, COUNTS).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&module, &source]).status();
    assert!(made.unwrap().success());
    let own = tokens.module().to_str().unwrap().to_owned();
    let words = words.to_str().unwrap();
    let run = |pin: &str, arguments: &[&str]| {
        let more = [
            ("COFFER_PKCS11_PIN", pin),
            ("COFFER_PKCS11_TOKEN", "hsm"),
            ("COFFER_PKCS11_MODULE", module.to_str().unwrap()),
            ("TEST_LOGINS", logins.to_str().unwrap()),
            ("TEST_MODULE", &own),
        ];
        drop(fs::remove_file(&logins));
        let output = coffer(&tokens, place, &more, arguments);
        (output, fs::read_to_string(&logins).unwrap_or_default().lines().count())
    };
    assert!(run(PIN, &["keys", "new-token-key", "backup"]).0.status.success());
    let (init, _) = run(PIN, &["init", "--add-pkcs11-key", "backup", "--add-passphrase-file", words]);
    assert!(init.status.success(), "{init:?}");
    let by_words = ["--passphrase-file", words];
    for (command, exit) in [
        (&["snapshots"][..], 0),
        (&["keys", "test"], 20),
        (&["keys", "rotate", "--revoke-others"], 12),
        (&["keys", "add", "--new-pkcs11-key", "backup"], 12),
    ] {
        let (output, count) = run("0000-wrong", &[&by_words, command].concat());
        assert_eq!((output.status.code(), count), (Some(exit), 1), "{command:?}: {output:?}");
    }
    let (good, count) = run(PIN, &["keys", "test"]);
    assert!(good.status.success() && count >= 1, "{good:?}");
}

#[test]
fn a_key_made_for_any_mechanism_opens_the_vault_by_it() {
    let place = scratch();
    let place = place.path();
    let Some(tokens) = SoftHsm::new(place, "") else { return };
    tokens.make_token("hsm", PIN);
    let key = place.join("a.key");
    let key = key.to_str().unwrap();
    let environment = [("COFFER_PKCS11_PIN", PIN), ("COFFER_PKCS11_TOKEN", "hsm")];
    let run = |arguments: &[&str]| coffer(&tokens, place, &environment, arguments);
    assert!(run(&["keys", "new-file", key]).status.success());
    assert!(run(&["--key-file", key, "init", "--single-slot"]).status.success());
    for (name, number) in [("aes-gcm", 0x1087), ("aes-kwp", 0x210b), ("aes-cbc-hmac", 0x1085)] {
        let made = run(&["keys", "new-token-key", name, "--mechanism", name]);
        assert!(made.status.success(), "{name}: {made:?}");
        // What the key may not do is passed over, but the pair of the MAC does GCM as well.
        let mut add = vec!["--key-file", key, "keys", "add", "--new-pkcs11-key", name];
        if name == "aes-cbc-hmac" {
            add.extend(["--new-pkcs11-mechanism", name]);
        }
        let added = run(&add);
        assert!(added.status.success(), "{name}: {added:?}");
        let listed = json(&run(&["--json", "--pkcs11-key", name, "keys", "list"]));
        let slots = listed["slots"].as_array().unwrap();
        let opened = slots.iter().find(|slot| slot["opened_by"] == true).expect("one of them");
        assert_eq!(opened["root_key"]["mechanism"], number, "{name}: {opened}");
    }
    // With what the key is made for, and nothing else.
    let add = ["--key-file", key, "keys", "add", "--new-pkcs11-key", "aes-kwp"];
    let refused = refusal(&run(&[&add[..], &["--new-pkcs11-mechanism", "aes-gcm"]].concat()), 12);
    assert!(
        refused.contains("KeyFunctionNotPermitted") && refused.contains("for aes-kwp wrapping"),
        "{refused}"
    );
}

#[test]
fn a_label_that_is_too_long_is_a_bad_argument() {
    let place = scratch();
    let place = place.path();
    let Some(tokens) = SoftHsm::new(place, "") else { return };
    tokens.make_token("hsm", PIN);
    let run = |more: &[(&str, &str)], arguments: &[&str]| {
        let pin = ("COFFER_PKCS11_PIN", PIN);
        refusal(&coffer(&tokens, place, &[&[pin], more].concat(), arguments), 2)
    };
    let (of_token, of_key) = ("t".repeat(33), "ü".repeat(513));
    let by_name = [("COFFER_PKCS11_TOKEN", "hsm")];
    let token = run(&[], &["--pkcs11-token", &of_token, "keys", "new-token-key", "backup"]);
    assert!(token.contains(&format!("the label {}… is too long for a token", &of_token[..32])), "{token}");
    assert!(
        token.contains("33 bytes, where 32 are the most") && token.contains("check --pkcs11-token"),
        "{token}"
    );
    assert_eq!(run(&[("COFFER_PKCS11_TOKEN", &of_token)], &["keys", "new-token-key", "backup"]), token);
    let key = run(&by_name, &["keys", "new-token-key", &of_key]);
    assert!(key.contains("too long for a key: 1026 bytes, where 1024 are the most"), "{key}");
    assert!(key.contains("choose a shorter label for the key"), "{key}");
    let file = place.join("a.key");
    let file = file.to_str().unwrap();
    let init = ["init", "--single-slot", "--add-pkcs11-key"];
    assert!(run(&by_name, &[&init[..], &[&of_key]].concat()).contains("too long for a key"));
    for arguments in [&["keys", "new-file", file][..], &["--key-file", file, "init", "--single-slot"]] {
        assert!(coffer(&tokens, place, &[], arguments).status.success(), "{arguments:?}");
    }
    for arguments in [
        &["--pkcs11-key", &of_key, "snapshots"][..],
        &["--key-file", file, "keys", "add", "--new-pkcs11-key", &of_key],
    ] {
        assert!(run(&by_name, arguments).contains("too long for a key"), "{arguments:?}");
    }
}

#[test]
fn the_slot_of_a_token_that_is_gone_can_be_given_up() {
    let place = scratch();
    let place = place.path();
    let Some(tokens) = SoftHsm::new(place, "") else { return };
    tokens.make_token("hsm", PIN);
    let words = place.join("words");
    fs::write(&words, "six words that are not guessed").unwrap();
    let words = words.to_str().unwrap();
    let environment = [("COFFER_PKCS11_PIN", PIN), ("COFFER_PKCS11_TOKEN", "hsm")];
    let run = |arguments: &[&str]| coffer(&tokens, place, &environment, arguments);
    assert!(run(&["keys", "new-token-key", "backup"]).status.success());
    let init = run(&["init", "--add-pkcs11-key", "backup", "--add-passphrase-file", words]);
    assert!(init.status.success(), "{init:?}");
    tokens.delete_token("hsm");
    let rotate = ["--passphrase-file", words, "keys", "rotate"];
    let kept = refusal(&run(&rotate), 1);
    assert!(kept.contains("there is no token hsm") && kept.contains("--revoke-others"), "{kept}");
    let given_up = run(&[&rotate[..], &["--revoke-others"]].concat());
    assert!(given_up.status.success(), "{given_up:?}");
    assert!(run(&["--passphrase-file", words, "snapshots"]).status.success());
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
