"""Throughput of requests and of tokens, per second, also per GPU."""

from __future__ import annotations

from search.objectives.base import add_rate

add_rate("request_throughput", "requests/s", lambda measurement: measurement.request_throughput)
add_rate("input_throughput", "tokens/s", lambda measurement: measurement.input_throughput)
add_rate("output_throughput", "tokens/s", lambda measurement: measurement.output_throughput)
add_rate("total_throughput", "tokens/s", lambda measurement: measurement.total_throughput)
