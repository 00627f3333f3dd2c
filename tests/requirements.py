"""What Interlock promises, one line each, and the mark that says which tests verify it.

`@requirement("kill.latched")` on a test, or on a class of tests, says that it verifies the promise. tests/contract
checks both directions: a promise without a test fails, and a mark that names no promise fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

Marked = TypeVar("Marked", bound=Callable[..., object])
Where = Literal["unit", "api", "kind"]


@dataclass(frozen=True)
class Requirement:
    """One promise.

    Attributes:
        sentence: The behaviour, as a user could check it.
        where: The cheapest place that can verify it: a unit test, a real API server, or real pods.
    """

    sentence: str
    where: Where = "unit"


REQUIREMENTS: dict[str, Requirement] = {
    # Types and CRDs
    "crd.generated": Requirement("crds/ holds exactly what the types generate"),
    "crd.bounded": Requirement("every string and every list of the API has a bound"),
    "crd.accepted": Requirement("a real API server accepts the CRDs and enforces their rules", "api"),
    # Admission: what guards obey is written by its owners alone
    "admission.parameters": Requirement("no admission policy has parameters that an API server stops to follow"),
    "protection.reinstalled": Requirement("policies that were installed again judge by the objects of now", "api"),
    "protection.watched": Requirement("an admission policy that is deleted or weakened is reported", "api"),
    "protection.refused": Requirement(
        "no user with Kubernetes' own roles writes the objects, pods and workloads of agents", "api"
    ),
    "protection.networks": Requirement("a user without rights on policies opens no agent's network", "api"),
    "audit.collector-name": Requirement("no user of a namespace answers for the collector's name"),
    "protection.identity": Requirement("a guard or a verifier is known by its pod, and writes one object", "api"),
    "protection.exempt": Requirement("nodes, controllers and users do what agents' pods need or rights allow", "api"),
    "protection.debug": Requirement("the pods of agents and guards are entered with the verb debug alone", "api"),
    "protection.size": Requirement("no size of an object escapes a protecting policy or blocks a kill", "api"),
    "protection.release": Requirement("a killed agent is released or deleted with the verb release alone", "api"),
    "protection.kill-only": Requirement("a user without update may set the kill switch and nothing else", "api"),
    "operator.scope": Requirement("the tokens of operator and kill controller do what these programs do", "api"),
    "protection.oldest": Requirement("the admission policies hold on the oldest supported Kubernetes", "api"),
    "protection.priority": Requirement("the kill controller's priority is no tenant's", "api"),
    "protection.seats": Requirement("no user's writes of Agents take the seats of another's kill", "api"),
    "protection.kill-cost": Requirement("a kill costs the API server no more in a namespace with many objects"),
    "protection.kill-fits": Requirement("metadata and size of an Agent leave room for a kill", "api"),
    # Layer 1: governance
    "governance.owner-is-a-person": Requirement("an agent without a person as its owner is refused"),
    "governance.purpose": Requirement("an agent without a purpose is refused"),
    "governance.policy-exists": Requirement("an agent whose policy does not exist is refused"),
    "governance.matrix-row": Requirement("a binding without a row in the policy's matrix is refused"),
    "governance.selector": Requirement(
        "a matrix row speaks of agents by names or by labels, and counts as they change"
    ),
    "governance.no-pods-before": Requirement("an agent that a layer refuses wants no child at all"),
    "governance.pods-end": Requirement("children go when the policy, the row or the binding goes that they stood on"),
    "governance.deleted": Requirement(
        "an agent that is being deleted wants nothing and its guard is closed, whatever finalizers keep the object"
    ),
    "governance.deleted-grants": Requirement("a policy or binding that is being deleted grants nothing to any agent"),
    "governance.reported": Requirement(
        "a refusal is Ready=False and Stalled=True, with what is missing and how to fix it"
    ),
    "governance.layer-order": Requirement("the first layer that refuses speaks, and the later ones wait for it"),
    "governance.same-message": Requirement(
        "kubectl apply --dry-run=server answers with the reconciler's message", "api"
    ),
    # Layer 2: orchestration
    "rollout.one-of": Requirement("exactly one of environment and rollout; environment is one stage without scope"),
    "rollout.kept": Requirement(
        "before a revision is good, what serves production goes on until another revision is Ready in its place"
    ),
    "rollout.order": Requirement("stages go from development to staging to production, and scope only widens"),
    "rollout.minimums": Requirement("the policy's minimums are sums that a rollout must reach"),
    "rollout.tightened": Requirement("a tightened minimum takes nothing away and holds the stages still to come"),
    "rollout.passed": Requirement("minimums count the time in passed stages, and not what their spec says later"),
    "rollout.in-turn": Requirement("no stage is entered before the one before it was Ready for its minimum"),
    "rollout.restart": Requirement("an operator's restart neither skips nor resets a soak"),
    "rollout.weeks": Requirement("a week and 48 hours pass before the next stage, whatever restarts meanwhile", "api"),
    "rollout.clock": Requirement("a clock that goes back makes a soak longer, never shorter"),
    "rollout.clocks": Requirement("a time of readiness that another clock wrote ahead ends no soak and no reconcile"),
    "rollout.one-clock": Requirement("the clock of the operator's node neither shortens nor resets a soak", "api"),
    "rollout.node-clocks": Requirement("no soak is shortened by the clock of a node that is wrong by an hour"),
    "rollout.starts-again": Requirement("a new revision or a changed stage starts again at the first stage"),
    "rollout.approval": Requirement("a stage that agent or policy let approve is entered after a promote alone"),
    "rollout.commands": Requirement("commands about a rollout need a right each, and name their user", "api"),
    "revision.author": Requirement(
        "who changed a spec last is named by the API server, or counts as unverified", "api"
    ),
    "revision.whole-digest": Requirement("a revision is a whole digest: two specs with equal beginnings of it are two"),
    "revision.contents": Requirement(
        "template, files, bindings, models with their keys, task port and policyRef make a revision, and nothing else"
    ),
    "revision.config-maps": Requirement(
        "a revision keeps what it refers to of ConfigMaps: an edit goes through the stages, a rollback brings it back"
    ),
    "config-maps.missing": Requirement("a missing ConfigMap holds the next revision, says which, and ends nothing"),
    "config-maps.refused": Requirement(
        "no agent reads a ConfigMap of Interlock, and no ConfigMap sets a variable that only Interlock sets"
    ),
    "config-maps.copies": Requirement("pods refer to copies that cannot be changed and are restored from the revision"),
    "revision.narrower": Requirement(
        "a revision obeys what it was reviewed with and what policy and bindings say today, whichever is narrower"
    ),
    "revision.field-classes": Requirement("each field of a spec has one class, and a change of it does what that says"),
    "revision.history": Requirement(
        "a revision is stored with digest, author, cause and tag, read back only if whole, and kept while it is needed"
    ),
    "revision.labels": Requirement(
        "a label by whose key a row selects belongs to the revision; other labels and edits of the policy do not"
    ),
    "rollout.soak-stops": Requirement("a soak stops while the agent is killed or scaled to zero, and starts again"),
    "rollout.pause": Requirement("the time in which a stage is not Ready does not count towards its soak"),
    "rollout.unproven": Requirement("a soak counts no time in which nothing proves that the stage was Ready"),
    "rollout.restarts": Requirement("more ends of the agent's container by itself than allowed start the soak again"),
    "rollout.requeue": Requirement("a soaking agent is requeued for the end of the soak, and not before"),
    "rollout.replaced": Requirement("what a change replaces ends, also if what replaces it is refused"),
    "rollout.own-objects": Requirement("a stage that is entered gets objects of its own; those of the one before go"),
    "rollout.partition": Requirement(
        "placements serve nothing twice, and all of production once a revision has passed all stages"
    ),
    "rollout.images": Requirement(
        "a pod that runs another image than its revision was Ready with serves nothing, and status says why", "api"
    ),
    "rollout.gate-prometheus": Requirement(
        "a metric gate is judged by what a real Prometheus answers, and holds without a number", "api"
    ),
    "rollout.kills": Requirement("a kill at any step of a rollout ends all its pods, and a release goes on with it"),
    "rollout.soak-on-a-cluster": Requirement("an agent that keeps ending is not promoted on real pods", "kind"),
    "rollout.service-on-a-cluster": Requirement(
        "a second revision passes all stages beside the good one, and no task fails meanwhile", "kind"
    ),
    "rollout.back-on-a-cluster": Requirement(
        "a bad revision is stopped by a command or a gate while the good one never stops, and a rollback works", "kind"
    ),
    "rollout.test-on-a-cluster": Requirement(
        "a test on real pods sends a task to its stage, and a revision that fails it stops there", "kind"
    ),
    "rollout.on-a-cluster": Requirement("staging, one region, everywhere by soaks, across a restart", "kind"),
    # Layer 3: action
    "action.one-binding": Requirement("exactly one MCPBinding serves each source in each stage, checked at the start"),
    "action.narrowing": Requirement("an agent's permissions only narrow: naming more is refused, not cut"),
    "action.deny-by-default": Requirement("a call needs the tool's map and every grant: binding, matrix and agent"),
    "verify.before-attach": Requirement("no agent is attached to a server that was not verified, and it says for what"),
    "verify.client": Requirement(
        "the verifier initializes, lists, compares with the map, and probes, as the guard would"
    ),
    "verify.repeated": Requirement("a server is verified at each interval and change; failed runs are repeated"),
    "verify.bounded": Requirement("a run without a result ends, and is reported"),
    "verify.pod": Requirement("a run whose pod lacks what a policy now gives is replaced immediately"),
    "verify.clocks": Requirement("a run that another clock recorded in the future keeps no server from verification"),
    "verify.on-a-cluster": Requirement("the operator verifies by Jobs that Pod Security restricted admits", "api"),
    "drift.quarantined": Requirement("a tool that has changed is denied at the next call, and the others go on"),
    "drift.prompts": Requirement("a prompt is shown and got only as it was verified or accepted"),
    "drift.instructions": Requirement(
        "a server's instructions reach an agent only if the binding pins them, as verified"
    ),
    "drift.accepted": Requirement("only an accept of the very digest that is observed brings a changed tool back"),
    "drift.reported-early": Requirement("a drift that a guard has found is verified soon, not at the next interval"),
    "drift.told-in-time": Requirement("Drifted=True has the diff within 10 s of a guard's first denial", "api"),
    "status.counts": Requirement("status.readyReplicas and readySummary say how many of the wanted pods are ready"),
    "status.next-stage": Requirement("the status says which stage follows at which time, and which ones were entered"),
    "status.quoted": Requirement("what containers and Kubernetes say is shown quoted, bounded and without secrets"),
    "status.causes": Requirement("Ready names within 15 s why a pod fails, in the words of Kubernetes", "api"),
    "status.causes-on-a-cluster": Requirement("Ready says why real pods fail, in the words of their kubelet", "kind"),
    "status.quiet": Requirement("a failure that is reported again in other figures writes no status again"),
    "status.events-bounded": Requirement("reads of Events are bounded, and a flood of them hides no pod for ever"),
    "status.denials": Requirement("ten denials of one rule within a minute are one Event with rule and count"),
    "status.policies": Requirement("a policy counts its Agents, and those that it refuses, with their names"),
    "status.bindings": Requirement("a binding names the Agents that use it, and counts its tools"),
    "status.stalled": Requirement("Stalled is True only for what no waiting heals"),
    "status.generation": Requirement("each condition has the generation that it was judged at, or carried over to"),
    "status.kstatus": Requirement("kstatus, with which Helm and Flux wait, reads each version of a status", "api"),
    "status.waiting-tools": Requirement(
        "tools that wait for conditions return on the first apply and after edits", "api"
    ),
    "drift.runbook": Requirement("every command of the runbook BindingDrifted prints what the page says", "api"),
    "drift.on-a-cluster": Requirement("a drift is reported with a diff, and accepted by an annotation", "api"),
    "drift.on-real-pods": Requirement("a guard in its pod denies a changed tool until its digest is accepted", "kind"),
    "access.one-truth": Requirement("what a policy's status says of a cell is what the guard decides on it"),
    "access.reported": Requirement("a policy's status has the access table, written only when it has changed"),
    "access.bounded": Requirement("the access table is bounded and says how many agents it leaves out"),
    "access.on-a-cluster": Requirement(
        "the access table stands in the policy's status, without a write too many", "api"
    ),
    "access.in-examples": Requirement("the page of each example has its access table, generated from decide"),
    # Import
    "import.shapes": Requirement("files of desktop clients become bindings, whichever client wrote them"),
    "import.secrets": Requirement("what is or may be a secret becomes a reference, and its value is printed nowhere"),
    "import.clients": Requirement("a setting of a client that has no meaning in a pod is reported once, with the fix"),
    "import.keep": Requirement("the import prints only values of harmless shapes, and those that its user keeps"),
    "import.examples": Requirement("the API server admits the example of each kind of MCP server", "api"),
    "import.registry": Requirement("an entry of the MCP registry becomes a binding"),
    "import.images": Requirement("the entry points of the ten most used images are known"),
    "import.refused": Requirement("what cannot be imported is refused with its place and the way out"),
    "import.guesses": Requirement("a guess of what a tool does errs on the strict side, and is no glob"),
    "import.nothing-unstated": Requirement("an import permits nothing that its file does not state"),
    "import.review": Requirement("a binding with guesses serves no agent before a user has reviewed it"),
    "import.accepted": Requirement("a real API server accepts what is imported", "api"),
    "import.verified": Requirement("what is imported passes verification against its server after review", "kind"),
    # Layer 4: deployment
    "deployment.children": Requirement("Deployment, Service, ServiceAccount, Role, bundle, files and NetworkPolicy"),
    "deployment.owned": Requirement("every child is owned by its Agent, so that deleting one cleans up"),
    "deployment.prune": Requirement("what is no longer wanted is pruned, workloads first"),
    "deployment.prune-networks": Requirement("a NetworkPolicy is pruned after the pods that it selects are gone"),
    "deployment.drift": Requirement("a child that was changed or deleted is healed"),
    "deployment.additions": Requirement("what others add to a child is taken out again"),
    "guard.confirmed-bundle": Requirement(
        "a guard obeys only a bundle that the status of its Agent names, neither a forged nor an earlier one"
    ),
    "deployment.enforcement-lost-on-a-cluster": Requirement(
        "the same against a real API server that refuses the object, and pods come back once it can be restored", "api"
    ),
    "guard.bundle-grace": Requirement(
        "a status that reaches a guard before its ConfigMap closes nothing, and no earlier bundle counts 1 s longer"
    ),
    "deployment.enforcement-lost": Requirement(
        "an agent has no pods while an object that enforcement rests on could not be restored for 10 s"
    ),
    "deployment.immutable": Requirement(
        "a child that cannot be changed is deleted and recreated, and pods that mount it are replaced"
    ),
    "deployment.names-of-others": Requirement(
        "an object of others that has the name of a child stays as it is, and the Agent is Stalled with its name"
    ),
    "deployment.restart-welcome": Requirement(
        "a kubectl rollout restart is no drift, nor are the API server's defaults"
    ),
    "deployment.pod-security": Requirement("every pod passes Pod Security restricted"),
    "deployment.no-shell": Requirement("the image of a stdio server needs no shell"),
    "deployment.no-shell-on-a-cluster": Requirement("an agent uses a server whose image has no shell", "kind"),
    "deployment.no-secret-in-agent": Requirement("the agent's container sees no MCP secret and no Kubernetes token"),
    "deployment.guard-role": Requirement(
        "a guard may read its own Agent and its own bundle, write to its Lease, and nothing else"
    ),
    "deployment.names-apart": Requirement(
        "two placements that exist at once share no object, nor do two agents, whatever their names and digests"
    ),
    "deployment.names-fit": Requirement(
        "every child's name fits, whatever the agent, the stage and the source are named"
    ),
    "deployment.bundle": Requirement("the bundle carries map, grants and scope, and the guard reads it back"),
    "deployment.workloads-last": Requirement("no workload is written before all that it needs stands"),
    # Isolation
    "isolation.by-environment": Requirement("agent and guard share a pod in development, and have one each elsewhere"),
    "isolation.agent-egress": Requirement("an agent's pod of its own is let out to its guard and to nothing else"),
    "isolation.guard-egress": Requirement("a guard's pod is let out to the API server and to what its servers need"),
    "isolation.addresses": Requirement("NetworkPolicies and guards close the same addresses, metadata services always"),
    "egress.withdrawn": Requirement(
        "a pod that was started with a way out or an identity that is withdrawn ends at once"
    ),
    "egress.killed": Requirement("nothing is open past the guard of a killed agent while its pods end"),
    "egress.rows": Requirement("a row of egress opens its peers and ports to its agents or servers, and nothing else"),
    "egress.refused": Requirement("a row of egress that would open a closed range, or public addresses, is refused"),
    "egress.cut-out": Requirement("no cidr opens metadata services, nodes, their pods or the API server"),
    "egress.nodes": Requirement("what rows open follows the nodes"),
    "egress.dns": Requirement("an agent's pod has the cluster's DNS only where a row allows it"),
    "egress.check": Requirement(
        "the egress check finds closed what no row opens, and a target that is down stops no agent"
    ),
    "egress.reported": Requirement(
        "EgressEnforced names what is open beside the guard, and that nothing of it is recorded"
    ),
    "egress.on-a-cluster": Requirement("a database is reached by the named agent and by no other", "kind"),
    "state.on-a-cluster": Requirement(
        "files of a claim outlive pods and revisions, and no two agents and no two pods have one claim", "kind"
    ),
    "identity.cloud": Requirement(
        "guards' accounts carry the cloud identity that a policy lists and allows, and no other"
    ),
    "identity.metadata-server": Requirement(
        "the metadata server is open only to a guard whose cloud gives identities there"
    ),
    "agent-key.proven": Requirement("the agent's port serves only requests with the key of its agent's container"),
    "agent-key.own-pod": Requirement("callers in the guard's own pod reach neither a separate agent's port nor tasks"),
    "agent-key.secret": Requirement("an agent's key is in its container alone, and the operator never reads a Secret"),
    "agent-key.operator": Requirement("the operator's key is made once, and no start replaces it"),
    "agent-key.on-a-cluster": Requirement("a real MCP server in the guard's pod is not taken for the agent", "kind"),
    "agent-key.on-an-api-server": Requirement("the operator makes keys with the right to create Secrets alone", "api"),
    "isolation.egress-check": Requirement(
        "no agent starts before its own pod has seen that all but its guard is closed"
    ),
    "isolation.open-network": Requirement("outside of development an open network keeps an agent from starting"),
    "isolation.reported": Requirement(
        "EgressEnforced says what was seen, and of a shared pod what it does not protect"
    ),
    "isolation.both-end": Requirement("a kill and a refusal end the agent's pods and the guard's"),
    "isolation.on-a-cluster": Requirement("no way out of a real agent's pod but its guard, with or without it", "kind"),
    "isolation.open-on-a-cluster": Requirement(
        "on a network that enforces nothing staging and production are refused within 30 s, with the reason", "kind"
    ),
    "isolation.canaries": Requirement("a server's secret is nowhere that agents and readers see", "kind"),
    "deployment.healed-on-a-cluster": Requirement("drift of any child is healed within 10 s", "api"),
    # The guard
    "guard.hostile": Requirement("no message of the hostile corpus reaches a server, whatever it tries"),
    "guard.decides": Requirement("the guard refuses whatever is not mapped and granted by every layer"),
    "guard.globs": Requirement("a glob never lets a tool, prompt or resource through that it does not name"),
    "guard.cursors": Requirement(
        "a client sees no cursor of a server, and continues a list by the guard's cursors alone"
    ),
    "guard.descriptions": Requirement("texts about resources are withheld unless the binding asks for them"),
    "guard.request-states": Requirement(
        "a request that a server required input for is repeated with that server's state and that input alone"
    ),
    "guard.unpinned-text": Requirement("what is no answer to an allowed call passes without the server's text"),
    "guard.first-message": Requirement(
        "a server that ends at the probe of the sessionless protocol is initialized, and the probe is not sent again"
    ),
    "guard.reconnect-pause": Requirement("a server whose connections end at once is rarely initialized"),
    "guard.lists-bounded": Requirement("a server's list costs a bounded number of requests and time, whatever it says"),
    "guard.odd-messages": Requirement(
        "one odd message of a server costs at most its own call, and no decision depends on how it was written"
    ),
    "guard.own-name": Requirement("no server can answer in the guard's name, such as with a denial"),
    "guard.arguments": Requirement("a call whose arguments break a rule of the map is refused"),
    "guard.load": Requirement("one message never holds up a kill, and all messages together fit the guard's memory"),
    "guard.patterns": Requirement("patterns are matched in linear time, so that no argument holds the guard up"),
    "guard.resources": Requirement("resources, prompts and completions need their map and every grant, as tools do"),
    "guard.hints": Requirement("what a server says of its tools makes the guard ask for more, never for less"),
    "guard.unmatchable": Requirement("a rule outside the tool's input schema denies the tool and says so"),
    "guard.server-requests": Requirement("a server may ask its agent for nothing that the binding does not name"),
    "guard.fuzzed": Requirement("no bundle, request or message crashes the decision, or passes without every rule"),
    "guard.conformance": Requirement(
        "no scenario of the official conformance suite that a server passes directly fails through the guard"
    ),
    "guard.both-protocol-versions": Requirement(
        "session-based and sessionless clients and servers work with each other through the guard"
    ),
    "guard.sessions": Requirement("a stream that broke is resumed without loss, by its own session only"),
    "guard.limits": Requirement("a binding bounds the bytes of requests and results, and the calls under way"),
    "guard.scope": Requirement("a call outside the stage's scope, or without its value, is refused"),
    "guard.lists-permitted": Requirement(
        "tools/list shows permitted tools only; unmapped and missing ones answer alike"
    ),
    "guard.records": Requirement("each decision is one JSON line, written before the call is forwarded"),
    "records.chain": Requirement(
        "records are a hash chain per guard process, from a genesis that names the one before"
    ),
    "records.outcomes": Requirement("each allowed request has its outcome recorded once, at its end"),
    "records.redacted": Requirement("of arguments only the digest is recorded, or what the policy's redaction leaves"),
    "records.unavailable": Requirement("without a place for the record, writes and deletes are refused, then reads"),
    "records.kill": Requirement("a guard killed with -9 under load leaves a record of every call that it forwarded"),
    "costs.reported": Requirement("a report adds up what calls cost, by agent, owner, model, task, day and labels"),
    "costs.compared": Requirement("recorded costs are compared with a provider's export, by day and model"),
    "records.collected": Requirement("the collector holds each record once, whatever restarts or fills up meanwhile"),
    "records.verified": Requirement("the verifier finds every changed, missing, reordered, repeated or cut-off record"),
    "records.retention-provable": Requirement(
        "the verifier finds a beginning that was deleted before retention would have deleted it"
    ),
    "records.authenticated": Requirement("a guard writes records of its own pod only, and reading needs a permission"),
    "guard.selftest": Requirement("a guard obeys no bundle before its self-test has passed"),
    "guard.selftest-reported": Requirement(
        "PolicyEnforced is True once every guard has self-tested the current bundle"
    ),
    "guard.selftest-on-a-cluster": Requirement(
        "a policy's change is self-tested again by the guards of real pods", "kind"
    ),
    "guard.killed": Requirement("a guard that has seen a kill answers 503 with the reason, and closes open streams"),
    "guard.stale": Requirement("a guard that is cut off from the API server denies once its lease has run out"),
    "records.on-a-cluster": Requirement(
        "records outlive their pod, read by permitted users, whole, and a changed one is found", "kind"
    ),
    # Servers over HTTP
    "http.addresses": Requirement("a binding reaches public addresses, private ones if it says so, others never"),
    "http.ssrf": Requirement("no notation, answer, redirect, proxy or rebinding makes the guard dial what it may not"),
    "http.same-message": Requirement(
        "a server that the API server refuses is refused in Python with its message", "api"
    ),
    "http.credentials": Requirement("no token of the agent reaches a server, no credential of a server the agent"),
    "http.once": Requirement("no call is sent twice, whatever becomes of connection, session or server"),
    "http.habits": Requirement("a server over HTTP with the habits of those that users have can be used"),
    "http.pause": Requirement("sessions and streams of a server that end soon are followed by ever longer pauses"),
    "http.session-end": Requirement("a session is ended at its server when the guard no longer uses it"),
    "http.serves": Requirement("tools of a server over HTTP are listed, called and refused as those of any other"),
    "http.on-a-cluster": Requirement(
        "a server over HTTP works in a cluster, its key in the guard and nowhere else", "kind"
    ),
    "http.trust": Requirement("a server authenticates its name by the image's authorities, or by the binding's alone"),
    "agents.frameworks": Requirement("agents of common frameworks run unmodified next to a guard, and reach it alone"),
    "agents.on-a-cluster": Requirement(
        "a script of a user works in a pod as the page has it, and what its models cost is counted", "kind"
    ),
    "agents.container": Requirement(
        "the container of an agent in a pod of its own is what the page says, SIGTERM and network included", "kind"
    ),
    "guard.sdk-clients": Requirement(
        "the official Python and TypeScript clients and the inspector's CLI work against the guard"
    ),
    "guard.sdk-clients-on-a-cluster": Requirement("the same clients work against the guard of a real pod", "kind"),
    "guard.on-a-cluster": Requirement(
        "an allowed call succeeds in a pod; unmapped ones and deletes are denied", "kind"
    ),
    # Budgets
    "budget.lower-only": Requirement("an Agent lowers its budget and never raises it"),
    "budget.override": Requirement("a budget is raised with a right of its own, under the user's own name", "api"),
    "budget.ledger-writers": Requirement(
        "a ledger is written by the guards of its agent and the operator, who take nothing back", "api"
    ),
    "budget.ledger-kept": Requirement("a ledger is stored as it was written, and is one agent's for ever", "api"),
    "budget.ledger-repaired": Requirement("a ledger that cannot be read is repaired, and no money comes back by that"),
    "budget.ledger-removed": Requirement("the empty ledgers of deleted agents are removed, and those with spend stay"),
    "budget.ledger-first": Requirement("no pod starts before the ledgers that it spends from exist"),
    "budget.price-missing": Requirement("a model without a price is refused, with the field that fixes it"),
    "budget.shown": Requirement("status and column show spend and limit, at most every 10 s"),
    "budget.exhausted": Requirement("an exhausted budget is a condition with its end and the way out"),
    "budget.scale-to-zero": Requirement("ScaleToZero ends pods until the next window or an override"),
    "budget.dead-holders": Requirement("what a guard that ended did not settle is spent, once"),
    "budget.alerts": Requirement("an alert is one Event for a percentage and a window, also after a restart"),
    "budget.webhooks": Requirement(
        "each alert of a window reaches each webhook under one key, within 5 s and across restarts", "api"
    ),
    "budget.velocity": Requirement(
        "ten minutes that cost far more than usual are one alert, and no other ten minutes are"
    ),
    "budget.tokens-per-byte": Requirement(
        "a model whose tokens per byte differ by a quarter from its last day is one alert a day, and no other model is"
    ),
    "budget.forecast": Requirement("the spend of a day is forecast from its last hours, at steps of ten minutes"),
    "budget.task": Requirement("a task that is alone spends no more than its budget, whatever its calls name"),
    "budget.rates": Requirement("no number of guards and no crash passes the calls and tokens of a minute"),
    "budget.environments": Requirement("rules of rollouts go by the class of an environment"),
    "budget.stored-policies": Requirement("a policy with a map of environments keeps its isolation", "api"),
    # Models
    "models.governed": Requirement("an agent with a model that its policy does not allow is refused"),
    "models.compiled": Requirement("the bundle has the agent's models, and only the guard mounts their keys"),
    "models.pass": Requirement("a call reaches its provider with the real key and only headers that may pass"),
    "models.retries": Requirement("SDKs try again where that can help, and nowhere else"),
    "models.large": Requirement("requests to models of up to 32 MiB pass, within the guard's memory"),
    "models.recipes": Requirement("Azure OpenAI, Gemini and Bedrock work as the documentation says"),
    "proxy.used": Requirement("public servers and providers are reached through the policy's egress proxy alone"),
    "proxy.verified": Requirement("a server is verified through the proxy that guards will use"),
    "proxy.closed": Requirement("NetworkPolicies open the egress proxy, and no server that is behind it"),
    "proxy.on-a-cluster": Requirement("a policy's egress proxy reaches verifications, bundles and networks", "api"),
    "proxy.checked": Requirement("a proxy is dialled and told only what may be, and every certificate is checked"),
    "models.streams": Requirement("a stream passes byte for byte, each event as it comes, and breaks where it breaks"),
    "models.hang-up": Requirement("an agent that hangs up ends its call at the provider"),
    "models.endpoints": Requirement("a few paths reach a provider, and nothing else does"),
    "models.secrets": Requirement("a model's key comes only from a Secret that the policy names"),
    "models.allowed": Requirement("a call of a model that is not the agent's reaches no provider"),
    "models.hosted-tools": Requirement("no call has its provider search, run code or call MCP servers by itself"),
    "models.members": Requirement(
        "a body has members that the official SDKs have or an administrator added, no others"
    ),
    "models.remote-content": Requirement("a provider loads content only from hosts that the policy names"),
    "models.keys": Requirement("the agent shows a key that is good nowhere else, and never sees a real one"),
    "credentials.withheld": Requirement("no answer brings a credential that was sent, however it is written"),
    "models.ssrf": Requirement("no redirect, proxy or address leads a call to where it may not go"),
    "models.kill": Requirement("a kill closes calls of models immediately, and a closed guard refuses them"),
    "models.limits": Requirement("bodies, headers and calls under way are bounded"),
    "models.recorded": Requirement("each call of a model is recorded and counted, and nothing of what was said is"),
    "models.selftest": Requirement("the self-test shows that a guard refuses models that its agent may not call"),
    "models.sdks": Requirement("the official OpenAI and Anthropic SDKs work by the agent's variables alone"),
    "models.on-a-cluster": Requirement("real pods call a model by their guard, in one pod with it and apart", "kind"),
    # Budgets
    "budget.b1": Requirement("of 256 parallel requests exactly those are forwarded for which there is money"),
    "budget.b2": Requirement("several guards that share a budget forward together what one would, and nothing more"),
    "budget.b3": Requirement(
        "10 000 requests of which a third ends badly leave no reservation, and the ledger has each usage exactly"
    ),
    "budget.b4": Requirement("no request is refused for which there is room, of 10 000 below the limit"),
    "budget.b5": Requirement("a client that leaves its stream, at whatever byte, pays for all that was used"),
    "budget.b6": Requirement("a model without a price is refused, and a declared price of zero is a price"),
    "budget.b7": Requirement("no NaN, infinity, negative number, number of an API or absurd size is a limit", "api"),
    "budget.b8": Requirement("after guards that are killed at load the ledger has no less than was truly spent"),
    "budget.b9": Requirement("while the store is away the open slice is spent, and the rest is refused within 1 s"),
    "budget.b10": Requirement("a day of a budget begins once in its zone, whatever clocks say, and ends no kill"),
    "budget.b11": Requirement("50, 80 and 100 percent are one alert each within 5 s, also across restarts", "api"),
    "budget.b12": Requirement("a usage more than 25 percent off what bytes let expect is an alert"),
    "budget.worst-case": Requirement("no call of a model can cost more than the guard reserves before it is sent"),
    "budget.usage": Requirement("every shape of usage that providers send is read, and in the larger way if unclear"),
    "budget.settled": Requirement("a call is charged by its usage, and with its whole reservation if that is unknown"),
    "budget.unseen": Requirement("no client sees what the guard adds to a request in order to know its cost"),
    "budget.schedules": Requirement("no schedule of crashes, lost answers, resets and credits overspends a budget"),
    "budget.exact": Requirement("of parallel requests exactly those that fit into the budget are forwarded"),
    "budget.crash": Requirement("a guard that is killed costs at most what it had reserved, and nothing is forgotten"),
    "budget.closed-once": Requirement("the money of a dead guard counts as spent once, and none of it comes back"),
    "budget.one-reset": Requirement("each day and month of a budget begins once, whatever clocks and zones say"),
    "budget.rules": Requirement("the simulation of budgets notices when any rule of the ledger is missing"),
    "budget.outage": Requirement(
        "while a ledger cannot be reached a guard spends its open slice alone, and refuses the rest within a second"
    ),
    "budget.on-a-cluster": Requirement(
        "a real pod in a loop is stopped at its budget, and an override frees it", "kind"
    ),
    "budget.agents": Requirement("an unmodified agent stops at its budget with the exception of an exhausted quota"),
    "budget.credit": Requirement("an override is one amount beyond the limits of day and month, until its end"),
    # Kill
    "loops.refused": Requirement("a call that is repeated too often is refused until it stayed away for one window"),
    "loops.flood": Requirement("no cheap flood of different calls hides a loop, and none takes memory without bound"),
    "loops.kill": Requirement("a loop for which the policy kills sets the switch once, without the operator", "api"),
    "loops.runbook": Requirement("every command of the runbook AgentLoop prints what the page says", "api"),
    "loops.forged": Requirement("no report of a loop but that of an agent's own guard kills it", "api"),
    "kill.any-value": Requirement("any value of the annotation but off kills, a typo too"),
    "kill.relabelled": Requirement("a pod that was taken out of its agent by a change of its labels is deleted"),
    "kill.lease": Requirement("no new pod starts while no kill controller has renewed its Lease for 60 s"),
    "kill.latched": Requirement("only off releases: removing the annotation does not"),
    "kill.zero": Requirement("a killed agent's workload is held at zero against any scaler"),
    "kill.no-new-pod": Requirement("the API server makes no pod of a killed agent, for any user", "api"),
    "kill.order": Requirement("pods are deleted first, with a grace period of 1, then workloads are scaled to zero"),
    "kill.never-up": Requirement("an agent that is created killed never gets a pod"),
    "kill.insists": Requirement("a kill goes on trying while the API server refuses"),
    "kill.shares-nothing": Requirement("the kill controller imports nothing of the operator"),
    "kill.author": Requirement("the name of a user that the API server does not vouch for is shown as unverified"),
    "kill.recorded": Requirement("status.kill says why, since when, when no pod was left, and when it was released"),
    "kill.foreign": Requirement("no pod of a team's own ServiceAccount ends because an Agent has a name like it"),
    "kill.finalizer": Requirement("a pod that has ended counts as ended, whatever finalizer keeps its object"),
    "kill.gone": Requirement("no pod of an Agent outlives it, whoever owns its workload"),
    "kill.deleted": Requirement("the kill controller ends the pods of a deleted Agent that a finalizer keeps"),
    "kill.while-hanging": Requirement("a kill works while a reconcile hangs", "api"),
    "policies.absent": Requirement(
        "with every admission policy deleted, each attack is prevented, healed, or named as not prevented", "api"
    ),
    "tenants.refused": Requirement(
        "a namespace's administrator can neither act as one of Interlock's programs nor reach another tenant's agent",
        "kind",
    ),
    "tenants.flood": Requirement(
        "an agent serves and is killed in its usual time while another tenant floods every shared part", "kind"
    ),
    "chaos.on-a-cluster": Requirement(
        "while every part is ended again and again, no killed and no ungoverned agent works, and everything heals",
        "kind",
    ),
    "kill.on-a-cluster": Requirement("no container runs 5 s after a kill, and none comes back before off", "kind"),
    # Tasks
    "tasks.way": Requirement("tasks reach the guard by the agent's Service; the agent's own port is closed"),
    "tasks.pass": Requirement("a task reaches the agent as it is, and its answer comes back as it comes"),
    "tasks.scope-complete": Requirement("a stage cannot be limited in a dimension that the agent's tasks cannot name"),
    "tasks.scope": Requirement(
        "a task whose values no placement serves as a whole is refused (421) with who serves them"
    ),
    "tasks.once": Requirement("a task is passed on at most once, and a caller that claims it was gains nothing"),
    "tasks.where-begun": Requirement("what belongs to a task under way goes where that began, also out of scope"),
    "tasks.scale-down": Requirement("a guard that a scale-down ends serves what still reaches it"),
    "tasks.own-time": Requirement("a task that is passed on ends in its own time, also if no guard answers"),
    "tasks.bounded": Requirement("no more concurrent tasks than the agent accepts; some wait in order, the rest retry"),
    "tasks.closed": Requirement("no task passes a guard that is killed, stale, unverified or without a bundle"),
    "tasks.size": Requirement("a body beyond 16 MiB is refused and never held"),
    "tasks.heads": Requirement("headers of 64 KiB pass, and a larger one is named as the reason and not repeated"),
    "tasks.hang-up": Requirement("a caller that hangs up ends its task in the agent"),
    "tasks.reach": Requirement("an agent that is not reached is tried again for 10 s, and nothing sent is repeated"),
    "tasks.broken-off": Requirement("an agent that dies in mid-answer is a broken connection and a failure"),
    "tasks.kill": Requirement("a kill ends every open task immediately"),
    "tasks.smuggling": Requirement("a request that two HTTP parsers could read differently is refused"),
    "tasks.trace": Requirement("each task has an id, and a trace that agent, caller and record agree on"),
    "tasks.a2a": Requirement("an unmodified agent of the official A2A SDK works behind the guard, streams included"),
    "tasks.on-a-cluster": Requirement("tasks come by the agent's Service, and another pod cannot go round it", "kind"),
    "tasks.recorded": Requirement("each task that has ended is one line of the chain"),
    # Listeners
    "listeners.bounded": Requirement("every listener bounds connections, heads, bodies, times and bytes"),
    "listeners.probed-under-flood": Requirement("a flood of connections leaves room for other peers and for probes"),
    "records.quotas": Requirement("an agent or namespace beyond its quota or rate is refused, and no other one"),
    "records.own-statements": Requirement("a guard states facts of its own pod's records alone, with valid times"),
    "records.readers-bounded": Requirement(
        "no reader of records delays a guard, or fills the collector's memory or disk"
    ),
    "records.retention-proceeds": Requirement(
        "retention proceeds on a full disk, and lets guards send between its steps"
    ),
    "records.denials-counted": Requirement(
        "denials beyond 100 a minute of a rule share a record; allowed calls do not"
    ),
    "records.reviews-bounded": Requirement("made-up tokens reach the API server at a bounded rate, and no guard waits"),
    "listeners.scraped-by-permission": Requirement("only namespaces with a label reach the ports of metrics"),
    "pods.users": Requirement("guard, agent and servers have users of their own, on OpenShift of a namespace's range"),
    "status.quotas": Requirement("status says which ResourceQuota or LimitRange refuses pods, and the way out"),
    "scale.subresource": Requirement(
        "the scale of an Agent is its agent pods that serve the rest; writing it starts no revision"
    ),
    "pods.disruption": Requirement("a drain evicts one pod of an agent at a time, and a kill is not held up by that"),
    "platform.restricted": Requirement(
        "an agent works in a namespace that denies all traffic, has a quota of CPU and enforces `restricted`", "kind"
    ),
    "platform.private-registry": Requirement(
        "agent and server run on tainted nodes from a registry with a password, by their values alone", "kind"
    ),
    "platform.moved-tag": Requirement(
        "a real pod that starts with the image of a moved tag does no work once guards know it", "kind"
    ),
    "platform.digests": Requirement("a policy that requires digests ends what runs by a tag", "kind"),
    "pods.bounded": Requirement("every container of a pod has a memory limit, and every emptyDir a size"),
    "pods.installed-pull-secrets": Requirement(
        "each pod that the operator creates pulls with the Secrets that the installation names"
    ),
    # The images
    "supply.no-public-registry": Requirement("no image of the manifests and examples has a public registry's name"),
    "pages.examples-apply": Requirement("after the installation each example is applied in one command", "api"),
    "pages.rollout-picture": Requirement("the picture of a rollout is drawn from what the operator decides"),
    "pages.site": Requirement("the site of the pages has each page, no dead link, and loads nothing from elsewhere"),
    "pages.recording": Requirement("the recording in README shows commands of the demo, as a run has printed them"),
    "gitops.argo-health": Requirement("Argo CD's health of each kind says who must act: Healthy, Suspended, Degraded"),
    "gitops.kill-stays": Requirement("no sync of a GitOps tool takes a kill back", "api"),
    "pages.commands": Requirement("every command of the pages works as printed, in order, on one cluster", "kind"),
    "supply.released-by-digest": Requirement("a release pins the digests that it pushed, and pulls give that", "api"),
    "supply.signed": Requirement("images and SBOMs of a release are signed, and no other key verifies them", "api"),
    "supply.one-registry": Requirement("one setting names the registry of all images, the guard's too", "api"),
    "supply.layers": Requirement("the layers that a release adds to the base image have a bound, compressed"),
    "supply.version": Requirement("the version is written in one place, and a release has it everywhere"),
    "supply.workflows": Requirement("the workflows run what README promises, on the Pythons that it names"),
    # The charts
    "charts.equal": Requirement(
        "the charts render the objects of the kustomizations, with their default values", "api"
    ),
    "charts.values": Requirement("each value of the charts changes what it says, and a wrong one is refused", "api"),
    "charts.older": Requirement("charts, kustomizations and CRDs install on API servers of older minors", "api"),
    "upgrade.on-a-cluster": Requirement(
        "an upgrade and its rollback fail no task, leave separate agents' pods, and kills work in each of them",
        "kind",
    ),
    "charts.installed": Requirement("the charts install, upgrade, go back and uninstall; agents and CRDs stay", "api"),
    # Alerts for Prometheus
    "alerts.rules": Requirement("each alert of the PrometheusRule fires when it should, and only then", "api"),
    # The operator
    "operator.converges": Requirement("after any failed write the status is true and the next reconcile converges"),
    "operator.idle": Requirement("nothing is written where nothing has changed, across restarts too"),
    "operator.idle-on-a-cluster": Requirement("no writes in 60 s of steady state with 100 agents", "api"),
    "operator.liveness": Requirement("a dead watch, a hanging loop and an ended second watch make /healthz fail"),
    "operator.old-cluster": Requirement("the operator names what an old cluster lacks, and ends on one before 1.33"),
    "operator.own-account": Requirement("operator and kill controller start only as the accounts that policies bound"),
    "operator.unreadable": Requirement("an object that cannot be read is named, and harms no other agent"),
    "operator.defects": Requirement("a failure on one object is logged, counted, shown, retried, and costs no other"),
    "operator.blast-radius": Requirement(
        "no object that an API server stores, of any version, costs more than its own turn"
    ),
    "operator.fair": Requirement("namespaces are reconciled, and have the worker process, in turn"),
    "operator.costly": Requirement(
        "what outsiders can make costly runs in a process with a deadline, once for the same input"
    ),
    "operator.stored-status": Requirement(
        "a stored status of another version costs the part that cannot be read, and never a kill"
    ),
    "operator.queue": Requirement("one reconcile of an agent at a time, none lost, later and later on failure"),
    "operator.memory": Requirement("strangers' objects cost no memory, and those of one namespace a bounded amount"),
    "operator.woken": Requirement("each change of a policy or binding on which its agents depend takes effect at once"),
    "operator.late-events": Requirement("an older version of an object never wins over a newer one"),
    # Status
    "status.conditions": Requirement("conditions stand in layer order and change their time only with their status"),
    "status.zero-replicas": Requirement("replicas 0 is Ready=True with reason ScaledToZero"),
    "status.events": Requirement("one Event for each change of a layer, of Ready, of the stage, at kill and release"),
    "status.kill-untouched": Requirement("the reconciler never writes status.kill"),
    # Budgets
    "budget.prices": Requirement("no model and no usage costs less than its price list says"),
    # The tests
    "tests.second-try": Requirement("only tests that missed a bound run again, alone, at the end, and each is named"),
    # The code
    "code.layers": Requirement("each layer says in a README what it is for, and operator/ is no package"),
    "code.sizes": Requirement("no module of the product is longer than 500 lines"),
    "code.rights-listed": Requirement("docs list every right of ours with its reason, and no right that is not there"),
    "code.rights": Requirement("the operator may not exec, escalate, bind, impersonate or read Secrets"),
}


def requirement(*names: str) -> Callable[[Marked], Marked]:
    """Mark a test, or a class of tests, as a verification of these promises.

    Raises:
        LookupError: There is no such promise.
    """
    unknown = [name for name in names if name not in REQUIREMENTS]
    if unknown:
        raise LookupError(f"tests/requirements.py has no {', '.join(unknown)}")
    return lambda marked: marked
