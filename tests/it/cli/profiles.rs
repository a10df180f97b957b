//! Profiles of the configuration file, and the flags it gives for commands.

use std::fs;

use super::desk::{Desk, PASSPHRASE, Ran};

/// A desk with a configuration file whose settings at the top open the vault.
struct Site {
    desk: Desk,
}

impl Site {
    fn new(profiles: &str) -> Self {
        let site = Self { desk: Desk::with_snapshot() };
        site.write(profiles);
        site
    }

    fn write(&self, profiles: &str) {
        let path = |name| self.desk.path(name).display().to_string();
        let top = format!(
            "vault = {:?}\nkey-file = {:?}\ncache-dir = {:?}\n",
            path("vault"),
            path("key"),
            path("cache")
        );
        fs::write(self.desk.path("config.toml"), top + profiles).unwrap();
    }

    /// Runs a command with nothing but the file.
    fn run(&self, line: &str) -> Ran {
        self.desk.bare(&format!("--config ../config.toml {line}"))
    }

    /// Tags and sources of the newest snapshot.
    fn newest(&self) -> (Vec<String>, Vec<String>) {
        let list = self.desk.run("--json snapshots").expect(0).message();
        let newest = list["snapshots"].as_array().unwrap().last().unwrap().clone();
        let texts = |name: &str| {
            let list = newest[name].as_array().unwrap();
            list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        (texts("tags"), texts("sources"))
    }
}

const NIGHTLY: &str = r#"
[backup]
tag = ["every"]
compression = "off"

[profile.nightly.backup]
paths = ["src/d", "src/a"]
tag = ["nightly", "second"]
force = true

[profile.plain]
"#;

#[test]
fn a_profile_gives_the_flags_of_a_command() {
    let site = Site::new(NIGHTLY);
    let ran = site.run("--profile nightly -v backup").expect(0).says("src/d/large");
    assert_eq!(
        site.newest(),
        (vec!["nightly".into(), "second".into()], vec!["src/d".into(), "src/a".into()])
    );
    // Whatever is read anew is named by --json; a file that was unchanged would not have been read.
    assert!(ran.out.contains("0 B new"), "{ran:?}");
    // The top of the file is inherited, the variable is as good as the flag, and the flag goes before it.
    site.run("--profile plain backup src").expect(0);
    assert_eq!(site.newest(), (vec!["every".into()], vec!["src".into()]));
    let mut command = site.desk.bare_command(&["--config", "../config.toml", "backup"]);
    site.desk.finish(command.env("COFFER_PROFILE", "nightly")).expect(0);
    let mut command = site.desk.bare_command(&["--config", "../config.toml", "--profile", "plain", "backup"]);
    site.desk.finish(command.env("COFFER_PROFILE", "nightly")).expect(2).says("the configuration file");
}

#[test]
fn the_command_line_goes_before_the_flags_of_the_file() {
    let site = Site::new(NIGHTLY);
    site.run("--profile nightly backup --tag mine src/a").expect(0);
    assert_eq!(site.newest(), (vec!["mine".into()], vec!["src/a".into()]));
    // Words behind "--" stay paths.
    site.run("--profile nightly backup -- src/a").expect(0);
    assert_eq!(site.newest(), (vec!["nightly".into(), "second".into()], vec!["src/a".into()]));
    // A flag that excludes one of the file's takes its place: --parent and --force.
    site.run("--profile nightly backup --parent latest --tag other").expect(0);
    assert_eq!(site.newest().0, ["other"]);
}

#[test]
fn a_restore_takes_its_target_from_the_file() {
    let site = Site::new("[restore]\ntarget = \"../from-file\"\nsnapshot = \"latest:/src/a\"\n");
    site.run("restore").expect(0).says("from-file");
    assert!(site.desk.path("from-file/src/a").exists() && !site.desk.path("from-file/src/d").exists());
    site.run("restore latest -t ../given").expect(0);
    assert!(site.desk.path("given/src/d/b").exists());
}

#[test]
fn a_profile_with_its_own_vault_or_key_does_not_inherit_what_belongs_to_the_other() {
    let site = Site::new("");
    fs::write(site.desk.path("phrase"), PASSPHRASE).unwrap();
    site.desk.bare("-V ../second --passphrase-file ../phrase init --single-slot").expect(0);
    let id = site.desk.vault_id();
    let path = |name| site.desk.path(name).display().to_string();
    let second = format!("vault = {:?}\npassphrase-file = {:?}\n", path("second"), path("phrase"));
    site.write(&format!("vault-id = {id:?}\n[profile.second]\n{second}[profile.first]\n"));
    site.run("snapshots").expect(0).says("1 snapshot(s)");
    site.run("--profile first snapshots").expect(0).says("1 snapshot(s)");
    site.run("--profile second snapshots").expect(0).says_not("1 snapshot(s)");
    // A pinned id is in force for the vault beside which it stands.
    site.write(&format!("[profile.second]\n{second}vault-id = {id:?}\n"));
    site.run("--profile second snapshots").expect(23);
    let both = "[profile.p]\npassphrase-command = \"a\"\npassphrase-file = \"b\"\n";
    site.write(both);
    site.run("--profile p snapshots").expect(2).says("two passphrases");
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let site = Site::new("");
    for text in [
        format!("passphrase = \"{PASSPHRASE}\"\n"),
        format!("password = \"{PASSPHRASE}\"\n"),
        format!("[profile.p]\npassphrase = \"{PASSPHRASE}\"\n"),
        format!("passphrase = \"{PASSPHRASE}\n"),
        format!("vualt = \"{PASSPHRASE}\"\n"),
    ] {
        site.write(&text);
        site.run("snapshots").expect(2).says("config.toml, line ").says_not(PASSPHRASE);
    }
    site.write(&format!("passphrase = \"{PASSPHRASE}\"\n"));
    site.run("snapshots").expect(2).says("line 4").says("holds no secret").says("passphrase-command");
}

#[test]
fn mistakes_come_with_their_line_and_what_was_meant() {
    let site = Site::new("");
    let check = |text: &str, line: &str, expected: &[&str]| {
        site.write(text);
        let ran =
            site.run("--profile p backup src").expect(2).says("config.toml").says(&format!("line {line}"));
        let _ = expected.iter().fold(ran, |ran, text| ran.says(text));
    };
    check("key-fiel = \"x\"\n", "4", &["key-fiel is no setting", "did you mean key-file?"]);
    check("[profile.p]\nvualt = \"x\"\n", "5", &["did you mean vault?"]);
    check("[profile.p.bakcup]\n", "4", &["bakcup is no table", "did you mean backup?"]);
    check("[nightly]\nvault = \"x\"\n", "4", &["[profile.nightly]"]);
    check("[backup]\ntags = [\"x\"]\n", "5", &["tags is no flag of `coffer backup`", "did you mean tag?"]);
    check("[backup]\nvault = \"x\"\n", "5", &["vault is no flag of `coffer backup`", "takes paths,"]);
    check("[backup]\nforce = \"yes\"\n", "5", &["backup.force must be true or false", "a string"]);
    check("[backup]\nthreads = true\n", "5", &["must be a string or a number"]);
    check("[backup]\nhost = [\"a\", \"b\"]\n", "5", &["must be a string or a number", "a list"]);
    check("[profile.p]\n[profile.p.backup]\n\ncompression = 44\n", "7", &["'44'", "expected 1 to 19"]);
    // The values of other commands are checked too, and a table has one name.
    check("[init]\nchunk-size = \"x\"\n[profile.p]\n", "5", &["'x'", "coffer init --help"]);
    check("[check]\ndeep = true\n", "4", &["check is no table", "write [verify]"]);
    check("[profile.p.check]\n", "4", &["write [profile.p.verify]"]);
    check("profile = 3\n", "4", &["profile must be a table"]);
    // What is wrong in another profile is wrong too.
    check("[profile.other]\nvault = 3\n[profile.p]\n", "5", &["vault must be a string"]);
    // Flags that do not go together, one of them from the file.
    site.write("[profile.p.restore]\noverwrite = \"sometimes\"\n");
    site.run("--profile p restore latest").expect(2).says("line 5").says("sometimes").says("if-newer");
}

#[test]
fn an_unknown_profile_is_told_with_those_that_are_known() {
    let site = Site::new("[profile.nightly]\n[profile.offsite]\n");
    let ran = site.run("--profile nigthly snapshots").expect(2);
    ran.says("there is no profile nigthly").says("nightly, offsite").says("did you mean nightly?");
    site.run("--profile weekly snapshots").expect(2).says("[profile.weekly]");
    site.desk.bare("--profile nightly snapshots").expect(2).says("no configuration file");
    site.desk.bare("--profile= snapshots").expect(2).says("--profile is empty");
    // Help needs neither file nor profile.
    site.desk.bare("--profile nightly backup --help").expect(0);
    site.desk.bare("--config ../absent completions bash").expect(0);
}

#[test]
fn very_verbose_says_what_is_in_force_and_shows_no_secret() {
    let site = Site::new("[profile.p]\npassphrase-command = \"echo secret-in-a-command\"\n");
    site.run("-vv snapshots").expect(0).says("configuration ../config.toml").says("key file ");
    let ran = site.run("-vv --profile p snapshots").expect(12);
    ran.says("profile p").says("passphrase command").says_not("secret-in-a-command");
}
