"""Good and bad values of environments, budgets and prices, and the words with which the API server refuses."""

from typing import Any

from tests.integration.api_values import NO_NAME, agent, binding, staged
from tests.integration.kubectl import POLICY, edited

NO_MONEY = (
    "is not an amount of US dollars: write digits with at most 9 decimals and no sign or exponent, from 0 to "
    "1000000, such as 50 or 0.25"
)
NO_WINDOW = "is not a window of loops: write a duration from 10s to 1h, such as 60s"
NO_ZONE = "is not the name of a time zone: write UTC, or a name such as Europe/Berlin"
UNKNOWN_ZONE = "evaluating rule: write UTC, or a name of the IANA database such as Europe/Berlin"
NO_RATE = "rateLimits needs callsPerMinute or tokensPerMinute: write at least one of them"
NOT_RISING = "alertPercents: write each percentage once, in rising order, such as [50, 80]"
EMPTY = "a budget needs dailyBudget or monthlyBudget: write at least one of them"
RESERVED = '"total" is the budget of all environments together: give the environment another name'
BAD_MONEY = (
    *("", " ", "50 ", " 50", "+50", "-1", "-0", "0x10", "1_000", "1,5", "50.", ".5", "00", "050", "1.0000000001"),
    *("1e3", "1E3", "5e-1", "NaN", "nan", "Infinity", "inf", "-inf", "$50", "50 USD", "1000000.01", "1000000.0"),
    *("1000001", "9007199254740993", "9" * 60, "50Mi", "1k", "\u0665\u0660"),  # the last are Arabic digits
)
"""Texts that are no amount of money."""
GOOD_MONEY = ("0", "0.000000001", "0.05", "50", "12.40", "999999.999999999", "1000000")


def policy(**spec: Any) -> dict[str, Any]:
    return edited(POLICY, metadata__name="p2", **{f"spec__{name}": value for name, value in spec.items()})


def environment(**edits: Any) -> dict[str, Any]:
    given = {"name": "qa", "class": "staging"} | edits
    return policy(environments=[{name: value for name, value in given.items() if value is not None}])


def price(**edits: Any) -> dict[str, Any]:
    given = {"model": "openai/gpt-x", "input": "0.15", "output": "0.60"} | edits
    return policy(models={"prices": [{name: value for name, value in given.items() if value is not None}]})


def budget(**fields: Any) -> dict[str, Any]:
    return policy(budget=fields)


def own(**fields: Any) -> dict[str, Any]:
    """An Agent with a budget of its own."""
    return agent(spec__budget=[{"environment": "development"} | fields])


def costing(cost: Any) -> dict[str, Any]:
    return binding(spec__tools=[{"name": "t", "operation": "read", "resource": "r", "costPerCall": cost}])


REFUSED: list[tuple[dict[str, Any], str]] = [
    # Money is refused alike wherever it stands.
    *((environment(dailyBudget=text), f'"{text}" {NO_MONEY}') for text in BAD_MONEY),
    (environment(dailyBudget="1\n"), f"(of several lines) {NO_MONEY}"),
    (budget(velocity={"factor": 1}), "should be greater than or equal to 2"),
    (budget(velocity={"factor": 1001}), "should be less than or equal to 1000"),
    (budget(tokensPerByte={"changePercent": 4}), "should be greater than or equal to 5"),
    (budget(tokensPerByte={"changePercent": 10_001}), "should be less than or equal to 10000"),
    (budget(tokensPerByte={"changePercent": "25"}), 'must be of type integer: "string"'),
    (budget(tokensPerByte={"minimumCalls": 0}), "should be greater than or equal to 1"),
    (budget(tokensPerByte={"minimumCalls": 10**9 + 1}), "should be less than or equal to 1000000000"),
    *((budget(velocity={"minimum": text}), f'"{text}" {NO_MONEY}') for text in ("-1", "1e3", "NaN")),
    *((budget(perTask=text), f'"{text}" {NO_MONEY}') for text in ("-1", "1e3", "NaN", "50 USD", "1000001")),
    (environment(dailyBudget=50), 'must be of type string: "integer"'),
    (environment(dailyBudget=0.5), "must be of type string:"),
    (environment(dailyBudget="9" * 65), "Too long: may not be more than 64 bytes"),
    *(
        (manifest, f'"1e3" {NO_MONEY}')
        for manifest in (
            environment(monthlyBudget="1e3"),
            budget(total={"dailyBudget": "1e3"}),
            budget(total={"monthlyBudget": "1e3"}),
            budget(override={"maxAmount": "1e3"}),
            price(input="1e3"),
            price(output="1e3"),
            price(cachedInput="1e3"),
            price(cacheWrite="1e3"),
            price(audioInput="1e3"),
            price(audioOutput="1e3"),
            price(perCall="1e3"),
            own(dailyBudget="1e3"),
            own(monthlyBudget="1e3"),
            costing("1e3"),
        )
    ),
    (costing(1), 'must be of type string: "integer"'),
    # Environments.
    (environment(name=None), "name: Required value"),
    (environment(name="Q A"), f'"Q A" {NO_NAME}'),
    (environment(name="q.a"), f'"q.a" {NO_NAME}'),
    (environment(name="q" * 64), "Too long: may not be more than 63 bytes"),
    (environment(name="total"), RESERVED),
    (agent(spec__environment="total"), RESERVED),
    (staged({"name": "a", "environment": "total"}), RESERVED),
    (binding(spec__environments=["total"]), RESERVED),
    (own(environment="total", dailyBudget="1"), RESERVED),
    (environment(**{"class": None}), "environment qa has no class: write class: development, staging or production"),
    (environment(**{"class": "qa"}), 'supported values: "development", "staging", "production"'),
    (environment(name="production"), "environment production is of the class of its own name: remove class"),
    *(
        (environment(mode="Audit", **of), "is not of class development, so its mode is Enforce")
        for of in ({"name": "staging", "class": None}, {"name": "qa", "class": "production"})
    ),
    (environment(mode="Off"), 'supported values: "Enforce", "Audit"'),
    (environment(isolation="None"), 'supported values: "Shared", "Separate"'),
    (policy(environments=[{"name": "staging"}] * 2), 'Duplicate value: {"name":"staging"}'),
    (policy(environments=[{"name": f"e{i}", "class": "staging"} for i in range(17)]), "must have at most 16 items"),
    (policy(environments={"staging": {"isolation": "Shared"}}), 'must be of type array: "object"'),
    (
        staged(*({"name": f"s{i}", "environment": name} for i, name in enumerate(("qa", "eu", "qa")))),
        "stage s2 returns to qa, which an earlier stage has left: put all stages of one environment one after another",
    ),
    # Budgets.
    *((budget(alertPercents=found), NOT_RISING) for found in ([80, 50], [50, 50])),
    (budget(alertPercents=[0]), "should be greater than or equal to 1"),
    (budget(alertPercents=[100]), "should be less than or equal to 99"),
    (budget(alertPercents=["50"]), 'must be of type integer: "string"'),
    (budget(alertPercents=list(range(1, 10))), "must have at most 8 items"),
    *((budget(timeZone=zone), f'"{zone}" {NO_ZONE}') for zone in ("", "+02:00", "Local", "../UTC", "a b", "/UTC")),
    (budget(timeZone="Europe/Berln"), f"unknown time zone Europe/Berln {UNKNOWN_ZONE}"),
    (budget(timeZone="Z" * 65), "Too long: may not be more than 64 bytes"),
    (budget(onExhausted="Kill"), 'supported values: "Block", "ScaleToZero"'),
    (budget(total={}), EMPTY),
    (budget(override={"maxDuration": "7d"}), '"7d" is not a duration'),
    (own(), EMPTY),
    (agent(spec__budget=[{"dailyBudget": "1"}]), "environment: Required value"),
    (
        agent(spec__budget=[{"environment": "staging", "dailyBudget": "1"}] * 2),
        'Duplicate value: {"environment":"staging"}',
    ),
    (
        agent(spec__budget=[{"environment": f"e{i}", "dailyBudget": "1"} for i in range(17)]),
        "must have at most 16 items",
    ),
    # Rates.
    (policy(rateLimits={}), NO_RATE),
    (policy(rateLimits={"callsPerMinute": None}), NO_RATE),
    (policy(rateLimits={"callsPerMinute": 0}), "should be greater than or equal to 1"),
    (policy(rateLimits={"callsPerMinute": 1_000_001}), "should be less than or equal to 1000000"),
    (policy(rateLimits={"callsPerMinute": "60"}), 'must be of type integer: "string"'),
    (policy(rateLimits={"tokensPerMinute": 0.5}), "must be of type integer"),
    (policy(rateLimits={"tokensPerMinute": -1}), "should be greater than or equal to 1"),
    (policy(rateLimits={"tokensPerMinute": 1_000_000_001}), "should be less than or equal to 1000000000"),
    # Prices.
    *((price(**{name: None}), f"{name}: Required value") for name in ("model", "input", "output")),
    (price(model="gpt-x"), '"gpt-x" is not a model or the beginning of models'),
    (price(contextWindow=0), "should be greater than or equal to 1"),
    (price(contextWindow=10**9), "should be less than or equal to 100000000"),
    (
        policy(models={"prices": [{"model": "openai/x", "input": "1", "output": "1"}] * 2}),
        'Duplicate value: {"model":"openai/x"}',
    ),
    (
        policy(models={"prices": [{"model": f"openai/x{i}", "input": "1", "output": "1"} for i in range(65)]}),
        "must have at most 64 items",
    ),
    (policy(models={"maxOutputTokens": 0}), "should be greater than or equal to 1"),
    (policy(models={"maxOutputTokens": 10**7}), "should be less than or equal to 1000000"),
    (policy(models={"hangUpSeconds": -1}), "should be greater than or equal to 0"),
    (policy(models={"hangUpSeconds": 3601}), "should be less than or equal to 3600"),
    (
        policy(models={"urls": [{"name": "local", "url": "https://a.io/v1", "outputLimitMember": "limit"}]}),
        'supported values: "max_completion_tokens", "max_tokens"',
    ),
    (
        policy(models={"urls": [{"name": "local", "url": "https://a.io/v1", "streamUsage": "Maybe"}]}),
        'supported values: "Ask", "Never"',
    ),
    # Loops.
    (policy(loops={"identicalCalls": 1}), "should be greater than or equal to 2"),
    (policy(loops={"identicalCalls": 10_001}), "should be less than or equal to 10000"),
    (policy(loops={"identicalCalls": "20"}), 'must be of type integer: "string"'),
    *((policy(loops={"window": text}), f'"{text}" {NO_WINDOW}') for text in ("9s", "9999ms", "1h1s", "7d", "-1m", "")),
    (policy(loops={"action": "Ignore"}), 'supported values: "Block", "Kill"'),
]

GOOD = [
    policy(loops={}),
    policy(loops={"identicalCalls": 2, "window": "10s", "action": "Kill"}),
    policy(loops={"identicalCalls": 10_000, "window": "1h"}),
    *(environment(dailyBudget=text, monthlyBudget=text) for text in GOOD_MONEY),
    policy(environments=[{"name": "staging", "class": "staging", "isolation": "Shared"}, {"name": "production"}]),
    environment(name="q" * 63),
    budget(alertPercents=[1, 99], timeZone="America/Argentina/Buenos_Aires", onExhausted="ScaleToZero"),
    budget(alertPercents=[], timeZone="Etc/GMT+5"),
    budget(total={"monthlyBudget": "1000000"}, override={"maxAmount": "0", "maxDuration": "1h30m"}),
    budget(perTask="0.05", velocity={"factor": 2, "minimum": "1000000"}),
    budget(tokensPerByte={"changePercent": 10_000, "minimumCalls": 10**9}),
    policy(rateLimits={"callsPerMinute": 1}),
    policy(rateLimits={"callsPerMinute": 1_000_000, "tokensPerMinute": 1_000_000_000}),
    price(input="0", output="0"),
    price(
        model="openai/gpt-4o*",
        cachedInput="0.075",
        cacheWrite="0.2",
        perCall="0.01",
        audioInput="10",
        audioOutput="20",
        contextWindow=128000,
    ),
    policy(
        models={
            "maxOutputTokens": 1,
            "hangUpSeconds": 0,
            "urls": [
                {
                    "name": "local",
                    "url": "https://a.io/v1",
                    "outputLimitMember": "max_tokens",
                    "streamUsage": "Never",
                }
            ],
        }
    ),
    own(dailyBudget="1"),
    own(monthlyBudget="0.000000001"),
    costing("0.05"),
]
