"""Drives the key service with IBM's generated client: every method that it has.

    python keyprotect_client.py MACHINE_TEXT

It fails at the first answer that is not as it must be, and if a method of the client was not called.
"""

import io
import json
import sys

import ibm_cloud_sdk_core
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator
from keyprotect import IbmKeyProtectApiV2
from keyprotect.ibm_key_protect_api_v2 import (
    CollectionMetadata,
    CreateKMIPAdapterObject,
    CreateKMIPClientCertificateObject,
)

from key_services import CERTIFICATE, KeyService, Steps, encode, under_token

KEY = "application/vnd.ibm.kms.key+json"


def body(value):
    return io.BytesIO(json.dumps(value).encode())


def collection(*resources):
    return {"metadata": {"collectionType": KEY, "collectionTotal": len(resources)}, "resources": list(resources)}


def connect(service, api_key=None):
    client = IbmKeyProtectApiV2(authenticator=IAMAuthenticator(api_key or service.api_key, url=service.iam))
    client.set_service_url(service.endpoint)
    return client


def refused(status, code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ibm_cloud_sdk_core.ApiException as error:
        assert error.status_code == status, error
        reasons = error.http_response.json()["resources"][0].get("reasons", [{"code": None}])
        assert reasons[0]["code"] == code, error.http_response.text
        assert error.global_transaction_id, "the client shows this id"
        return
    raise AssertionError(f"{code} was not refused")


class Driver(Steps):
    """Each method without an argument is one step."""

    def create(self, **resource):
        answer = self.client.create_key(
            self.service.instance, body(collection({"type": KEY, **resource})), prefer="return=representation"
        )
        assert answer.get_status_code() == 201
        return answer.get_result()["resources"][0]

    def get(self, key_id):
        return self.client.get_key(key_id, self.service.instance).get_result()["resources"][0]

    def keys(self):
        client, instance = self.client, self.service.instance
        root = self.create(name="root", extractable=False, aliases=["kp-one"], description="for tests", tags=["a"])
        standard = self.create(name="standard", extractable=True)
        assert root["state"] == 1 and "payload" not in root
        assert self.get(standard["id"])["payload"] == standard["payload"]
        assert "payload" not in client.get_key_metadata(standard["id"], instance).get_result()["resources"][0]
        assert self.get("kp-one")["id"] == root["id"]
        answer = client.get_key_collection_metadata(instance)
        count = int(answer.get_headers()["Key-Total"])
        listed = client.get_keys(instance, limit=5000, state=[0, 1, 2, 3]).get_result()
        assert listed["metadata"]["collectionTotal"] == count
        found = client.get_keys(instance, search="exact:name:root", sort="-creationDate", extractable=False)
        assert root["id"] in [key["id"] for key in found.get_result()["resources"]]
        override = {"type": KEY, "name": "rotating", "extractable": False, "rotation": {"enabled": True, "interval_month": 2}}
        made = client.create_key_with_policies_overrides(instance, body(collection(override))).get_result()
        assert made["resources"][0]["rotation"]["interval_month"] == 2
        refused(404, "KEY_NOT_FOUND_ERR", client.get_key, "unheard-of", instance)
        refused(400, "INVALID_FIELD_ERR", self.create, extractable=False)

    def wrapping(self):
        client, instance = self.client, self.service.instance
        key = self.create(name="root", extractable=False)["id"]
        wrapped = client.wrap_key(key, instance, key_action_wrap_body=body({"aad": ["a"]})).get_result()
        unwrap = {"ciphertext": wrapped["ciphertext"], "aad": ["a"]}
        opened = client.unwrap_key(key, instance, body(unwrap)).get_result()
        assert opened["plaintext"] == wrapped["plaintext"]
        assert client.wrap_key(key, instance).get_result()["plaintext"]
        refused(422, "UNPROCESSABLE_CIPHERTEXT_ERR", client.unwrap_key, key, instance, body({"ciphertext": "AAAA"}))
        assert client.rotate_key(key, instance).get_status_code() == 204
        versions = client.get_key_versions(key, instance, total_count=True).get_result()
        assert versions["metadata"]["totalCount"] == 2 and versions["resources"][1]["id"] == key
        newest = versions["resources"][0]["id"]
        opened = client.unwrap_key(key, instance, body(unwrap)).get_result()
        assert opened["rewrappedKeyVersion"]["id"] == newest
        moved = client.rewrap_key(key, instance, body(unwrap)).get_result()
        assert moved["keyVersion"]["id"] == key and moved["rewrappedKeyVersion"]["id"] == newest
        again = client.action_on_key(
            key, instance, "unwrap", body({"ciphertext": moved["ciphertext"], "aad": ["a"]})
        ).get_result()
        assert again["plaintext"] == wrapped["plaintext"]
        refused(409, "KEY_ROTATION_NOT_PERMITTED", client.rotate_key, key, instance)

    def states(self):
        client, instance = self.client, self.service.instance
        key = self.create(name="root", extractable=False)["id"]
        assert client.disable_key(key, instance).get_status_code() == 204
        refused(409, "KEY_ACTION_INVALID_STATE_ERR", client.wrap_key, key, instance)
        refused(409, "REQ_TOO_EARLY_ERR", client.enable_key, key, instance)
        if self.wait(31):
            client.enable_key(key, instance)
            assert self.get(key)["state"] == 1
        assert client.sync_associated_resources(key, instance).get_status_code() == 204
        gone = client.delete_key(key, instance, prefer="return=representation").get_result()["resources"][0]
        assert gone["state"] == 5 and gone["deleted"]
        refused(409, "REQ_TOO_EARLY_ERR", client.restore_key, key, instance)
        if self.wait(31):
            assert client.restore_key(key, instance).get_result()["resources"][0]["state"] == 1
            client.delete_key(key, instance)
        refused(410, "KEY_DELETED_ERR", client.delete_key, key, instance)
        refused(409, "REQ_TOO_EARLY_ERR", client.purge_key, key, instance)
        if self.wait(4 * 3600 + 1):
            client.purge_key(key, instance)
            refused(404, "KEY_NOT_FOUND_ERR", client.get_key, key, instance)

    def dual_authorization(self):
        client, instance = self.client, self.service.instance
        key = self.create(name="root", extractable=False)["id"]
        refused(409, "NOT_DUAL_AUTH_ERR", client.set_key_for_deletion, key, instance)
        policy = {"type": "application/vnd.ibm.kms.policy+json", "dualAuthDelete": {"enabled": True}}
        client.put_policy(key, instance, collection(policy), policy="dualAuthDelete")
        client.set_key_for_deletion(key, instance)
        client.unset_key_for_deletion(key, instance)
        refused(409, "AUTHORIZATIONS_NOT_MET", client.delete_key, key, instance)
        client.set_key_for_deletion(key, instance)
        if self.service.has_clock:
            connect(self.service, self.service.second_user()).delete_key(key, instance)
            assert self.get(key)["state"] == 5

    def policies(self):
        client, instance = self.client, self.service.instance
        key = self.create(name="root", extractable=False)["id"]
        client.put_policy(key, instance, collection({"rotation": {"enabled": True, "interval_month": 1}}))
        shown = client.get_policy(key, instance, policy="rotation").get_result()["resources"]
        assert shown[0]["rotation"] == {"enabled": True, "interval_month": 1}
        metrics = {"policy_type": "metrics", "policy_data": {"enabled": True}}
        assert client.put_instance_policy(instance, collection(metrics), policy="metrics").get_status_code() == 204
        shown = client.get_instance_policy(instance, policy="metrics").get_result()["resources"]
        assert shown[0]["policy_data"] == {"enabled": True}
        port = client.get_allowed_ip_port(instance).get_result()["resources"][0]
        assert "private_endpoint_port" in port

    def import_token(self):
        client, instance = self.client, self.service.instance
        made = client.post_import_token(instance, expiration=600, max_allowed_retrievals=3).get_result()
        assert made["remainingRetrievals"] == 3
        token = client.get_import_token(instance).get_result()
        assert token["remainingRetrievals"] == 2
        material = bytes(range(32))
        imported = self.create(name="imported", extractable=False, **under_token(token, material))
        assert imported["imported"]
        same = self.create(name="imported", extractable=False, payload=encode(material))
        wrapped = client.wrap_key(imported["id"], instance).get_result()
        opened = client.unwrap_key(same["id"], instance, body({"ciphertext": wrapped["ciphertext"]})).get_result()
        assert opened["plaintext"] == wrapped["plaintext"]
        wrong = {**under_token(token, material), "iv": encode(bytes(12))}
        refused(400, "INCORRECT_NONCE_IV_ERR", self.create, name="imported", extractable=False, **wrong)

    def names(self):
        client, instance = self.client, self.service.instance
        key = self.create(name="root", extractable=False)["id"]
        alias = client.create_key_alias(key, "kp-two", instance)
        assert alias.get_status_code() == 201 and alias.get_result()["resources"][0]["keyId"] == key
        refused(409, "KEY_ALIAS_NOT_UNIQUE_ERR", client.create_key_alias, key, "kp-two", instance)
        assert client.delete_key_alias(key, "kp-two", instance).get_status_code() == 204
        assert client.create_key_ring("kp-ring", instance).get_status_code() == 201
        rings = client.list_key_rings(instance, limit=10, total_count=True).get_result()
        assert [ring["id"] for ring in rings["resources"]] == ["default", "kp-ring"]
        moved = client.patch_key(key, instance, key_patch_body=body({"keyRingID": "kp-ring"}), x_kms_key_ring="default")
        assert moved.get_result()["resources"][0]["keyRingID"] == "kp-ring"
        refused(409, "KEY_RING_NOT_EMPTY_ERR", client.delete_key_ring, "kp-ring", instance)
        client.delete_key(key, instance, force=True)
        assert client.delete_key_ring("kp-ring", instance, force=True).get_status_code() == 204
        assert client.get_registrations(key, instance).get_result()["metadata"]["collectionTotal"] == 0
        every = client.get_registrations_all_keys(instance, total_count=True).get_result()
        assert every["metadata"]["totalCount"] == 0

    def kmip(self):
        client, instance = self.client, self.service.instance
        key = self.create(name="root", extractable=False)["id"]
        metadata = CollectionMetadata("application/vnd.ibm.kms.kmip_adapter+json", 1)
        adapter = CreateKMIPAdapterObject("native_1.0", name="kp-adapter", profile_data={"crk_id": key})
        made = client.create_kmip_adapter(instance, metadata, [adapter]).get_result()["resources"][0]
        assert client.get_kmip_adapter("kp-adapter", instance).get_result()["resources"][0] == made
        assert client.get_kmip_adapters(instance, crk_id=key).get_result()["resources"] == [made]
        metadata = CollectionMetadata("application/vnd.ibm.kms.kmip_client_certificate+json", 1)
        certificate = CreateKMIPClientCertificateObject(CERTIFICATE, name="kp-client")
        added = client.add_kmip_client_certificate("kp-adapter", instance, metadata, [certificate])
        added = added.get_result()["resources"][0]
        listed = client.get_kmip_client_certificates("kp-adapter", instance).get_result()["resources"]
        assert [one["id"] for one in listed] == [added["id"]]
        shown = client.get_kmip_client_certificate("kp-adapter", "kp-client", instance).get_result()["resources"]
        assert shown[0]["certificate"] == CERTIFICATE
        client.delete_kmip_client_certificate("kp-adapter", "kp-client", instance)
        assert client.get_kmip_objects("kp-adapter", instance).get_result()["resources"] == []
        missing = "KMIP_OBJECT_NOT_FOUND_ERR"
        refused(404, missing, client.get_kmip_object, "kp-adapter", instance, "x")
        refused(404, missing, client.delete_kmip_object, "kp-adapter", instance, "x")
        client.delete_kmip_adapter("kp-adapter", instance)


STEPS = ["keys", "wrapping", "states", "dual_authorization", "policies", "import_token", "names", "kmip"]
# They make a client, and no call.
NO_CALLS = {"new_instance", "construct_service_url"}


def run(service):
    driver = Driver(service, connect)
    driver.run(STEPS)
    methods = {name for name, one in vars(IbmKeyProtectApiV2).items() if callable(one) and not name.startswith("_")}
    left = methods - NO_CALLS - driver.used
    assert not left, f"methods that were not called: {sorted(left)}"


if __name__ == "__main__":
    run(KeyService(json.loads(sys.argv[1])))
