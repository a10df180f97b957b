"""Drives the key service with `redstone`, a client by others: every method that it has for keys.

    python redstone_client.py MACHINE_TEXT
"""

import base64
import json
import sys

import redstone.auth
from redstone.client import KeyProtect

from key_services import CERTIFICATE, KeyService, Steps


def connect(service, api_key=None):
    credentials = redstone.auth.TokenManager(api_key or service.api_key, iam_endpoint=service.iam)
    return KeyProtect(
        credentials=credentials,
        service_instance_id=service.instance,
        endpoint_url=service.endpoint,
    )


def refused(status, code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except KeyProtect.KeyProtectError as error:
        assert error.http_error.response.status_code == status, error
        assert code in str(error), error
        return
    raise AssertionError(f"{code} was not refused")


class Driver(Steps):
    """Each method is one step."""

    def keys(self):
        client = self.client
        root = client.create_key("root", root=True, alias_list=["rs-one"])["id"]
        standard = client.create_key("standard", payload=b"material")
        assert base64.b64decode(client.get_key(standard["id"])["payload"]) == b"material"
        assert client.get_key("rs-one")["id"] == root
        assert {root, standard["id"]} <= {key["id"] for key in client.list_keys()}
        refused(404, "KEY_NOT_FOUND_ERR", client.get_key, "unheard-of")

    def wrapping(self):
        client = self.client
        key = client.create_key("root", root=True)["id"]
        wrapped = client.wrap(key, b"data", aad=["a", "b"])
        assert client.unwrap(key, wrapped["ciphertext"], aad=["a", "b"]) == b"data"
        refused(422, "UNPROCESSABLE_CIPHERTEXT_ERR", client.unwrap, key, wrapped["ciphertext"], aad=["b", "a"])
        made = client.wrap(key, b"")
        assert client.unwrap(key, made["ciphertext"].encode()) == base64.b64decode(made["plaintext"])
        client.rotate_key(key)
        moved = client.rewrap(key, wrapped["ciphertext"], aad=["a", "b"])
        assert moved["rewrappedKeyVersion"]["id"] != moved["keyVersion"]["id"] == key
        assert client.unwrap(key, moved["ciphertext"], aad=["a", "b"]) == b"data"
        imported = client.create_key("imported", payload=bytes(32), root=True)["id"]
        refused(400, "KEY_PAYLOAD_REQ_ERR", client.rotate_key, imported)
        client.rotate_key(imported, payload=bytes(range(32)))

    def states(self):
        client = self.client
        key = client.create_key("root", root=True)["id"]
        client.disable_key(key)
        refused(409, "REQ_TOO_EARLY_ERR", client.enable_key, key)
        if self.wait(31):
            client.enable_key(key)
        client.sync_associated_resources(key)
        client.delete_key(key)
        assert client.get_key(key)["state"] == 5
        refused(409, "REQ_TOO_EARLY_ERR", client.restore_key, key)
        if self.wait(31):
            client.restore_key(key)
            client.delete_key(key)
        refused(409, "REQ_TOO_EARLY_ERR", client.purge_key, key)
        if self.wait(4 * 3600 + 1):
            client.purge_key(key)
            refused(404, "KEY_NOT_FOUND_ERR", client.get_key, key)

    def names(self):
        client = self.client
        key = client.create_key("root", root=True)["id"]
        assert client.create_key_alias(key, "rs-two")["resources"][0]["alias"] == "rs-two"
        client.delete_key_alias(key, "rs-two")
        client.create_key_ring("rs-ring")
        assert "rs-ring" in [ring["id"] for ring in client.get_key_rings()["resources"]]
        client.set_key_ring(key, "default", "rs-ring")
        refused(409, "KEY_RING_NOT_EMPTY_ERR", client.delete_key_ring, "rs-ring")
        client.set_key_ring(key, "rs-ring", "default")
        client.delete_key_ring("rs-ring")
        assert client.get_registrations()["metadata"]["collectionTotal"] == 0
        assert client.get_registrations(key, crn="crn:*")["resources"] == []

    def import_token(self):
        client = self.client
        assert client.create_import_token(expiration=300, max_allowed_retrievals=1)["remainingRetrievals"] == 1
        assert client.get_import_token()["remainingRetrievals"] == 0
        refused(409, "IMPORT_TOKEN_EXPIRED_ERR", client.get_import_token)

    def policies(self):
        client = self.client
        key = client.create_key("root", root=True)["id"]
        client.set_key_rotation_policy(key, 3)
        client.set_key_dual_auth_policy(key, True)
        shown = client.get_key_policies(key)["resources"]
        assert sorted(one for policy in shown for one in policy if one in ("rotation", "dualAuthDelete")) == ["dualAuthDelete", "rotation"]
        client.initiate_dual_auth_delete(key)
        refused(409, "AUTHORIZATIONS_NOT_MET", client.delete_key, key)
        client.cancel_dual_auth_delete(key)
        client.set_instance_dual_auth_policy(True)
        client.set_instance_dual_auth_policy(False)
        client.set_instance_allowed_network_policy(True, "public-and-private")
        client.set_instance_allowed_network_policy(False, "public-and-private")
        client.set_instance_allowed_ip_policy(True, ["127.0.0.0/8"])
        client.set_instance_allowed_ip_policy(False, [])
        client.set_instance_key_create_import_access_policy(True, True, True, True, False, False)
        refused(409, "KEY_CREATE_IMPORT_ACCESS_ERR", client.create_key, "standard", payload=b"x")
        client.set_instance_key_create_import_access_policy(False, True, True, True, True, False)
        client.set_instance_metrics_policy(True)
        kinds = {policy["policy_type"] for policy in client.get_instance_policies()["resources"]}
        assert kinds == {"allowedIP", "allowedNetwork", "dualAuthDelete", "keyCreateImportAccess", "metrics"}

    def kmip(self):
        client = self.client
        key = client.create_key("root", root=True)["id"]
        made = client.kmip_adapter_create("native_1.0", {"crk_id": key}, name="rs-adapter", description="d")
        assert client.kmip_adapter_get("rs-adapter") == made
        listed = client.kmip_adapter_list(show_total=True, filters={"crk_id": key})
        assert listed["metadata"]["totalCount"] == 1
        certificate = client.kmip_cert_create("rs-adapter", CERTIFICATE, "rs-client")
        assert client.kmip_cert_get("rs-adapter", "rs-client") == certificate
        assert client.kmip_cert_list("rs-adapter")["resources"][0]["id"] == certificate["id"]
        client.kmip_cert_delete("rs-adapter", certificate["id"])
        assert client.kmip_object_list("rs-adapter")["resources"] == []
        refused(404, "KMIP_OBJECT_NOT_FOUND_ERR", client.kmip_object_get, "rs-adapter", "x")
        refused(404, "KMIP_OBJECT_NOT_FOUND_ERR", client.kmip_object_delete, "rs-adapter", "x")
        client.kmip_adapter_delete("rs-adapter")


STEPS = ["keys", "wrapping", "states", "names", "import_token", "policies", "kmip"]
# It only names hosts.
NO_CALLS = {"endpoint_for_region"}


def run(service):
    driver = Driver(service, connect)
    driver.run(STEPS)
    own = vars(KeyProtect)
    used = {own[name] for name in driver.used if name in own}
    methods = {one for name, one in own.items() if callable(one) and not name.startswith("_")}
    # The names of methods that are gone, and that of the error, are not methods of their own.
    left = {one.__name__ for one in methods - used if not isinstance(one, type)} - NO_CALLS
    assert not left, f"methods that were not called: {sorted(left)}"


if __name__ == "__main__":
    run(KeyService(json.loads(sys.argv[1])))
