"""What a tokenizer puts before a text, read from what it returns.

A post-processor may add tokens before a text (BOS), behind it (EOS), or both. Which ones is found by comparing the
same text encoded with and without them, so no attribute of a tokenizer class or of its configuration is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence


def leading(whole: Sequence[int], bare: Sequence[int]) -> list[int]:
    """Return the ids that stand before a text.

    Args:
        whole: ids of a text with special tokens.
        bare: ids of the same text without them.
    Raises: ValueError if `bare` is not a part of `whole`.
    """
    for start in range(len(whole) - len(bare) + 1):
        if list(whole[start : start + len(bare)]) == list(bare):
            return list(whole[:start])
    raise ValueError("the tokenizer's special tokens change the text between them; choose another tokenizer")
