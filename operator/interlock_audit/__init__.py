"""The audit collector: keeps the audit records of all guards beyond their pods' lives, and verifies their chains."""
