"""Messages of refusals of pod templates, as those of `messages`."""

from interlock_contract.pod import (
    FIRST_RESERVED_ID,
    FIRST_RESERVED_PORT,
    GUARD_GID,
    LAST_RESERVED_ID,
    LAST_RESERVED_PORT,
    PORT_NAMES,
)

ENV_SOURCE = (
    "valueFrom needs exactly one of configMapKeyRef and fieldRef: write one of them, or value instead of valueFrom"
)
FIELD_INVALID = (
    "{text} is not a field of a pod for a variable: write metadata.name, metadata.namespace, metadata.uid, "
    "metadata.labels['key'], metadata.annotations['key'], spec.nodeName, spec.serviceAccountName, "
    "status.podIP or status.podIPs"
)
FILE_FIELD_INVALID = (
    "{text} is not a field of a pod for a file: write metadata.name, metadata.namespace, metadata.uid, "
    "metadata.labels or metadata.annotations, or one key such as metadata.labels['example.com/team']"
)
VOLUME_SOURCE = "a volume needs exactly one of configMap, emptyDir and projected: write one of them"
AGENT_VOLUME_SOURCE = "a volume of an agent needs exactly one kind, such as persistentVolumeClaim: write one of them"
CLAIM_NAME_INVALID = (
    "{text} is not the name of a PersistentVolumeClaim: write lower case letters, digits, dashes and dots"
)
PROJECTED_SOURCE = "a source of a projected volume needs exactly one of configMap and downwardAPI: write one of them"
PROJECTED_PATH_TWICE = "two items of a projected volume have the same path {path}: rename one of them"
CONFIG_MAP_KEY_INVALID = (
    "{text} is not a key of a ConfigMap: write letters, digits, dashes, underscores and dots, without .. at the "
    "beginning"
)
ENV_PREFIX_INVALID = "{text} is not the beginning of names of variables: write printable ASCII characters but ="
MOUNT_PATH_INVALID = (
    "{text} is not an absolute path: write it without .., // and a / at its end, such as /var/cache/app"
)
MOUNT_PATH_RESERVED = (
    "{text} is a path of Interlock or of the kubelet, or above one: mount the volume elsewhere, such as at /data"
)
MOUNT_UNKNOWN = "a mount names no volume: add it to volumes, or remove the mount"
MOUNT_WITHOUT_VOLUME = "no volume is named {name}: add it to volumes, or remove the mount"
VOLUME_TWICE = "two volumes have the same name, or two volumeMounts the same mountPath: rename one of them"
SERVER_ENV_SOURCE = "valueFrom needs exactly one of secretKeyRef, configMapKeyRef and fieldRef: write one of them"
WORKING_DIR_INVALID = "{text} is not an absolute path of a folder: write it without .., such as /app"
PORT_NAME_INVALID = "{text} is not the name of a port: write at most 15 lower case letters, digits and dashes"
PORT_NAME_RESERVED = f"{', '.join(PORT_NAMES)} are names of the guard's ports: give the port another name"
PORT_NAME_TWICE = "spec.template.ports: two ports have the same name: rename one of them"
PROBE_ACTION = "a probe needs exactly one of exec, httpGet, tcpSocket and grpc: write one of them"
PROBE_PORT_INVALID = (
    f"not a port of the container: write its number, which is none of {FIRST_RESERVED_PORT} to {LAST_RESERVED_PORT}, "
    f"or its name, which is none of {', '.join(PORT_NAMES)}"
)
PROBE_PATH_INVALID = "{text} is not the path of a request: write it with a / at its beginning, such as /healthz"
PROBE_HEADER_INVALID = "{text} is not the name of a header: write letters, digits and dashes"
METADATA_KEY_INVALID = (
    "keys of labels and annotations need a prefix, such as user.interlock.dev/team: selectors of others rarely have one"
)
METADATA_KEY_RESERVED = (
    "keys of kubernetes.io, k8s.io and interlock.dev are reserved: write user.interlock.dev/ as the prefix, or one of "
    "your own that the AgentPolicy lists"
)
TOLERATION_INVALID = (
    "a toleration without a key needs operator Exists, one with operator Exists has no value, and tolerationSeconds "
    "needs effect NoExecute"
)
REQUIREMENT_INVALID = "In and NotIn need values, Exists and DoesNotExist have none, and Gt and Lt need one number"
AFFINITY_KEYS_INVALID = (
    "matchLabelKeys and mismatchLabelKeys of an affinity need a labelSelector, and have no key in common"
)
SPREAD_INVALID = "minDomains needs whenUnsatisfiable DoNotSchedule, and no key of matchLabelKeys is in labelSelector"
SPREAD_TWICE = "two topologySpreadConstraints have the same topologyKey and whenUnsatisfiable: remove one of them"
CLASS_NAME_INVALID = "{text} is not the name of a class: write lower case letters, digits, dashes and dots"
PRIORITY_RESERVED = (
    "{text} is reserved for Kubernetes or for the kill controller: name another PriorityClass, or leave it out"
)
ID_RESERVED = (
    f"{GUARD_GID} and {FIRST_RESERVED_ID} to {LAST_RESERVED_ID} are users and groups of Interlock's containers: "
    "write another number, such as 20000"
)
ID_TAKEN = (
    "{field}: {number} is a user or group of Interlock's containers in this namespace: write a larger number of the "
    "range in the annotation openshift.io/sa.scc.uid-range"
)
TEMPLATE_NOT_ALLOWED = (
    "{field}: AgentPolicy {policy} does not allow {feature}: add {feature} to spec.podTemplate.allow there, or remove "
    "the field"
)
GRACE_NOT_ALLOWED = (
    "spec.template.terminationGracePeriodSeconds: {seconds} is above the {limit} of AgentPolicy {policy}: lower it, or "
    "raise spec.podTemplate.maxTerminationGracePeriodSeconds there"
)
METADATA_KEY_NOT_ALLOWED = (
    "spec.template.metadata: AgentPolicy {policy} does not allow the key {key}: add it to "
    "spec.podTemplate.metadataKeys there, or give it the prefix user.interlock.dev/"
)
AMOUNT_NOT_ALLOWED = (
    "{field}: {amount} is above the {limit} of AgentPolicy {policy}: lower it, or raise spec.podTemplate.max.{kind} "
    "there"
)
NODE_SELECTOR_CONTRADICTS = (
    "{field}: {key}={value} contradicts {other}, which is {where}: write the same value, or leave it out"
)
DIGEST_REQUIRED = (
    "{field}: AgentPolicy {policy} requires images by digest, and {image} has none: write it as name@sha256: and 64 "
    "hexadecimal digits"
)
METADATA_GLOB_INVALID = "{text} is not a key or the keys of a prefix: write example.com/team, or example.com/*"
USER_TWICE = (
    "stage {stage}: {first} and {second} run as user {user}: the agent and each of its servers need users of their own"
)
