//! Data that follows from a seed: bytes that do not compress, source code, JSON, and trees of files.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A generator of numbers that is good enough for test data (SplitMix64).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    /// One of `choices`; the first ones more often than the last.
    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let at = self.below(choices.len()).min(self.below(choices.len()));
        choices[at]
    }
}

/// What data is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Lines of a program.
    Source,
    /// Records with some fields that never repeat.
    Json,
    /// Does not compress.
    Random,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Source, Self::Json, Self::Random];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Json => "json",
            Self::Random => "random",
        }
    }

    /// `len` bytes of it.
    #[must_use]
    pub fn bytes(self, seed: u64, len: usize) -> Vec<u8> {
        let mut numbers = Numbers::new(seed);
        if self == Self::Random {
            let mut out = vec![0; len];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
            return out;
        }
        let mut text = String::with_capacity(len + 1024);
        while text.len() < len {
            match self {
                Self::Json => json_record(&mut numbers, &mut text),
                Self::Source | Self::Random => source_line(&mut numbers, &mut text),
            }
        }
        let mut out = text.into_bytes();
        out.truncate(len);
        out
    }
}

const WORDS: &[&str] = &[
    "self",
    "value",
    "len",
    "index",
    "result",
    "error",
    "state",
    "buffer",
    "offset",
    "entry",
    "path",
    "name",
    "count",
    "chunk",
    "frame",
    "parent",
    "reader",
    "writer",
    "options",
    "config",
    "token",
    "stream",
    "request",
    "response",
    "handle",
    "cursor",
    "header",
    "payload",
    "version",
    "segment",
    "window",
    "builder",
    "context",
    "visitor",
    "field",
    "pattern",
    "lifetime",
    "boundary",
    "checksum",
    "interval",
    "capacity",
    "position",
    "iterator",
    "delimiter",
];
const TYPES: &[&str] = &[
    "usize",
    "u64",
    "String",
    "Vec<u8>",
    "&str",
    "bool",
    "Option<u32>",
    "Self",
    "io::Result<()>",
    "PathBuf",
];

fn source_line(numbers: &mut Numbers, out: &mut String) {
    let (a, b, c) = (numbers.pick(WORDS), numbers.pick(WORDS), numbers.pick(WORDS));
    let (kind, number) = (numbers.pick(TYPES), numbers.next() % 4096);
    // Writing into a string cannot fail.
    let _ = match numbers.below(12) {
        0 => writeln!(out, "\n    /// Returns the {a} of this {b}, and the {c} after it.\n    #[inline]"),
        1 => writeln!(out, "    pub fn {a}_{b}(&mut self, {c}: {kind}) -> {kind} {{"),
        2 => writeln!(out, "        let {a} = self.{b}.{c}({number})?;"),
        3 => writeln!(
            out,
            "        if {a}.{b}() > {number} {{\n            return Err({c}.into());\n        }}"
        ),
        4 => writeln!(out, "        for {a} in {b}.iter().enumerate() {{"),
        5 => writeln!(out, "            {a}.push({b}[{c}]);\n        }}"),
        6 => writeln!(out, "    }}\n"),
        7 => writeln!(
            out,
            "        match {a}.{b} {{\n            Some({c}) => {c},\n            None => {number},"
        ),
        8 => writeln!(out, "        // The {a} has to be {b} before the {c} is known, see {number:#x}."),
        9 => writeln!(out, "        assert_eq!({a}.{b}(), {number}, \"{c}\");"),
        10 => writeln!(out, "use crate::{a}::{{{b}, {c}}};"),
        _ => writeln!(out, "        self.{a}.{b} = {c}.wrapping_add({number:#06x});"),
    };
}

fn json_record(numbers: &mut Numbers, out: &mut String) {
    let (given, family, role) = (numbers.pick(WORDS), numbers.pick(WORDS), numbers.pick(WORDS));
    let (id, more) = (numbers.next(), numbers.next());
    let _ = write!(
        out,
        "{{\n \"id\": \"{id:016x}{more:016x}\",\n \"name\": {{\"given\": \"{given}\", \"family\": \"{family}\"}},\n \"email\": \"{given}.{family}@{role}.example\",\n \"roles\": [\"reader\", \"{role}\"],\n \"created\": \"2024-{:02}-{:02}T{:02}:{:02}:00Z\",\n \"quota_bytes\": {},\n \"settings\": {{\"language\": \"en\", \"beta\": {}}},\n \"note\": \"",
        id % 12 + 1,
        id % 28 + 1,
        more % 24,
        more % 60,
        (more % 64) << 30,
        id % 5 == 0,
    );
    for _ in 0..40 {
        out.push_str(numbers.pick(WORDS));
        out.push(' ');
    }
    out.push_str("\"\n}\n");
}

/// Fills `root` with `bytes` of files of about `file_len` each, a hundred in a directory. Their contents, one after the other in the
/// order of a backup, are `kind.bytes(seed, bytes)`, which is returned. Times are the same whenever it is done.
///
/// # Errors
/// When a file cannot be written.
pub fn grow_tree(root: &Path, kind: Kind, seed: u64, bytes: usize, file_len: usize) -> io::Result<Vec<u8>> {
    let all = kind.bytes(seed, bytes);
    let mut numbers = Numbers::new(seed);
    let mut rest = all.as_slice();
    let mut count = 0;
    while !rest.is_empty() {
        let place = root.join(format!("{:05}", count / 100));
        if count % 100 == 0 {
            fs::create_dir_all(&place)?;
        }
        let len = (file_len / 4 + numbers.below(file_len * 3 / 2)).min(rest.len());
        let (file, others) = rest.split_at(len);
        write_file(&place.join(format!("file-{count:07}")), file)?;
        set_time(&place)?;
        rest = others;
        count += 1;
    }
    set_time(root)?;
    Ok(all)
}

/// Writes a file with a time that is always the same.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    set_time(path)
}

/// Gives a file or directory a time that is always the same.
///
/// # Errors
/// When it may not have one.
pub fn set_time(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
}
