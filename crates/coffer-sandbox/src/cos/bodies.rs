//! The bytes of objects and parts: one file each, written whole before a record names it.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use futures_util::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::StreamingBlob;
use s3s::{S3ErrorCode, S3Result};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::model::Checksums;
use super::text::refuse;
use crate::random;
use crate::records::OrInternal;

/// Bytes read from a file at a time.
const READ_LEN: usize = 256 * 1024;

/// The directory of the bytes.
#[derive(Debug)]
pub(crate) struct Bodies {
    folder: PathBuf,
}

/// Bytes that were written and that no record names yet. They are deleted unless it is kept.
#[derive(Debug)]
pub(crate) struct NewBody {
    path: PathBuf,
    is_kept: bool,
    pub(crate) name: String,
    pub(crate) len: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) checksums: Checksums,
}

impl NewBody {
    /// A record names it now.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }

    /// The MD5 as ETags have it.
    pub(crate) fn etag(&self) -> String {
        hex(&self.md5)
    }
}

impl Drop for NewBody {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is left behind is swept at the next start.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Bodies {
    /// Opens the directory and sweeps what no record names: remains of requests that the end of the process cut off.
    pub(crate) fn open(folder: PathBuf, named: &HashSet<String>) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        for shard in std::fs::read_dir(&folder)? {
            for file in std::fs::read_dir(shard?.path())? {
                let file = file?;
                if !named.contains(&*file.file_name().to_string_lossy()) {
                    std::fs::remove_file(file.path())?;
                }
            }
        }
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(&name[..2]).join(name)
    }

    async fn create(&self) -> S3Result<(NewBody, File)> {
        let name = random::hex(16);
        let path = self.path(&name);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder)).await.or_internal()?;
        let file = File::create(&path).await.or_internal()?;
        let checksums = Checksums::default();
        Ok((NewBody { path, is_kept: false, name, len: 0, md5: [0; 16], checksums }, file))
    }

    /// Writes a stream, with the sums that `hasher` is set up for.
    pub(crate) async fn write(
        &self,
        stream: Option<StreamingBlob>,
        mut hasher: ChecksumHasher,
        len_max: u64,
    ) -> S3Result<NewBody> {
        let (mut new, mut file) = self.create().await?;
        let mut md5 = Md5::new();
        if let Some(mut stream) = stream {
            while let Some(bytes) = stream.next().await {
                let bytes = bytes.map_err(|error| refuse(S3ErrorCode::IncompleteBody, error.to_string()))?;
                new.len += bytes.len() as u64;
                if new.len > len_max {
                    return Err(refuse(S3ErrorCode::EntityTooLarge, "the body is too large"));
                }
                md5.update(&bytes);
                hasher.update(&bytes);
                file.write_all(&bytes).await.or_internal()?;
            }
        }
        file.flush().await.or_internal()?;
        new.md5 = md5.finalize();
        new.checksums = hasher.finalize().into();
        Ok(new)
    }

    /// Writes the bodies of parts one after the other.
    pub(crate) async fn join(&self, parts: &[String], mut hasher: ChecksumHasher) -> S3Result<NewBody> {
        let (mut new, mut file) = self.create().await?;
        let mut buffer = vec![0; READ_LEN];
        for part in parts {
            let mut source = File::open(self.path(part)).await.or_internal()?;
            loop {
                let len = source.read(&mut buffer).await.or_internal()?;
                if len == 0 {
                    break;
                }
                new.len += len as u64;
                hasher.update(&buffer[..len]);
                file.write_all(&buffer[..len]).await.or_internal()?;
            }
        }
        file.flush().await.or_internal()?;
        new.checksums = hasher.finalize().into();
        Ok(new)
    }

    /// A range of a body. The file stays readable when it is deleted meanwhile; `None` if it is gone already.
    pub(crate) async fn read(&self, name: &str, offset: u64, len: u64) -> S3Result<Option<StreamingBlob>> {
        let mut file = match File::open(self.path(name)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.or_internal()?,
        };
        file.seek(io::SeekFrom::Start(offset)).await.or_internal()?;
        Ok(Some(StreamingBlob::wrap(ReaderStream::with_capacity(file.take(len), READ_LEN))))
    }

    /// Deletes bodies that no record names any more.
    pub(crate) async fn remove(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            // What is left behind is swept at the next start.
            drop(fs::remove_file(self.path(&name)).await);
        }
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
