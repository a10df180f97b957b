//! Where settings come from: the command line before the environment before the configuration file.

use std::fs;

use super::desk::{Desk, PASSPHRASE};

/// Writes the file that is read without being named.
fn default_config(desk: &Desk, text: &str) {
    fs::create_dir_all(desk.path("home/.config/coffer")).unwrap();
    fs::write(desk.path("home/.config/coffer/config.toml"), text).unwrap();
}

/// A configuration with everything that opens the vault of the desk.
fn config(desk: &Desk, key: &str) -> String {
    let path = |name| desk.path(name).display().to_string();
    format!(
        "vault = {:?}\nkey-file = {:?}\ncache-dir = {:?}\n",
        path("vault"),
        path(key),
        path("config-cache")
    )
}

#[test]
fn the_configuration_file_gives_what_is_not_given_otherwise() {
    let desk = Desk::with_snapshot();
    default_config(&desk, &config(&desk, "key"));
    desk.bare("snapshots").expect(0).says("1 snapshot(s)");
    assert!(desk.path("config-cache").is_dir());
    // A file that is named stands in place of the default one.
    fs::write(desk.path("empty.toml"), "# nothing\n").unwrap();
    desk.bare("--config ../empty.toml snapshots").expect(2).says("no vault is given");
    let mut command = desk.bare_command(&["snapshots"]);
    desk.finish(command.env("COFFER_CONFIG", "../empty.toml")).expect(2);
    let mut command = desk.bare_command(&["--config", "../home/.config/coffer/config.toml", "snapshots"]);
    desk.finish(command.env("COFFER_CONFIG", "../empty.toml")).expect(0);
    // XDG_CONFIG_HOME moves the default.
    let mut command = desk.bare_command(&["snapshots"]);
    desk.finish(command.env("XDG_CONFIG_HOME", desk.path("nowhere"))).expect(2);
}

#[test]
fn the_command_line_goes_before_the_environment_before_the_file() {
    let desk = Desk::with_snapshot();
    desk.bare("keys new-file ../other").expect(0);
    default_config(&desk, &config(&desk, "other"));
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = desk.bare_command(arguments);
        desk.finish(command.envs(variables.iter().copied()))
    };
    // The key of the file is wrong, that of the environment is right.
    with(&["snapshots"], &[]).expect(12);
    with(&["snapshots"], &[("COFFER_KEY_FILE", "../key")]).expect(0);
    with(&["snapshots", "--key-file", "../key"], &[("COFFER_KEY_FILE", "../other")]).expect(0);
    with(&["snapshots", "--key-file", "../other"], &[("COFFER_KEY_FILE", "../key")]).expect(12);
    // A source on a higher level goes before one of another kind below it.
    with(&["snapshots", "--key-file", "../key"], &[("COFFER_PASSPHRASE", PASSPHRASE)]).expect(0);
    // An empty variable is as good as none.
    with(&["snapshots", "--key-file", "../key"], &[("COFFER_VAULT", "")]).expect(0);
    with(&["snapshots"], &[("COFFER_KEY_FILE", "../key"), ("COFFER_PASSPHRASE", "")]).expect(0);
    let key = ("COFFER_KEY_FILE", "../key");
    with(&["snapshots"], &[key, ("COFFER_VAULT", "../nowhere")]).expect(10);
    with(&["snapshots", "-V", "../vault"], &[key, ("COFFER_VAULT", "../nowhere")]).expect(0);
    with(&["snapshots"], &[key, ("COFFER_CACHE_DIR", "../variable-cache")]).expect(0);
    assert!(desk.path("variable-cache").is_dir());
    let flag = ["snapshots", "--cache-dir", "../flag-cache"];
    with(&flag, &[key, ("COFFER_CACHE_DIR", "../unused-cache")]).expect(0);
    assert!(desk.path("flag-cache").is_dir() && !desk.path("unused-cache").exists());
}

#[test]
fn several_keys_may_be_given_but_one_passphrase() {
    let desk = Desk::with_vault();
    fs::write(desk.path("phrase"), PASSPHRASE).unwrap();
    desk.bare("-V ../vault --key-file ../key --passphrase-file ../phrase snapshots").expect(0);
    // One that cannot be read, or does not fit, is no reason not to try the other.
    desk.bare("-V ../vault --key-file ../gone --passphrase-file ../phrase snapshots")
        .expect(12)
        .says("../gone");
    desk.run("keys add --new-passphrase-file ../phrase").expect(0);
    let ran = desk.bare("-V ../vault --key-file ../gone --passphrase-file ../phrase snapshots");
    ran.expect(0).says("warning: the key file ../gone cannot be read");
    desk.run("keys new-file ../other").expect(0);
    desk.bare("-V ../vault --key-file ../other --passphrase-file ../phrase snapshots").expect(0);
    desk.bare("-V ../vault --key-file ../other snapshots").expect(12);
    let pairs = [("COFFER_PASSPHRASE", PASSPHRASE), ("COFFER_PASSPHRASE_FILE", "../phrase")];
    for (variable, value) in pairs {
        let mut command = desk.command(&["snapshots"]);
        let command = command.env(variable, value).env("COFFER_PASSPHRASE_COMMAND", "true");
        desk.finish(command).expect(2).says("two passphrases");
    }
    let text = config(&desk, "key") + "passphrase-command = \"true\"\npassphrase-file = \"../phrase\"\n";
    default_config(&desk, &text);
    desk.bare("snapshots").expect(2).says("two passphrases");
}

#[test]
fn a_mistake_in_the_configuration_file_is_shown_with_its_line() {
    let desk = Desk::with_vault();
    let cases = [
        ("vault = \"v\"\nkey-fiel = \"k\"\n", "line 2", "key-fiel"),
        ("# a comment\n\nvault = 3\n", "line 3", "string"),
        ("vault = \"v\"\nvault = \"w\"\n", "line 2", "duplicate"),
        ("vault = \"v\n", "line 1", ""),
        ("vault = \"v\"\nvault-id = \"12ab\"\n", "line 2", "12ab"),
        ("[section]\n", "line 1", "section"),
    ];
    for (text, line, what) in cases {
        fs::write(desk.path("config.toml"), text).unwrap();
        let ran = desk.run("--config ../config.toml snapshots").expect(2);
        ran.says("config.toml").says(line).says(what);
    }
    desk.run("--config ../absent.toml snapshots").expect(2).says("absent.toml");
}

#[test]
fn a_memory_that_cannot_be_kept_is_said_once_and_spoils_nothing() {
    let desk = Desk::with_snapshot();
    let ran = desk.run("--cache-dir ../key/in-a-file backup src").expect(0).says("is committed");
    assert_eq!(ran.err.matches("the head cannot be remembered").count(), 1, "{ran:?}");
    assert_eq!(desk.snapshot_count(), 2);
    // What a verification would prove by its memory, it does not claim without.
    desk.run("--cache-dir ../key/in-a-file verify").expect(1).says("--no-cache").says("--cache-dir");
}

#[test]
fn the_vault_id_can_be_pinned() {
    let desk = Desk::with_snapshot();
    let id = desk.vault_id();
    let other = "ab".repeat(32);
    desk.run(&format!("--vault-id {id} snapshots")).expect(0);
    for command in ["snapshots", "backup src", "verify", "verify --deep", "doctor"] {
        desk.run(&format!("--no-cache --vault-id {other} {command}")).expect(23);
    }
    default_config(&desk, &format!("{}vault-id = \"{id}\"\n", config(&desk, "key")));
    desk.bare("snapshots").expect(0);
    desk.bare("verify --offline").expect(0).says("origin proved").says_not("origin not proved");
    default_config(&desk, &format!("{}vault-id = \"{other}\"\n", config(&desk, "key")));
    desk.bare("snapshots").expect(23);
    desk.bare(&format!("--vault-id {id} snapshots")).expect(0);
}

#[test]
fn no_store_is_led_elsewhere_by_an_endpoint_and_no_token_goes_to_others() {
    let desk = Desk::new();
    let ask = |vault: &str, more: &[(&str, &str)]| {
        let mut command = desk.bare_command(&["-V", vault, "snapshots"]);
        command.envs(more.iter().copied());
        desk.finish(&mut command)
    };
    ask(
        "cos://eu-de/bucket/vault",
        &[("COFFER_ENDPOINT", "https://s3.example.com"), ("COFFER_IBM_API_KEY", "k")],
    )
    .expect(2)
    .says("cos://eu-de/bucket/vault names its own service")
    .says("s3:https://HOST/BUCKET/PREFIX");
    for vault in ["s3://bucket/vault", "s3:https://s3.example.com/bucket/vault"] {
        ask(vault, &[("COFFER_IBM_API_KEY", "k")])
            .expect(2)
            .says("a token of IBM Cloud would be sent to the service of s3:")
            .says("HMAC");
    }
}
