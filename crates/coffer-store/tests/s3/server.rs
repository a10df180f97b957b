//! An S3 server on loopback: real HTTP, signatures that are checked, conditions that hold in a race, objects in memory.
//!
//! `s3s` does the protocol; the operations below are the few that a store asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use coffer_store::{AwsKeys, Credentials, Location, S3Location, S3Options, S3Store};
use futures_util::TryStreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;

pub(crate) const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";
pub(crate) const BUCKET: &str = "bucket";

/// Names on one page of a listing.
const PAGE_COUNT: usize = 100;

/// What is in the bucket.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) by_key: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<i32, Bytes>>,
    upload_count: usize,
    /// Whether a body that came in chunks is kept with a frame around it.
    pub(crate) mangles_chunks: bool,
}

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    memory: Memory,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .expect("a runtime");
        let memory = Memory::default();
        let service = service(memory.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, service.clone()));
            }
        });
        Self { address, memory, runtime }
    }

    /// Serves the same objects over TLS as well.
    pub(crate) fn add_tls(&self, config: Arc<rustls::ServerConfig>) -> SocketAddr {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let bind = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = self.runtime.block_on(bind).expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = service(self.memory.clone());
        self.runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, service) = (acceptor.clone(), service.clone());
                tokio::spawn(async move {
                    // Some clients do not like the certificate.
                    if let Ok(connection) = acceptor.accept(connection).await {
                        serve(connection, service).await;
                    }
                });
            }
        });
        address
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Options that reach it.
    pub(crate) fn options(&self) -> S3Options {
        options(self.endpoint())
    }

    /// A store at a prefix of the bucket.
    pub(crate) fn store(&self, prefix: &str) -> S3Store {
        S3Store::open(location(&format!("s3://{BUCKET}/{prefix}")), &self.options()).expect("a store")
    }

    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.memory.lock()
    }
}

/// Options for an endpoint on loopback, with the keys that [`Server`] knows.
pub(crate) fn options(endpoint: String) -> S3Options {
    let keys = AwsKeys::new(ACCESS_KEY.to_owned(), SECRET_KEY.to_owned(), None);
    let mut options = S3Options::new(Credentials::Keys(keys));
    options.endpoint = Some(endpoint);
    options.use_proxies = false;
    options
}

pub(crate) fn location(url: &str) -> S3Location {
    match Location::parse(url).expect("a location") {
        Location::S3(location) => location,
        other => panic!("{other:?} is no bucket"),
    }
}

fn service(memory: Memory) -> S3Service {
    let mut builder = S3ServiceBuilder::new(memory);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    builder.build()
}

async fn serve(connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S3Service) {
    // A client may go away at any time.
    drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await);
}

#[derive(Clone, Default)]
struct Memory {
    objects: Arc<Mutex<Objects>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().expect("no panic")
    }

    fn in_bucket(&self, bucket: &str) -> S3Result<MutexGuard<'_, Objects>> {
        if bucket == BUCKET { Ok(self.lock()) } else { Err(s3_error!(NoSuchBucket)) }
    }
}

impl Objects {
    fn create(&mut self, key: String, body: Bytes, condition: Option<&ETagCondition>) -> S3Result<()> {
        if condition.is_some_and(ETagCondition::is_any) && self.by_key.contains_key(&key) {
            return Err(s3_error!(PreconditionFailed));
        }
        self.by_key.insert(key, body);
        Ok(())
    }
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let pieces: Result<Vec<Bytes>, _> = body.try_collect().await;
    // As when the signature of a body does not fit it.
    Ok(pieces.map_err(|_| s3_error!(IncompleteBody))?.concat().into())
}

fn tag(len: usize) -> Option<ETag> {
    Some(ETag::Strong(format!("not-a-hash-{len}")))
}

fn encode(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    key.bytes().map(encode).collect()
}

#[async_trait::async_trait]
impl S3 for Memory {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let is_chunked = request.headers.contains_key("x-amz-trailer");
        let input = request.input;
        let mut body = collect(input.body).await?;
        if is_chunked && self.lock().mangles_chunks {
            body = [b"1000\r\n", &body[..], b"\r\n0\r\n\r\n"].concat().into();
        }
        let e_tag = tag(body.len());
        self.in_bucket(&input.bucket)?.create(input.key, body, input.if_none_match.as_ref())?;
        Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let objects = self.in_bucket(&input.bucket)?;
        let body = objects.by_key.get(&input.key).ok_or_else(|| s3_error!(NoSuchKey))?.clone();
        let (e_tag, total) = (tag(body.len()), body.len());
        let (body, content_range) = match input.range {
            None => (body, None),
            Some(range) => {
                let range = range.check(total as u64)?;
                let text = format!("bytes {}-{}/{total}", range.start, range.end - 1);
                let at = |offset: u64| usize::try_from(offset).expect("it is in memory");
                (body.slice(at(range.start)..at(range.end)), Some(text))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(body.len() as i64),
            body: Some(StreamingBlob::from(Body::from(body))),
            content_range,
            e_tag,
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let objects = self.in_bucket(&request.input.bucket)?;
        let body = objects.by_key.get(&request.input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let content_length = Some(body.len() as i64);
        Ok(S3Response::new(HeadObjectOutput {
            content_length,
            e_tag: tag(body.len()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.in_bucket(&request.input.bucket)?.by_key.remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    /// Shows the names of a page last first, as no client may rest on their order.
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let objects = self.in_bucket(&input.bucket)?;
        let prefix = input.prefix.unwrap_or_default();
        let after = input.continuation_token.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = objects
            .by_key
            .range::<String, _>((after, Bound::Unbounded))
            .filter(|(key, _)| key.starts_with(&prefix));
        let page: Vec<_> = found.by_ref().take(PAGE_COUNT).collect();
        let is_truncated = found.next().is_some();
        let token = page.last().map(|(key, _)| (*key).clone()).filter(|_| is_truncated);
        let object = |(key, body): &(&String, &Bytes)| Object {
            key: Some(if input.encoding_type.is_some() { encode(key) } else { (*key).clone() }),
            size: Some(body.len() as i64),
            ..Object::default()
        };
        Ok(S3Response::new(ListObjectsV2Output {
            contents: Some(page.iter().rev().map(object).collect()),
            encoding_type: input.encoding_type.clone(),
            is_truncated: Some(is_truncated),
            next_continuation_token: token,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        drop(self.in_bucket(&request.input.bucket)?);
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut objects = self.in_bucket(&request.input.bucket)?;
        objects.upload_count += 1;
        let id = format!("upload-{}", objects.upload_count);
        objects.uploads.insert(id.clone(), BTreeMap::new());
        let upload_id = Some(id);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            upload_id,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let body = collect(input.body).await?;
        let e_tag = tag(body.len());
        let mut objects = self.in_bucket(&input.bucket)?;
        let upload = objects.uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.insert(input.part_number, body);
        Ok(S3Response::new(UploadPartOutput { e_tag, ..UploadPartOutput::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let mut objects = self.in_bucket(&input.bucket)?;
        let parts = objects.uploads.get(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?.clone();
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let named: Vec<_> = named.iter().filter_map(|part| part.part_number).collect();
        if named != parts.keys().copied().collect::<Vec<_>>() {
            return Err(s3_error!(InvalidPart));
        }
        let body: Bytes = parts.into_values().collect::<Vec<_>>().concat().into();
        objects.create(input.key, body, input.if_none_match.as_ref())?;
        objects.uploads.remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput::default()))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.in_bucket(&request.input.bucket)?.uploads.remove(&request.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

impl Objects {
    /// Uploads in parts that nobody ended.
    pub(crate) fn upload_count(&self) -> usize {
        self.uploads.len()
    }
}
