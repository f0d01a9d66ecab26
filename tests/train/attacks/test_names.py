"""What the names of attacks mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from randhet.train.attacks.names import FAMILIES, Attack, mean_taus, parse, parse_list, run, spelled
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.models import ModelSettings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fgsm", Attack("fgsm", "fgsm", 0)),
        ("fgsmx20", Attack("fgsmx20", "fgsm", 0, 20)),
        ("pgd10", Attack("pgd10", "pgd", 10)),
        ("pgd50x20", Attack("pgd50x20", "pgd", 50, 20)),
        ("apgd-dlr10x5@mean", Attack("apgd-dlr10x5@mean", "apgd-dlr", 10, 5, mean=True)),
        ("apgd-t10", Attack("apgd-t10", "apgd-t", 10)),
        ("mifgsm5-d0.1", Attack("mifgsm5-d0.1", "mifgsm", 5, decay=0.1)),
        ("square", Attack("square", "square", 5000)),
        ("fab", Attack("fab", "fab", 100)),
        ("aa", Attack("aa", "aa", 0)),
        ("aa-rand", Attack("aa-rand", "aa-rand", 0)),
    ],
)
def test_a_name_taken_apart(name: str, meant: Attack) -> None:
    assert parse(name) == meant


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("pgd10", "PGD-10"),
        ("pgd{n}", "PGD-n"),
        ("pgd10x{m}", "PGD-10, m EOT samples"),
        ("apgd-dlr{n}x{m}", "APGD-DLR-n, m EOT samples"),
        ("apgd-t10x1", "APGD-T-10, 1 EOT sample"),
        ("fgsmx20", "FGSM, 20 EOT samples"),
        ("mifgsm5-d0.9", "MIFGSM-5, decay 0.9"),
        ("pgd10@mean", "PGD-10, at mean decay factors"),
        ("square200", "Square-200"),
        ("aa", "AutoAttack"),
        ("clean", "clean"),
    ],
)
def test_a_name_as_one_writes_it(name: str, written: str) -> None:
    assert spelled(name) == written


def test_a_list_of_names() -> None:
    assert [attack.name for attack in parse_list(" fgsm, pgd10,fgsm ,")] == ["fgsm", "pgd10"]


def test_every_gradient_attack_has_an_eot_version() -> None:
    assert [name for name, family in FAMILIES.items() if not family.eot] == [
        "snn-auto",
        "aa",
        "aa-rand",
    ]  # they draw by themselves


def test_transfer_is_made_on_the_network_whose_taus_are_all_a_half() -> None:
    """sigmoid(sigma*n) has mean 1/2 by symmetry, and tau = 1/2 is the vanilla neuron with the same weights."""
    settings = ModelSettings(1, 4, (6, 6), (3, 4), (1, 1), steps=2)
    random = random_init(settings)
    vanilla = Checkpoint(replace(settings, neuron="vanilla"), random.state, random.mean, random.std)
    images, labels = torch.rand(6, 1, 6, 6), torch.arange(6) % 4
    models = build(random), build(vanilla)
    with mean_taus(models[0]):
        torch.testing.assert_close(*(model(images) for model in models))
    found = []
    for model, name in zip(models, ("pgd3@mean", "pgd3")):
        torch.manual_seed(0)
        found.append(run(parse(name), model, images, labels, 0.1).stock)
    torch.testing.assert_close(*found)
