"""Expressions of the dashboards: every one limited to the runs chosen at their top."""

from __future__ import annotations

RUN = 'run=~"$run"'
"""Limits a query to the chosen runs; service discovery gives every target its run."""
TRIAL = 'trial=~"$trial"'
ENGINE = 'engine=~"$engine"'


def metric(name: str, *matchers: str) -> str:
    """A selector of servetune's metric `name`, without its prefix, in the chosen runs."""
    return selector(f"servetune_{name}", *matchers)


def selector(name: str, *matchers: str) -> str:
    """A selector of anybody's metric in the chosen runs."""
    return f"{name}{{{','.join((RUN, *matchers))}}}"


def rate(series: str) -> str:
    """Increase per second over the interval that fits the scrapes and the panel's width."""
    return f"rate({series}[$__rate_interval])"


def total(expr: str, *by: str) -> str:
    """The sum, per value of the labels `by` or of everything."""
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def quantile(share: float, histogram: str, *by: str, matchers: tuple[str, ...] = ()) -> str:
    """What `share` of the observations stay below, while they come in.

    Args:
        share: 0 to 1.
        histogram: name without prefix and suffix.
        by: labels that stay apart.
        matchers: further limits of the series.
    """
    buckets = rate(metric(f"{histogram}_bucket", *matchers))
    return f"histogram_quantile({share:g}, {total(buckets, 'le', *by)})"


def quantile_so_far(share: float, histogram: str, *by: str) -> str:
    """As `quantile`, of all observations since the driver started."""
    return f"histogram_quantile({share:g}, {total(metric(f'{histogram}_bucket'), 'le', *by)})"


def mean_of(histogram: str, *by: str, matchers: tuple[str, ...] = ()) -> str:
    """Mean of all observations since the driver started; nothing where there are none."""
    sums = total(metric(f"{histogram}_sum", *matchers), *by)
    counts = total(metric(f"{histogram}_count", *matchers), *by)
    return f"{sums} / ({counts} > 0)"


def distribution(histogram: str, *matchers: str) -> str:
    """Observations per bucket and interval, as a heatmap draws them."""
    series = metric(f"{histogram}_bucket", *matchers)
    return total(f"increase({series}[$__rate_interval])", "le")


def share_of(part: str, whole: str) -> str:
    """A ratio, nothing while the whole is zero."""
    return f"{part} / ({whole} > 0)"
