"""Texts that stand for a missing value in tables of biomedical data."""

from collections.abc import Collection

# Compared without blanks around them and whatever their case.
MISSING_VALUES = (
    "", "-", "NA", "N/A", "#N/A", "<NA>", "NaN", "None", "null", "nil", "Not available",
    "Not applicable",
)  # fmt: skip


def is_missing(text: str, values: Collection[str] = MISSING_VALUES) -> bool:
    """Returns whether the text of a field says that its value is missing.

    Ids are never missing values: `NA` is sodium in a table of chemicals.

    Args:
      text: Text of the field.
      values: Texts that stand for a missing value, in any case; default: `MISSING_VALUES`. An empty
        text is always missing.
    """
    folded = text.strip().casefold()
    return not folded or folded in {value.strip().casefold() for value in values}
