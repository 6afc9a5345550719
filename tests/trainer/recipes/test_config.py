"""Settings: every mistake is one line that names file, table and the nearest right key; what is written is read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from faceembed.errors import UsageError
from faceembed.trainer.loop.learner import wanted_losses
from faceembed.trainer.recipes import config as module
from faceembed.trainer.recipes.config import from_toml, keys, read_config, shipped, to_toml
from faceembed.trainer.recipes.settings import TrainConfig


@pytest.mark.parametrize("name", shipped())
def test_recipes(name: str) -> None:
    task = "pretrain" if name in ("pretrain", "taught", "slim", "branch") else "finetune"
    config = read_config(task, name)
    assert config.task == task
    assert wanted_losses(config) or (config.model.gate and config.authenticity.weight)
    base = read_config(task)
    assert (config == base) == (name == task)


def test_defaults_are_the_reference_recipe() -> None:
    config = read_config("finetune")
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.weight_decay) == ("adamw", 5e-6, 1e-2)
    schedule = config.schedule
    assert (schedule.name, schedule.factor, schedule.patience, schedule.threshold) == ("plateau", 0.5, 10, 1e-4)
    assert config.validation.threshold == 0.2
    assert config.data.ratios == (50, 25, 25)
    assert config.loss.name == "adaptive-margin"
    assert config.model.freeze == "none"
    assert read_config("pretrain").loss.name == "adaface"


def test_layers(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('seed = 3\n[optimizer]\nlr = 1\n[data]\ncrops = ["a"]\n[loss.settings]\ns = 20\n')
    config = read_config(
        "finetune", str(file), overrides=["optimizer.lr=2e-5", "loop.device=cpu", "loss.settings.m_b=0.3"]
    )
    assert (config.seed, config.optimizer.lr, config.optimizer.weight_decay) == (3, 2e-5, 1e-2)
    assert config.data.crops == (str(tmp_path / "a"),)  # relative to the file
    assert config.loop.device == "cpu"  # quotes may be left out
    assert config.loss.settings == {"s": 20, "m_b": 0.3}
    other = read_config("finetune", str(file), overrides=["loss.name=contrastive"])
    assert other.loss.settings == {}  # another loss has other settings


def test_round_trip(tmp_path: Path) -> None:
    config = read_config(
        "finetune", overrides=['data.crops=["a \\"b\\"", "ü"]', 'loss.settings={s = 20, form = "given"}', "seed=9"]
    )
    (tmp_path / "c.toml").write_text(to_toml(config), encoding="utf-8")
    assert from_toml(tmp_path / "c.toml") == config
    assert all(f"{key.rpartition('.')[2]} = " in to_toml(config) for key in keys() if not key.endswith("settings"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[optimizer]\nlearning_rate = 1",
            r"no setting 'learning_rate' in table \[optimizer\]; did you mean 'optimizer.lr'",
        ),
        ("[optimizer]\nweight_decai = 1", "did you mean 'optimizer.weight_decay'"),
        ("[data]\nlr = 1", r"no setting 'lr' in table \[data\]; did you mean 'optimizer.lr'"),
        ("epochs = 1", "no setting 'epochs'; did you mean 'loop.epochs'"),
        ("[optimiser]\nlr = 1", "no setting 'optimiser'; did you mean 'optimizer'"),
        ("[optimizer]\nlr = 'fast'", "'optimizer.lr' is a number, got text 'fast'"),
        ("[optimizer]\nlr = true", "'optimizer.lr' is a number, got boolean True"),
        ("[loop]\nepochs = 1.5", "'loop.epochs' is a whole number, got number 1.5"),
        ("[loop]\nepochs = true", "'loop.epochs' is a whole number, got boolean True"),
        ("[data]\ncrops = 'a'", "'data.crops' is a list of texts, got text 'a'"),
        ("[data]\ncrops = ['a', 1]", "'data.crops' is text, got whole number 1"),
        ("loop = 1", "'loop' is a table, got whole number 1"),
        ("[loop]\nepochs = 0", "loop.epochs is 0; expected at least 1"),
        ("[loop]\nprecision = 'int8'", "loop.precision is 'int8'; expected auto, fp32, bf16 or fp16"),
        ("[augment]\nflip = 2", "augment.flip is 2.0; expected a share"),
        ("[data]\nratios = [50, 50]", "expected three shares"),
        ("[optimizer]\nlr = nan", "optimizer.lr is nan"),
        ("[model]\nstart = ''", "model.arch is empty"),
        ("[loss]\nweight = 0", "nothing to learn"),
        ("task = 'pretrain'", "is for 'faceembed train pretrain', not for 'train finetune'"),
        ("task = ", "not TOML"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_config("finetune", str(file))
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "expected table.key=value"),
        ("optimizer.=1", "expected table.key=value"),
        ("optimizer.lr=", "--set optimizer.lr=: 'optimizer.lr' is a number, got text ''"),
        ("loss.nam=x", "--set loss.nam=x: no setting 'nam' in table .loss.; did you mean 'loss.name'"),
    ],
)
def test_mistakes_on_the_command_line(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config("finetune", overrides=[override])


def test_unknown_recipe() -> None:
    with pytest.raises(UsageError, match="the recipes are branch, faceembed-r29, finetune, frozen-body, gate"):
        read_config("finetune", "nix")


def test_a_file_begins_from_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "gated"\n[data]\ncrops = ["a"]\n[loop]\nepochs = 3\nbatch_size = 8\n')
    gated, mine = read_config("finetune", "gated"), read_config("finetune", str(file), overrides=["loop.batch_size=4"])
    assert (mine.loop.epochs, mine.loop.batch_size, gated.loop.epochs) == (3, 4, 60)
    assert mine == dataclasses.replace(
        gated,
        data=dataclasses.replace(gated.data, crops=(str(tmp_path / "a"),)),
        loop=dataclasses.replace(gated.loop, epochs=3, batch_size=4),
    )


def test_the_default_encoder_was_trained_by_the_recipe_gated_with_more_of_everything() -> None:
    gated, r29 = read_config("finetune", "gated"), read_config("finetune", "faceembed-r29")
    for same in ("model", "optimizer", "augment", "authenticity", "distillation", "validation"):
        assert getattr(r29, same) == getattr(gated, same)
    assert (r29.data.ratios, r29.data.made, r29.data.leave_out) == ((5, 90, 5), 0.5, ("morph",))
    assert (r29.loss.name, r29.loss.weight, r29.loop.epochs, r29.loop.ema) == ("adaptive-margin", 0.0, 20, 0.999)
    assert (r29.schedule.name, r29.schedule.warmup_steps, r29.schedule.lr_end) == ("cosine", 200, 0.01)


@pytest.fixture
def own_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package, whose recipes are those in ``configs`` and the default of fine-tuning."""
    shipped_one = Path(module.__file__).parent / "configs" / "finetune.toml"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "finetune.toml").write_bytes(shipped_one.read_bytes())
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    return tmp_path


def test_bases_of_bases(own_recipes: Path) -> None:
    (own_recipes / "configs" / "first.toml").write_text("seed = 2\n[loop]\nepochs = 2\nbatch_size = 2\n")
    (own_recipes / "configs" / "second.toml").write_text('base = "first"\nseed = 3\n[loop]\nepochs = 3\n')
    (own_recipes / "mine.toml").write_text('base = "second"\nseed = 4\n')
    config = read_config("finetune", str(own_recipes / "mine.toml"))
    assert (config.seed, config.loop.epochs, config.loop.batch_size) == (4, 3, 2)
    assert config.optimizer == read_config("finetune").optimizer
    assert read_config("finetune", "second").seed == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'base = "lost"',
            "mine.toml: 'base' is 'lost', not a recipe to begin from; the recipes are finetune, one, two",
        ),
        ("base = 1", "mine.toml: 'base' is 1, not a recipe"),
        ('base = "mine.toml"', "'base' is 'mine.toml', not a recipe"),
        ('base = "one"', "mine.toml: recipes that begin from each other: one, two, one"),
        ('base = "typing"', "recipe 'typing': no setting 'epoch' in table .loop.; did you mean 'loop.epochs'"),
        ('base = "wrong"', "recipe 'wrong': 'loop.epochs' is a whole number, got text 'many'"),
        ('base = "whose"', "recipe 'whose' is for 'faceembed train pretrain', not for 'train finetune'"),
        ('task = "pretrain"\nbase = "finetune"', "mine.toml is for 'faceembed train pretrain'"),
        ('[loop]\nbase = "one"', r"no setting 'base' in table \[loop\]"),
    ],
)
def test_mistakes_in_bases(own_recipes: Path, text: str, message: str) -> None:
    recipes = {
        "one": 'base = "two"',
        "two": 'base = "one"',
        "typing": "[loop]\nepoch = 1",
        "wrong": '[loop]\nepochs = "many"',
        "whose": 'task = "pretrain"',
    }
    for name, content in recipes.items():
        (own_recipes / "configs" / f"{name}.toml").write_text(content)
    (own_recipes / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_config("finetune", str(own_recipes / "mine.toml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.name=triplet", "a loss of kind 'batch'; finetune takes 'pair'"),
        ("loss.name=adaptiv-margin", "did you mean 'adaptive-margin'"),
        ("loss.settings.mb=1", "has no setting 'mb'"),
        ("distillation.settings.embeding=1", "has no setting 'embeding'"),
    ],
)
def test_losses_are_checked_early(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wanted_losses(read_config("finetune", overrides=[override]))


def test_every_field_is_explained() -> None:
    """A line of documentation under each field, but for pairs of share and strength that the class explains."""
    folder = Path(module.__file__).parent
    source = "".join((folder / name).read_text("utf-8") for name in ("settings.py", "crops.py", "goals.py", "steps.py"))
    names = [key.rpartition(".")[2] for key in keys()]
    for name in names:
        if not name.endswith("_share"):
            assert f"    {name}: " in source
            after = source.split(f"    {name}: ", 1)[1].split("\n", 1)[1].lstrip()
            assert after.startswith('"""'), name


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig(loss=module.build({"loss": {"name": "x"}}).loss).seed = 2  # type: ignore[misc]
