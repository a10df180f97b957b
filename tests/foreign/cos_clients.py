"""Drives the object storage of the simulated region with clients that others wrote.

    python cos_clients.py MACHINE_TEXT

MACHINE_TEXT is what `coffer --json sandbox serve` prints. Every step is run with each client that has the call: IBM's with a token
and with HMAC keys, the one of AWS with HMAC keys. It fails at the first answer that is not as it must be.
"""

import base64
import hashlib
import io
import json
import ssl
import sys
import threading
import urllib.request
from datetime import datetime, timedelta, timezone

import boto3
import boto3.s3.transfer as aws_transfer
import botocore.config
import botocore.exceptions
import ibm_boto3
import ibm_boto3.s3.transfer as ibm_transfer
import ibm_botocore.client
import ibm_botocore.exceptions

ERRORS = (botocore.exceptions.ClientError, ibm_botocore.exceptions.ClientError)
MIB = 1 << 20
DAY_S = 86_400


class Region:
    """Where everything is, and the admin endpoint."""

    def __init__(self, said):
        self.endpoint = said["endpoint"]
        self.iam = said["iam_endpoint"] + "/identity/token"
        self.admin_url = said["admin_endpoint"]
        self.instance = said["instance_id"]
        self.api_key = said["api_key"]
        self.keys = {
            "aws_access_key_id": said["access_key_id"],
            "aws_secret_access_key": said["secret_access_key"],
        }
        self.verify = said["ca_file"] or True

    def admin(self, method, path, body):
        request = urllib.request.Request(
            self.admin_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def switch(self, **switches):
        self.admin("PUT", "/switches", switches)

    def advance(self, seconds):
        self.admin("POST", "/clock", {"advance_s": int(seconds)})

    def ibm_by_token(self, api_key=None):
        # Tokens end on the clock of the region, which the steps move: each step has a client of its own.
        return ibm_boto3.client(
            "s3",
            ibm_api_key_id=api_key or self.api_key,
            ibm_service_instance_id=self.instance,
            ibm_auth_endpoint=self.iam,
            config=ibm_botocore.client.Config(signature_version="oauth", retries={"max_attempts": 1}),
            endpoint_url=self.endpoint,
            verify=self.verify,
        )

    def ibm_by_hmac(self):
        return ibm_boto3.client(
            "s3",
            region_name="eu-standard",
            config=ibm_botocore.client.Config(signature_version="s3v4", retries={"max_attempts": 1}),
            endpoint_url=self.endpoint,
            verify=self.verify,
            **self.keys,
        )

    def aws(self, **config):
        return boto3.client(
            "s3",
            region_name="eu-de",
            config=botocore.config.Config(
                retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **config
            ),
            endpoint_url=self.endpoint,
            verify=self.verify,
            **self.keys,
        )


def refused(status, code, call, **arguments):
    """The call must fail with this status and code (`None`: any)."""
    try:
        call(**arguments)
    except ERRORS as error:
        found = (error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"])
        assert found[0] == status and code in (None, found[1]), f"{found}, not {(status, code)}"
        return
    raise AssertionError(f"{arguments} was accepted, not refused with {code}")


def same(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


def empty(client, bucket):
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
            client.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    client.delete_bucket(Bucket=bucket)


def buckets(region, client, name):
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-de-smart"})
    same(client.get_bucket_location(Bucket=name)["LocationConstraint"], "eu-de-smart")
    client.head_bucket(Bucket=name)
    assert name in [one["Name"] for one in client.list_buckets()["Buckets"]]
    if hasattr(client, "list_buckets_extended"):
        answer = client.list_buckets_extended(IBMServiceInstanceId=region.instance)
        found = {one["Name"]: one["LocationConstraint"] for one in answer["Buckets"]}
        same(found[name], "eu-de-smart")
    wrong = {"LocationConstraint": "us-south-standard"}
    refused(400, "InvalidLocationConstraint", client.create_bucket, Bucket=name + "x", CreateBucketConfiguration=wrong)
    refused(404, None, client.head_bucket, Bucket=name + "x")
    client.delete_bucket(Bucket=name)


def objects(region, client, name):
    client.create_bucket(Bucket=name)
    body = bytes(range(256)) * 400
    put = client.put_object(Bucket=name, Key="a/ü b+c", Body=body, Metadata={"colour": "blue"}, ContentType="text/x")
    same(put["ETag"], f'"{hashlib.md5(body).hexdigest()}"')
    got = client.get_object(Bucket=name, Key="a/ü b+c")
    same((got["Body"].read(), got["Metadata"], got["ContentType"]), (body, {"colour": "blue"}, "text/x"))
    ranged = client.get_object(Bucket=name, Key="a/ü b+c", Range="bytes=10-19")
    same((ranged["Body"].read(), ranged["ContentRange"]), (body[10:20], f"bytes 10-19/{len(body)}"))
    same(client.head_object(Bucket=name, Key="a/ü b+c")["ContentLength"], len(body))
    refused(304, None, client.get_object, Bucket=name, Key="a/ü b+c", IfNoneMatch=put["ETag"])
    refused(412, "PreconditionFailed", client.get_object, Bucket=name, Key="a/ü b+c", IfMatch='"no"')
    refused(416, "InvalidRange", client.get_object, Bucket=name, Key="a/ü b+c", Range="bytes=200000-")
    refused(404, "NoSuchKey", client.get_object, Bucket=name, Key="none")
    client.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "a/ü b+c"})
    same(client.get_object(Bucket=name, Key="copy")["Body"].read(), body)
    answer = client.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "copy"}, {"Key": "a/ü b+c"}]})
    same(len(answer["Deleted"]), 2)
    client.delete_object(Bucket=name, Key="none")
    client.delete_bucket(Bucket=name)


def lists(region, client, name):
    client.create_bucket(Bucket=name)
    keys = {f"log/{number:04} &é" for number in range(30)}
    for key in keys:
        client.put_object(Bucket=name, Key=key, Body=b"x")
    for call in ("list_objects", "list_objects_v2"):
        pages = client.get_paginator(call).paginate(Bucket=name, Prefix="log/", PaginationConfig={"PageSize": 7})
        found = [one["Key"] for page in pages for one in page["Contents"]]
        same((len(found), set(found)), (30, keys))
        assert found != sorted(found), "lists are unsorted"
        folded = getattr(client, call)(Bucket=name, Delimiter="/")
        same([one["Prefix"] for one in folded["CommonPrefixes"]], ["log/"])
    client.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key} for key in keys]})
    client.delete_bucket(Bucket=name)


def multipart(region, client, name):
    client.create_bucket(Bucket=name)
    body = hashlib.shake_256(b"parts").digest(11 * MIB)
    transfer = ibm_transfer if name.startswith("ibm") else aws_transfer
    config = transfer.TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    client.upload_fileobj(io.BytesIO(body), name, "big", Config=config)
    assert client.head_object(Bucket=name, Key="big")["ETag"].endswith('-3"')
    found = io.BytesIO()
    client.download_fileobj(name, "big", found, Config=config)
    same(hashlib.sha256(found.getvalue()).digest(), hashlib.sha256(body).digest())

    upload = client.create_multipart_upload(Bucket=name, Key="left")["UploadId"]
    client.upload_part(Bucket=name, Key="left", UploadId=upload, PartNumber=3, Body=b"part")
    copied = {"Bucket": name, "Key": "big"}
    client.upload_part_copy(
        Bucket=name, Key="left", UploadId=upload, PartNumber=4, CopySource=copied, CopySourceRange="bytes=0-9"
    )
    parts = client.list_parts(Bucket=name, Key="left", UploadId=upload)["Parts"]
    same([(part["PartNumber"], part["Size"]) for part in parts], [(3, 4), (4, 10)])
    same([one["UploadId"] for one in client.list_multipart_uploads(Bucket=name)["Uploads"]], [upload])
    refused(409, "BucketNotEmpty", client.delete_bucket, Bucket=name)
    client.abort_multipart_upload(Bucket=name, Key="left", UploadId=upload)
    refused(404, "NoSuchUpload", client.list_parts, Bucket=name, Key="left", UploadId=upload)
    client.delete_object(Bucket=name, Key="big")
    client.delete_bucket(Bucket=name)


def versions(region, client, name):
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    same(client.get_bucket_versioning(Bucket=name)["Status"], "Enabled")
    first = client.put_object(Bucket=name, Key="a", Body=b"one")["VersionId"]
    client.put_object(Bucket=name, Key="a", Body=b"two")
    marker = client.delete_object(Bucket=name, Key="a")
    same(marker["DeleteMarker"], True)
    refused(404, "NoSuchKey", client.get_object, Bucket=name, Key="a")
    same(client.get_object(Bucket=name, Key="a", VersionId=first)["Body"].read(), b"one")
    listed = client.list_object_versions(Bucket=name)
    same((len(listed["Versions"]), len(listed["DeleteMarkers"])), (2, 1))
    client.delete_object(Bucket=name, Key="a", VersionId=marker["VersionId"])
    same(client.get_object(Bucket=name, Key="a")["Body"].read(), b"two")
    empty(client, name)


def object_lock(region, client, name):
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 2}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=configuration)
    same(client.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]["Rule"], rule)
    locked = client.put_object(Bucket=name, Key="a", Body=b"x")["VersionId"]
    same(client.head_object(Bucket=name, Key="a")["ObjectLockMode"], "COMPLIANCE")
    refused(403, "AccessDenied", client.delete_object, Bucket=name, Key="a", VersionId=locked)
    now = datetime.fromtimestamp(region.admin("GET", "/state", {})["now_ms"] / 1000, timezone.utc)
    longer = (now + timedelta(days=3)).replace(microsecond=0)
    client.put_object_retention(
        Bucket=name, Key="a", VersionId=locked, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": longer}
    )
    found = client.get_object_retention(Bucket=name, Key="a", VersionId=locked)["Retention"]
    same(found, {"Mode": "COMPLIANCE", "RetainUntilDate": longer})
    client.put_object_legal_hold(Bucket=name, Key="a", LegalHold={"Status": "ON"})
    same(client.get_object_legal_hold(Bucket=name, Key="a")["LegalHold"], {"Status": "ON"})
    region.advance(4 * DAY_S)
    yield
    refused(403, "AccessDenied", client.delete_object, Bucket=name, Key="a", VersionId=locked)
    client.put_object_legal_hold(Bucket=name, Key="a", LegalHold={"Status": "OFF"})
    client.delete_object(Bucket=name, Key="a", VersionId=locked)
    client.delete_bucket(Bucket=name)


def retention(region, client, name):
    """Immutable object storage: calls that only IBM's client has."""
    client.create_bucket(Bucket=name)
    policy = {
        "Status": "Retention",
        "MinimumRetention": {"Days": 1},
        "DefaultRetention": {"Days": 2},
        "MaximumRetention": {"Days": 30},
    }
    client.put_bucket_protection_configuration(Bucket=name, ProtectionConfiguration=policy)
    found = client.get_bucket_protection_configuration(Bucket=name)["ProtectionConfiguration"]
    same({key: found[key] for key in policy}, policy)
    refused(
        409, None, client.put_bucket_versioning, Bucket=name, VersioningConfiguration={"Status": "Enabled"}
    )
    put = {"Bucket": name, "Body": b"x", "ContentMD5": base64.b64encode(hashlib.md5(b"x").digest()).decode()}
    client.put_object(Key="a", RetentionPeriod=DAY_S, RetentionLegalHoldId="audit", **put)
    refused(400, None, client.put_object, Key="b", RetentionPeriod=60, **put)
    head = client.head_object(Bucket=name, Key="a")
    same((int(head["RetentionPeriod"]), int(head["RetentionLegalHoldCount"])), (DAY_S, 1))
    refused(403, "AccessDenied", client.delete_object, Bucket=name, Key="a")
    refused(403, "AccessDenied", client.put_object, Key="a", **put)
    client.add_legal_hold(Bucket=name, Key="a", RetentionLegalHoldId="second")
    refused(409, None, client.add_legal_hold, Bucket=name, Key="a", RetentionLegalHoldId="second")
    state = client.list_legal_holds(Bucket=name, Key="a")
    same(int(state["RetentionPeriod"]), DAY_S)
    client.extend_object_retention(Bucket=name, Key="a", AdditionalRetentionPeriod=DAY_S)
    same(int(client.head_object(Bucket=name, Key="a")["RetentionPeriod"]), 2 * DAY_S)
    client.delete_legal_hold(Bucket=name, Key="a", RetentionLegalHoldId="audit")
    client.delete_legal_hold(Bucket=name, Key="a", RetentionLegalHoldId="second")
    refused(403, "AccessDenied", client.delete_object, Bucket=name, Key="a")
    region.advance(3 * DAY_S)
    yield
    client.delete_object(Bucket=name, Key="a")
    client.delete_bucket(Bucket=name)


def archive(region, client, name):
    client.create_bucket(Bucket=name)
    rule = {
        "ID": "cold",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Transitions": [{"Days": 0, "StorageClass": "GLACIER"}],
    }
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    found = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"][0]
    same(found["Transitions"], rule["Transitions"])
    client.put_object(Bucket=name, Key="a", Body=b"cold")
    refused(403, "InvalidObjectState", client.get_object, Bucket=name, Key="a")
    same(client.head_object(Bucket=name, Key="a")["StorageClass"], "GLACIER")
    request = {"Days": 1, "GlacierJobParameters": {"Tier": "Bulk"}}
    client.restore_object(Bucket=name, Key="a", RestoreRequest=request)
    same(client.head_object(Bucket=name, Key="a")["Restore"], 'ongoing-request="true"')
    refused(409, "RestoreAlreadyInProgress", client.restore_object, Bucket=name, Key="a", RestoreRequest=request)
    region.advance(13 * 3600)
    yield
    same(client.get_object(Bucket=name, Key="a")["Body"].read(), b"cold")
    region.advance(2 * DAY_S)
    yield
    refused(403, "InvalidObjectState", client.get_object, Bucket=name, Key="a")
    client.delete_object(Bucket=name, Key="a")
    client.delete_bucket_lifecycle(Bucket=name)
    client.delete_bucket(Bucket=name)


def root_key(region, client, name):
    crn = f"crn:v1:bluemix:public:kms:eu-de:a/1:2:key:{name}"
    region.admin("PUT", "/root-keys", {"crn": crn})
    client.create_bucket(
        Bucket=name, IBMSSEKPEncryptionAlgorithm="AES256", IBMSSEKPCustomerRootKeyCrn=crn
    )
    head = client.head_bucket(Bucket=name)
    # The service writes `True`, which this client takes for no; the header is what counts.
    headers = head["ResponseMetadata"]["HTTPHeaders"]
    same((headers["ibm-sse-kp-enabled"], head["IBMSSEKPCrkId"]), ("True", crn))
    client.put_object(Bucket=name, Key="a", Body=b"x")
    region.admin("PUT", "/root-keys", {"crn": crn, "enabled": False})
    refused(403, "AccessDenied", client.get_object, Bucket=name, Key="a")
    region.admin("PUT", "/root-keys", {"crn": crn, "enabled": True})
    same(client.get_object(Bucket=name, Key="a")["Body"].read(), b"x")
    client.delete_object(Bucket=name, Key="a")
    client.delete_bucket(Bucket=name)


def conditions(region, client, name):
    """If-None-Match on writes: only the model of the AWS client has it."""
    client.create_bucket(Bucket=name)
    statuses = []

    def create(number):
        try:
            client.put_object(Bucket=name, Key="slot", Body=str(number).encode(), IfNoneMatch="*")
            statuses.append(200)
        except ERRORS as error:
            statuses.append(error.response["ResponseMetadata"]["HTTPStatusCode"])

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(sorted(statuses), [200] + 7 * [412])
    upload = client.create_multipart_upload(Bucket=name, Key="slot")["UploadId"]
    etag = client.upload_part(Bucket=name, Key="slot", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    refused(
        412, "PreconditionFailed", client.complete_multipart_upload,
        Bucket=name, Key="slot", UploadId=upload, MultipartUpload=parts, IfNoneMatch="*",
    )
    client.abort_multipart_upload(Bucket=name, Key="slot", UploadId=upload)
    client.delete_object(Bucket=name, Key="slot")
    client.delete_bucket(Bucket=name)


def checksums(region, client, name):
    """Each algorithm, on whole objects and on parts."""
    client.create_bucket(Bucket=name)
    body = b"123456789" * 1000
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        put = client.put_object(Bucket=name, Key=algorithm, Body=body, ChecksumAlgorithm=algorithm)
        got = client.get_object(Bucket=name, Key=algorithm, ChecksumMode="ENABLED")
        same(got["Body"].read(), body)
        field = f"Checksum{algorithm}"
        same(got[field], put[field])
        upload = client.create_multipart_upload(Bucket=name, Key=algorithm, ChecksumAlgorithm=algorithm)["UploadId"]
        part = client.upload_part(
            Bucket=name, Key=algorithm, UploadId=upload, PartNumber=1, Body=body, ChecksumAlgorithm=algorithm
        )
        done = client.complete_multipart_upload(
            Bucket=name, Key=algorithm, UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"], field: part[field]}]},
        )
        assert done[field].endswith("-1"), done[field]
        client.delete_object(Bucket=name, Key=algorithm)
    client.delete_bucket(Bucket=name)


def presigned(region, client, name):
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="a b", Body=b"shared")
    url = client.generate_presigned_url("get_object", {"Bucket": name, "Key": "a b"}, ExpiresIn=60)
    context = ssl.create_default_context(cafile=region.verify) if region.verify is not True else None
    with urllib.request.urlopen(url, timeout=30, context=context) as answer:
        same(answer.read(), b"shared")
    client.delete_object(Bucket=name, Key="a b")
    client.delete_bucket(Bucket=name)


def tokens(region, client, name):
    """IBM's client gets tokens on its own, and is refused with those that ended."""
    client.create_bucket(Bucket=name)
    region.admin("POST", "/tokens/expire", {})
    refused(401, "AccessDenied", client.list_objects, Bucket=name)
    region.ibm_by_token().delete_bucket(Bucket=name)
    reader = region.admin("POST", "/service-ids", {"name": "reader", "policies": [{"roles": ["Reader"]}]})["id"]
    key = region.admin("POST", "/api-keys", {"service_id": reader})["api_key"]
    limited = region.ibm_by_token(key)
    limited.list_buckets()
    refused(403, "AccessDenied", limited.create_bucket, Bucket=name)


EVERYBODY = [buckets, objects, lists, multipart, versions, object_lock, archive]
BY_CLIENT = {
    "ibm-token": EVERYBODY + [retention, root_key, tokens],
    "ibm-hmac": EVERYBODY + [retention, root_key, presigned],
    "aws": EVERYBODY + [conditions, checksums, presigned],
    # Without the checksums that the client adds on its own.
    "aws-plain": [objects, multipart],
}


def make(region, kind):
    if kind == "ibm-token":
        return region.ibm_by_token()
    if kind == "ibm-hmac":
        return region.ibm_by_hmac()
    if kind == "aws-plain":
        return region.aws(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    return region.aws()


class Renewed:
    """A client that is made anew when the clock has moved: its token ended."""

    def __init__(self, make_one):
        self.make_one = make_one
        self.renew()

    def renew(self):
        self.inner = self.make_one()

    def __getattr__(self, name):
        return getattr(self.inner, name)


def run(region):
    for kind, steps in BY_CLIENT.items():
        for step in steps:
            name = f"{kind}-{step.__name__}".replace("_", "-")
            client = Renewed(lambda: make(region, kind))
            moves = step(region, client, name)
            for _ in moves or ():
                client.renew()
            print("ok", name)


if __name__ == "__main__":
    run(Region(json.loads(sys.argv[1])))
