"""A cluster in miniature that spends money: holders, an API server that loses answers, and what was truly spent.

`simulate(seed)` runs one random schedule and raises `Violated` where a promise of `interlock_contract.budget.leases` is
broken. `Rules` takes single rules out, so that tests can see that the simulation notices.
"""
