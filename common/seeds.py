"""Random numbers that belong to something with a name: they do not depend on what was drawn before, or where."""

import hashlib

import torch


def seeded_generator(*names: str | int) -> torch.Generator:
    """A generator on the CPU for what the names tell apart: a seed, a clip, a window's number."""
    digest = hashlib.blake2b(" ".join(map(str, names)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
