"""Proofs of the log for those who do not trust its keeper: a Merkle tree for each tenant, signed, and taken along."""
