"""Ensembles on the command line: export, run, compare, attack, and what takes one network only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import call, parsed

import randhet
from randhet.fixed_point.backends import runner
from randhet.fixed_point.ensemble import run
from randhet.netx.ensemble import read


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ensemble") / "a.net"
    options = ("--samples", 32, "--member-sigmas", "0.5,1.5", "--combine", "vote", "--seed", 7)
    written = parsed(call("export", "digits-randhet-at", "-o", path, *options, "--json"))
    assert written["members"] == [{"sigma": 0.5}, {"sigma": 1.5}] and written["combine"] == "vote"
    assert written["saturations"] == 0 and written["bytes"] == path.stat().st_size
    return path


def test_run_gives_the_answers_of_all_members(net: Path) -> None:
    found = parsed(call("run", net, "--backend", "engine", "--samples", 40, "--json"))
    digits = randhet.load_data("digits", "test").take(40)
    wanted = run(read(net), digits.pixels, runner("reference"))
    assert found["predictions"] == wanted.predictions.tolist() and found["seed"] == 7
    assert found["spikes"] == wanted.spikes and found["combine"] == "vote"
    assert found["members"] == [float((member.predictions == digits.labels).mean()) for member in wanted.members]
    shown = call("run", net, "--backend", "add-only", "--samples", 4)
    assert shown.exit_code == 0 and "members, by vote" in shown.stdout and "operations: add" in shown.stdout


def test_compare_and_attack_take_an_ensemble(net: Path) -> None:
    options = ("--samples", 12, "--draws", 2, "--backends", "engine", "--threads", 1)
    found = parsed(call("compare", "digits-randhet-at", net, *options, "--json"))
    assert len(found["members"]) == 2 and all(member["backends"]["engine"]["identical"] for member in found["members"])
    assert found["ensemble"]["combine"] == "vote" and found["ensemble"]["failures"] == []
    shown = call("compare", "digits-randhet-at", net, *options)
    assert shown.exit_code == 0 and "member 1: " in shown.stdout and "The 2 members decide by vote" in shown.stdout
    attack = ("--attacks", "fgsm", "--eps", "32/255", "--samples", 6, "--draws", 2, "--threads", 1)
    attacked = parsed(call("attack", "digits-randhet-at", "--net", net, *attack, "--json"))
    assert attacked["deployed"]["sentences"] and set(attacked["readings"]) == {"clean", "fgsm"}


def test_inspect_shows_the_member_that_is_asked_for(tmp_path: Path) -> None:
    path, steps = tmp_path / "a.net", [3, 1]
    assert call("export", "digits-randhet-at", "-o", path, "--samples", 32, "--member-steps", "3,1").exit_code == 0
    shown = [parsed(call("inspect", path, "--member", number, "--json")) for number in (0, 1)]
    assert [member["steps"] for member in shown] == steps
    assert [json.loads(member["metadata"]["member"]) for member in shown] == [{"steps": own} for own in steps]
    assert all(member["synapse_bytes"] > 0 for member in shown)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("inspect", "NET"), "holds an ensemble of 2 members: choose one by --member, 0 to 1"),
        (("inspect", "NET", "--member", 2), "choose one by --member, 0 to 1"),
        (("budget", "digits-randhet-at", "NET"), "version is 3: the file holds an ensemble, and one network is needed"),
        (("compare", "digits-randhet-at", "NET", "--budget"), "are for one network"),
        (("compare", "digits-vanilla-at", "NET"), "vanilla neurons has no random decay factors to change"),
        (("export", "digits-randhet-at", "-o", "b.net", "--member-steps", "2,3", "--c", "c"), "--c writes one network"),
        (("export", "digits-randhet-at", "-o", "b.net", "--member-sigmas", "1,x"), "--member-sigmas is 'x'"),
        (("export", "digits-randhet-at", "-o", "b.net", "--member-steps", "2,0"), "steps are 2, 0"),
        (("export", "digits-randhet-at", "-o", "b.net", "--combine", "max"), "--combine is 'max'"),
        (("export", "digits-vanilla-at", "-o", "b.net", "--member-sigmas", "1,2"), "no random decay factors to change"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: tuple[str, ...], sentence: str, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*(net if word == "NET" else word for word in words))
    assert result.exit_code == 2 and sentence in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []
