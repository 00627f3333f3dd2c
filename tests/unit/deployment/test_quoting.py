"""What strangers' programs say is quoted: short, in one line, without escape sequences and without secrets."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.deployment.observed.quoting import MOST_QUOTED, quote_last_line, quote_message, quote_wrapped
from tests.requirements import requirement

LONG = "hunter2hunter2hunter2x"
SAYS_A_SECRET = [
    "password={}",
    "DB_PASSWORD: {}",
    '{{"apiKey": "{}"}}',
    "connecting to postgres://app:{}@db:5432/app",
    "connecting to postgres://app:a/b{}@db:5432/app",
    "connecting to amqp://app:a@{}@mq/app",
    "connecting to redis://:/{}@cache",
    "GET https://api.example.com/v1?api_key={}&page=2",
    "Authorization: Bearer {}",
    "bearer {}",
    "invalid key {}",
    "Incorrect API key provided: {}",
    "API key is invalid: {}",
    "password for crm: {}",
    "API key is not valid: {}",
    "password: secret-{}",
    "bearer auth {}",
    "token is {}",
    "--secret={}",
    "{}",
]


@requirement("status.quoted")
@pytest.mark.parametrize("line", SAYS_A_SECRET)
@pytest.mark.parametrize(
    "secret",
    [
        LONG,
        "sk-proj-abcdefghijkl",
        "ghp_abcdefghijklmnopqrst",
        "AKIAIOSFODNN7EXAMPLE",
        "0123456789abcdef0123456789abcdef",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "dGhpcyBpcyBhIHNlY3JldCB2YWx1ZQ==",
        "1234567890123456",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "pQzRtYbNmKwXsLdFgHjV",
    ],
)
def test_no_secret_of_a_log_is_shown(line: str, secret: str) -> None:
    assert secret not in quote_last_line(f"starting\n{line.format(secret)}\n")


@requirement("status.quoted")
@pytest.mark.parametrize("line", [line for line in SAYS_A_SECRET if line != "{}"])
def test_a_short_secret_is_masked_where_a_word_announces_it(line: str) -> None:
    assert "hunter2" not in quote_last_line(line.format("hunter2"))


@requirement("status.quoted")
@pytest.mark.parametrize("name", ["passphrase:", "MNEMONIC=", "MY_SEED_PHRASE=", "seed phrase is", "a recovery-phrase"])
def test_no_word_of_a_secret_of_several_words_is_shown(name: str) -> None:
    line = quote_last_line(f"wrong {name} correct horse battery staple")
    assert line.startswith('"wrong ')
    assert not [word for word in ("correct", "horse", "battery", "staple") if word in line]


@pytest.mark.parametrize(
    "message",
    [
        'secret "crm-token" not found',
        "couldn't find key apikey in Secret agents/crm-token",
        'MountVolume.SetUp failed for volume "config" : configmap "triage-development-8fe4056e76-config" not found',
        'MountVolume.SetUp failed for volume "agent-secret" : secret "triage" not found',
        "0/3 nodes are available: 3 Insufficient memory. preemption: not eligible due to preemptionPolicy=Never.",
        'Readiness probe failed: Get "http://10.244.0.5:7411/readyz": dial tcp 10.244.0.5:7411: connect: refused',
        'pods "triage-6c" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2',
        "Back-off pulling image registry.example.com/team/agent:1.0",
        "failed to create containerd task: FailedCreatePodSandBox, terminationMessagePath /dev/termination-log",
        "exec /usr/local/bin/docker-entrypoint.sh: exec format error, see kubernetes/enhancements and nodejs20/bin",
        'Get "https://1.dkr.ecr.us-east-1.amazonaws.com/v2/": no basic auth credentials',
        "pull access denied or may require authorization: server message: insufficient_scope: authorization failed",
        "failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized",
        'MountVolume.SetUp failed for volume "token" : failed to fetch token: serviceaccounts "triage" not found',
        'MountVolume.SetUp failed for volume "secrets" : references non-existent secret key: api-key',
        "configmap references non-existent config key: settings.json",
    ],
)
def test_what_kubernetes_says_stays_readable(message: str) -> None:
    assert quote_message(message) == f'"{message}"'


def test_of_a_log_the_last_line_is_shown_and_of_a_long_one_its_beginning() -> None:
    assert quote_last_line("first\nKeyError: 'x'\n\n  \n") == "\"KeyError: 'x'\""
    assert quote_last_line(" \n\n") == quote_message("") == ""
    assert quote_message("no space left on device " * 50).endswith('..."')


@pytest.mark.parametrize(
    "line",
    [
        "API key is required",
        "token expired",
        "Error: secret not found",
        "FATAL: password authentication failed for user 'crm'",
        "Error: password is not set",
        "token is invalid",
        "Basic auth failed",
    ],
)
def test_what_is_wrong_with_a_secret_stays_readable(line: str) -> None:
    assert quote_last_line(line) == f'"{line}"'


ERROR = "Error: CRM_URL is not set"
STACKS = {
    "JavaScript": f"throw x\n^\n\n{ERROR}\n    at f (/app/a.js:3:7)\n\nNode.js v22.11.0\n",
    "JavaScript with members": f"{ERROR}\n    at node:x:28:49 {{\n  code: 'E',\n  list: []\n}}\n\nNode.js v22.1\n",
    "Java": f"start\n{ERROR}\n\tat a.B.main(B.java:5)\n\tat java.base/x.Y.z(Native Method)\n\t... 12 more\n",
    "Go": f"{ERROR}\n\ngoroutine 1 [running]:\nmain.(*S).Run(0x0)\n\t/app/main.go:15 +0x1d\nexit status 2\n",
    "Rust": f"{ERROR}\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
    ".NET": f"{ERROR}\n   at P.<Main>$(String[] args) in /app/P.cs:line 3\n   at X.Y()\n",
    "Ruby": f"{ERROR}\n\tfrom /app/main.rb:3:in `<main>'\n",
    "Python": f'Traceback:\n  File "/app/main.py", line 3, in <module>\n    x()\n{ERROR}\n',
    "npm": f"npm error {ERROR}\nnpm error A complete log of this run can be found in: /root/x.log\n",
    "a group of Python": f"  | {ERROR}\n    +------------------------------------\n",
}


@requirement("status.causes")
@pytest.mark.parametrize("log", STACKS.values(), ids=STACKS)
def test_of_a_stack_the_error_is_shown(log: str) -> None:
    assert ERROR in quote_last_line(log)


@pytest.mark.parametrize(
    "log",
    [
        "ошибка\n",
        "错误 未设置\n",
        "a\n    at f (/app/a.js:3:7) failed\n",
        "Error: x\n    at node:x:28:49 {\n  code: 'E',\nlast",
        "}\n",
        "config.load(x) failed",
    ],
)
def test_every_other_last_line_is_shown(log: str) -> None:
    assert quote_last_line(log) == f'"{log.splitlines()[-1].strip()}"'


def test_of_a_long_message_of_the_kubelet_the_end_is_shown_too() -> None:
    quoted = quote_wrapped(f"failed to pull: {'rpc error: ' * 50}no space left on device")
    assert quoted.startswith('"failed to pull: rpc error: ')
    assert quoted.endswith('rpc error: no space left on device"')
    assert len(quoted) == MOST_QUOTED + 2
    assert quote_wrapped("not found") == '"not found"'


@requirement("status.quoted")
def test_no_character_is_shown_that_a_terminal_or_a_reader_acts_on() -> None:
    assert quote_message("a\x1b[2Jb\u202ec\nd\x00") == '"a\\x1b[2Jb\\u202ec\\nd\\x00"'


@requirement("status.quoted")
def test_a_program_cannot_end_the_quotation_and_speak_for_the_operator() -> None:
    quoted = quote_last_line('done"); release it; run: kubectl annotate ("')
    assert quoted == "\"done'); release it; run: kubectl annotate ('\""


@requirement("status.quoted")
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_a_quotation_of_a_log_ends_where_it_ends(text: str) -> None:
    assert '"' not in quote_last_line(text).strip('"')


@requirement("status.quoted")
@given(st.text(max_size=3000))
def test_a_quotation_is_one_printable_bounded_line(text: str) -> None:
    for quoted in (quote_message(text), quote_last_line(text), quote_wrapped(text)):
        assert len(quoted) <= MOST_QUOTED + 2
        assert quoted.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "-" * 100_000,
        "pass" * 30_000,
        "://" * 40_000,
        "key " * 30_000,
        "key for a:" * 10_000,
        "at a:1(1 {" * 10_000,
        ("a.a.a(" * 60 + "\n") * 100,
    ],
)
def test_a_hostile_text_takes_no_longer_than_its_size(text: str) -> None:
    began = time.process_time()
    quote_message(text)
    quote_last_line(text)
    quote_wrapped(text)
    assert time.process_time() - began < 1.0
