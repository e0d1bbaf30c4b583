"""Makes statistics.json beside it with scipy 1.17.1.

    python make.py  # needs numpy and scipy

Runs and baselines are pairs of seed and accuracy. Their statistics are scipy's own, not formulas
written again: what scipy has no function for (another run's chance) is drawn from its t
distribution.
"""

import json
import math
from pathlib import Path

import numpy as np
from scipy import stats

CASES = {
    "three pairs": ([0.2556, 0.2412, 0.2699], [0.2317, 0.2283, 0.2401], 0.25),
    "five pairs": ([0.3863, 0.3911, 0.3799, 0.3902, 0.3851], [0.3827, 0.3899, 0.3756, 0.3861, 0.3870], 0.3472),
    "two pairs": ([0.41, 0.43], [0.40, 0.39], 0.42),
    "a loss": ([0.3863, 0.3711, 0.3799], [0.3927, 0.3999, 0.4056], 0.38),
    "far apart": ([0.7294, 0.7301, 0.7289, 0.7296], [0.3, 0.31, 0.305, 0.302], 0.7293),
}


def seeded(values, first):
    return [[first + i, value] for i, value in enumerate(values)]


def case(name, runs, baseline, published, paired):
    a, b = np.array(runs), np.array(baseline)
    low, high = stats.t.interval(0.95, len(a) - 1, loc=a.mean(), scale=stats.sem(a))
    if paired:
        test = stats.ttest_rel(a, b)
        above = stats.ttest_rel(a, b, alternative="less").pvalue
    else:
        test = stats.ttest_ind(a, b, equal_var=False)
        above = stats.ttest_ind(a, b, equal_var=False, alternative="less").pvalue
    interval = test.confidence_interval(0.95)
    another = stats.t(len(a) - 1, loc=a.mean(), scale=a.std(ddof=1) * math.sqrt(1 + 1 / len(a)))
    return {
        "name": name,
        "runs": seeded(runs, 0),
        "baseline": seeded(baseline, 0 if paired else 100),
        "published": published,
        "mean": a.mean(),
        "std": a.std(ddof=1),
        "interval": [low, high],
        "test": "paired t" if paired else "Welch's t",
        "gain": a.mean() - b.mean(),
        "gain_interval": [interval.low, interval.high],
        "gain_probability": above,
        "beats": another.sf(published),
    }


cases = [
    case(f"{name}, {'the same seeds' if paired else 'other seeds'}", *values, paired)
    for name, values in CASES.items()
    for paired in (True, False)
]
cases.append(case("five against three", CASES["five pairs"][0], CASES["three pairs"][1], 0.39, False))
path = Path(__file__).with_name("statistics.json")
lines = ",\n".join(json.dumps(one) for one in cases)
path.write_text(f"[\n{lines}\n]\n")
