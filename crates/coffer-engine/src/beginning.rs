//! Ids as people give them: by the beginning, where only one has it.
//!
//! What is changed by such a name, or kept, is not to be hit by a slip of the finger: a few digits are demanded, and where
//! several fit none is chosen.

/// Fewest digits that name something whose id has more.
pub const BEGINNING_LEN_MIN: usize = 4;

/// Fewest digits of an id that are shown, as elsewhere.
const SHOWN_LEN_MIN: usize = 8;

/// Most ids that are named in an error.
const SHOWN_COUNT_MAX: usize = 8;

/// Why a text names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginningError {
    /// No id begins so.
    #[error("{text:?} is the beginning of none")]
    None {
        /// What was given.
        text: String,
    },
    /// There are too few digits, though an id begins so.
    #[error("{text:?} is too short, give at least {BEGINNING_LEN_MIN} digits: it may mean {}", listed(ids))]
    TooShort {
        /// What was given.
        text: String,
        /// What begins so.
        ids: Vec<String>,
    },
    /// Several ids begin so.
    #[error("{text:?} is the beginning of {} ids: {}", ids.len(), listed(ids))]
    Ambiguous {
        /// What was given.
        text: String,
        /// What begins so.
        ids: Vec<String>,
    },
}

/// The only one of `all` whose id, in small hexadecimal digits, begins with `text`, in small or capital ones.
///
/// # Errors
/// [`BeginningError`].
pub fn by_beginning<'a, T>(
    text: &str,
    all: impl IntoIterator<Item = &'a T>,
    id: impl Fn(&T) -> String,
) -> Result<&'a T, BeginningError> {
    let wanted = text.to_ascii_lowercase();
    let found: Vec<_> = all
        .into_iter()
        .map(|one| (one, id(one)))
        .filter(|(_, id)| !wanted.is_empty() && id.starts_with(&wanted))
        .collect();
    let text = text.to_owned();
    let ids = || found.iter().map(|(_, id)| id.clone()).collect();
    match found.as_slice() {
        [] => Err(BeginningError::None { text }),
        [(one, id)] if wanted.len() >= BEGINNING_LEN_MIN || wanted == *id => Ok(one),
        _ if wanted.len() < BEGINNING_LEN_MIN => Err(BeginningError::TooShort { text, ids: ids() }),
        _ => Err(BeginningError::Ambiguous { text, ids: ids() }),
    }
}

/// Ids with as many digits as tell them apart.
fn listed(ids: &[String]) -> String {
    let starts = |len: usize| ids.iter().map(|id| id.get(..len).unwrap_or(id)).collect::<Vec<_>>();
    let is_apart = |len: &usize| {
        let mut all = starts(*len);
        all.sort_unstable();
        all.windows(2).all(|pair| pair[0] != pair[1])
    };
    let len_max = ids.iter().map(String::len).max().unwrap_or_default();
    let shown = starts((SHOWN_LEN_MIN..len_max).find(is_apart).unwrap_or(len_max));
    let mut text = shown[..shown.len().min(SHOWN_COUNT_MAX)].join(", ");
    if shown.len() > SHOWN_COUNT_MAX {
        text.push_str(&format!(" and {} more", shown.len() - SHOWN_COUNT_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 4] = ["2a8d8284ff00", "2a8d8284ff11", "2a8e00000000", "77777777aaaa"];

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let found = by_beginning(text, &IDS, |id| (*id).to_owned());
        assert_eq!(found.copied().map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn four_digits_that_one_id_begins_with_name_it() {
        check("7777", Ok(IDS[3]));
        check("77777777AAaa", Ok(IDS[3]));
        check("2a8E", Ok(IDS[2]));
        check("2a8d8284ff0", Ok(IDS[0]));
        // A whole id may be as short as it is.
        assert_eq!(by_beginning("ab", &["ab"], |id| (*id).to_owned()), Ok(&"ab"));
    }

    #[test]
    fn fewer_digits_name_nothing_and_are_told_what_they_might_have_named() {
        check("7", Err("\"7\" is too short, give at least 4 digits: it may mean 77777777"));
        check("777", Err("\"777\" is too short, give at least 4 digits: it may mean 77777777"));
        let expected =
            "\"2a\" is too short, give at least 4 digits: it may mean 2a8d8284ff0, 2a8d8284ff1, 2a8e0000000";
        check("2a", Err(expected));
    }

    #[test]
    fn what_several_ids_begin_with_names_none_of_them() {
        check("2a8d", Err("\"2a8d\" is the beginning of 2 ids: 2a8d8284ff0, 2a8d8284ff1"));
        check("2a8d8284", Err("\"2a8d8284\" is the beginning of 2 ids: 2a8d8284ff0, 2a8d8284ff1"));
        let many: Vec<String> = (0..20).map(|number| format!("abcd{number:08}")).collect();
        let told = by_beginning("abcd", &many, String::clone).unwrap_err().to_string();
        assert!(told.contains("of 20 ids: abcd00000000, ") && told.ends_with(" and 12 more"), "{told}");
    }

    #[test]
    fn what_no_id_begins_with_names_nothing() {
        for text in ["", "b", "2a8f", "7777777700", "zzzz", "latest", "\u{e4}\u{f6}"] {
            check(text, Err(&format!("{text:?} is the beginning of none")));
        }
    }
}
