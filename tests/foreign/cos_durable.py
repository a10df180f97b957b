"""Stores objects until the region is gone, or checks what it has.

    python cos_durable.py MACHINE_TEXT storm ROUND      prints the key of each object once it is acknowledged
    python cos_durable.py MACHINE_TEXT check            prints the key of each object, after reading all of it
"""

import hashlib
import json
import sys
import threading

from cos_clients import Region

BUCKET = "durable"
PRINTING = threading.Lock()


def body(key):
    digest = hashlib.shake_256(key.encode())
    return digest.digest(1 + int(digest.hexdigest(2), 16))


def say(key):
    with PRINTING:
        print(key, flush=True)


def put(client, key):
    client.put_object(Bucket=BUCKET, Key=key, Body=body(key))


def put_in_parts(client, key):
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    etag = client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=body(key))["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    client.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload=parts)


def storm(region, round_number):
    client = region.aws(connect_timeout=2, read_timeout=5)
    if round_number == "0":
        client.create_bucket(Bucket=BUCKET)

    def write(thread):
        number = 0
        while True:
            key = f"{round_number}/{thread}/{number}"
            try:
                (put_in_parts if number % 5 == 4 else put)(client, key)
            except Exception:  # The region is gone: whatever the client makes of that.
                return
            say(key)
            number += 1

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check(region):
    client = region.aws()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            key = entry["Key"]
            found = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            assert found == body(key), f"{key} is not as it was stored"
            say(key)


if __name__ == "__main__":
    place = Region(json.loads(sys.argv[1]))
    if sys.argv[2] == "storm":
        storm(place, sys.argv[3])
    else:
        check(place)
