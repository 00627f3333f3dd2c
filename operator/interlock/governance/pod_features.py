"""What an AgentPolicy allows of pod templates: the table of features, and the refusals.

Each field of a template is in `FEATURES` or in `ALWAYS`, which a test compares with the type. So a new field is allowed
to all agents only if someone has written that down.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from interlock.api.pod_policy import PodFeature, PodMaximums, PodTemplatePolicy
from interlock.api.pod_template import SAFE_TO_EVICT, USER_KEYS, ContainerUser, Template
from interlock.api.quantities import exceeds, limit_exceeds
from interlock.api.shared_types import ApiModel, Resources
from interlock.api.stdio_server import ServerUser, StdioServer
from interlock.api.template_messages import (
    AMOUNT_NOT_ALLOWED,
    DIGEST_REQUIRED,
    GRACE_NOT_ALLOWED,
    ID_TAKEN,
    METADATA_KEY_NOT_ALLOWED,
    NODE_SELECTOR_CONTRADICTS,
    TEMPLATE_NOT_ALLOWED,
)

FEATURES: Final[Mapping[PodFeature, tuple[str, ...]]] = {
    PodFeature.IMAGE_PULL_SECRETS: ("imagePullSecrets", "imagePullPolicy"),
    PodFeature.METADATA: ("metadata.labels", "metadata.annotations"),
    PodFeature.SCHEDULING: ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"),
    PodFeature.PROBES: ("startupProbe", "livenessProbe", "readinessProbe"),
    PodFeature.CONFIG_MAPS: (
        "env[].valueFrom.configMapKeyRef",
        "envFrom",
        "volumes[].configMap",
        "volumes[].projected.sources[].configMap",
    ),
    PodFeature.DOWNWARD_API: ("env[].valueFrom.fieldRef", "volumes[].projected.sources[].downwardAPI"),
    PodFeature.EMPTY_DIRS: ("volumes[].emptyDir",),
    PodFeature.CONTAINER: ("workingDir", "ports"),
    PodFeature.PERSISTENT_VOLUME_CLAIMS: ("volumes[].persistentVolumeClaim",),
    PodFeature.RUNTIME_CLASSES: ("runtimeClassName",),
    PodFeature.PRIORITY: ("priorityClassName",),
    PodFeature.USERS: ("securityContext",),
    PodFeature.CLOUD_IDENTITY: (),  # which the policy itself lists
}
"""The fields that each feature allows, by their paths in a template, with all that is below them.

A stdio server has some of them, with the same names in `spec.server.stdio`.
"""

ALWAYS: Final = (
    "image",
    "command",
    "args",
    "env[].name",
    "env[].value",
    "env[].valueFrom.secretKeyRef",  # of a stdio server
    "network",
    "resources",
    "terminationGracePeriodSeconds",  # by its own maximum in the policy
    "volumes[].name",
    "volumeMounts",  # of volumes, whose kinds have features
)
"""The fields of agents and stdio servers that no policy withholds."""

_DIGEST: Final = re.compile(r"[!-~]+@sha256:[0-9a-f]{64}")


def feature_of(path: str) -> PodFeature | None:
    """Return the feature that allows a field of a template, None if the field is always allowed.

    Args:
        path: Its path, such as `env[].valueFrom.fieldRef`.

    Raises:
        KeyError: The table does not have the field.
    """
    for feature, members in FEATURES.items():
        if any(_is_below(path, member) for member in members):
            return feature
    if any(_is_below(path, member) for member in ALWAYS):
        return None
    raise KeyError(path)


def _is_below(path: str, member: str) -> bool:
    return path == member or path.startswith((f"{member}.", f"{member}["))


def used_fields(template: Mapping[str, Any]) -> Iterator[tuple[str, PodFeature]]:
    """Yield the fields of a template that need a feature, each once.

    Args:
        template: The template as JSON, without members that have their defaults.
    """
    for feature, members in FEATURES.items():
        for member in members:
            if _has(template, member.split(".")):
                yield member, feature


def _has(value: Any, parts: list[str]) -> bool:
    name = parts[0].removesuffix("[]")
    if not isinstance(value, Mapping) or name not in value:
        return False
    if len(parts) == 1:
        return True
    below = value[name] if parts[0].endswith("[]") else [value[name]]
    return any(_has(one, parts[1:]) for one in below)


def withheld_fields(place: str, template: ApiModel, policy: str, rules: PodTemplatePolicy) -> list[str]:
    """Return which fields of a template a policy does not allow.

    Args:
        place: Where the template is.
        template: The template of an agent, or a stdio server.
        policy: The policy's name.
        rules: Its podTemplate.
    """
    written = template.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")
    return [
        TEMPLATE_NOT_ALLOWED.format(field=f"{place}.{field}", policy=policy, feature=feature)
        for field, feature in used_fields(written)
        if feature not in rules.allowed
    ]


def template_refusals(template: Template, policy: str, rules: PodTemplatePolicy) -> list[str]:
    """Return what AgentPolicy `policy` refuses of the template of an agent.

    Args:
        template: The template.
        policy: The policy's name.
        rules: Its podTemplate.
    """
    found = withheld_fields("spec.template", template, policy, rules)
    grace, most = template.termination_grace_period_seconds, rules.max_termination_grace_period_seconds
    if grace is not None and grace > most:
        found.append(GRACE_NOT_ALLOWED.format(seconds=grace, limit=most, policy=policy))
    metadata = template.metadata
    if metadata is not None:
        found += [
            METADATA_KEY_NOT_ALLOWED.format(policy=policy, key=key)
            for key in dict.fromkeys((*metadata.labels, *metadata.annotations))
            if not is_key_allowed(key, rules)
        ]
    found += amount_refusals("spec.template", template, policy, rules)
    return found + node_selector_refusals("spec.template.nodeSelector", template.node_selector, policy, rules)


def server_refusals(place: str, server: StdioServer, policy: str, rules: PodTemplatePolicy) -> list[str]:
    """Return what AgentPolicy `policy` refuses of a stdio server.

    Args:
        place: Where the server is.
        server: The server.
        policy: The policy's name.
        rules: Its podTemplate.
    """
    found = [*withheld_fields(place, server, policy, rules), *amount_refusals(place, server, policy, rules)]
    return found + node_selector_refusals(f"{place}.nodeSelector", server.node_selector, policy, rules)


def amount_refusals(place: str, template: Template | StdioServer, policy: str, rules: PodTemplatePolicy) -> list[str]:
    """Return which amounts of a template are above the largest ones of a policy.

    Args:
        place: Where the template is.
        template: The template of an agent, or a stdio server.
        policy: The policy's name.
        rules: Its podTemplate.
    """
    return [
        AMOUNT_NOT_ALLOWED.format(field=f"{place}.{field}", amount=amount, limit=limit, policy=policy, kind=kind)
        for field, kind, amount, limit in _amounts_above(template, rules.maximum)
    ]


def _amounts_above(template: Template | StdioServer, most: PodMaximums) -> Iterator[tuple[str, str, str, str]]:
    """Yield each amount above its maximum: its field, the name of the maximum, the amount and the maximum.

    What is no quantity counts as above.
    """
    stated = template.resources or Resources()
    for name, amounts, is_above in (
        ("requests", stated.requests, exceeds),
        ("limits", stated.limits, limit_exceeds),
    ):
        for kind, limit in (("cpu", most.cpu), ("memory", most.memory)):
            amount = getattr(amounts, kind, None)
            if amount is not None and limit is not None and is_above(amount, limit) is not False:
                yield f"resources.{name}.{kind}", kind, amount, limit
    for volume in template.volumes:
        size = volume.empty_dir.size_limit if volume.empty_dir is not None else None
        if size is not None and most.empty_dir is not None and limit_exceeds(size, most.empty_dir) is not False:
            yield f"volumes[{volume.name}].emptyDir.sizeLimit", "emptyDir", size, most.empty_dir


def id_refusals(place: str, user: ContainerUser | ServerUser | None, reserved: frozenset[int]) -> list[str]:
    """Return which user and group of a template are those of Interlock's containers in a namespace.

    Args:
        place: Where the template is.
        user: The user and group that it states.
        reserved: The users and groups of Interlock's containers there.
    """
    stated = {"runAsUser": getattr(user, "run_as_user", None), "runAsGroup": getattr(user, "run_as_group", None)}
    return [
        ID_TAKEN.format(field=f"{place}.securityContext.{name}", number=number)
        for name, number in stated.items()
        if number in reserved
    ]


def is_key_allowed(key: str, rules: PodTemplatePolicy) -> bool:
    """Return True if a policy lets templates set a key of labels and annotations.

    What runs in a cluster obeys keys that Interlock cannot know. So the policy lists all but those that are for users.

    Args:
        key: The key, which has a prefix.
        rules: The policy's podTemplate.
    """
    known = (SAFE_TO_EVICT, *rules.metadata_keys)
    return key in known or key.startswith(USER_KEYS) or f"{key.partition('/')[0]}/*" in known


def node_selector_refusals(field: str, selector: Mapping[str, str], policy: str, rules: PodTemplatePolicy) -> list[str]:
    """Return which labels of a node selector contradict those that every pod of a policy has.

    Args:
        field: The selector's field.
        selector: The selector.
        policy: The policy's name.
        rules: Its podTemplate.
    """
    fixed = rules.default.node_selector
    where = f"in spec.podTemplate.default.nodeSelector of AgentPolicy {policy}"
    return [
        NODE_SELECTOR_CONTRADICTS.format(field=field, key=key, value=value, other=f"{key}={fixed[key]}", where=where)
        for key, value in selector.items()
        if fixed.get(key, value) != value
    ]


def digest_refusals(images: Mapping[str, str], policy: str, rules: PodTemplatePolicy) -> list[str]:
    """Return which images have no digest, if AgentPolicy `policy` requires one.

    Args:
        images: The images by their fields.
        policy: The policy's name.
        rules: Its podTemplate.
    """
    if rules.image_references != "Digest":
        return []
    return [
        DIGEST_REQUIRED.format(field=field, policy=policy, image=image)
        for field, image in images.items()
        if not _DIGEST.fullmatch(image)
    ]
