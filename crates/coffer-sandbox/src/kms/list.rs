//! Lists of keys: which ones, in which order, which page.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::answer::{Refusal, Reply, collection};
use super::dates;
use super::desk::Desk;
use super::model::Key;
use super::show;
use crate::clock::{Millis, SECOND_MS};

/// Keys that a search looks at.
const SEARCH_COUNT_MAX: usize = 5000;
/// So many conditions on one property.
const CONDITION_COUNT_MAX: usize = 3;

pub(super) fn count(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let count = chosen(desk)?.len();
    Ok(Reply { status: 200, body: None, headers: vec![("key-total", count.to_string())] })
}

pub(super) fn list(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let mut keys = chosen(desk)?;
    let mut more = json!({});
    if let Some(text) = desk.parameter("search") {
        let search = Search::parse(&text);
        let is_complete = keys.len() <= SEARCH_COUNT_MAX;
        if is_complete {
            keys.retain(|key| search.fits(key));
        } else {
            // Beyond the limit only a key that is named whole is found.
            keys.retain(|key| search.names(key));
            if keys.is_empty() {
                let message = "The search is too broad. Use filters to make it narrower";
                return Err(Refusal::new(400, "KEY_SEARCH_TOO_BROAD", message));
            }
            more["incompleteSearch"] = true.into();
        }
        more["searchQuery"] = search.shown();
    }
    sort(&mut keys, desk.parameter("sort").as_deref().unwrap_or("id"))?;
    let (page, _) = desk.page(keys, 200)?;
    let page: Vec<Value> = page.iter().map(|key| show::key(key, desk.crn, desk.now_ms())).collect();
    Ok(Reply::with(200, collection("key", &page, more)))
}

/// The keys that the filters of a call leave over.
fn chosen<'a>(desk: &'a Desk<'_>) -> Result<Vec<&'a Key>, Refusal> {
    let filters = match desk.parameter("filter") {
        Some(text) => parse_filter(&text)?,
        None => Vec::new(),
    };
    let filters_on = |name: &str| filters.iter().any(|filter| filter.property == name);
    let both = |name: &str| Refusal::parameter(name, format!("{name} is in the filter too"));
    let states = match desk.parameter("state") {
        Some(_) if filters_on("state") => return Err(both("state")),
        Some(text) => Some(states(&text)?),
        None => None,
    };
    let extractable = desk.flag("extractable")?;
    if extractable.is_some() && filters_on("extractable") {
        return Err(both("extractable"));
    }
    let default_states = if filters_on("state") { vec![0, 1, 2, 3, 5] } else { vec![0, 1, 2, 3] };
    let states = states.unwrap_or(default_states);
    let fits = |key: &&Key| {
        states.contains(&key.state.number())
            && extractable.is_none_or(|wanted| key.extractable == wanted)
            && desk.ring().is_none_or(|ring| key.ring == ring)
            && filters.iter().all(|filter| filter.fits(key))
    };
    Ok(desk.instance.keys().values().filter(fits).collect())
}

fn states(text: &str) -> Result<Vec<u8>, Refusal> {
    let wrong = || Refusal::parameter("state", "The states are numbers from 0 to 5 with commas between them");
    let one = |text: &str| text.parse().ok().filter(|state| *state <= 5).ok_or_else(wrong);
    text.split(',').map(one).collect()
}

fn sort(keys: &mut [&Key], text: &str) -> Result<(), Refusal> {
    type Compare = fn(&Key, &Key) -> Ordering;
    let mut by: Vec<(Compare, bool)> = Vec::new();
    for property in text.split(',') {
        let (name, falls) = property.strip_prefix('-').map_or((property, false), |name| (name, true));
        let compare: Compare = match name {
            "id" => |a, b| a.id.cmp(&b.id),
            "state" => |a, b| a.state.number().cmp(&b.state.number()),
            "extractable" => |a, b| a.extractable.cmp(&b.extractable),
            "imported" => |a, b| a.imported.cmp(&b.imported),
            "creationDate" => |a, b| a.created_ms.cmp(&b.created_ms),
            "lastUpdateDate" => |a, b| a.updated_ms.cmp(&b.updated_ms),
            "lastRotateDate" => |a, b| a.rotated_ms.cmp(&b.rotated_ms),
            "deletionDate" => |a, b| date(a, "deletionDate").cmp(&date(b, "deletionDate")),
            "expirationDate" => |a, b| a.expires_ms.cmp(&b.expires_ms),
            _ => return Err(Refusal::parameter("sort", format!("Keys are not sorted by {name}"))),
        };
        by.push((compare, falls));
    }
    keys.sort_by(|a, b| {
        let mut found = by.iter().map(|(compare, falls)| {
            let order = compare(a, b);
            if *falls { order.reverse() } else { order }
        });
        found.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(())
}

fn date(key: &Key, property: &str) -> Option<Millis> {
    match property {
        "creationDate" => Some(key.created_ms),
        "lastUpdateDate" => Some(key.updated_ms),
        "lastRotateDate" => key.rotated_ms,
        "deletionDate" => key.deleted.as_ref().map(|mark| mark.at_ms),
        "expirationDate" => key.expires_ms,
        _ => None,
    }
}

/// Whether one time stands to another as it should.
type Holds = fn(Millis, Millis) -> bool;

enum Wanted {
    States(Vec<u8>),
    Extractable(bool),
    /// The date is absent.
    Never,
    /// To the second.
    Date(Holds, Millis),
}

/// One condition: `property=value` or `property=operator:value`.
struct Filter {
    property: String,
    wanted: Wanted,
}

impl Filter {
    fn fits(&self, key: &Key) -> bool {
        let date = date(key, &self.property).map(|at_ms| at_ms / SECOND_MS);
        match &self.wanted {
            Wanted::States(states) => states.contains(&key.state.number()),
            Wanted::Extractable(wanted) => key.extractable == *wanted,
            Wanted::Never => date.is_none(),
            Wanted::Date(holds, than_ms) => date.is_some_and(|at| holds(at, *than_ms / SECOND_MS)),
        }
    }
}

fn parse_filter(text: &str) -> Result<Vec<Filter>, Refusal> {
    let wrong = |what: &str| Refusal::parameter("filter", format!("The filter cannot be read at {what}"));
    let mut filters: Vec<Filter> = Vec::new();
    for part in text.split_whitespace() {
        let (property, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
        if filters.iter().filter(|filter| filter.property == property).count() >= CONDITION_COUNT_MAX {
            return Err(wrong(part));
        }
        let wanted = match property {
            "state" => Wanted::States(states(value).map_err(|_| wrong(part))?),
            "extractable" => match value.to_ascii_lowercase().as_str() {
                "true" => Wanted::Extractable(true),
                "false" => Wanted::Extractable(false),
                _ => return Err(wrong(part)),
            },
            "creationDate" | "lastUpdateDate" | "lastRotateDate" | "deletionDate" | "expirationDate" => {
                date_wanted(value).ok_or_else(|| wrong(part))?
            }
            _ => return Err(wrong(part)),
        };
        filters.push(Filter { property: property.to_owned(), wanted });
    }
    Ok(filters)
}

fn date_wanted(value: &str) -> Option<Wanted> {
    if value.eq_ignore_ascii_case("none") {
        return Some(Wanted::Never);
    }
    let operators: [(&str, Holds); 4] =
        [("lte:", |a, b| a <= b), ("lt:", |a, b| a < b), ("gte:", |a, b| a >= b), ("gt:", |a, b| a > b)];
    let operator = operators.iter().find_map(|(name, holds)| Some((value.strip_prefix(name)?, *holds)));
    let (date, holds) = operator.unwrap_or((value, |a, b| a == b));
    let date = date.strip_prefix('"')?.strip_suffix('"')?;
    Some(Wanted::Date(holds, dates::parse(date)?))
}

/// `not:`, `exact:`, `escape:` and the scopes `alias:` and `name:`, then what is looked for.
struct Search {
    text: String,
    is_not: bool,
    is_exact: bool,
    in_names: bool,
    in_aliases: bool,
}

impl Search {
    fn parse(text: &str) -> Self {
        let (mut is_not, mut is_exact, mut in_names, mut in_aliases) = (false, false, false, false);
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix("escape:") {
                rest = after;
                break;
            }
            let words = [
                ("not:", &mut is_not),
                ("exact:", &mut is_exact),
                ("name:", &mut in_names),
                ("alias:", &mut in_aliases),
            ];
            let Some((after, flag)) =
                words.into_iter().find_map(|(word, flag)| Some((rest.strip_prefix(word)?, flag)))
            else {
                break;
            };
            *flag = true;
            rest = after;
        }
        let everywhere = !in_names && !in_aliases;
        Self {
            text: rest.to_lowercase(),
            is_not,
            is_exact,
            in_names: in_names || everywhere,
            in_aliases: in_aliases || everywhere,
        }
    }

    fn fits(&self, key: &Key) -> bool {
        let fits = |text: &str| {
            let text = text.to_lowercase();
            if self.is_exact { text == self.text } else { text.contains(&self.text) }
        };
        let found = (self.in_names && fits(&key.name))
            || (self.in_aliases && key.aliases.iter().any(|alias| fits(&alias.name)));
        found != self.is_not || key.id == self.text
    }

    /// Whether the text is the id or an alias of the key.
    fn names(&self, key: &Key) -> bool {
        key.id == self.text
            || (self.in_aliases
                && key.aliases.iter().any(|alias| alias.name.eq_ignore_ascii_case(&self.text)))
    }

    fn shown(&self) -> Value {
        let scopes: Vec<&str> = [("name", self.in_names), ("alias", self.in_aliases)]
            .into_iter()
            .filter_map(|(name, is_on)| is_on.then_some(name))
            .collect();
        json!({"query": self.text, "scopes": scopes, "not": self.is_not, "exact": self.is_exact})
    }
}
