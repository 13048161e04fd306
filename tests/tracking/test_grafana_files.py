"""What `servetune grafana` writes, and the same below `deploy/`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import main
from runtimes.errors import UserError
from tracking.grafana.alerts import alerts
from tracking.grafana.scrape import GRAFANA_IMAGE, JOBS, PROMETHEUS_IMAGE
from tracking.grafana.write import DEFAULT_TARGET, dashboards, files, write_grafana
from tracking.layout import RunLayout
from tracking.lock import RunLock

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy/grafana"


def test_what_is_deployed_is_what_the_code_makes() -> None:
    deployed = {
        path.relative_to(DEPLOYED).as_posix(): path.read_text(encoding="utf-8")
        for path in DEPLOYED.rglob("*")
        if path.is_file()
    }
    assert deployed == files([DEFAULT_TARGET]), (
        "make it anew: servetune grafana --out deploy/grafana"
    )


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    written = write_grafana(tmp_path / "out", ["127.0.0.1:9100", "[::1]:9101"])
    names = {path.relative_to(tmp_path / "out").as_posix() for path in written}
    assert names == {
        *(f"dashboards/{name}" for name in dashboards()),
        "provisioning/dashboards/servetune.yaml",
        "provisioning/datasources/servetune.yaml",
        "rules/servetune.yml",
        "targets/none.json",
        "prometheus.yml",
        "compose.yaml",
    }
    for name, board in dashboards().items():
        assert json.loads((tmp_path / "out/dashboards" / name).read_text()) == board
    scrape = yaml.safe_load((tmp_path / "out/prometheus.yml").read_text())
    assert [job["job_name"] for job in scrape["scrape_configs"]] == list(JOBS)
    for job in scrape["scrape_configs"]:
        urls = [discovery["url"] for discovery in job["http_sd_configs"]]
        assert urls == ["http://127.0.0.1:9100/sd", "http://[::1]:9101/sd"]


def test_the_containers_find_their_files_and_listen_on_loopback_alone(tmp_path: Path) -> None:
    write_grafana(tmp_path, [DEFAULT_TARGET])
    services = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]
    assert services["prometheus"]["image"] == PROMETHEUS_IMAGE
    assert services["grafana"]["image"] == GRAFANA_IMAGE
    for service in services.values():
        mount = service["volumes"][0]
        assert (mount["source"], mount["read_only"]) == (".", True)
        for inside in _paths_below(service, mount["target"]):
            assert (tmp_path / inside.relative_to(mount["target"])).exists(), inside
        assert service["network_mode"] == "host"
        assert not {"latest", "main"} & set(service["image"].split(":"))
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    provider = yaml.safe_load((tmp_path / "provisioning/dashboards/servetune.yaml").read_text())
    variable = provider["providers"][0]["options"]["path"].removeprefix("$")
    assert services["grafana"]["environment"][variable].endswith("/dashboards")


def _paths_below(service: dict[str, object], folder: str) -> list[Path]:
    """Paths in the mounted folder that the service's settings name."""
    environment, command = service.get("environment", {}), service.get("command", [])
    assert isinstance(environment, dict)
    assert isinstance(command, list)
    words = [*environment.values(), *(word.rpartition("=")[2] for word in command)]
    found = [Path(word) for word in words if word.startswith(f"{folder}/")]
    assert found
    return found


def test_the_documents_name_every_file_and_alert(tmp_path: Path) -> None:
    text = (DEPLOYED.parents[1] / "docs/metrics.md").read_text(encoding="utf-8")
    names = {path.name for path in write_grafana(tmp_path, [DEFAULT_TARGET])}
    beneath = {"none.json", "servetune.yaml", "servetune.yml"}
    for name in [*(names - beneath), "targets/", "provisioning/", "rules/servetune.yml"]:
        assert f"`{name}`" in text, name
    documented = re.findall(r"^\| `(Servetune\w+)` \| .+ \| (\w+) \| (\w+) \|$", text, re.MULTILINE)
    assert documented == _in_order(documented)
    assert set(documented) == {(one.name, one.hold, one.severity) for one in alerts()}


def _in_order(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """What stops a study comes first."""
    return sorted(rows, key=lambda row: row[2])


@pytest.mark.parametrize("targets", [["driver.example:9100"], ["127.0.0.1:1", "[::1]:65535"]])
def test_promtool_accepts_configuration_and_rules(tmp_path: Path, targets: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    write_grafana(tmp_path, targets, scrape_interval_s=1)
    checked = subprocess.run(
        [promtool, "check", "config", "--lint=all", "--lint-fatal", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout
    assert "WARNING" not in checked.stdout


@pytest.mark.parametrize(
    "targets",
    [
        [],
        ["http://127.0.0.1:9100/metrics"],
        ["127.0.0.1"],
        ["127.0.0.1:0"],
        ["127.0.0.1:70000"],
        ["h:1", "h:1/metrics"],
        ["h:1\n"],
    ],
)
def test_what_prometheus_cannot_scrape_is_refused(tmp_path: Path, targets: list[str]) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9100"):
        write_grafana(tmp_path / "out", targets)
    assert not (tmp_path / "out").exists()


def _run_folder(results: Path, url: str) -> RunLayout:
    layout = RunLayout(results / "demo-20260101T000000Z-abcd")
    layout.create()
    layout.experiment.write_text("name: demo\n", encoding="utf-8")
    if url:
        layout.live_status.write_text(json.dumps({"metrics": url}), encoding="utf-8")
    return layout


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:40123/metrics", "127.0.0.1:40123"),
        ("http://0.0.0.0:9100/metrics", "127.0.0.1:9100"),
        ("http://[::]:9100/metrics", "[::1]:9100"),
        ("http://node-7:9100/metrics", "node-7:9100"),
    ],
)
def test_a_running_study_is_scraped_where_it_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, target: str
) -> None:
    layout = _run_folder(tmp_path / "runs", url)
    with RunLock(layout.lock):
        code = main(
            ["grafana", str(layout.root), "--out", str(tmp_path / "out"), "--interval", "2"]
        )
    assert code == 0
    assert target in capsys.readouterr().out
    scrape = yaml.safe_load((tmp_path / "out/prometheus.yml").read_text())
    assert scrape["global"]["scrape_interval"] == "2s"
    (discovery,) = scrape["scrape_configs"][0]["http_sd_configs"]
    assert discovery["url"] == f"http://{target}/sd"


def test_without_a_run_it_says_what_it_supposes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grafana", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "metrics: {port: 9100}" in said
    assert f"--config.file={tmp_path / 'out/prometheus.yml'}" in said


@pytest.mark.parametrize(("interval", "warned"), [("14", False), ("15", True), ("30", True)])
def test_an_interval_longer_than_a_study_waits_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interval: str, warned: bool
) -> None:
    assert main(["grafana", "--out", str(tmp_path / "out"), "--interval", interval]) == 0
    said = capsys.readouterr().out
    assert (f"set metrics.linger above {interval}s" in said) == warned
    assert ("linger" in said) == warned


def test_a_run_that_nobody_drives_has_nothing_to_scrape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = _run_folder(tmp_path / "runs", "http://127.0.0.1:40123/metrics")
    assert main(["grafana", str(layout.root), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "no driver works on it" in said
    assert str(layout.final_metrics) in said
    assert not (tmp_path / "out").exists()


def test_a_study_that_starts_has_not_said_yet_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = _run_folder(tmp_path / "runs", "")
    with RunLock(layout.lock):
        assert main(["grafana", str(layout.root), "--out", str(tmp_path / "out")]) == 2
    assert "Try again in a few seconds" in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["0", "61"])
def test_an_interval_that_shows_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interval: str
) -> None:
    assert main(["grafana", "--out", str(tmp_path), "--interval", interval]) == 2
    assert f"--interval {interval}: write 1 to 60" in capsys.readouterr().err
