"""What the drivers of the key service share: where it is, its clock, and a record of which calls of a client were made.

A driver is given what `coffer --json sandbox serve` or `coffer --json kms serve` prints, the latter with "api_key" added. The
first has a clock that can be moved; the second is real, so what must wait there is only tried too early.
"""

import base64
import json
import os
import urllib.request

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class KeyService:
    def __init__(self, said):
        self.endpoint = said.get("kms_endpoint") or said["endpoint"]
        self.iam = said.get("iam_endpoint") or self.endpoint
        self.admin_url = said.get("admin_endpoint")
        self.instance = said.get("kms_instance_id") or said["instance_id"]
        self.api_key = said["api_key"]
        if said.get("ca_file"):
            # Not every client lets its caller say so for the token endpoint too.
            os.environ["REQUESTS_CA_BUNDLE"] = said["ca_file"]

    @property
    def has_clock(self):
        return self.admin_url is not None

    def _admin(self, path, body):
        request = urllib.request.Request(
            self.admin_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def advance(self, seconds):
        self._admin("/clock", {"advance_s": seconds})

    def second_user(self):
        """An API key of somebody else who manages keys."""
        policies = [{"roles": ["Manager"]}]
        service_id = self._admin("/service-ids", {"name": "second", "policies": policies})["id"]
        return self._admin("/api-keys", {"service_id": service_id})["api_key"]


class Recorded:
    """A client whose calls are noted, and which is made anew when the clock has moved: its token ended."""

    def __init__(self, make_one, used):
        self._make_one = make_one
        self._used = used
        self.renew()

    def renew(self):
        self._inner = self._make_one()

    def __getattr__(self, name):
        self._used.add(name)
        return getattr(self._inner, name)


class Steps:
    """A client under test, in steps that a driver adds as methods."""

    def __init__(self, service, connect):
        self.service = service
        self.used = set()
        self.client = Recorded(lambda: connect(service), self.used)

    def wait(self, seconds):
        """Moves the clock if there is one; whether there is."""
        if self.service.has_clock:
            self.service.advance(seconds)
            self.client.renew()
        return self.service.has_clock

    def run(self, names):
        for name in names:
            getattr(self, name)()
            print("ok", name, flush=True)


def encode(data):
    return base64.b64encode(data).decode()


def under_token(token, material):
    """The fields that bring material in under an import token."""
    pem = base64.b64decode(token["payload"])
    public = serialization.load_pem_public_key(pem)
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    iv = os.urandom(12)
    nonce = AESGCM(material).encrypt(iv, base64.b64decode(token["nonce"]), None)
    return {"payload": encode(public.encrypt(material, oaep)), "encryptedNonce": encode(nonce), "iv": encode(iv)}


CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBATCBqQIUTm90IGEgY2VydGlmaWNhdGUgYXQgYWxsMAoGCCqGSM49BAMCMAAw
-----END CERTIFICATE-----"""
