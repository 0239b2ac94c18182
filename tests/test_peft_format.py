"""Adapters against PEFT itself on small networks of transformers: numbers, gradients, steps and files."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_networks import KINDS, load, module_pattern, write_network
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fastgenome as fg
from fastgenome.adapters.linear import AdapterLinear
from fastgenome.adapters.peft_format import CONFIG, WEIGHTS
from fastgenome.adapters.sites import adapter_sites
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models.model import Model

peft = pytest.importorskip("peft")

IDS = torch.tensor([[2, 5, 7, 9, 4, 6, 11, 3, 10], [2, 8, 4, 4, 10, 12, 5, 9, 3]])
TOKENS = fg.Tokens(IDS.flatten().numpy().astype(np.int32), np.array([0, 9, 18]))
ALL = ("query", "key", "value", "output", "ffn_in", "ffn_out")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[nn.Module, Path]]:
    """A network of each kind and where it is saved."""
    made = {}
    for kind in KINDS:
        directory = tmp_path_factory.mktemp(kind)
        made[kind] = write_network(kind, directory), directory
    return made


def peft_config(kind: str, config: Any) -> Any:
    """PEFT's settings for ours."""
    pattern = module_pattern(kind, config.targets)
    if isinstance(config, fg.IA3):
        inputs = module_pattern(kind, ("ffn_out",)) if "ffn_out" in config.targets else []
        return peft.IA3Config(target_modules=pattern, feedforward_modules=inputs)
    return peft.LoraConfig(
        target_modules=pattern,
        r=config.rank,
        lora_alpha=config.alpha,
        use_rslora=config.use_rslora,
        use_dora=isinstance(config, fg.DoRA),
    )


def with_peft(network: nn.Module, kind: str, config: Any) -> Any:
    """A copy of a network with PEFT's adapter, whose numbers are not those of the start."""
    adapted = peft.get_peft_model(copy.deepcopy(network), peft_config(kind, config))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return adapted.eval()


def their_states(adapted: Any) -> Tensor:
    output = adapted(input_ids=IDS, attention_mask=torch.ones_like(IDS), output_hidden_states=True)
    states: Tensor = output.hidden_states[-1].flatten(0, 1)
    return states


def our_states(model: Model) -> Tensor:
    states = model.hidden_states(TOKENS)
    assert isinstance(states, Tensor)
    return states


def loss_of(states: Tensor) -> Tensor:
    direction = torch.linspace(-1, 1, states.shape[1])
    return (states @ direction - torch.arange(len(states)).cos()).square().mean()


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal up to a share of the largest number."""
    assert found.shape == expected.shape
    difference = float((found - expected).detach().abs().max())
    assert difference <= tolerance * float(expected.detach().abs().max())


def our_parameters(model: Model, *, gradients: bool = False) -> dict[str, Tensor]:
    """The parameters of the active adapter, or their gradients, by module and PEFT's name, as published."""
    found = {}
    names = {"down": "lora_A", "up": "lora_B", "magnitude": "lora_magnitude", "gain": "l", "input_gain": "l"}
    for site in adapter_sites(model):
        layer = model.network.get_submodule(site.layer)
        if not isinstance(layer, AdapterLinear):
            continue
        for branch in layer.branches("default"):
            if branch.start != site.rows.start:
                continue
            for ours, theirs in names.items():
                if (parameter := getattr(branch, ours)) is not None:
                    tensor = parameter.grad if gradients else parameter.detach()
                    rowless = ours in ("down", "input_gain")
                    found[f"{site.module}.{theirs}"] = tensor if rowless else site.to_published(tensor)
    return found


def their_parameters(adapted: Any, *, gradients: bool = False) -> dict[str, Tensor]:
    found = {}
    names = {"lora_A": "lora_A", "lora_B": "lora_B", "lora_magnitude_vector": "lora_magnitude", "ia3_l": "l"}
    for name, parameter in adapted.named_parameters():
        for theirs, short in names.items():
            module, mark, _ = name.partition(f".{theirs}.")
            if mark:
                tensor = parameter.grad if gradients else parameter.detach()
                flat = tensor.flatten() if short == "l" else tensor
                found[f"{module.removeprefix('base_model.model.')}.{short}"] = flat
    return found


def assert_same_parameters(found: dict[str, Tensor], expected: dict[str, Tensor], prefix: str = "") -> None:
    assert {name.removeprefix(prefix) for name in found} == {name.removeprefix(prefix) for name in expected}
    theirs = {name.removeprefix(prefix): tensor for name, tensor in expected.items()}
    for name, tensor in found.items():
        assert_near(tensor, theirs[name.removeprefix(prefix)])


CONFIGS = {
    "lora": fg.LoRA(rank=3, alpha=5),
    "lora, all": fg.LoRA(rank=2, alpha=3, targets=ALL),
    "rslora": fg.LoRA(rank=4, alpha=3, targets=("query", "key", "ffn_in"), use_rslora=True),
    "dora": fg.DoRA(rank=3, alpha=5),
    "dora, all": fg.DoRA(rank=2, alpha=4, targets=ALL),
    "ia3": fg.IA3(),
    "ia3, all": fg.IA3(targets=ALL),
}
METHODS = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
FAMILIES = pytest.mark.parametrize("kind", KINDS)


@METHODS
@FAMILIES
def test_adapter_of_peft_gives_the_same_numbers_gradients_and_steps(
    kind: str, config: Any, networks: dict[str, tuple[nn.Module, Path]], tmp_path: Path
) -> None:
    network, directory = networks[kind]
    adapted, model = with_peft(network, kind, config), load(directory)
    adapted.save_pretrained(tmp_path)
    plain = our_states(model).detach()
    model.load_adapter(tmp_path)
    expected, found = their_states(adapted), our_states(model)
    assert float((found.detach() - plain).abs().max()) > 0.01 * float(plain.abs().max())
    assert_near(found, expected)
    loss_of(expected).backward()
    loss_of(found).backward()
    assert_same_parameters(our_parameters(model, gradients=True), their_parameters(adapted, gradients=True))
    theirs = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-3)
    ours = torch.optim.AdamW(model.adapter_parameters(), lr=1e-3)
    for _ in range(10):
        for optimizer, states in ((theirs, their_states(adapted)), (ours, our_states(model))):
            optimizer.zero_grad()
            loss_of(states).backward()
            optimizer.step()
    assert_same_parameters(our_parameters(model), their_parameters(adapted))


@METHODS
@FAMILIES
def test_saved_adapter_is_read_by_peft_and_by_us(
    kind: str, config: Any, networks: dict[str, tuple[nn.Module, Path]], tmp_path: Path
) -> None:
    network, directory = networks[kind]
    model = load(directory)
    model.add_adapter(config)
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        expected = our_states(model)
        model.save_adapter(tmp_path / "ours")
        adapted = peft.PeftModel.from_pretrained(copy.deepcopy(network), tmp_path / "ours").eval()
        assert_near(their_states(adapted), expected)
        again = load(directory)
        again.load_adapter(tmp_path / "ours", name="again")
        assert torch.equal(our_states(again), expected)
        assert again.adapters.configs["again"] == config
        model.merge_adapter()
        assert_near(our_states(model), expected)
    if isinstance(config, fg.IA3):
        inputs = json.loads((tmp_path / "ours" / CONFIG).read_text())["feedforward_modules"]
        pattern = module_pattern(kind, ("ffn_out",))
        assert [bool(re.fullmatch(pattern, module)) for module in inputs] == [True, True]
    adapted.save_pretrained(tmp_path / "theirs")
    first, second = load_file(tmp_path / "ours" / WEIGHTS), load_file(tmp_path / "theirs" / WEIGHTS)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def saved(model: Model, directory: Path, config: Any = None) -> Path:
    """A folder with an adapter of the model, whose numbers are not those of the start."""
    model.add_adapter(config or fg.LoRA(rank=2))
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_adapter(directory)
    model.remove_adapter()
    return directory


def change_fields(directory: Path, **changes: Any) -> None:
    """Set fields as another tool would write them, without our metadata."""
    path = directory / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    change_tensors(directory, {})


def change_tensors(directory: Path, changes: dict[str, Tensor | None]) -> None:
    """Replace, add or (None) drop tensors, as PEFT would write them, without our metadata."""
    tensors = load_file(directory / WEIGHTS) | changes
    save_file({name: t for name, t in tensors.items() if t is not None}, directory / WEIGHTS)


@pytest.fixture
def opt(networks: dict[str, tuple[nn.Module, Path]]) -> Model:
    return load(networks["opt"][1])


QUERY = "base_model.model.model.decoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"modules_to_save": ["classifier"], "bias": "all"}, "bias='all', modules_to_save=.*classifier"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"option_of_tomorrow": 7}, "option_of_tomorrow=7"),
        ({"lora_alpha": "16"}, "alpha"),
        ({"r": 3}, r"shape \(2, 32\), expected \(3, 32\)"),
        ({"r": True}, "rank"),
        ({"lora_dropout": 1.5}, "dropout"),
        ({"rank_pattern": {"q_proj": "x"}}, r"rank_pattern\['q_proj'\] is 'x'"),
        ({"rank_pattern": {"(": 2}}, "no pattern"),
        ({"rank_pattern": [2]}, "rank_pattern is"),
        ({"target_modules": "("}, "no pattern"),
        ({"target_modules": 5}, "list of modules"),
        ({"target_modules": ["q_proj"]}, "unexpected .*v_proj"),
        ({"target_modules": ["q_proj", "v_proj", "fc1"]}, "missing .*fc1.lora_A"),
        ({"use_dora": True}, "missing .*lora_magnitude_vector"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, opt: Model, tmp_path: Path
) -> None:
    change_fields(saved(opt, tmp_path / "adapter"), **changes)
    with pytest.raises(CheckpointError, match=message):
        opt.load_adapter(tmp_path / "adapter")
    assert not opt.adapters.configs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{QUERY}.lora_A.weight": None}, "missing .*q_proj.lora_A"),
        ({"base_model.model.classifier.weight": torch.ones(2)}, "unexpected .*classifier"),
        ({f"{QUERY}.lora_B.weight": torch.ones(32, 3)}, r"shape \(32, 3\), expected \(32, 2\)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    changes: dict[str, Tensor | None], message: str, opt: Model, tmp_path: Path
) -> None:
    change_tensors(saved(opt, tmp_path / "adapter"), changes)
    with pytest.raises(CheckpointError, match=message):
        opt.load_adapter(tmp_path / "adapter")


def test_adapter_of_another_network_is_refused(opt: Model, networks: Any, tmp_path: Path) -> None:
    saved(opt, tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="base with sha256"):
        load(networks["bert"][1]).load_adapter(tmp_path / "adapter")
    change_tensors(tmp_path / "adapter", {})
    with pytest.raises(CheckpointError, match="no module of"):
        load(networks["bert"][1]).load_adapter(tmp_path / "adapter")
    write_network("opt", tmp_path / "other", seed=1)
    saved(opt, tmp_path / "again")
    with pytest.raises(CheckpointError, match="base with sha256"):
        load(tmp_path / "other").load_adapter(tmp_path / "again")


# Of the metadata of tensors, what an adapter is read by.
READ = ("targets", "settings", "tensors_sha256", "config_sha256", "base_sha256")


def meaning(content: bytes) -> tuple[Any, ...]:
    """What a file of an adapter says, without provenance, white space and the name of a framework."""
    if content.startswith(b"{"):
        fields = json.loads(content)
        free = ("auto_mapping", "base_model_name_or_path", "inference_mode", "revision", "task_type")
        return ({name: value for name, value in fields.items() if name not in free},)
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:size])
    metadata = header.pop("__metadata__")
    return header, {name: metadata.get(name) for name in READ}, content[size:]


def refused_or_as_written(model: Model, directory: Path, written: bytes, found: bytes) -> None:
    """A CheckpointError, unless only what changes nothing was touched."""
    try:
        model.load_adapter(directory)
    except CheckpointError:
        return
    model.remove_adapter()
    assert meaning(found) == meaning(written)


def test_adapter_is_read_whatever_framework_its_tensors_name(opt: Model, tmp_path: Path) -> None:
    saved(opt, tmp_path / "adapter")
    path = tmp_path / "adapter" / WEIGHTS
    written = path.read_bytes()
    found = written.replace(b'"format":"pt"', b'"format":"qt"')
    assert found != written
    path.write_bytes(found)
    opt.load_adapter(tmp_path / "adapter")
    opt.remove_adapter()
    refused_or_as_written(opt, tmp_path / "adapter", written, found)
    with pytest.raises(AssertionError):
        assert meaning(written[:-1] + b"\0\0") == meaning(written)


def test_damaged_files_are_refused(opt: Model, tmp_path: Path) -> None:
    saved(opt, tmp_path / "adapter")
    random = np.random.default_rng(0)
    for name in (WEIGHTS, CONFIG):
        path = tmp_path / "adapter" / name
        content = path.read_bytes()
        for _ in range(100):
            flipped = bytearray(content)
            flipped[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
            path.write_bytes(flipped)
            refused_or_as_written(opt, tmp_path / "adapter", content, flipped)
            path.write_bytes(content[: int(random.integers(len(content)))])
            refused_or_as_written(opt, tmp_path / "adapter", content, path.read_bytes())
        path.write_bytes(content)
    (tmp_path / "adapter" / WEIGHTS).unlink()
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin is a pickle"):
        opt.load_adapter(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="not a folder"):
        opt.load_adapter(tmp_path / "nowhere")
    assert not opt.adapters.configs


def test_folder_with_other_content_is_left_alone(opt: Model, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    opt.add_adapter(fg.LoRA())
    with pytest.raises(ArgumentError, match=r"adapter_config\.json"):
        opt.save_adapter(tmp_path)
    with pytest.raises(ArgumentError, match="no adapter 'other'"):
        opt.save_adapter(tmp_path / "new", name="other")
    opt.save_adapter(tmp_path / "new")
    opt.save_adapter(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "thesis.txt"]


@pytest.mark.parametrize("bare", [True, False], ids=["without prefix", "with prefix"])
def test_prefix_of_the_published_names_may_differ(bare: bool, networks: Any, tmp_path: Path) -> None:
    network, directory = networks["opt"]
    config = fg.LoRA(rank=2, alpha=3)
    # OPTModel names "decoder.…" what the language model names "model.decoder.…".
    adapted = with_peft(network.model if bare else network, "opt", config)
    adapted.save_pretrained(tmp_path / "adapter")
    if not bare:
        network.model.save_pretrained(tmp_path / "body")
        for file in ("vocab.json", "merges.txt"):
            (tmp_path / "body" / file).write_bytes((directory / file).read_bytes())
    model = load(directory if bare else tmp_path / "body")
    model.load_adapter(tmp_path / "adapter")
    with torch.no_grad():
        states = adapted(input_ids=IDS, output_hidden_states=True).hidden_states[-1].flatten(0, 1)
        assert_near(our_states(model), states)


@pytest.mark.parametrize(
    "options",
    [
        {"layers_to_transform": [1]},
        {"layers_to_transform": 0, "layers_pattern": "layers"},
        {"exclude_modules": ["layers.1.self_attn.q_proj"]},
        {"rank_pattern": {"v_proj": 5}, "alpha_pattern": {r"layers\.1.*": 7}},
        {"init_lora_weights": "gaussian"},
    ],
    ids=str,
)
def test_options_of_peft_that_choose_modules_and_ranks(
    options: dict[str, Any], networks: Any, tmp_path: Path
) -> None:
    network, directory = networks["opt"]
    settings = peft.LoraConfig(r=3, lora_alpha=4, target_modules=["q_proj", "v_proj"], **options)
    adapted = peft.get_peft_model(copy.deepcopy(network), settings).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
        adapted.save_pretrained(tmp_path / "theirs")
        model = load(directory)
        model.load_adapter(tmp_path / "theirs")
        assert_near(our_states(model), their_states(adapted))
        model.save_adapter(tmp_path / "ours")
        again = peft.PeftModel.from_pretrained(copy.deepcopy(network), tmp_path / "ours").eval()
        assert_near(their_states(again), our_states(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_numbers_of_lower_precision_are_read(dtype: torch.dtype, opt: Model, tmp_path: Path) -> None:
    saved(opt, tmp_path / "adapter")
    lower = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / "adapter" / WEIGHTS).items()}
    change_tensors(tmp_path / "adapter", dict(lower))
    opt.load_adapter(tmp_path / "adapter")
    down = next(p for p in opt.adapter_parameters() if p.shape == (2, 32))
    assert down.dtype == torch.float32
    assert torch.equal(down, lower[f"{QUERY}.lora_A.weight"].float())


def test_feedforward_factor_on_a_part_of_a_fused_layer_is_refused(networks: Any, tmp_path: Path) -> None:
    network, directory = networks["opt"]
    settings = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=["k_proj"])
    peft.get_peft_model(copy.deepcopy(network), settings).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="k_proj is one of the feedforward_modules"):
        load(directory).load_adapter(tmp_path)


def test_all_linear_modules_of_peft(networks: Any, tmp_path: Path) -> None:
    network, directory = networks["opt"]
    adapted = peft.get_peft_model(copy.deepcopy(network), peft.LoraConfig(target_modules="all-linear"))
    adapted.save_pretrained(tmp_path)
    model = load(directory)
    model.load_adapter(tmp_path)
    assert len(model.adapter_parameters()) == 2 * 6 * 2
    assert model.adapters.configs["default"].targets == ALL
