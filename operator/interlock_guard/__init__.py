"""The guard: Interlock's data plane.

Each pod of an agent has one guard. All MCP traffic of the agent passes the guard. The guard decides on every call,
stores a record of each decision before it forwards anything, and refuses everything once it sees the kill switch. The
guard knows bundles, never custom resources, and imports nothing of the control plane.
"""
