"""How much a model can be spared: shared prompts, else rows of whole sequences, else padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agrl.errors import ModelError
from agrl.models.layout import pack_batch, pad_batch
from agrl.models.probe import gap, probe
from agrl.models.shared_prompt import share_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def choose_packing(lm: PreTrainedModel, wanted: str, flex: bool = False) -> tuple[str, str]:
    """The first of "shared", "packed" and "padded", from ``wanted`` on, that ``lm`` computes rightly; prepares it.

    Also returns why it is not the wanted one, or "". ``flex``: see ``share_prompts``.
    """
    reasons = []
    if wanted == "shared":
        if not (reason := share_prompts(lm, flex)):
            return "shared", ""
        reasons.append(f"it cannot share prompts ({reason})")
    if wanted != "padded":
        if not (reason := why_not_packed(lm)):
            return "packed", " and ".join(reasons)
        reasons.append(f"it cannot pack sequences ({reason})")
    return "padded", " and ".join(reasons)


def why_not_packed(lm: PreTrainedModel) -> str:
    """Empty where ``lm`` as it is tells sequences in one row apart by their positions, else how it fails.

    Most models of transformers do, whatever their attention: their masks end where positions begin anew. Eager
    attention would hold the square of the row in memory, and in some (GPT-Neo) a row is at most ``max_positions`` long.
    """
    if lm.config._attn_implementation == "eager":
        return "it has eager attention alone"
    try:
        return gap(lm, probe(lm, pack_batch), probe(lm, pad_batch))
    except (ModelError, RuntimeError, TypeError, ValueError) as error:  # TypeError: it takes no position_ids
        return str(error)
