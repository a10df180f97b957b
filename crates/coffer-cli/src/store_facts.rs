//! What this machine found out of object stores, kept for its next commands.
//!
//! One small file for each store, `stores/<hash of its place>` in the directory of the local memory, with the place and a line for
//! each fact. It holds no secret, is true of the store and not of a vault, and may be deleted or damaged at any time: what cannot
//! be read is not known, which is safe, and is found out again. Without a local memory nothing is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use coffer_crypto::hash::hash;
use coffer_format::id::hex;
use coffer_store::{UploadFacts, UploadMemory};

use crate::output::Output;

/// Longest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 16;

/// The facts of all stores.
#[derive(Debug)]
pub(crate) struct StoreFacts {
    directory: PathBuf,
    output: Output,
}

impl StoreFacts {
    /// The facts in the local memory at `root`.
    pub(crate) fn new(root: &Path, output: Output) -> Self {
        Self { directory: root.join("stores"), output }
    }

    fn path(&self, place: &str) -> PathBuf {
        self.directory.join(hex(&hash(place.as_bytes())[..16]))
    }

    /// Replaces the file whole: another command may read it meanwhile.
    fn replace(&self, place: &str, text: &str) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.directory)?;
        let path = self.path(place);
        let temp = path.with_extension(format!("{}.tmp", process::id()));
        let written = fs::write(&temp, text).and_then(|()| fs::rename(&temp, &path));
        written.inspect_err(|_| drop(fs::remove_file(&temp)))
    }
}

impl UploadMemory for StoreFacts {
    fn read(&self, place: &str) -> Option<UploadFacts> {
        use std::io::Read;
        let mut text = String::new();
        let file = fs::File::open(self.path(place)).ok()?;
        file.take(FILE_LEN_MAX).read_to_string(&mut text).ok()?;
        // The name of the file is a hash, and the first line says of what.
        let (first, facts) = text.split_once('\n')?;
        (first == heading(place)).then(|| UploadFacts::parse(facts))
    }

    fn write(&self, place: &str, facts: &UploadFacts) {
        // It is found out again: the command goes on without.
        if let Err(error) = self.replace(place, &format!("{}\n{facts}", heading(place)))
            && self.output.very_verbose
        {
            let shown = self.directory.display();
            self.output.note(&format!("what was found of a store cannot be kept in {shown}: {error}"));
        }
    }
}

fn heading(place: &str) -> String {
    format!("store {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_kept_by_place_and_may_be_lost() {
        let root = std::env::temp_dir().join(format!("coffer-store-facts-{}", process::id()));
        let output = Output { json: false, quiet: true, verbose: false, very_verbose: false };
        let facts = StoreFacts::new(&root, output);
        let known = UploadFacts { is_demanded: Some(true), ..UploadFacts::default() };
        assert_eq!(facts.read("s3://a at AWS"), None);
        facts.write("s3://a at AWS", &known);
        assert_eq!(facts.read("s3://a at AWS"), Some(known));
        assert_eq!(facts.read("s3://a at https://elsewhere"), None);
        // Of another store, damaged, gone: nothing is known then.
        fs::copy(facts.path("s3://a at AWS"), facts.path("s3://b at AWS")).expect("is copied");
        assert_eq!(facts.read("s3://b at AWS"), None);
        fs::write(facts.path("s3://b at AWS"), b"store s3://b at AWS\n\xff\xff").expect("is written");
        assert_eq!(facts.read("s3://b at AWS"), None);
        fs::write(facts.path("s3://b at AWS"), b"store s3://b at AWS\nwithout-checksum perhaps\n")
            .expect("is written");
        assert_eq!(facts.read("s3://b at AWS"), Some(UploadFacts::default()));
        let names: Vec<_> = fs::read_dir(root.join("stores")).expect("a directory").collect();
        assert_eq!(names.len(), 2, "{names:?}");
        fs::remove_dir_all(&root).expect("is removed");
        assert_eq!(facts.read("s3://a at AWS"), None);
    }
}
