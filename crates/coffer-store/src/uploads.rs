//! What a store does with the checksum of an upload, and which one uploads bring therefore.
//!
//! Stores differ: some compare a checksum with what arrived, some take it and do nothing with it, some refuse a request that
//! has one, some one that has none. [`probe`](crate::probe) finds it out, and a write that is refused teaches it. It is true of
//! a store today, not of a vault, so it is kept beside the vault, in an [`UploadMemory`], and may be forgotten at any time:
//! then nothing is sent that nobody demanded, as every store takes that.

use std::fmt;

/// Which checksums uploads bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Checksums {
    /// A CRC-32C where the store was found to verify it; elsewhere none but where a lock or the store demands one.
    #[default]
    Auto,
    /// One with each upload: a CRC-32C, or a `Content-MD5` where the store rejects that.
    Always,
    /// None but where a lock or the store demands one.
    Never,
}

/// What a store does with the CRC-32C that an upload brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumUse {
    /// It compares it with what arrived, and refuses what does not fit.
    Verified,
    /// It takes it, and takes a wrong one as well.
    Ignored,
    /// It takes no upload that has one.
    Rejected,
}

/// What a store does with an upload in chunks whose checksum comes behind them (`aws-chunked`), as SDKs send it by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkedUse {
    /// It stores what was sent.
    Taken,
    /// It stores something else, as the frames of the chunks along with it.
    Mangled,
    /// It does not take it.
    Rejected,
}

/// What is known of how a store takes uploads; `None` where it was not found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct UploadFacts {
    /// A CRC-32C with an object that is written in one request.
    pub whole: Option<ChecksumUse>,
    /// A CRC-32C with each part of an object.
    pub in_parts: Option<ChecksumUse>,
    /// Whether an upload without any checksum is refused.
    pub is_demanded: Option<bool>,
    /// Chunks. Nothing follows from it here, as bodies are in memory and their checksum goes ahead of them; other programs
    /// that use the bucket may need to know.
    pub chunked: Option<ChunkedUse>,
}

/// The checksum that one upload brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UploadChecksum {
    /// None.
    None,
    /// `x-amz-checksum-crc32c`.
    Crc32c,
    /// `Content-MD5`, which every store knows, and which costs by far more.
    Md5,
}

/// Ways to upload that a probe tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UploadForm {
    /// Without a checksum.
    Plain,
    /// With a CRC-32C in the head.
    Summed,
    /// With one that is not that of the body.
    WronglySummed,
    /// In parts, each with a CRC-32C.
    PartsSummed,
    /// In parts, each with one that is not that of the part.
    PartsWronglySummed,
    /// In chunks, with a checksum behind them.
    Chunked,
}

/// Whether a store took what was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It did.
    Taken,
    /// It said no, in these words.
    Refused(String),
}

/// Keeps what was found of stores, for the next process. What it loses is found out again.
pub trait UploadMemory: Send + Sync + fmt::Debug {
    /// What is known of the store at `place`.
    fn read(&self, place: &str) -> Option<UploadFacts>;

    /// Remembers that, in place of what was known before. That it cannot is no failure of the store.
    fn write(&self, place: &str, facts: &UploadFacts);
}

impl UploadFacts {
    /// Which checksum an upload brings; `is_locked` if the object gets a lock, for which S3 demands one.
    #[must_use]
    pub fn checksum(&self, choice: Checksums, is_locked: bool, in_parts: bool) -> UploadChecksum {
        let must_have = is_locked || self.is_demanded == Some(true);
        match (choice, self.crc32c(in_parts)) {
            (Checksums::Auto, Some(ChecksumUse::Verified)) => UploadChecksum::Crc32c,
            (Checksums::Always, Some(ChecksumUse::Rejected)) => UploadChecksum::Md5,
            (Checksums::Always, _) => UploadChecksum::Crc32c,
            (Checksums::Auto | Checksums::Never, _) if must_have => UploadChecksum::Md5,
            (Checksums::Auto | Checksums::Never, _) => UploadChecksum::None,
        }
    }

    /// What is known of a CRC-32C, in parts or not.
    #[must_use]
    pub const fn crc32c(&self, in_parts: bool) -> Option<ChecksumUse> {
        if in_parts { self.in_parts } else { self.whole }
    }

    /// What `newer` says, and what was known before where it says nothing.
    #[must_use]
    pub fn updated(&self, newer: &Self) -> Self {
        Self {
            whole: newer.whole.or(self.whole),
            in_parts: newer.in_parts.or(self.in_parts),
            is_demanded: newer.is_demanded.or(self.is_demanded),
            chunked: newer.chunked.or(self.chunked),
        }
    }

    /// What was written by `Display`. Lines that say nothing are left out: whoever wrote them may know more, or be damaged.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        for line in text.lines() {
            match line.split_once(' ').unwrap_or_default() {
                (WHOLE, word) => facts.whole = ChecksumUse::of(word),
                (IN_PARTS, word) => facts.in_parts = ChecksumUse::of(word),
                (WITHOUT, TAKEN) => facts.is_demanded = Some(false),
                (WITHOUT, REJECTED) => facts.is_demanded = Some(true),
                (CHUNKED, TAKEN) => facts.chunked = Some(ChunkedUse::Taken),
                (CHUNKED, MANGLED) => facts.chunked = Some(ChunkedUse::Mangled),
                (CHUNKED, REJECTED) => facts.chunked = Some(ChunkedUse::Rejected),
                _ => {}
            }
        }
        facts
    }
}

const WHOLE: &str = "crc32c";
const IN_PARTS: &str = "crc32c-in-parts";
const WITHOUT: &str = "without-checksum";
const CHUNKED: &str = "chunked";
const TAKEN: &str = "taken";
const MANGLED: &str = "mangled";
const REJECTED: &str = "rejected";

impl ChecksumUse {
    const fn word(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Ignored => "ignored",
            Self::Rejected => REJECTED,
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Verified, Self::Ignored, Self::Rejected].into_iter().find(|known| known.word() == word)
    }
}

/// A line for each thing that is known; [`UploadFacts::parse`] reads it.
impl fmt::Display for UploadFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunked = self.chunked.map(|found| match found {
            ChunkedUse::Taken => TAKEN,
            ChunkedUse::Mangled => MANGLED,
            ChunkedUse::Rejected => REJECTED,
        });
        let lines = [
            (WHOLE, self.whole.map(ChecksumUse::word)),
            (IN_PARTS, self.in_parts.map(ChecksumUse::word)),
            (WITHOUT, self.is_demanded.map(|is_demanded| if is_demanded { REJECTED } else { TAKEN })),
            (CHUNKED, chunked),
        ];
        for (name, word) in lines {
            if let Some(word) = word {
                writeln!(f, "{name} {word}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USES: [Option<ChecksumUse>; 4] =
        [None, Some(ChecksumUse::Verified), Some(ChecksumUse::Ignored), Some(ChecksumUse::Rejected)];

    #[test]
    fn what_is_written_down_is_read_again() {
        for whole in USES {
            for in_parts in USES {
                for is_demanded in [None, Some(true), Some(false)] {
                    let uses = [ChunkedUse::Taken, ChunkedUse::Mangled, ChunkedUse::Rejected];
                    for chunked in std::iter::once(None).chain(uses.map(Some)) {
                        let facts = UploadFacts { whole, in_parts, is_demanded, chunked };
                        assert_eq!(UploadFacts::parse(&facts.to_string()), facts, "{facts}");
                    }
                }
            }
        }
        for text in ["", "\n", "crc32c", "crc32c perhaps\n", "sha256 verified\n", "\u{0}\u{1}"] {
            assert_eq!(UploadFacts::parse(text), UploadFacts::default(), "{text:?}");
        }
    }

    #[track_caller]
    fn check(choice: Checksums, known: Option<ChecksumUse>, is_demanded: bool, expected: UploadChecksum) {
        for in_parts in [false, true] {
            let mut facts = UploadFacts { is_demanded: Some(is_demanded), ..UploadFacts::default() };
            *(if in_parts { &mut facts.in_parts } else { &mut facts.whole }) = known;
            assert_eq!(facts.checksum(choice, false, in_parts), expected, "{choice:?} {facts}");
            // A lock demands one as a bucket does.
            let locked = UploadFacts { is_demanded: Some(false), ..facts };
            assert_eq!(locked.checksum(choice, is_demanded, in_parts), expected, "{choice:?} {facts}");
        }
    }

    #[test]
    fn what_is_found_decides_which_checksum_is_sent() {
        use ChecksumUse::{Ignored, Rejected, Verified};
        use UploadChecksum::{Crc32c, Md5, None as Nothing};
        for (known, plain, demanded) in [
            (None, Nothing, Md5),
            (Some(Verified), Crc32c, Crc32c),
            (Some(Ignored), Nothing, Md5),
            (Some(Rejected), Nothing, Md5),
        ] {
            check(Checksums::Auto, known, false, plain);
            check(Checksums::Auto, known, true, demanded);
            check(Checksums::Never, known, false, Nothing);
            check(Checksums::Never, known, true, Md5);
            let always = if known == Some(Rejected) { Md5 } else { Crc32c };
            check(Checksums::Always, known, false, always);
            check(Checksums::Always, known, true, always);
        }
    }

    #[test]
    fn newer_facts_go_before_and_leave_what_they_do_not_know() {
        let old = UploadFacts::parse("crc32c verified\nchunked taken\n");
        let newer = UploadFacts::parse("crc32c rejected\nwithout-checksum taken\n");
        let both = "crc32c rejected\nwithout-checksum taken\nchunked taken\n";
        assert_eq!(old.updated(&newer).to_string(), both);
    }
}
