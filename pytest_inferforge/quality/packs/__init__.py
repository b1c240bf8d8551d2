"""Packs: small sets of questions made from a seed, so that quality can be looked at without any download.

They are written in the words, digits and marks that forge-tiny's tokenizer knows whole, and are smoke tests:
a good model gets nearly all of them right, and one that was broken does not.
"""

from pytest_inferforge.quality.packs.checking import passes
from pytest_inferforge.quality.packs.collection import PACKS, chance, items, training_text
from pytest_inferforge.quality.packs.consistency import Agreement, agreement
from pytest_inferforge.quality.packs.item import Check, Item, Outcome, Rule
from pytest_inferforge.quality.packs.lm_eval_tasks import as_lm_eval, forms_of, named, names

__all__ = [
    "PACKS",
    "Agreement",
    "Check",
    "Item",
    "Outcome",
    "Rule",
    "agreement",
    "as_lm_eval",
    "chance",
    "forms_of",
    "items",
    "named",
    "names",
    "passes",
    "training_text",
]
