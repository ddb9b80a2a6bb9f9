"""Published checkpoints: opened safely, all names accounted for, and equal to the published forward in float64."""

import argparse
import datetime
import gzip

import numpy as np
import pytest
import tiny_published as tiny
import torch
import yaml
from PIL import Image

import neuroalign as na
from neuroalign.models import BadStimuli, get_entry, load_model
from neuroalign.models.published import BadCheckpoint, count_heads, read_state
from neuroalign.models.slip import clip_tokenizer, load_slip

TRIO = {"slip": ["image", "text"], "clip": ["image", "text"], "simclr": ["image"]}
CLIP_LIKE = ["slip", "clip"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Return a zoo of one's own with a file of each kind."""
    folder = tmp_path_factory.mktemp("published")
    rows = []
    for kind, modalities in TRIO.items():
        path = tiny.save_slip(folder, kind)
        rows.append({"id": f"tiny-{kind}", "family": "slip", "file": path.name, "modalities": modalities,
                     "objective": "contrastive"})  # fmt: skip
    (folder / "zoo.yaml").write_text(yaml.safe_dump({"models": rows}))
    return folder / "zoo.yaml"


@pytest.fixture(scope="module")
def models(zoo):
    """Return a function from a kind to its model."""
    made = {}

    def load(kind: str):
        if kind not in made:
            made[kind] = load_model(f"tiny-{kind}", zoo=zoo, device="cpu")
        return made[kind]

    return load


@pytest.fixture
def pairs(texts, pictures):
    return [t | p for t, p in zip(texts, pictures)]


def agree(got, expected):
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", TRIO)
def test_image_tower_equals_the_published_forward(kind, models, run, pairs):
    model, state = models(kind), tiny.doubled(tiny.slip_state(kind))
    stimuli = [{k: v for k, v in p.items() if k != "text"} for p in pairs]
    inputs, caught, output = run(model, stimuli, ("block", "norm"))
    states = tiny.vit_forward(state, "visual.", inputs.tensors["pixel_values"].double(), heads=2)
    names = ["vision_model.layers.0.input", *(f"vision_model.layers.{i}" for i in range(tiny.DEPTH))]
    for name, expected in zip([*names, "vision_model.layernorm"], states):
        agree(caught[name], expected)
    if kind != "simclr":
        agree(output["image"], states[-1][:, 0] @ state["image_projection"])
        assert torch.equal(caught["visual_projection"][:, 0], output["image"])
    assert not any("mlp.layer" in name for name, _ in model.module.named_modules())


@pytest.mark.parametrize("kind", CLIP_LIKE)
def test_text_tower_equals_the_published_forward(kind, models, run, texts):
    model, state = models(kind), tiny.doubled(tiny.slip_state(kind))
    inputs, caught, output = run(model, texts, ("block", "norm"))
    names = ["text_model.encoder.layers.0.input", *(f"text_model.encoder.layers.{i}" for i in range(tiny.DEPTH))]
    for row, (ids, real) in enumerate(zip(inputs.tensors["input_ids"], inputs.streams["text"]["all"])):
        states = tiny.clip_text_forward(state, ids[real])
        for name, expected in zip([*names, "text_model.final_layer_norm"], states):
            agree(caught[name][row][real], expected)
        end = int(ids[real].argmax())  # the published rule: the largest id is that of the end
        assert end == int(real.sum()) - 1 and ids[0] == tiny.VOCABULARY - 2
        agree(output["text"][row], states[-1][end] @ state["text_projection"])


@pytest.mark.parametrize("kind", TRIO)
def test_neighbours_change_nothing(kind, models, run, pairs):
    model = models(kind)
    stimuli = pairs if kind != "simclr" else [{k: v for k, v in p.items() if k != "text"} for p in pairs]
    inputs, together, _ = run(model, stimuli)
    for row, stimulus in enumerate(stimuli):
        own, single, _ = run(model, [stimulus])
        for layer in model.adapter.layers(model):
            got, expected = together[layer.name][row], single[layer.name][0]
            if layer.masked:
                got, expected = got[inputs.mask(layer, "all")[row]], expected[own.mask(layer, "all")[0]]
            torch.testing.assert_close(got, expected, rtol=0, atol=3e-5 * max(1, float(expected.abs().max())))


@pytest.mark.parametrize("kind", TRIO)
def test_extract_and_verify(kind, zoo, pairs, tmp_path):
    table = na.StimulusSet.from_texts([p["text"] for p in pairs]).table.assign(image=[p["image"] for p in pairs])
    features = na.extract(f"tiny-{kind}", na.StimulusSet(table), zoo=zoo, store=tmp_path, device="cpu", progress=False)
    streams = {space.rsplit(":", 1)[1] for space in features}
    assert streams == set(TRIO[kind]) and all(np.isfinite(f.values).all() for f in features.values())
    verdict = na.verify(f"tiny-{kind}", zoo=zoo, store=tmp_path, device="cpu")
    assert verdict.attrs["passed"], verdict.to_string()


@pytest.mark.parametrize("kind", CLIP_LIKE)
def test_attention_and_mlp_are_what_a_block_adds(kind, models, run, pairs):
    model, taps = models(kind), ("block", "attention", "mlp")
    _, caught, _ = run(model, pairs, taps)
    for tower in ("image", "text"):
        before, *rest = [caught[x.name] for x in model.adapter.layers(model, taps) if x.tower == tower and x.masked]
        assert len(rest) == 3 * tiny.DEPTH
        for attention, mlp, after in zip(rest[0::3], rest[1::3], rest[2::3]):
            torch.testing.assert_close(before + attention + mlp, after, rtol=0, atol=1e-5 * float(after.abs().max()))
            before = after


def test_the_trio_names_its_layers_alike(models):
    image = {k: [x.name for x in models(k).adapter.layers(models(k)) if x.tower == "image" and x.masked] for k in TRIO}
    assert image["slip"] == image["clip"] == image["simclr"]
    assert {x.tower for x in models("slip").adapter.layers(models("slip"))} == {"image", "text"}


def test_pixels_are_those_of_the_published_transform(models, pictures):
    row = pictures[3]
    size = tiny.SIDE * tiny.PATCH
    image = Image.open(row["image"]).convert("RGB")
    short = min(image.size)
    scaled = image.resize([int(size * edge / short) for edge in image.size], Image.Resampling.BILINEAR)
    left, top = (round((edge - size) / 2) for edge in scaled.size)
    values = np.asarray(scaled.crop((left, top, left + size, top + size)), dtype=np.float64) / 255
    expected = (values - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    got = models("slip").processors["image"].batch([row], torch.device("cpu"), torch.float32)[0]
    np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_tokenizer_follows_the_merges(models):
    tokenizer = models("slip").processors["text"].tokenizer
    ids = tokenizer.get_vocab()
    assert len(ids) == tiny.VOCABULARY and ids["!"] == 0 and ids["!</w>"] == 256 and ids["th"] == 512
    assert tokenizer.tokenize("The  WORK") == ["the</w>", "wo", "r", "k</w>"]
    assert tokenizer("The")["input_ids"] == [tiny.VOCABULARY - 2, ids["the</w>"], tiny.VOCABULARY - 1]


def test_random_twins(zoo):
    one, again, other = (load_model(f"tiny-slip@random.{s}", zoo=zoo, device="cpu") for s in (1, 1, 2))
    first, second, third = (m.module.visual_projection.weight for m in (one, again, other))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert one.weights.startswith("random(1)+config:") and one.id == "tiny-slip@random.1"


def test_the_weights_are_named_by_their_hash(models, zoo):
    from neuroalign.data import file_sha256

    assert models("clip").weights == f"sha256:{file_sha256(zoo.parent / 'clip_base_25ep.pt')}"
    assert models("clip").weights != models("slip").weights


@pytest.mark.parametrize(
    ("more", "what"),
    [({"when": datetime.timedelta(1)}, "datetime.timedelta"), ({"f": eval}, "eval"),
     ({"args": argparse.Namespace(run=argparse.ArgumentParser)}, "argparse.ArgumentParser")],
)  # fmt: skip
def test_files_with_other_objects_are_not_opened(more, what, tmp_path):
    path = tiny.save_slip(tmp_path, "simclr", **more)
    with pytest.raises(BadCheckpoint, match=rf"{what}.*would run code.*weights_only=False"):
        load_slip(path)


def test_learning_rates_of_numpy_are_read_under_both_names(tmp_path):
    assert "visual.norm.weight" in read_state(tiny.save_slip(tmp_path, "simclr"))
    legacy = tmp_path / "legacy.pt"  # the format before zip files, where names can be changed in place
    torch.save({"state_dict": tiny.slip_state("simclr"), "lr": np.float64(0.5)}, legacy,
               _use_new_zipfile_serialization=False)
    content = legacy.read_bytes()
    legacy.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert "visual.norm.weight" in read_state(legacy)


def test_bare_weights_and_files_without_any(tmp_path):
    torch.save(tiny.slip_state("simclr"), tmp_path / "bare.pt")
    assert "visual.cls_token" in read_state(tmp_path / "bare.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(BadCheckpoint, match="no weights in it. Expected tensors by name, or a dict with 'state_dict'"):
        read_state(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(BadCheckpoint, match="not a file of torch.save, or is damaged"):
        read_state(tmp_path / "text.pt")
    whole = (tmp_path / "bare.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadCheckpoint, match="damaged"):
        read_state(tmp_path / "cut.pt")


def test_missing_and_other_names_are_told(tmp_path):
    state = tiny.slip_state("clip")
    del state["module.visual.blocks.1.attn.qkv.bias"]
    state["module.visual.head.weight"] = torch.zeros(2, 2)
    path = tiny.save_slip(tmp_path, "clip", state_dict=state)
    with pytest.raises(BadCheckpoint, match=r"lacks 'visual.blocks.1.attn.qkv.bias'; it has also 'visual.head.weight'"):
        load_slip(path)
    path = tiny.save_slip(tmp_path, "clip", state_dict={"module.conv1.weight": torch.zeros(2)})
    with pytest.raises(BadCheckpoint, match=r"lacks 'visual.cls_token'.*it has also 'conv1.weight'"):
        load_slip(path)


def test_tensors_that_do_not_fit_are_told(tmp_path):
    def changed(**tensors):
        return tiny.save_slip(tmp_path, "clip", state_dict=tiny.slip_state("clip") | tensors)

    with pytest.raises(BadCheckpoint, match="do not fit together"):
        load_slip(changed(**{"module.visual.blocks.1.norm1.weight": torch.ones(5)}))
    with pytest.raises(BadCheckpoint, match="13 positions of patches"):
        load_slip(changed(**{"module.visual.pos_embed": torch.zeros(1, 14, tiny.WIDTH)}))
    with pytest.raises(BadCheckpoint, match="width 100, expected a multiple of 64"):
        count_heads(100)


def test_the_small_models_have_twelve_heads(tmp_path, run, pictures):
    torch.save({"state_dict": tiny.slip_state("simclr", 384)}, tmp_path / "simclr_small_25ep.pt")
    module, _, processors = load_slip(tmp_path / "simclr_small_25ep.pt")
    pixels = processors["image"].batch(pictures[:1], torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        got = module.eval().vision_model(pixels).last_hidden_state
    agree(got, tiny.vit_forward(tiny.doubled(tiny.slip_state("simclr", 384)), "visual.", pixels.double(), 12)[-1])


def test_the_merges_must_be_there_and_fit(tmp_path):
    path = tiny.save_slip(tmp_path, "clip")
    tiny.save_merges(tmp_path, tiny.MERGES[:2])
    with pytest.raises(BadCheckpoint, match="merges, expected 12 for the 526 tokens"):
        load_slip(path)
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"put 'bpe_simple_vocab_16e6.txt.gz' of the SLIP repository beside"):
        load_slip(path)
    with gzip.open(tmp_path / "x.gz", "wt") as file:
        file.write("first\na b\n")
    assert len(clip_tokenizer(tmp_path / "x.gz", 515)) == 515


def test_the_packaged_entries_say_where_their_files_are(monkeypatch, tmp_path):
    monkeypatch.setenv("NEUROALIGN_HOME", str(tmp_path))
    trio = [get_entry(name) for name in ("slip-vit-b16", "slip-clip-vit-b16", "slip-simclr-vit-b16")]
    assert len({(e.data, e.architecture) for e in trio}) == 1 and len({e.objective for e in trio}) == 3
    for entry in trio:
        assert set(entry.twins) == {e.id for e in trio} - {entry.id}
        assert entry.source == f"file {entry.file}"
    with pytest.raises(FileNotFoundError, match=r"models/slip/slip_base_25ep.pt.*fbaipublicfiles.*put it there"):
        load_model("slip-vit-b16")
    (tmp_path / "models" / "slip").mkdir(parents=True)
    tiny.save_slip(tmp_path / "models" / "slip", "slip")
    assert load_model("slip-vit-b16", device="cpu").entry.data == "YFCC15M"


def test_command_line(zoo, pictures, tmp_path):
    from typer.testing import CliRunner

    from neuroalign.cli.main import app

    shown = CliRunner().invoke(app, ["zoo", "show", "slip-vit-b16"])
    assert shown.exit_code == 0 and "YFCC15M" in shown.output and "unpinned" not in shown.output
    own = tmp_path / "my.yaml"
    own.write_text(zoo.read_text().replace("tiny-slip", "slip-vit-b16").replace("file: ", f"file: {zoo.parent}/"))
    (tmp_path / "pictures").mkdir()
    for row in pictures:
        Image.open(row["image"]).save(tmp_path / "pictures" / f"{row['stimulus_id']}.png")
    options = {"--zoo": own, "--stimuli": tmp_path / "pictures", "--store": tmp_path / "store", "--device": "cpu"}
    words = [str(word) for option in options.items() for word in option]
    done = CliRunner().invoke(app, ["extract", "slip-vit-b16", "--quiet", *words])
    assert done.exit_code == 0 and "visual_projection" in done.output, done.output


def test_a_text_that_no_tower_reads_is_told(models, texts):
    with pytest.raises(BadStimuli, match="no image"):
        models("simclr").adapter.check(models("simclr"), texts)
