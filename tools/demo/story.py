"""What the demo shows: the steps as data."""

from tools.demo.steps import Chapter, Step, is_refused, never_says, succeeds

AGENT = "support-triage"
EXAMPLE = "examples/05-staged-scope"
CLUSTER = ".venv/bin/python -m tools.cluster"
KUBECTL = "kubectl -n agents"
SELECTOR = f"-l interlock.dev/agent={AGENT}"
AGENT_POD, GUARD_POD = (f"app.kubernetes.io/component={one}" for one in ("agent", "guard"))
SOON_SECONDS, ROLLOUT_SECONDS = 60, 180
"""Until an answer is right: of what needs no new pods, and of what does. A quiet machine takes a tenth of it."""
NO_OWNER = "spec.owner is missing: write the name and e-mail address of the person who answers for this agent"

_OPERATOR_LOG = "kubectl -n interlock-system logs deployment/interlock --tail=50"
_AGENT_STATE = (
    f"{KUBECTL} describe agents.interlock.dev {AGENT}",
    f"{KUBECTL} get pods,events",
    f"{KUBECTL} logs {SELECTOR} --all-containers --prefix --tail=20",
    _OPERATOR_LOG,
)

ENVIRONMENT_COMMAND = f'eval "$({CLUSTER} env)"'

PREPARATION = Chapter(
    "A cluster",
    (
        Step(
            f"{CLUSTER} up",
            "a Kubernetes cluster by kind, with its own kubeconfig; yours is not changed",
            succeeds(),
            timeout=3600,
            live=True,
        ),
        Step(
            f"{CLUSTER} images operator guard audit example-crm example-agent",
            "the images of operator, guard and examples are built and on the cluster's node",
            succeeds(),
            timeout=1800,
            live=True,
        ),
    ),
    look_at=("the lines above: a failed step names its log and says what to do",),
)


def _stage(name: str, see: str, *lines: str, absent: str = "") -> tuple[Step, ...]:
    """Return the steps that wait for a stage and show the agent's log in it."""
    log = f"{KUBECTL} logs {SELECTOR},{AGENT_POD},interlock.dev/stage={name} -c agent --tail=12"
    return (
        Step(
            f"{KUBECTL} wait agents.interlock.dev/{AGENT} --for=jsonpath='{{.status.stage.name}}'={name} --timeout=60s",
            f"the rollout is in its stage {name}",
            succeeds(),
            timeout=70,
            within=ROLLOUT_SECONDS,
        ),
        Step(
            log,
            see,
            never_says(absent, *lines) if absent else succeeds(*lines),
            within=ROLLOUT_SECONDS,
        ),
    )


OPERATOR_RUNS = Step(
    "kubectl -n interlock-system rollout status deployment/interlock --timeout=60s",
    "the operator runs",
    succeeds("successfully rolled out"),
    timeout=70,
    within=ROLLOUT_SECONDS,
)

INSTALLATION = Chapter(
    "The operator",
    (
        Step(
            "kubectl apply -k manifests/overlays/kind",
            "four kinds (Agent, AgentPolicy, MCPBinding, BudgetLedger), admission policies, and the operator",
            succeeds("customresourcedefinition.apiextensions.k8s.io/agents.interlock.dev"),
        ),
        Step(
            "kubectl -n interlock-system rollout restart deployment/interlock deployment/interlock-kill",
            "the programs of an earlier demo start again with the new image",
            succeeds("restarted"),
        ),
        OPERATOR_RUNS,
        Step(
            "kubectl -n interlock-system rollout status deployment/interlock-kill --timeout=60s",
            "so does the kill controller, without which no agent starts",
            succeeds("successfully rolled out"),
            timeout=70,
            within=ROLLOUT_SECONDS,
        ),
    ),
    look_at=("kubectl -n interlock-system get pods,events", _OPERATOR_LOG),
)

REFUSAL = Chapter(
    "No owner, no agent",
    (
        Step(
            "kubectl apply --dry-run=server -f examples/02-refused-without-owner/agent.yaml",
            "the API server refuses an agent without an owner, and says what to write",
            is_refused(NO_OWNER),
            # An API server needs a moment before it checks a kind that it has just learned.
            within=SOON_SECONDS,
        ),
    ),
    look_at=("kubectl get crd agents.interlock.dev -o yaml",),
)

STAGING = Chapter(
    "Staging",
    (
        Step(
            f"kubectl delete --ignore-not-found --timeout=30s -f {EXAMPLE}/4-agent.yaml",
            "the agent of an earlier demo, if any, is deleted, so that this one starts at its first stage",
            succeeds(),
        ),
        Step(
            f"kubectl apply -f {EXAMPLE}/1-namespace.yaml -f {EXAMPLE}/2-policy.yaml -f {EXAMPLE}/3-bindings.yaml",
            "governance first: who may do what, and which server works where",
            succeeds("agentpolicy.interlock.dev/support", "mcpbinding.interlock.dev/crm-production"),
        ),
        Step(
            f"{KUBECTL} wait mcpbindings.interlock.dev crm-sandbox crm-production --for=condition=Verified"
            " --timeout=120s",
            "both servers were verified apart from any agent: initialized, their tools compared and pinned",
            succeeds("crm-sandbox condition met", "crm-production condition met"),
            timeout=130,
            look_at=(
                f"{KUBECTL} get mcpbindings.interlock.dev,jobs,pods",
                f"{KUBECTL} get mcpbindings.interlock.dev -o yaml",
                _OPERATOR_LOG,
            ),
        ),
        Step(
            f"kubectl apply -f {EXAMPLE}/4-agent.yaml",
            "the agent: staging for 20 s, then production in eu-west for 20 s, then everywhere",
            succeeds(f"agent.interlock.dev/{AGENT}"),
            within=SOON_SECONDS,
        ),
        *_stage(
            "staging",
            "the agent reads contacts and writes tasks; the unmapped export and the delete are denied",
            "allowed: list_contacts region=us-east",
            "allowed: create_task region=eu-west",
            "denied: ToolNotMapped export_everything",
            "denied: NotGrantedByBinding delete_contact",
        ),
        Step(
            f"{KUBECTL} get pods {SELECTOR}",
            "two pods: the agent's, which reaches only its guard, and the guard's with the CRM's server",
            succeeds("1/1", "2/2", "Running"),
            within=SOON_SECONDS,
        ),
        Step(
            f"{KUBECTL} logs {SELECTOR},{GUARD_POD} -c guard --tail=50 | grep Deny | tail -n 2",
            "the guard's audit records: one line for each decision, with the rule that decided",
            succeeds("ToolNotMapped", "NotGrantedByBinding"),
            within=SOON_SECONDS,
        ),
    ),
    look_at=_AGENT_STATE,
)

ONE_REGION = Chapter(
    "Production, one region",
    (
        *_stage(
            "one-region",
            "eu-west is allowed, us-east is out of scope; get_contact does not state a region and is denied too",
            "allowed: list_contacts region=eu-west",
            "denied: OutOfScope list_contacts region=us-east",
            absent="allowed: list_contacts region=us-east",
        ),
        Step(
            f"{KUBECTL} get agents.interlock.dev",
            "stage and scope of the agent",
            succeeds("one-region", "region=eu-west"),
        ),
    ),
    look_at=_AGENT_STATE,
)

EVERYWHERE = Chapter(
    "Production, everywhere",
    (
        *_stage(
            "everywhere",
            "the same call for us-east is allowed now, after the soak",
            "allowed: list_contacts region=us-east",
            absent="OutOfScope",
        ),
    ),
    look_at=_AGENT_STATE,
)

KILL = Chapter(
    "The kill switch",
    (
        Step(
            f"{KUBECTL} annotate agents.interlock.dev {AGENT} interlock.dev/kill-switch='the demo is over' --overwrite",
            "any value but off kills, and the agent stays killed",
            succeeds("annotated"),
        ),
        Step(
            f"{KUBECTL} wait --for=delete pod {SELECTOR} --timeout=10s",
            "the pods are gone",
            succeeds(),
            timeout=15,
        ),
        Step(
            f"{KUBECTL} scale deployment {SELECTOR} --replicas=3",
            "a user tries to bring it back ...",
            succeeds("scaled"),
        ),
        Step(
            f"{KUBECTL} get pods {SELECTOR}",
            "... but the API server refuses pods of a killed agent (watched for five seconds)",
            succeeds("No resources found"),
            within=20,
            lasting=5,
        ),
        Step(
            f"{KUBECTL} get agents.interlock.dev",
            "the agent is killed, as KILLED says",
            succeeds(AGENT, "True"),
            within=SOON_SECONDS,
        ),
    ),
    look_at=_AGENT_STATE,
)

BACK_EXAMPLE = "examples/10-rollback"
BACK = "answers"
_PLACEMENTS = '{range .status.placements[*]}{.revision}{" in "}{.stage}{": "}{.serves}{"\\n"}{end}'
_TESTS = '{range .status.rollout.tests[*]}{.stage}: {.outcome}, exit code {.exitCode}: {.log}{"\\n"}{end}'
_BACK_STATE = (
    f"{KUBECTL} describe agents.interlock.dev {BACK}",
    f"{KUBECTL} get pods,events",
    _OPERATOR_LOG,
)
_ME = "$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')"
_SEND = f"{KUBECTL} exec sender -- sh -c 'python -c \"$SEND\" eu-west us-east none'"


def _placements(agent: str) -> str:
    return f"{KUBECTL} get agents.interlock.dev {agent} -o jsonpath='{_PLACEMENTS}'"


def _command(agent: str, verb: str, revision: str) -> str:
    """Return the command that gives a command about a rollout; `revision` is a JSON path of the Agent, or a filter."""
    name = f"$({KUBECTL} get agents.interlock.dev {agent} {revision})"
    by = f"interlock.dev/{verb}-by={_ME}"
    return f"{KUBECTL} annotate agents.interlock.dev {agent} --overwrite interlock.dev/{verb}={name} {by}"


CHANGE = Chapter(
    "A change in production",
    (
        Step(
            f"kubectl delete --ignore-not-found --timeout=30s -f {BACK_EXAMPLE}/3-agent.yaml",
            "the agent of an earlier demo, if any, is deleted",
            succeeds(),
        ),
        Step(
            f"kubectl apply -f {BACK_EXAMPLE}/ -f {BACK_EXAMPLE}/caller/",
            "a second agent begins its rollout, for the next chapter",
            succeeds(f"agent.interlock.dev/{BACK}"),
            within=SOON_SECONDS,
        ),
        Step(
            f"{KUBECTL} patch agents.interlock.dev {AGENT} --type=merge"
            """ -p '{"spec": {"template": {"env": [{"name": "CALL_INTERVAL", "value": "2"}]}}}'""",
            "the first agent is changed while it serves everywhere",
            succeeds("patched"),
        ),
        Step(
            _placements(AGENT),
            "revision 2 begins in staging, and revision 1 serves all of production",
            succeeds("2-", " in staging: all", "1-", " in everywhere: all"),
            within=ROLLOUT_SECONDS,
        ),
        *_stage(
            "one-region",
            "revision 2 serves eu-west",
            "allowed: list_contacts region=eu-west",
            "denied: OutOfScope list_contacts region=us-east",
        ),
        Step(
            f"{KUBECTL} logs {SELECTOR},{AGENT_POD},interlock.dev/stage=everywhere -c agent --tail=9",
            "revision 1 serves the rest, in the same pod as before: eu-west is served elsewhere now",
            succeeds("denied: ServedElsewhere list_contacts region=eu-west", "allowed: list_contacts region=us-east"),
            within=SOON_SECONDS,
        ),
        Step(
            _placements(AGENT),
            "the work of production is shared by two revisions",
            succeeds(" in one-region: region=eu-west", " in everywhere: all but region=eu-west"),
            within=SOON_SECONDS,
        ),
        Step(
            _placements(AGENT),
            "revision 2 serves everything after its soak",
            never_says("1-", "2-", " in everywhere: all"),
            within=ROLLOUT_SECONDS,
        ),
    ),
    look_at=_AGENT_STATE,
)

ROLLBACK = Chapter(
    "A bad revision",
    (
        Step(
            f"{KUBECTL} wait agents.interlock.dev/{BACK} --for=condition=Progressing=False --timeout=120s",
            "the second agent has passed its stages",
            succeeds("condition met"),
            timeout=130,
            within=ROLLOUT_SECONDS,
        ),
        Step(
            _SEND,
            "it answers each task with its version",
            succeeds('eu-west 200 {"version": "one"}', 'none 200 {"version": "one"}'),
            within=SOON_SECONDS,
        ),
        Step(
            f"""sed 's/value: "one"/value: "broken"/' {BACK_EXAMPLE}/3-agent.yaml | kubectl apply -f -""",
            "a version that fails every task",
            succeeds("configured"),
        ),
        Step(
            f"{KUBECTL} get agents.interlock.dev {BACK} -o jsonpath='{_TESTS}'",
            "a test in staging finds that, and the revision is stopped there",
            succeeds('staging: Failed, exit code 1: the agent answered with 500: {"version": "broken"}'),
            within=ROLLOUT_SECONDS,
        ),
        Step(
            f"""sed 's/value: "one"/value: "bad"/' {BACK_EXAMPLE}/3-agent.yaml | kubectl apply -f -""",
            "a version that fails tasks which the test does not send: those that name a region",
            succeeds("configured"),
        ),
        Step(
            _SEND,
            "after staging it serves one region, and fails there. The good version serves the rest",
            succeeds('eu-west 500 {"version": "bad"}', 'us-east 200 {"version": "one"}', 'none 200 {"version": "one"}'),
            within=ROLLOUT_SECONDS,
        ),
        Step(
            _command(BACK, "abort", "-o jsonpath='{.status.stage.revisionName}'"),
            "abort: the command names the revision",
            succeeds("annotated"),
        ),
        Step(
            _SEND,
            "the good version has its region back, without a new pod",
            succeeds('eu-west 200 {"version": "one"}', 'us-east 200 {"version": "one"}'),
            within=SOON_SECONDS,
        ),
        Step(
            f"""sed 's/value: "one"/value: "two"/' {BACK_EXAMPLE}/3-agent.yaml | kubectl apply -f -""",
            "the next version ...",
            succeeds("configured"),
        ),
        Step(
            _SEND,
            "... passes all stages",
            succeeds('eu-west 200 {"version": "two"}', 'us-east 200 {"version": "two"}'),
            within=ROLLOUT_SECONDS,
        ),
        Step(
            _command(
                BACK,
                "rollback",
                "-o json | python3 -c 'import json, sys;"
                ' one = json.load(sys.stdin)["status"]["rollout"]["passed"][0];'
                """ print(one["number"], one["digest"][:10], sep="-")'""",
            ),
            "rollback: the first version is to serve again",
            succeeds("annotated"),
        ),
        Step(
            _SEND,
            "it serves everything as soon as its pods are ready, whole",
            succeeds('eu-west 200 {"version": "one"}', 'us-east 200 {"version": "one"}'),
            within=ROLLOUT_SECONDS,
        ),
        Step(
            f"kubectl delete --timeout=30s -f {BACK_EXAMPLE}/3-agent.yaml -f {BACK_EXAMPLE}/caller/",
            "the second agent goes",
            succeeds("deleted"),
        ),
    ),
    look_at=_BACK_STATE,
)

BUDGET_EXAMPLE = "examples/04-budget-stop"
SPENDER = "spender"
_SPENDER_LOG = f"{KUBECTL} logs -l interlock.dev/agent={SPENDER},{AGENT_POD} -c agent --tail=3"

BUDGET = Chapter(
    "A budget",
    (
        Step(
            f"kubectl delete --ignore-not-found --timeout=30s -f {BUDGET_EXAMPLE}/4-agent.yaml",
            "the agent of an earlier demo, if any, is deleted ...",
            succeeds(),
        ),
        Step(
            f"{KUBECTL} delete --ignore-not-found budgetledgers.interlock.dev {SPENDER}.development spending.total",
            "... and an administrator deletes what it spent, which would otherwise count",
            succeeds(),
        ),
        Step(
            "kubectl -n interlock-system set env deployment/interlock INTERLOCK_BUDGET_DAY_SECONDS=60",
            "days of budgets are a minute long, so that the demo sees the next one",
            succeeds(),
        ),
        OPERATOR_RUNS,
        Step(
            f"kubectl apply -f {BUDGET_EXAMPLE}/",
            "an agent that asks a model in a loop, with five cents a day",
            succeeds(f"agent.interlock.dev/{SPENDER}"),
            within=SOON_SECONDS,
        ),
        Step(
            f"{KUBECTL} wait agents.interlock.dev/{SPENDER} --for=condition=BudgetExhausted --timeout=240s",
            "the budget is exhausted: the call that would have passed it was refused",
            succeeds("condition met"),
            timeout=250,
        ),
        Step(
            _SPENDER_LOG,
            "the answer of the guard is that of OpenAI for an exhausted quota",
            succeeds("refused: 429 insufficient_quota"),
            within=SOON_SECONDS,
        ),
        Step(
            f"{KUBECTL} get events --field-selector reason=BudgetAlert -o custom-columns=MESSAGE:.message",
            "its owner was warned at 50 % and at 80 %",
            succeeds("spent 50 %", "spent 80 %"),
            within=ROLLOUT_SECONDS,
        ),
        Step(
            f"{KUBECTL} get agents.interlock.dev {SPENDER}",
            "SPENT is below the budget, never above",
            succeeds("/$0.05"),
        ),
        Step(
            f"{KUBECTL} wait agents.interlock.dev/{SPENDER} --for=condition=BudgetExhausted=False --timeout=90s",
            "the next day has begun, and the agent works again",
            succeeds("condition met"),
            timeout=100,
        ),
        Step(
            f"kubectl delete -f {BUDGET_EXAMPLE}/2-provider.yaml -f {BUDGET_EXAMPLE}/4-agent.yaml",
            "the agent goes, and its ledger stays",
            succeeds("deleted"),
        ),
        Step(
            "kubectl -n interlock-system set env deployment/interlock INTERLOCK_BUDGET_DAY_SECONDS-",
            "days are days again",
            succeeds(),
        ),
        OPERATOR_RUNS,
    ),
    look_at=(
        f"{KUBECTL} describe agents.interlock.dev {SPENDER}",
        f"{KUBECTL} get budgetledgers.interlock.dev -o yaml",
        _SPENDER_LOG,
        _OPERATOR_LOG,
    ),
)

STORY = (INSTALLATION, REFUSAL, STAGING, ONE_REGION, EVERYWHERE, CHANGE, ROLLBACK, BUDGET, KILL)

NEXT = f"""\
The cluster keeps running. In your own shell:

  {ENVIRONMENT_COMMAND}
  {KUBECTL} describe agents.interlock.dev {AGENT}
  {KUBECTL} annotate agents.interlock.dev {AGENT} interlock.dev/kill-switch=off --overwrite    # release the agent
  {KUBECTL} get agents.interlock.dev --watch
  kubectl apply -f examples/01-first-agent/                                     # the examples, one by one
  kubectl explain agents.interlock.dev.spec

make demo-down deletes all of it."""
