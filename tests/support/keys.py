"""The keys of tests: the operator's, and one that agents show to their guards."""

from interlock_contract.agent_key import agent_key_digest, derive_agent_key

OPERATOR_KEY = b"the operator's key, of tests only"
AGENT_KEY = derive_agent_key(OPERATOR_KEY, "a placement of tests")
AGENT_KEY_DIGEST = agent_key_digest(AGENT_KEY)
