"""The digest of a prompt: equal for calls of a model that ask the same, however their answers are to come."""

from typing import Final

from interlock_contract.canonical_json import canonical_parts
from interlock_guard.llm.request_body import RequestBody
from interlock_guard.wire.large_messages import PacedDigest

NOT_ASKED: Final = frozenset(
    {
        *("stream", "stream_options", "include", "logprobs", "top_logprobs"),
        *("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "logit_bias"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "service_tier", "inference_geo"),
        *("user", "metadata", "safety_identifier", "store", "prompt_cache_key", "prompt_cache_retention"),
    }
)
"""Members of a body that say how the answer is sampled, cut, sent, kept or paid, and not what is asked."""


async def digest_prompt(body: RequestBody) -> str:
    """Return the SHA-256 in hex of a body without `NOT_ASKED`, computed in steps; images and files count with it."""
    asked = {name: value for name, value in body.value.items() if name not in NOT_ASKED}
    digest = PacedDigest()
    for part in canonical_parts(asked):
        if digest.add(await body.name_runs(part)):
            await digest.step()
    return digest.finish()
