"""Objects as deep as an API server stores them: the operator serves all others, before and after a restart."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import MERGE_PATCH, Api
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

STORED = 1_250
"""Levels of fields, more than Python's parser and its copies take. An API server stores up to 10 000.

Its time for a patch grows with their square: a minute for as many.
"""
OURS = "/apis/interlock.dev/v1alpha1"
MARK = '"@deep@"'


def send(api: Api, method: str, path: str, text: str = "") -> str:
    """Send a request whose body or answer Python cannot parse; return the answer."""
    connection = api.access.connect(30)
    try:
        connection.request(
            method, path, text or None, {"Content-Type": MERGE_PATCH if method == "PATCH" else "application/json"}
        )
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    assert answer.status < 300, body[:500]
    return body


@contextmanager
def deep(api: Api, collection: str, manifest: objects.Json) -> Iterator[None]:
    """Store an object whose managed fields are as deep as can be, for as long as the context lasts."""
    made = json.loads(send(api, "POST", collection, json.dumps(manifest)))
    path = f"{collection}/{made['metadata']['name']}"
    levels = '{"f:a":' * STORED + "{}" + "}" * STORED
    entry = {"manager": "x", "operation": "Update", "apiVersion": made["apiVersion"], "fieldsType": "FieldsV1"}
    patch = json.dumps({"metadata": {"managedFields": [entry | {"fieldsV1": "@deep@"}]}}).replace(MARK, levels)
    try:
        stored = send(api, "PATCH", path, patch)
        assert stored.count('{"f:a":') >= STORED, "the API server did not store them"
        yield
    finally:
        send(api, "DELETE", path)


@requirement("operator.blast-radius")
def test_objects_of_any_stored_depth_cost_no_other_object_its_turn(
    operator: OperatorProcess, operators: Operators, api: Api, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("innocent", "later", "deep")
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "deep",
            "labels": {"app.kubernetes.io/managed-by": "interlock", "interlock.dev/agent": "innocent"},
        },
    }
    within = f"{OURS}/namespaces/{sandbox.namespace}"
    with (
        deep(api, f"{within}/agents", objects.agent("deep")),
        deep(api, f"{within}/mcpbindings", objects.binding("deep-binding", "staging") | {"spec": _other_source()}),
        deep(api, f"{within}/agentpolicies", objects.policy(name="deep-policy")),
        deep(api, f"/api/v1/namespaces/{sandbox.namespace}/configmaps", child),
    ):
        sandbox.create("innocent")
        sandbox.wait_ready("innocent")
        assert operator.is_running

        operators.stop()
        restarted = operators.use()
        sandbox.create("later")
        sandbox.wait_ready("later")
        assert restarted.is_running


def _other_source() -> objects.Json:
    spec: objects.Json = objects.binding()["spec"] | {"source": "mail"}
    return spec
