"""The collector: keeps the records of all guards beyond their pods' lives, and proves that none was changed or lost.

It takes in lines of hash chains (`interlock_guard.records.chain`), refuses what does not follow on what it holds, and
confirms only what it has committed. It knows nothing of bundles, decisions or custom resources.
"""
