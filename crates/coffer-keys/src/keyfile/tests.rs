use coffer_crypto::rng::SeededRng;
use proptest::prelude::*;

use super::*;

fn key_file() -> KeyFile {
    KeyFile::generate(&SeededRng::new(1)).unwrap()
}

/// The line that holds the key, without its line feed.
fn key_line(key_file: &KeyFile) -> String {
    let text = String::from_utf8(key_file.to_text().expose().to_vec()).unwrap();
    text.lines().last().unwrap().to_owned()
}

fn check(text: impl AsRef<[u8]>, expected: &KeyFile) {
    assert_eq!(KeyFile::parse(text.as_ref()).unwrap().0, expected.0);
}

/// Asserts that the text is refused with `expected`, and that the message holds nothing of the key.
fn check_refused(text: impl AsRef<[u8]>, expected: &str) {
    let error = KeyFile::parse(text.as_ref()).unwrap_err();
    assert_eq!(error.to_string(), expected);
    let (shown, digits) = (format!("{error} {error:?}"), key_line(&key_file()));
    for part in digits.as_bytes()[PREFIX.len()..].windows(6) {
        assert!(!shown.contains(std::str::from_utf8(part).unwrap()));
    }
}

#[test]
fn text_round_trip() {
    let key_file = key_file();
    let text = key_file.to_text();
    check(text.expose(), &key_file);
    let text = std::str::from_utf8(text.expose()).unwrap();
    assert!(text.starts_with("# coffer key file, key id ") && text.ends_with('\n'));
    assert!(text.contains(&hex(&key_file.key_id())));
    assert!(text.lines().all(|line| line.len() <= 100));
}

#[test]
fn comments_blank_lines_and_white_space_are_ignored() {
    let (key_file, line) = (key_file(), key_line(&key_file()));
    check(&line, &key_file);
    check(format!("{line}\n"), &key_file);
    check(format!("\n\n# a\n#\n  \t\n{line}\n\n# b"), &key_file);
    check(format!("# a\r\n{line}\r\n"), &key_file);
    check(format!(" \t{line} \t\r\n  # indented comment"), &key_file);
    check([b"# \xff\xfe not UTF-8\n".as_slice(), line.as_bytes()].concat(), &key_file);
    check(format!("# {line}\n{line}"), &key_file);
}

#[test]
fn a_file_without_a_key_is_refused() {
    for text in ["", "\n", "# only\n# comments\n", " \r\n\t"] {
        check_refused(text, "key file holds no key");
    }
    check_refused(format!("# {}", key_line(&key_file())), "key file holds no key");
}

#[test]
fn a_second_key_is_refused() {
    let line = key_line(&key_file());
    check_refused(format!("{line}\n# a\n{line}\n"), "line 3 of the key file holds a second key");
    let other = key_line(&KeyFile::generate(&SeededRng::new(2)).unwrap());
    check_refused(format!("{line}\n{other}"), "line 2 of the key file holds a second key");
}

#[test]
fn other_lines_are_refused() {
    let line = key_line(&key_file());
    let other = "does not start with COFFER-KEY-1- and is no comment";
    check_refused(format!("{line}\nx"), &format!("line 2 of the key file {other}"));
    check_refused(format!("\u{feff}{line}"), &format!("line 1 of the key file {other}"));
    check_refused(line.to_lowercase(), &format!("line 1 of the key file {other}"));
}

#[test]
fn another_version_is_refused() {
    let line = key_line(&key_file()).replace("KEY-1-", "KEY-2-");
    check_refused(line, "line 1 of the key file holds a key of a version that this program does not know");
}

#[test]
fn keys_of_another_length_are_refused() {
    let line = key_line(&key_file());
    let expected = "line 1 of the key file does not have 72 digits behind COFFER-KEY-1-";
    check_refused(format!("{line}0"), expected);
    check_refused(format!("{line} # key"), expected);
    for len in PREFIX.len()..line.len() {
        check_refused(&line[..len], expected);
    }
}

#[test]
fn other_characters_are_refused() {
    let line = key_line(&key_file());
    let expected = "line 1 of the key file has a character in its key that is not one of 0123456789abcdef";
    let upper = line.to_uppercase();
    assert_ne!(upper, line);
    check_refused(upper, expected);
    for character in ["g", "+", " ", "-", "\0", "\r"] {
        let mut other = line.clone();
        other.replace_range(20..21, character);
        check_refused(other, expected);
    }
}

#[test]
fn an_altered_digit_is_refused() {
    let line = key_line(&key_file());
    for position in PREFIX.len()..line.len() {
        let mut other = line.clone();
        let digit = if &line[position..=position] == "0" { "1" } else { "0" };
        other.replace_range(position..=position, digit);
        check_refused(other, "line 1 of the key file has digits that do not fit each other: one is wrong");
    }
}

#[test]
fn the_length_is_bounded() {
    let (key_file, line) = (key_file(), key_line(&key_file()));
    let fill = "#".repeat(KEY_FILE_LEN_MAX - line.len() - 1);
    check(format!("{fill}\n{line}"), &key_file);
    check_refused(format!("#{fill}\n{line}"), "key file of 4097 bytes is over the limit of 4096");
}

#[test]
fn debug_shows_the_key_id_alone() {
    let key_file = key_file();
    assert_eq!(format!("{key_file:?}"), format!("KeyFile {{ key_id: \"{}\", .. }}", hex(&key_file.key_id())));
    assert_eq!(format!("{:?}", key_file.to_text()), "SecretBytes");
}

#[test]
fn key_files_differ() {
    let rng = SeededRng::new(3);
    let (a, b) = (KeyFile::generate(&rng).unwrap(), KeyFile::generate(&rng).unwrap());
    assert_ne!(a.key_id(), b.key_id());
    assert_ne!(a.to_text(), b.to_text());
}

proptest! {
    #[test]
    fn every_key_file_is_read_back(seed: u64, before in "(#[^\n]{0,30}\n|[ \t]{0,3}\r?\n){0,4}", end in "[ \t]{0,3}(\r?\n)?") {
        let key_file = KeyFile::generate(&SeededRng::new(seed)).unwrap();
        check(format!("{before}{}{end}", key_line(&key_file)), &key_file);
    }

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(KeyFile::parse(&bytes).is_err());
        let prefixed = [PREFIX, &bytes].concat();
        prop_assert!(KeyFile::parse(&prefixed).is_err());
    }
}
