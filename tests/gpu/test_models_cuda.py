"""Features and probes of tiny models of real architectures on CUDA, against the CPU."""

import numpy as np
import pytest
import torch
from devices import close, same

import neuroalign as na
from neuroalign import probes
from neuroalign.features.batching import Budget, Item, run_batches
from neuroalign.features.hooks import pinned
from neuroalign.models import wrap

pytestmark = pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
TYPES = ["vit", "dinov2", "swin", "resnet", "convnext", "bert", "roberta", "t5", "gpt2", "llama", "qwen2_moe", "clip",
         "siglip", "llava", "paligemma", "qwen2_vl", "smolvlm", "blip", "blip-2", "git", "vilt", "mllama"]  # fmt: skip


def values(model, stimuli, folder, **options):
    found = na.extract(model, stimuli, store=folder, progress=False, **options)
    return {key: found[key].values for key in found}


@pytest.mark.parametrize("model_type", TYPES)
def test_features(load, pairs, tmp_path, model_type):
    expected, found, near = (values(load(model_type, device, dtype), pairs, tmp_path / f"{device}-{dtype}")
                             for device, dtype in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")))
    assert list(found) == list(expected) == list(near)
    for key, array in expected.items():
        size = np.abs(array).max()
        np.testing.assert_allclose(found[key], array, atol=1e-4 * size, rtol=0, err_msg=key)
        if model_type != "qwen2_moe":  # rounding sends tokens to other experts
            drift = np.linalg.norm(near[key] - array) / np.linalg.norm(array)
            assert drift < 0.15, (key, drift)


@pytest.mark.parametrize("options", [{"pooling": "none", "streams": ["image", "text"]}, {"projection": 8},
                                     {"pooling": "last"}, {"taps": ["attention", "mlp"]}])
def test_ways_of_keeping(load, pairs, tmp_path, options):
    options = {"layers": ["language_model.*"]} | options
    same(lambda d: values(load("llava", d), pairs, tmp_path / d, **options), atol=1e-3)


def test_words_in_context_and_surprisal(load, tmp_path):
    words = na.StimulusSet.from_texts(["The quick brown fox jumps over the lazy dog, again and again.", "Two words"])
    same(lambda d: values(load("gpt2", d), words, tmp_path / d, streams=["word"], outputs=["hidden", "surprisal"]),
         atol=1e-3)


@pytest.mark.parametrize("model_type", ["vit", "resnet", "bert", "llama", "clip", "llava"])
def test_verify_passes(load, tmp_path, model_type):
    table = na.verify(load(model_type, "cuda"), store=tmp_path)
    assert table.attrs["passed"], table.to_string()
    assert table.attrs["device"] == torch.cuda.get_device_name()


def test_an_estimate_is_made(load, pairs):
    assert np.isfinite(na.estimate(load("llava", "cuda"), pairs).memory_mb).all()


def test_pinned_leaves_the_generator_of_the_device_alone():
    device = torch.device("cuda")
    torch.manual_seed(1)
    before, tf32 = torch.cuda.get_rng_state(), torch.backends.cudnn.allow_tf32
    with pinned(device, 0):
        first = torch.rand(4, device=device).tolist()
        assert not torch.backends.cudnn.allow_tf32
    with pinned(device, 0):
        assert torch.rand(4, device=device).tolist() == first
    assert torch.equal(torch.cuda.get_rng_state(), before) and torch.backends.cudnn.allow_tf32 == tf32


def test_batches_are_halved_where_memory_runs_out():
    sizes = []

    def forward(batch, _):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return len(batch)

    items = [Item(i, 1, "a", None) for i in range(16)]
    done = list(run_batches(items, lambda b: (b, b), forward, Budget(torch.device("cuda"))))
    assert sorted(i.position for batch, _ in done for i in batch) == list(range(16))
    assert sizes[:4] == [16, 8, 4, 2] and max(sizes[3:]) <= 3


class Wide(torch.nn.Module):
    """16 MiB a row."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Identity()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return self.inner(x.repeat(1, 2**22).mean(1, keepdim=True) + x)


def test_a_batch_that_does_not_fit_the_device_is_halved(tmp_path):
    net = Wide()
    model = wrap(net, lambda text: torch.full((1,), float(text)), ["inner"], name="wide", modality="text",
                 weights="none", device="cuda")
    texts = na.StimulusSet.from_texts([str(i) for i in range(32)])
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 200 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        (found,) = values(model, texts, tmp_path, batch_size=32).values()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(np.sort(found.ravel()), 2.0 * np.arange(32), rtol=1e-4)
    assert net.seen[0] == 32 and net.seen[-1] < 16


def flow(model, stimuli, _):
    return probes.information_flow(model, stimuli, ["image->last", "text->last"], window=1, n_bootstraps=20)


def knocked(model, stimuli, folder):
    return values(probes.knockout(model, stimuli, "image->text", layers=(1, 3)), stimuli, folder)


def tokens(model, stimuli, folder):
    return na.extract(model, stimuli, layers=["language_model.*"], streams=["image", "text"], pooling="none",
                      progress=False, store=folder)


PROBES = {
    "flow": flow,
    "knockout": knocked,
    "lens": lambda m, s, _: probes.logit_lens(m, s),
    "ablation": lambda m, s, _: probes.ablation(m, s, ["image", "text"], n_bootstraps=20),
    "skipping": lambda m, s, _: probes.skipping_curve(m, s, n_bootstraps=20),
    "subnetworks": lambda m, s, _: probes.subnetwork_overlap(m, s, n_random=19),
    "vocabulary": lambda m, s, f: probes.vocabulary_projection(m, tokens(m, s, f), n_bootstraps=0),
}


@pytest.mark.parametrize("model_type", ["llava", "paligemma"])
@pytest.mark.parametrize("name", PROBES)
def test_probes_of_models(load, pairs, tmp_path, name, model_type):
    def run(device):
        return PROBES[name](load(model_type, device), pairs, tmp_path / device)

    expected, found = run("cpu"), run("cuda")
    # A change in percent of a small probability, and a mask where two weights are equal within rounding
    close(found, expected, atol={"flow": 2e-2, "ablation": 2e-2, "subnetworks": 5e-3}.get(name, 1e-3), rtol=1e-3)


def test_probes_of_tokens(load, pairs, tmp_path):
    features = tokens(load("llava", "cpu"), pairs, tmp_path)
    modes = list(probes.MODES)
    same(lambda d: probes.implicit_alignment(features, mode=modes, n_permutations=19, n_bootstraps=20, device=d))
    same(lambda d: probes.token_geometry(features, n_bootstraps=20, device=d))


def test_modality_gap():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((60, 9))
    a, b = latent + 0.4 * rng.standard_normal((60, 9)) + 1, 5 * (latent + 0.4 * rng.standard_normal((60, 9))) - 1
    same(lambda d: probes.modality_gap(a, b, n_permutations=19, n_refits=3, n_bootstraps=20, geometry=True, device=d))
    same(lambda d: probes.shift_sweep(a, b, device=d))
    same(lambda d: probes.pca_spectrum(a, b, device=d))


def test_training_learns_alike():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 12))
    y = x @ np.linalg.qr(rng.standard_normal((12, 12)))[0] + 0.3 * rng.standard_normal((96, 12))
    few = {"epochs": 5, "dim": 8, "batch_size": 32}
    state = torch.cuda.get_rng_state()
    same(lambda d: probes.train_projector(x, y, hidden=16, device=d, **few).embed_x(x), atol=2e-2)
    ragged = [np.repeat(row[None], 2 + k % 3, 0) for k, row in enumerate(x)]
    same(lambda d: probes.train_projector(ragged, y, kind="token", device=d, **few).embed_x(ragged), atol=2e-2)
    for loss in ("clip", "symile"):
        same(lambda d, loss=loss: probes.train_contrastive([x, y], loss=loss, every=2, device=d, **few).embed([x, y]),
             atol=2e-2)
    assert torch.equal(torch.cuda.get_rng_state(), state)  # that of the caller is left alone
