"""Goodput: requests per second that met the limits of the SLO, also per GPU."""

from __future__ import annotations

from search.objectives.base import add_rate

add_rate("goodput", "requests/s", lambda measurement: measurement.goodput)
