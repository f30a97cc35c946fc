"""The workflows of GitHub Actions, as far as they can be judged without running them there."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in sorted(ROOT.glob(".github/workflows/*.yml"))}
JOBS = [(file, name, job) for file, workflow in WORKFLOWS.items() for name, job in workflow["jobs"].items()]
STEPS = [(file, step) for file, _, job in JOBS for step in job["steps"]]
COMMANDS = [(file, line.strip()) for file, step in STEPS for line in step.get("run", "").splitlines()]
OFFICIAL = ("actions/checkout", "actions/setup-python", "actions/upload-artifact", "actions/upload-pages-artifact", "actions/deploy-pages")

every_job = pytest.mark.parametrize("file, name, job", JOBS, ids=[f"{file}-{name}" for file, name, _ in JOBS])


def test_there_are_workflows_for_tests_pages_links_and_newest_versions():
    assert set(WORKFLOWS) == {"test.yml", "publish.yml", "links.yml", "newest.yml"}
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}  # What a job needs beyond that it says itself.
        assert workflow["concurrency"]["group"]


@every_job
def test_every_job_ends_and_may_do_no_more_than_it_has_to(file, name, job):
    assert 0 < job["timeout-minutes"] <= 60
    may_write = {what for what, how in job["permissions"].items() if how != "read"}
    assert may_write == ({"pages", "id-token"} if (file, name) == ("publish.yml", "deploy") else set())


@pytest.mark.parametrize("uses", sorted({step["uses"] for _, step in STEPS if "uses" in step}))
def test_only_official_actions_by_major_version(uses):
    action, version = uses.split("@")
    assert action in OFFICIAL and re.fullmatch(r"v\d+", version)


def test_nothing_a_stranger_can_write_reaches_a_shell():
    # A branch or a title may be called $(...); and pull_request_target would run it with the repository's rights.
    for file, command in COMMANDS:
        assert "${{" not in command, f"{file}: {command}"
    for workflow in WORKFLOWS.values():
        assert "pull_request_target" not in workflow[True]  # YAML reads the key `on` as true.


def test_what_is_run_is_there():
    makefile, readme = (ROOT / "Makefile").read_text("utf-8"), (ROOT / "README.md").read_text("utf-8")
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert {"make book PYTHON=python", "make test"} <= {command for file, command in COMMANDS if file == "test.yml"}
    for file, command in COMMANDS:
        if target := re.match(r"make (\S+)", command):
            assert re.search(rf"^{target[1]}:", makefile, re.M) and f"make {target[1]}" in readme + ci, f"{file}: {command}"
        for path in re.findall(r"(?<= )(?:book|tests|requirements|constraints)[\w/.]*", command):
            assert (ROOT / path).exists(), f"{file}: {command}"
        if "--nbval-lax" in command:
            assert command.partition("-m pytest")[2] in makefile and command in readme, f"{file}: {command}"


def test_the_pythons_are_those_the_package_promises():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    promised = [name.split()[-1] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert project["requires-python"] == f">={promised[0]}"
    jobs = WORKFLOWS["test.yml"]["jobs"]
    assert jobs["course"]["strategy"]["matrix"]["python"] == promised
    assert jobs["package"]["strategy"]["matrix"]["python"] == [promised[0], promised[-1]]
    assert jobs["package"]["strategy"]["matrix"]["os"] == ["macos-latest", "windows-latest"]
    for file, step in STEPS:
        version = step.get("with", {}).get("python-version", promised[0])
        assert version in [*promised, "${{ matrix.python }}"], f"{file}: {step}"


def test_the_weekly_runs_are_weekly_and_main_alone_is_published():
    for file in ("links.yml", "newest.yml"):
        [when] = WORKFLOWS[file][True]["schedule"]
        minute, hour, day, month, weekday = when["cron"].split()
        assert minute.isdigit() and hour.isdigit() and (day, month) == ("*", "*") and weekday.isdigit()
    assert WORKFLOWS["publish.yml"][True]["push"] == {"branches": ["main"]}
    installs = [command for file, command in COMMANDS if file == "newest.yml" and "-r requirements.txt" in command]
    assert installs and not any("-c" in command.split() for command in installs)
