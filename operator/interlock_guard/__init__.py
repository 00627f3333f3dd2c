"""The guard: Interlock's data plane.

One process beside each agent. All of the agent's MCP traffic passes it; it decides on every call, writes one record per
decision before anything is forwarded, and goes silent the moment it sees the kill switch. It knows bundles, never
custom resources, and imports nothing of the control plane.
"""
