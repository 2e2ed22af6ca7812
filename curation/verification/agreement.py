"""Agreement between reviewers: Krippendorff's alpha for judgements without an order, such as accept and reject.

Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section D: any number of reviewers, missing
judgements allowed.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence


def krippendorff_alpha(judgements: Iterable[Sequence[str]]) -> float:
    """Return Krippendorff's alpha of nominal values: 1 if all agree, 0 as by chance, negative below chance.

    Args:
        judgements: values that the reviewers gave to each record, one sequence per record. A record with fewer than
            two values has no part in agreement and is left out.

    Returns:
        NaN if no record has two values, or if all values are equal: then chance alone would explain the agreement.
    """
    pairable = [Counter(values) for values in judgements if len(values) > 1]
    totals = sum(pairable, Counter[str]())
    num_values = totals.total()
    expected = num_values**2 - sum(count**2 for count in totals.values())
    if not expected:
        return math.nan
    # Ordered pairs of different values, weighted so that each value of a record counts once.
    observed = sum(
        (counts.total() ** 2 - sum(count**2 for count in counts.values())) / (counts.total() - 1) for counts in pairable
    )
    return 1 - (num_values - 1) * observed / expected
