"""Budgets: money, prices, windows, and the ledger that says what an agent may still spend. No I/O.

`ledger` is the document. `leases` has every change of it, each a pure function of the ledger, its terms and the time.
"""
