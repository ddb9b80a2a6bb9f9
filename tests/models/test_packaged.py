"""The pretrained models that packages carry do what they are known to do."""

import numpy as np
import pytest
import torch
from PIL import Image

from neuroalign.data.packages import find_file
from neuroalign.models import attach, load_model
from neuroalign.models.derived import class_names, embed_sentences, fit_projection
from neuroalign.models.efficientnet_lite import EfficientNetLite0, preprocess, rename_checkpoint

PALACE, DAISY = 698, 985  # ImageNet-1k class indices, in the order of its 1,000 WordNet ids


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """China.jpg (a palace) and flower.jpg (a daisy) of scikit-learn."""
    from sklearn.datasets import load_sample_image

    folder, rows = tmp_path_factory.mktemp("photographs"), []
    for name in ("china", "flower"):
        Image.fromarray(load_sample_image(f"{name}.jpg")).save(folder / f"{name}.png")
        rows.append({"stimulus_id": name, "image": str(folder / f"{name}.png")})
    return rows


def test_efficientnet_lite_names_photographs(packaged, photographs, run):
    model = packaged("efficientnet-lite0")
    _, caught, logits = run(model, photographs)
    probability = logits.softmax(1)
    assert logits.argmax(1).tolist() == [PALACE, DAISY]
    # Probabilities that an independent implementation of the architecture gave.
    torch.testing.assert_close(probability[[0, 1], [PALACE, DAISY]], torch.tensor([0.315, 0.364]), rtol=0, atol=1e-3)
    torch.testing.assert_close(caught["classifier"][:, 0], logits)
    torch.testing.assert_close(caught["pool"][:, 0], caught["head"].mean(1), rtol=1e-5, atol=1e-6)
    names = ["stem", *(f"blocks.{i}" for i in range(16)), "head", "pool", "classifier"]
    assert [x.name for x in model.adapter.layers(model)] == names
    assert caught["stem"].min() == 0 and caught["stem"].max() <= 6


def test_efficientnet_lite_checkpoint_fits_exactly(packaged):
    package = packaged("efficientnet-lite0").entry.package
    path = find_file(package.distribution, package.path, package.sha256)
    renamed = rename_checkpoint(torch.load(path, weights_only=True))
    report = EfficientNetLite0().load_state_dict(renamed, strict=False)
    assert report.missing_keys == [] and report.unexpected_keys == []


def test_same_padding_is_that_of_tensorflow():
    # An even input and stride 2 put the odd pixel to the right and to the bottom.
    from neuroalign.models.efficientnet_lite import SameConv

    conv = SameConv(1, 1, 3, 2)
    torch.nn.init.ones_(conv.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    got = conv(x)[0, 0]
    padded = np.zeros((5, 5))
    padded[:4, :4] = x[0, 0].numpy()
    expected = [[padded[i : i + 3, j : j + 3].sum() for j in (0, 2)] for i in (0, 2)]
    np.testing.assert_allclose(got.detach().numpy(), expected)


@pytest.mark.parametrize("size", [(640, 427), (224, 300), (175, 175), (1000, 256)])
def test_preprocessing_gives_the_centre(size):
    image = Image.new("RGB", size, (127, 127, 255))
    pixels = preprocess([image])
    assert pixels.shape == (1, 3, 224, 224)
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_efficientnet_lite_twins(photographs, run):
    first, again, other = (load_model(f"efficientnet-lite0@random{v}", device="cpu") for v in ("", ".0", ".1"))
    a, b, c = (run(m, photographs)[1]["blocks.14"] for m in (first, again, other))
    assert torch.equal(a, b) and not torch.allclose(a, c)
    assert first.weights == again.weights != other.weights
    assert a.std() > 1e-3 and torch.isfinite(a).all()


def embed(model, run, sentences):
    stimuli = [{"stimulus_id": str(i), "text": s} for i, s in enumerate(sentences)]
    inputs, caught, _ = run(model, stimuli)
    weight = inputs.streams["text"]["all"][..., None]
    mean = (caught["encoder.layer.5"] * weight).sum(1) / weight.sum(1)
    return torch.nn.functional.normalize(mean, dim=1)


def test_minilm_knows_paraphrases(packaged, run):
    sentences = [
        "A man is playing a guitar.", "Someone plays an instrument.",
        "The stock market fell sharply today.", "Share prices dropped a lot this morning.",
    ]  # fmt: skip
    vectors = embed(packaged("minilm"), run, sentences)
    similarity = vectors @ vectors.T
    unrelated = similarity[:2, 2:].max()
    assert similarity[0, 1] > 0.5 and similarity[2, 3] > 0.5 and unrelated < 0.15


def test_minilm_equals_sentence_transformers(packaged, run):
    transformers = pytest.importorskip("sentence_transformers")
    package = packaged("minilm").entry.package
    folder = find_file(package.distribution, package.path).parent
    reference = transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    sentences = ["A man is playing a guitar.", "Rain.", "It's raining again in the old town, they said; isn't it?"]
    expected = torch.from_numpy(reference.encode(sentences))
    torch.testing.assert_close(embed(packaged("minilm"), run, sentences), expected, rtol=0, atol=2e-6)


def test_smollm2_knows_the_capital_and_prefers_sense(packaged):
    model = packaged("smollm2-135m")
    tokenizer = model.processors["text"].tokenizer
    texts = ["The capital of France is", "The children played in the garden.", "garden the in played children The."]
    inputs = model.adapter.prepare(model, [{"stimulus_id": str(i), "text": t} for i, t in enumerate(texts)])
    with torch.inference_mode():
        logits = model.adapter.logits(model.adapter.forward(model, inputs))
    last = inputs.streams["text"]["all"].sum(1) - 1
    assert tokenizer.decode([int(logits[0, last[0]].argmax())]) == " Paris"
    assert tokenizer.decode([model.adapter.bos_id(model)]) == tokenizer.bos_token
    ids = inputs.tensors["input_ids"]
    surprisal = -logits[:, :-1].log_softmax(2).gather(2, ids[:, 1:, None])[..., 0]
    mean = [surprisal[i, : last[i]].mean() for i in (1, 2)]
    assert mean[0] + 1 < mean[1]  # nats a token


def test_smollm2_layers_equal_hidden_states(packaged, run):
    model = packaged("smollm2-135m")
    inputs, caught, _ = run(model, [{"stimulus_id": "a", "text": "Once upon a time"}], ("block", "norm"))
    with torch.inference_mode():
        states = model.module(**inputs.tensors, output_hidden_states=True).hidden_states
    assert len(states) == 31 and len(caught) == 32
    torch.testing.assert_close(caught["model.layers.0.input"], states[0], rtol=0, atol=0)
    torch.testing.assert_close(caught["model.layers.14"], states[15], rtol=0, atol=0)
    torch.testing.assert_close(caught["model.norm"], states[30], rtol=0, atol=0)


def rank_of_match(similarity):
    """Rank of the matching column of each row, 1 is best."""
    return (similarity >= similarity.diagonal()[:, None]).sum(1)


def test_projection_equals_scikit_learn():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 8)) + 1, rng.normal(size=(50, 3))
    weight, bias = fit_projection(torch.tensor(x), torch.tensor(y), 2.0)
    reference = Ridge(alpha=2.0).fit(x, y)
    np.testing.assert_allclose(weight, reference.coef_, atol=1e-6)
    np.testing.assert_allclose(bias, reference.intercept_, atol=1e-6)


def test_derived_names_unseen_classes(packaged):
    """Fitted on 800 classes, names the other 200 (acceptance: top-1 .330, top-5 .570)."""
    model = packaged("derived")
    package = model.entry.package
    names = class_names(find_file(package.distribution, package.path, package.sha256))
    assert len(names) == 1000 and names[PALACE] == "palace" and names[DAISY] == "daisy"
    x = embed_sentences(model.module.text_model, model.processors["text"], names)
    y = torch.nn.functional.normalize(model.module.image_model.classifier.weight.detach(), dim=1)
    order = np.random.default_rng(0).permutation(1000)
    seen, unseen = order[:800], order[800:]
    weight, bias = fit_projection(x[seen], y[seen])
    guess = torch.nn.functional.normalize(x[unseen] @ weight.T + bias, dim=1)
    rank = rank_of_match(guess @ y[unseen].T)
    assert abs((rank == 1).float().mean() - 0.330) < 0.01
    assert abs((rank <= 5).float().mean() - 0.570) < 0.01


def test_derived_matches_photographs_and_captions(packaged, photographs, run):
    model = packaged("derived")
    captions = ["a temple with a roof", "a flower in a garden"]
    both = [p | {"text": c} for p, c in zip(photographs, captions)]
    _, caught, output = run(model, both)
    torch.testing.assert_close(caught["image_model.pool"][:, 0], output["image"])
    torch.testing.assert_close(caught["text_projection"][:, 0], output["text"])
    image, text = (torch.nn.functional.normalize(output[t], dim=1) for t in ("image", "text"))
    assert (image @ text.T).argmax(1).tolist() == [0, 1]
    _, alone, _ = run(packaged("efficientnet-lite0"), photographs)
    torch.testing.assert_close(caught["image_model.blocks.14"], alone["blocks.14"])
    assert len({x.name for x in model.adapter.layers(model)}) == 19 + 8


def test_derived_twin_is_random_in_both_towers(packaged, run, photographs):
    model, twin = packaged("derived"), load_model("derived@random.1", device="cpu")
    assert twin.weights != model.weights and twin.weights.count("random(1)") == 2
    ours, theirs = model.module.state_dict(), twin.module.state_dict()
    for part in ("image_model.stem.0", "text_model.encoder.layer.0.output.dense", "text_projection"):
        assert not torch.equal(ours[f"{part}.weight"], theirs[f"{part}.weight"])
    again = load_model("derived@random.1", device="cpu").module.state_dict()
    assert all(torch.equal(theirs[k], again[k]) for k in theirs)


def test_derived_on_objects(packaged, mirror, run):
    """Names 92 objects among 78 names, and its modality gap (acceptance values)."""
    import json

    import pandas as pd

    model = packaged("derived")
    table = pd.read_csv(mirror / "objects92" / "stimuli.csv")
    folder = mirror / "objects92" / "images_gray"
    known = {k: v["value"] for k, v in json.loads((mirror / "acceptance.json").read_text()).items()}
    rows = [{"stimulus_id": str(i), "image": str(folder / f"{i:02d}.png")} for i in range(92)]
    images = torch.cat([run(model, rows[i : i + 23])[2]["image"] for i in range(0, 92, 23)])
    names = list(dict.fromkeys(table["name"]))
    texts = run(model, [{"stimulus_id": n, "text": n} for n in names])[2]["text"]
    texts = torch.nn.functional.normalize(texts, dim=1)
    similarity = images @ texts.T
    similarity = (similarity - similarity.mean(0)) / similarity.std(0, correction=0)
    match = torch.tensor([names.index(n) for n in table["name"]])
    rank = (similarity >= similarity.gather(1, match[:, None])).sum(1)
    unit = torch.nn.functional.normalize(images, dim=1)
    got = {
        "n_names": len(names),
        "top1": (rank == 1).float().mean().item(),
        "top5": (rank <= 5).float().mean().item(),
        "modality_gap_centroid_l2": (unit.mean(0) - texts[match].mean(0)).norm().item(),
        "matched_cosine_mean": (unit * texts[match]).sum(1).mean().item(),
    }
    for key, value in got.items():
        assert abs(value - known[f"devise.obj92.{key}"]) < 0.01, key


def test_layers_reproduce_the_published_geometry(packaged, mirror):
    """Group-mean RSA of objects92: flattened features, correlation distance, Spearman (acceptance values)."""
    import json

    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    model = packaged("efficientnet-lite0")
    folder = mirror / "objects92"
    rows = [{"stimulus_id": str(i), "image": str(folder / "images_gray" / f"{i:02d}.png")} for i in range(92)]
    known = json.loads((mirror / "acceptance.json").read_text())
    wanted = {"stem": "stem", "blocks.7": "block7", "blocks.14": "block14", "pool": "pool"}
    caught = {name: [] for name in wanted}
    handles = [
        attach(model, x, lambda t, n=x.name: caught[n].append(t.flatten(1)))
        for x in model.adapter.layers(model) if x.name in wanted
    ]  # fmt: skip
    with torch.inference_mode():
        for start in range(0, 92, 23):
            model.adapter.forward(model, model.adapter.prepare(model, rows[start : start + 23]))
    for handle in handles:
        handle.remove()
    rdms = np.load(folder / "rdms.npz", allow_pickle=False)
    pairs = np.triu_indices(92, 1)
    for name, key in wanted.items():
        mine = pdist(torch.cat(caught[name]).numpy(), "correlation")
        for target in ("hIT_group", "monkeyIT"):
            theirs = np.asarray(rdms[target], dtype=float)
            theirs = theirs[pairs] if theirs.ndim == 2 else theirs
            expected = known[f"obj92.rsa.group.effnet.{key}~{target}"]
            assert abs(spearmanr(mine, theirs)[0] - expected["value"]) < expected["tol"], (name, target)
