"""The special tokens that a tokenizer puts before a text.

They are found by comparison.
A post-processor may add tokens before a text (BOS), after it (EOS), or both. The same text is encoded with
and without them, so this does not depend on attributes of a tokenizer class or of its configuration.
"""

from __future__ import annotations

from collections.abc import Sequence


def leading(whole: Sequence[int], bare: Sequence[int]) -> list[int]:
    """Return the special-token ids before a text.

    Args:
        whole: ids of a text with special tokens.
        bare: ids of the same text without them.
    Raises: ValueError if `bare` is not a contiguous part of `whole`.
    """
    for start in range(len(whole) - len(bare) + 1):
        if list(whole[start : start + len(bare)]) == list(bare):
            return list(whole[:start])
    raise ValueError("the tokenizer's special tokens change the text between them; choose another tokenizer")
