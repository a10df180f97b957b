//! What to verify.

use std::str::FromStr;

use coffer_crypto::hash;
use coffer_format::id::{Head, PackId, VaultId};

use crate::error::VerifyError;
use crate::packs::Pack;

/// How a vault is verified.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The id the vault must have; without it nothing proves that it is the vault meant.
    pub vault_id: Option<VaultId>,
    /// A head the log must contain; without it nothing proves that the log is not an older one.
    pub head: Option<Head>,
    /// Which packs are rehashed, and opened.
    pub subset: Subset,
    /// Decides which packs [`Subset::Percent`] and [`Subset::Bytes`] take: random for a new choice each time.
    pub seed: [u8; 32],
    /// Number of threads; 0 counts as 1.
    pub threads: usize,
    /// Rows of the index that a deep verification has in memory at once. Those of a larger index are in a temporary file without a name, of
    /// some 120 bytes for each row at most, in the system's directory for such files.
    pub rows_in_memory: u64,
}

/// Some 25 MB with what goes along with them.
const ROWS_IN_MEMORY: u64 = 1 << 18;

impl Default for Options {
    fn default() -> Self {
        Self {
            vault_id: None,
            head: None,
            subset: Subset::All,
            seed: [0; 32],
            threads: 1,
            rows_in_memory: ROWS_IN_MEMORY,
        }
    }
}

/// Which packs are read whole. Presence and length of all packs are checked in any case.
///
/// As text: `n/m`, `5%`, or a number of bytes with `K`, `M`, `G` or `T` for powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// All.
    All,
    /// Part n of m: the packs whose first eight name bytes, as a big-endian number, are n−1 modulo m. The parts 1 to m
    /// together are all packs.
    Part {
        /// 1 to m.
        n: u64,
        /// At least 1.
        m: u64,
    },
    /// This percentage of the number of packs, chosen at random, at least one.
    Percent(f64),
    /// Packs chosen at random until one more would exceed so many bytes, at least one.
    Bytes(u64),
}

impl Subset {
    /// For each of `packs` whether it is chosen.
    pub(crate) fn choose(&self, packs: &[Pack], seed: [u8; 32]) -> Vec<bool> {
        let mut chosen = vec![false; packs.len()];
        match *self {
            Self::All => chosen.fill(true),
            Self::Part { n, m } => {
                for (chosen, pack) in chosen.iter_mut().zip(packs) {
                    *chosen = first_number(&pack.id) % m.max(1) == n.saturating_sub(1);
                }
            }
            Self::Percent(percent) => {
                let count = packs.iter().enumerate().take_while(|(taken, _)| {
                    // The pack after `taken` others is wanted while those are fewer than the share.
                    (*taken as f64) < packs.len() as f64 * percent / 100.0
                });
                let count = count.count().max(1);
                shuffled(packs, seed).into_iter().take(count).for_each(|at| chosen[at] = true);
            }
            Self::Bytes(bytes) => {
                let mut taken = 0_u64;
                for at in shuffled(packs, seed) {
                    let more = taken.saturating_add(packs[at].len);
                    if taken > 0 && more > bytes {
                        break;
                    }
                    taken = more;
                    chosen[at] = true;
                }
            }
        }
        chosen
    }
}

fn first_number(id: &PackId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Positions of `packs` in an order that follows from `seed`.
fn shuffled(packs: &[Pack], seed: [u8; 32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..packs.len()).collect();
    order.sort_by_cached_key(|at| hash::keyed(&seed, &packs[*at].id.0));
    order
}

impl FromStr for Subset {
    type Err = VerifyError;

    fn from_str(text: &str) -> Result<Self, VerifyError> {
        let whole = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits)
        };
        let parse = || {
            if let Some((n, m)) = text.split_once('/') {
                let (n, m) = (whole(n)?, whole(m)?);
                return (1 <= n && n <= m).then_some(Self::Part { n, m });
            }
            if let Some(percent) = text.strip_suffix('%') {
                let plain = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let percent: f64 = percent.parse().ok().filter(|_| plain)?;
                return (percent > 0.0 && percent <= 100.0).then_some(Self::Percent(percent));
            }
            let (digits, shift) = match text.char_indices().last()? {
                (at, 'K') => (&text[..at], 10),
                (at, 'M') => (&text[..at], 20),
                (at, 'G') => (&text[..at], 30),
                (at, 'T') => (&text[..at], 40),
                _ => (text, 0),
            };
            whole(digits)?.checked_mul(1 << shift).filter(|bytes| *bytes > 0).map(Self::Bytes)
        };
        parse().ok_or_else(|| VerifyError::Subset { text: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(count: usize) -> Vec<Pack> {
        let pack = |number: usize| Pack {
            id: PackId(hash::hash(&number.to_string().into_bytes())),
            len: 1000,
            listings: Vec::new(),
            trusted: true,
            other_len: None,
        };
        (0..count).map(pack).collect()
    }

    fn chosen_count(subset: Subset, packs: &[Pack], seed: u8) -> usize {
        subset.choose(packs, [seed; 32]).into_iter().filter(|chosen| *chosen).count()
    }

    #[test]
    fn text_is_read_or_refused() {
        let good = [
            ("1/1", Subset::Part { n: 1, m: 1 }),
            ("3/7", Subset::Part { n: 3, m: 7 }),
            ("5%", Subset::Percent(5.0)),
            ("0.5%", Subset::Percent(0.5)),
            ("100%", Subset::Percent(100.0)),
            ("700", Subset::Bytes(700)),
            ("2K", Subset::Bytes(2048)),
            ("10G", Subset::Bytes(10 << 30)),
            ("1T", Subset::Bytes(1 << 40)),
        ];
        for (text, expected) in good {
            assert_eq!(text.parse::<Subset>().unwrap(), expected, "{text}");
        }
        let bad = [
            "",
            "0/4",
            "5/4",
            "1/0",
            "/",
            "+1/2",
            "0%",
            "101%",
            "-5%",
            "inf%",
            "1e1%",
            "%",
            "G",
            "0",
            "-1",
            "18446744073709551615K",
            "3k",
            "ä",
        ];
        for text in bad {
            assert!(text.parse::<Subset>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_cover_all_packs_once() {
        let packs = packs(200);
        let mut seen = vec![0; packs.len()];
        for n in 1..=7 {
            for (seen, chosen) in seen.iter_mut().zip(Subset::Part { n, m: 7 }.choose(&packs, [0; 32])) {
                *seen += u32::from(chosen);
            }
        }
        assert!(seen.iter().all(|seen| *seen == 1));
    }

    #[test]
    fn random_subsets_have_the_size_asked_for_and_follow_the_seed() {
        let packs = packs(200);
        assert_eq!(chosen_count(Subset::All, &packs, 0), 200);
        assert_eq!(chosen_count(Subset::Percent(5.0), &packs, 0), 10);
        assert_eq!(chosen_count(Subset::Percent(0.01), &packs, 0), 1);
        assert_eq!(chosen_count(Subset::Percent(100.0), &packs, 0), 200);
        assert_eq!(chosen_count(Subset::Bytes(10_500), &packs, 0), 10);
        assert_eq!(chosen_count(Subset::Bytes(1), &packs, 0), 1);
        assert_eq!(chosen_count(Subset::Percent(5.0), &[], 0), 0);
        let choose = |seed| Subset::Percent(5.0).choose(&packs, [seed; 32]);
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
    }
}
