//! A zip archive, as Info-ZIP and others read it: deflated, with Unix modes, and times in seconds.
//!
//! A zip archive has no hard links and no special files, keeps no owners, no attributes and no holes (they are written as zeros), and names
//! its entries again at its end: memory grows by some 200 bytes for each entry. A name that is not UTF-8 is there byte by byte, but
//! nothing in the archive says how to read it.

use std::io::{Cursor, Write};
use std::mem::ManuallyDrop;

use zip::write::{ExtendedFileOptions, FileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{ArchiveHole, ArchiveWriter, Archived, Due, output, unfit};
use crate::{CollectError, EntryKind, EntryPath, Metadata};

/// Files from this length on get fields of 64 bits; below it they fit the old ones even if deflating makes them longer.
const LARGE_FILE_LEN: u64 = 4_000_000_000;
/// The zip writer takes no header that is longer, with all that is in it.
const NAME_LEN_MAX: usize = 65_000;
/// Info-ZIP's field for times in UTC.
const EXTENDED_TIMESTAMP: u16 = 0x5455;

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// Writes a zip archive to `W`.
#[derive(Debug)]
pub struct ZipArchive<W: Write> {
    /// Dropping it would complete the archive, also one that was given up: only [`ArchiveWriter::finish`] does.
    zip: ManuallyDrop<ZipWriter<StreamWriter<W>>>,
    due: Due,
}

impl<W: Write> ZipArchive<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self { zip: ManuallyDrop::new(ZipWriter::new_stream(out)), due: Due::default() }
    }

    /// Begins a file, or a symlink, whose target is its content.
    fn begin(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        type_bits: u32,
        method: CompressionMethod,
    ) -> Result<(), CollectError> {
        let options = options(path, path.as_bytes(), metadata, type_bits)?
            .compression_method(method)
            .large_file(type_bits == TYPE_FILE && metadata.size >= LARGE_FILE_LEN);
        self.zip.start_file_with_options(options).map_err(failed)
    }

    /// The zip writer makes directories of names in UTF-8 alone, and as a file it would have to go back to it. It copies one
    /// of any name from another archive.
    fn copy_directory(
        &mut self,
        options: FileOptions<'static, '_, ExtendedFileOptions>,
    ) -> zip::result::ZipResult<()> {
        let mut other = ZipWriter::new(Cursor::new(Vec::new()));
        other.start_file_with_options(options)?;
        let mut other = zip::ZipArchive::new(other.finish()?)?;
        self.zip.raw_copy_file(other.by_index_raw(0)?)
    }

    fn put(&mut self, data: &[u8]) -> Result<(), CollectError> {
        self.zip.write_all(data).map_err(output)
    }
}

impl<W: Write> ArchiveWriter for ZipArchive<W> {
    fn path_flaw(&self, path: &[u8]) -> Option<&'static str> {
        // Its bytes are there, but the format takes them for CP437, and whoever unpacks makes another name of them.
        let is_text = std::str::from_utf8(path).is_ok();
        (!is_text)
            .then_some("a zip archive holds no names that are not UTF-8, and unpacks it under another name")
    }

    fn directory(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), CollectError> {
        if path.is_root() {
            // It has no name, and is made by whoever unpacks.
            return Ok(());
        }
        let mut name = path.as_bytes().to_vec();
        name.push(b'/');
        match std::str::from_utf8(&name) {
            Ok(text) => {
                let options = options(path, &name, metadata, TYPE_DIRECTORY)?;
                self.zip.add_directory(text, options).map_err(failed)
            }
            Err(_) => {
                let options = options(path, &name, metadata, TYPE_DIRECTORY)?
                    .compression_method(CompressionMethod::Stored);
                self.copy_directory(options).map_err(failed)
            }
        }
    }

    fn symlink(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), CollectError> {
        let target = metadata.link_target.as_deref();
        let target = target.ok_or_else(|| unfit(path, "it is a symlink without a target"))?;
        self.begin(path, metadata, TYPE_SYMLINK, CompressionMethod::Stored)?;
        self.put(target)
    }

    fn special(
        &mut self,
        _path: &EntryPath,
        _kind: EntryKind,
        _metadata: &Metadata,
    ) -> Result<Archived, CollectError> {
        Ok(Archived::No("a zip archive holds no special files"))
    }

    fn hard_link(
        &mut self,
        _path: &EntryPath,
        _first: &EntryPath,
        _metadata: &Metadata,
    ) -> Result<Archived, CollectError> {
        Ok(Archived::No("a zip archive holds no hard links"))
    }

    fn begin_file(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        _holes: &[ArchiveHole],
    ) -> Result<(), CollectError> {
        self.begin(path, metadata, TYPE_FILE, CompressionMethod::Deflated)?;
        self.due = Due::new(path, metadata.size);
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<(), CollectError> {
        self.due.take(data.len() as u64)?;
        self.put(data)
    }

    fn hole(&mut self, len: u64) -> Result<(), CollectError> {
        static ZEROS: [u8; 65_536] = [0; 65_536];
        self.due.take(len)?;
        let mut left = len;
        while left > 0 {
            let now = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.put(&ZEROS[..now])?;
            left -= now as u64;
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), CollectError> {
        self.due.end()
    }

    fn finish(self: Box<Self>) -> Result<(), CollectError> {
        let zip = ManuallyDrop::into_inner(self.zip);
        let mut out = zip.finish().map_err(failed)?.into_inner();
        out.flush().map_err(output)
    }
}

fn options<'n>(
    path: &EntryPath,
    name: &'n [u8],
    metadata: &Metadata,
    type_bits: u32,
) -> Result<FileOptions<'static, 'n, ExtendedFileOptions>, CollectError> {
    if name.len() > NAME_LEN_MAX {
        return Err(unfit(path, "its path is too long for a zip archive"));
    }
    let directory_bit = if name.ends_with(b"/") { 0x10 } else { 0 };
    let mut options = FileOptions::<ExtendedFileOptions>::default()
        .name(name)
        .last_modified_time(dos_time(metadata.mtime_ns))
        .unix_permissions(metadata.mode)
        .external_attributes((type_bits | metadata.mode) << 16 | directory_bit);
    if let Ok(seconds) = i32::try_from(metadata.mtime_ns.div_euclid(1_000_000_000)) {
        let mut time = vec![1];
        time.extend_from_slice(&seconds.to_le_bytes());
        options.add_extra_field(EXTENDED_TIMESTAMP, &time, false).map_err(failed)?;
    }
    Ok(options)
}

fn failed(error: zip::result::ZipError) -> CollectError {
    output(error.into())
}

/// A time as DOS had it, in UTC, at the ends of its range (1980 and 2107) where it does not fit.
fn dos_time(ns: i64) -> DateTime {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year > 2107 {
        return DateTime::from_date_and_time(2107, 12, 31, 23, 59, 58).unwrap_or_default();
    }
    let small = |value: i64| u8::try_from(value).unwrap_or_default();
    DateTime::from_date_and_time(
        u16::try_from(year).unwrap_or_default(),
        small(month),
        small(day_of_month),
        small(second / 3600),
        small(second / 60 % 60),
        small(second % 60),
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: i64, expected: (u16, u8, u8, u8, u8, u8)) {
        let time = dos_time(seconds * 1_000_000_000);
        let found = (time.year(), time.month(), time.day(), time.hour(), time.minute(), time.second());
        assert_eq!(found, expected, "{seconds}");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        check(951_782_400, (2000, 2, 29, 0, 0, 0));
        check(951_868_800, (2000, 3, 1, 0, 0, 0));
        check(1_704_067_199, (2023, 12, 31, 23, 59, 58));
        check(1_763_611_506, (2025, 11, 20, 4, 5, 6));
        check(4_107_542_400, (2100, 3, 1, 0, 0, 0));
        check(0, (1980, 1, 1, 0, 0, 0));
        check(-1, (1980, 1, 1, 0, 0, 0));
        check(9_000_000_000, (2107, 12, 31, 23, 59, 58));
    }
}
