"""How a Prometheus finds drivers and engines, and a compose file that runs one with a Grafana."""

from __future__ import annotations

from collections.abc import Sequence

from runtimes.json_types import Json

PROMETHEUS_IMAGE = "prom/prometheus:v2.55.1"
GRAFANA_IMAGE = "grafana/grafana:11.6.1"
PROMETHEUS_ADDRESS = "127.0.0.1:9090"
GRAFANA_ADDRESS = ("127.0.0.1", 3000)
DASHBOARDS_VARIABLE = "SERVETUNE_DASHBOARDS"
"""Environment variable of Grafana that names the folder of the dashboards."""

JOBS = ("servetune", "servetune-engine", "ray")
"""Jobs of the targets that a driver announces: itself, its engines, Ray's agents."""
_MOUNTED = "/etc/servetune"


def prometheus_config(targets: Sequence[str], interval_s: int) -> Json:
    """Prometheus' configuration.

    Args:
        targets: `host:port` of drivers; each announces on `/sd` itself and what belongs to it.
        interval_s: seconds between scrapes.
    """
    return {
        "global": {
            "scrape_interval": f"{interval_s}s",
            "scrape_timeout": f"{interval_s}s",
            "evaluation_interval": f"{interval_s}s",
        },
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [_job(job, targets, interval_s) for job in JOBS],
    }


def _job(job: str, targets: Sequence[str], interval_s: int) -> Json:
    """One of the jobs that a driver's list mixes, picked out by its label."""
    keep: Json = {"source_labels": ["job"], "regex": job, "action": "keep"}
    return {
        "job_name": job,
        # The driver's own `run` and `engine` mean the same as those of its target; an engine's
        # `engine` is the number of a replica, and steps back behind the target's.
        "honor_labels": job == "servetune",
        "http_sd_configs": [
            {"url": f"http://{target}/sd", "refresh_interval": f"{interval_s}s"}
            for target in targets
        ],
        "file_sd_configs": [{"files": ["targets/*.json"], "refresh_interval": f"{interval_s}s"}],
        "relabel_configs": [keep],
    }


def datasource(url: str, interval_s: int) -> Json:
    """Grafana's data source; the interval between scrapes is what `$__rate_interval` builds on."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "servetune",
                "uid": "servetune",
                "type": "prometheus",
                "access": "proxy",
                "url": url,
                "jsonData": {"httpMethod": "POST", "timeInterval": f"{interval_s}s"},
            }
        ],
    }


def dashboard_provider() -> Json:
    """Where Grafana reads the dashboards; it fills in the variable itself."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "servetune",
                "folder": "servetune",
                "type": "file",
                "updateIntervalSeconds": 30,
                "options": {"path": f"${DASHBOARDS_VARIABLE}"},
            }
        ],
    }


def compose() -> Json:
    """Both programs in containers that share the host's network.

    So they reach drivers that listen on loopback, and listen there themselves.
    """
    folder: Json = {"type": "bind", "source": ".", "target": _MOUNTED, "read_only": True}
    return {
        "name": "servetune-monitoring",
        "services": {
            "prometheus": {
                "image": PROMETHEUS_IMAGE,
                "network_mode": "host",
                "restart": "unless-stopped",
                "command": [
                    f"--config.file={_MOUNTED}/prometheus.yml",
                    "--storage.tsdb.path=/prometheus",
                    "--storage.tsdb.retention.time=30d",
                    f"--web.listen-address={PROMETHEUS_ADDRESS}",
                    "--enable-feature=exemplar-storage",
                ],
                "volumes": [folder, "prometheus:/prometheus"],
            },
            "grafana": {
                "image": GRAFANA_IMAGE,
                "network_mode": "host",
                "restart": "unless-stopped",
                "environment": _grafana_environment(),
                "volumes": [folder, "grafana:/var/lib/grafana"],
            },
        },
        "volumes": {"prometheus": {}, "grafana": {}},
    }


def _grafana_environment() -> Json:
    host, port = GRAFANA_ADDRESS
    return {
        "GF_SERVER_HTTP_ADDR": host,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_PROVISIONING": f"{_MOUNTED}/provisioning",
        DASHBOARDS_VARIABLE: f"{_MOUNTED}/dashboards",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": (
            f"{_MOUNTED}/dashboards/servetune-overview.json"
        ),
        # Whoever reaches loopback may look, and there is no account with a known password.
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_DISABLE_LOGIN_FORM": "true",
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
