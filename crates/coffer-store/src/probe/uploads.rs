//! Which checksums a bucket takes with uploads, and what follows from it.
//!
//! A checksum is worth sending where the store compares it: so a wrong one is tried as well. None of this is a promise that a
//! store must keep, as there is always a form that it takes.

use super::{CREATE, ProbeFact, Run, told};
use crate::{
    ChecksumUse, ChunkedUse, CloudStore, StoreError, Trial, UploadChecksum, UploadFacts, UploadForm,
};

/// What was found of one thing: in the terms of the facts, and as the store put it.
type Found<T> = Result<(T, Option<String>), StoreError>;

impl Run<'_> {
    /// Tries the forms of uploads one by one, and has the store make use of what comes out.
    pub(super) fn uploads(&mut self, cloud: &dyn CloudStore) -> (UploadFacts, Vec<ProbeFact>) {
        // Who may not write, or cannot reach the store, finds out nothing.
        if self.untried.is_some() {
            return <_>::default();
        }
        let whole = self.checksum(cloud, UploadForm::Summed, UploadForm::WronglySummed);
        let in_parts = self.checksum(cloud, UploadForm::PartsSummed, UploadForm::PartsWronglySummed);
        let plain = self.plain(cloud);
        let chunked = self.chunked(cloud);
        let facts = UploadFacts {
            whole: value(&whole),
            in_parts: value(&in_parts),
            is_demanded: value(&plain),
            chunked: value(&chunked),
        };
        cloud.learn_uploads(&facts);
        let sent = |in_parts| facts.checksum(cloud.checksums(), false, in_parts);
        let told = vec![
            of_checksum("checksums", whole, sent(false)),
            of_checksum("checksums in parts", in_parts, sent(true)),
            of_plain(plain),
            of_chunked(chunked),
        ];
        (facts, told)
    }

    /// What becomes of a checksum: tried with one that is right and with one that is wrong.
    fn checksum(
        &mut self,
        cloud: &dyn CloudStore,
        right: UploadForm,
        wrong: UploadForm,
    ) -> Found<ChecksumUse> {
        if let Trial::Refused(reason) = self.try_form(cloud, right)? {
            return Ok((ChecksumUse::Rejected, Some(reason)));
        }
        Ok(match self.try_form(cloud, wrong)? {
            Trial::Refused(_) => (ChecksumUse::Verified, None),
            Trial::Taken => (ChecksumUse::Ignored, None),
        })
    }

    /// Whether an upload without a checksum is refused.
    fn plain(&mut self, cloud: &dyn CloudStore) -> Found<bool> {
        Ok(match self.try_form(cloud, UploadForm::Plain)? {
            Trial::Taken => (false, None),
            Trial::Refused(reason) => (true, Some(reason)),
        })
    }

    /// What becomes of an upload in chunks: some stores keep the frames of the chunks as if they were content.
    fn chunked(&mut self, cloud: &dyn CloudStore) -> Found<ChunkedUse> {
        if let Trial::Refused(reason) = self.try_form(cloud, UploadForm::Chunked)? {
            return Ok((ChunkedUse::Rejected, Some(reason)));
        }
        let body = self.body(label(UploadForm::Chunked));
        let mut found = vec![0; body.len()];
        let key = self.upload_key(UploadForm::Chunked)?;
        let is_as_long = self.store.stat(&key)?.len == body.len() as u64;
        let is_same = is_as_long && self.store.read_range(&key, 0, &mut found).map(|()| found == body)?;
        Ok((if is_same { ChunkedUse::Taken } else { ChunkedUse::Mangled }, None))
    }

    fn try_form(&mut self, cloud: &dyn CloudStore, form: UploadForm) -> Result<Trial, StoreError> {
        let key = self.upload_key(form)?;
        self.written.push(key.clone());
        // A bucket may demand the condition, or not know it.
        cloud.try_upload(&key, &self.body(label(form)), form, self.has_passed(CREATE))
    }

    fn upload_key(&self, form: UploadForm) -> Result<crate::ObjectKey, StoreError> {
        crate::ObjectKey::new(self.prefix() + label(form))
    }

    fn has_passed(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && check.is_passed)
    }
}

const fn label(form: UploadForm) -> &'static str {
    match form {
        UploadForm::Plain => "upload",
        UploadForm::Summed => "upload-summed",
        UploadForm::WronglySummed => "upload-wrongly-summed",
        UploadForm::PartsSummed => "upload-parts-summed",
        UploadForm::PartsWronglySummed => "upload-parts-wrongly-summed",
        UploadForm::Chunked => "upload-chunked",
    }
}

fn value<T: Copy>(found: &Found<T>) -> Option<T> {
    found.as_ref().ok().map(|(found, _)| *found)
}

/// A fact as it was found, with the store's reason behind it.
fn fact<T>(
    name: &'static str,
    found: Found<T>,
    say: impl FnOnce(T) -> (&'static str, &'static str),
) -> ProbeFact {
    match found {
        Ok((found, reason)) => {
            let (found, consequence) = say(found);
            let found = reason.map_or_else(|| found.to_owned(), |reason| format!("{found} ({reason})"));
            ProbeFact { name, found, consequence: consequence.to_owned() }
        }
        Err(error) => {
            let consequence = "uploads go as they went before; what is refused is tried in another form";
            ProbeFact {
                name,
                found: format!("not known ({})", told(&error)),
                consequence: consequence.to_owned(),
            }
        }
    }
}

fn of_checksum(name: &'static str, found: Found<ChecksumUse>, sent: UploadChecksum) -> ProbeFact {
    fact(name, found, |found| {
        let consequence = match (sent, found) {
            (UploadChecksum::Crc32c, ChecksumUse::Verified) => {
                "uploads bring a CRC-32C, and what changed on the way is refused"
            }
            (UploadChecksum::Crc32c, _) => "uploads bring a CRC-32C, as the configuration says",
            (UploadChecksum::Md5, _) => "uploads bring a Content-MD5",
            (UploadChecksum::None, ChecksumUse::Verified) => "uploads bring none, as the configuration says",
            (UploadChecksum::None, _) => {
                "uploads bring none: what changed on the way is found when it is read"
            }
        };
        let found = match found {
            ChecksumUse::Verified => "verified",
            ChecksumUse::Ignored => "taken, and a wrong one as well",
            ChecksumUse::Rejected => "rejected",
        };
        (found, consequence)
    })
}

fn of_plain(found: Found<bool>) -> ProbeFact {
    fact("uploads without checksum", found, |is_demanded| match is_demanded {
        false => ("taken", "older programs can write to the bucket as well"),
        true => ("refused", "every upload brings a checksum"),
    })
}

fn of_chunked(found: Found<ChunkedUse>) -> ProbeFact {
    let others =
        "coffer sends none; tools of AWS on this bucket need request_checksum_calculation = when_required";
    fact("chunked uploads", found, |found| match found {
        ChunkedUse::Taken => ("taken", "coffer sends none, as its checksums go ahead of what they are of"),
        ChunkedUse::Mangled => ("stored with something else than was sent", others),
        ChunkedUse::Rejected => ("rejected", others),
    })
}
